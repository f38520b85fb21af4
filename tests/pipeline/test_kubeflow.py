"""The compiled pipeline: what the server takes, and what each step asks of the cluster."""

import copy
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.kubeflow.compiler import compile_pipeline, find_data_version, for_cluster
from pipeline.kubeflow.pipeline_spec import container_options, platform_options, task_options, to_yaml, with_argo_names
from pipeline.settings.config import PipelineConfig, load_config
from preprocessing.errors import BadInputError

KUBEFLOW = {
    "image": "registry.example/autotag:1",
    "volumes": [{"claim": "music", "path": "/data"}],
    "secrets": [{"name": "store", "env": {"AWS_ACCESS_KEY_ID": "id"}}, {"name": "keys", "path": "/keys"}],
    "env": {"TF_CPP_MIN_LOG_LEVEL": "2"},
    "image_pull_secrets": ["registry"],
    "retries": 3,
    "retry_seconds": 30,
    "resources": {"cpu": "500m", "memory": "2Gi"},
    "steps": {
        "Trainer_mel_2d": {"cpu": "8", "gpus": 1, "node_selector": {"pool": "gpu"}, "tolerations": [{"key": "gpu"}]}
    },
}


def config(**kubeflow: Any) -> PipelineConfig:
    values = {
        "name": "music",
        "data": {"audio_dir": "/data/mtat", "annotations": "/data/mtat/annotations_final.csv"},
        "kubeflow": {**KUBEFLOW, **kubeflow},
    }
    return PipelineConfig.model_validate(values)


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return compile_pipeline(config(), "any")


def tasks(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = documents[0]["root"]["dag"]["tasks"]
    return found


def container(documents: list[dict[str, Any]], step: str) -> dict[str, Any]:
    found: dict[str, Any] = documents[0]["deploymentSpec"]["executors"][f"{step}_executor"]["container"]
    return found


def test_schema_is_2_1_0_and_every_step_is_a_container_of_ours(documents: list[dict[str, Any]]) -> None:
    assert documents[0]["schemaVersion"] == "2.1.0"
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        assert list(executor) == ["container"]
        assert executor["container"]["image"] == "registry.example/autotag:1"
        assert executor["container"]["command"] == ["python", "-m", "pipeline.kubeflow.entrypoint"]


def test_no_parameter_is_without_a_value(documents: list[dict[str, Any]]) -> None:
    assert "inputDefinitions" not in documents[0]["root"]
    for step, task in tasks(documents).items():
        given = task.get("inputs", {}).get("parameters", {})
        declared = documents[0]["components"][task["componentRef"]["name"]].get("inputDefinitions", {})
        assert given.keys() == declared.get("parameters", {}).keys(), step
        assert all("constant" in value["runtimeValue"] for value in given.values()), step


def test_trainers_run_side_by_side(documents: list[dict[str, Any]]) -> None:
    trainers = {step for step in tasks(documents) if step.startswith("Trainer-")}
    assert trainers == {"Trainer-mel-1d", "Trainer-mel-2d", "Trainer-waveform-1d"}
    for step in trainers:
        assert not trainers & set(tasks(documents)[step]["dependentTasks"])
    assert trainers < set(tasks(documents)["EnsembleTrainer"]["dependentTasks"])


def test_tasks_have_names_that_argo_reads_in_dependencies(documents: list[dict[str, Any]]) -> None:
    names = set(tasks(documents))
    assert not any("_" in name for name in names)
    for task in tasks(documents).values():
        assert set(task.get("dependentTasks", [])) <= names
        for source in task.get("inputs", {}).get("artifacts", {}).values():
            assert source["taskOutputArtifact"]["producerTask"] in names


def test_each_step_asks_for_what_the_settings_say(documents: list[dict[str, Any]]) -> None:
    assert container(documents, "Transform")["resources"] == {
        "resourceCpuRequest": "500m",
        "resourceCpuLimit": "500m",
        "resourceMemoryRequest": "2Gi",
        "resourceMemoryLimit": "2Gi",
    }
    resources = container(documents, "Trainer_mel_2d")["resources"]
    assert resources["resourceCpuLimit"] == "8"
    assert resources["resourceMemoryLimit"] == "2Gi", "what is not said of the step is taken from all"
    assert resources["accelerator"] == {"resourceType": "nvidia.com/gpu", "resourceCount": "1"}
    assert container(documents, "Pusher")["env"] == [{"name": "TF_CPP_MIN_LOG_LEVEL", "value": "2"}]


def test_volumes_secrets_and_nodes_stand_in_the_platforms_part(documents: list[dict[str, Any]]) -> None:
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors.keys() == documents[0]["deploymentSpec"]["executors"].keys()
    assert executors["Trainer_mel_2d_executor"] == {
        "pvcMount": [{"constant": "music", "mountPath": "/data"}],
        "secretAsEnv": [
            {"secretName": "store", "keyToEnv": [{"envVar": "AWS_ACCESS_KEY_ID", "secretKey": "id"}]},
        ],
        "secretAsVolume": [{"secretName": "keys", "mountPath": "/keys"}],
        "imagePullSecret": [{"secretName": "registry"}],
        "nodeSelector": {"labels": {"pool": "gpu"}},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    }
    assert "nodeSelector" not in executors["Transform_executor"]


def test_retries_and_caching(documents: list[dict[str, Any]]) -> None:
    for step, task in tasks(documents).items():
        if step == "RequireNoAnomalies":
            assert "retryPolicy" not in task, "a broken delivery stays broken"
        else:
            assert task["retryPolicy"]["maxRetryCount"] == 3
        never = step in ("ClipExampleGen", "Baseline", "Pusher")
        assert task["cachingOptions"]["enableCache"] is not never, step
    assert "retryPolicy" not in task_options("Transform", config(retries=0).kubeflow, ())
    assert task_options("Transform", config(caching=False).kubeflow, ())["cachingOptions"] == {"enableCache": False}


def test_known_data_may_come_from_the_cache_and_paths_are_the_steps_own() -> None:
    found = tasks(compile_pipeline(config(), "f" * 64))["ClipExampleGen"]
    assert found["cachingOptions"]["enableCache"] is True
    parameters = {key: value["runtimeValue"]["constant"] for key, value in found["inputs"]["parameters"].items()}
    assert parameters["data_version"] == "f" * 64
    assert parameters["audio_dir"] == "/data/mtat"
    assert parameters["work_dir"] == "/data/autotag/shards"
    assert "manifest" not in parameters


def test_same_settings_give_the_same_text(documents: list[dict[str, Any]]) -> None:
    text = to_yaml(documents)
    assert text == to_yaml(compile_pipeline(config(), "any"))
    assert list(yaml.safe_load_all(text)) == json.loads(json.dumps(documents))


def test_without_volumes_or_the_like_there_is_no_platforms_part() -> None:
    bare = config(volumes=[], secrets=[], image_pull_secrets=[], steps={}).kubeflow
    assert platform_options("Pusher", bare) == {}
    assert container_options("Pusher", bare.model_copy(update={"env": {}})).keys() == {"resources"}


def test_names_are_changed_in_a_copy(documents: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(documents[0])
    with_argo_names(documents[0])
    assert documents[0] == before


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["kubeflow.image=null"], "kubeflow.image is not set"),
        (["data.audio_dir=mtat"], "data.audio_dir mtat"),
        (["data.audio_dir=/elsewhere/mtat"], "none of kubeflow.volumes (/data/)"),
        (["kubeflow.work_dir=/scratch"], "kubeflow.work_dir /scratch"),
        (["push_dir=s3://bucket/pushed"], "push_dir s3://bucket/pushed"),
        (["kubeflow.steps={Trainer: {cpu: '1'}}"], "the steps are Baseline, ClipExampleGen"),
        (["kubeflow.pipeline_root=file:///x"], "kubeflow.pipeline_root"),
        (["kubeflow.resources.cpu=many"], "kubeflow.resources.cpu"),
        (["kubeflow.secrets=[{name: x}]"], "give env"),
        (["kubeflow.volumes=[{claim: a, path: /d}, {claim: b, path: /d/}]"], "two volumes at /d"),
        (["kubeflow.token_env=A", "kubeflow.token_file=/b"], "give token_env or token_file, not both"),
        (["name=Music Tags"], "name Music Tags"),
    ],
)
def test_setting_that_means_nothing_on_a_cluster_is_named(tmp_path: Path, overrides: list[str], words: str) -> None:
    path = tmp_path / "music.yaml"
    path.write_text(yaml.safe_dump(config().model_dump(mode="json")))
    with pytest.raises(BadInputError) as error:
        compile_pipeline(load_config(str(path), overrides), "any")
    assert words in str(error.value)


def test_audio_on_an_object_store_needs_no_volume() -> None:
    data = {"audio_dir": "s3://music/mtat", "annotations": "s3://music/mtat/annotations_final.csv"}
    settings = config().model_copy(update={"data": config().data.model_copy(update=data)})
    assert for_cluster(settings).data.audio_dir == "s3://music/mtat"


def test_data_that_cannot_be_seen_from_here_have_no_version() -> None:
    assert find_data_version(config()) is None


@pytest.mark.skipif("KFPCHECK" not in os.environ, reason="KFPCHECK names no program that asks KFP's API server")
def test_the_real_server_accepts_the_file(documents: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "music.yaml").write_text(to_yaml(documents))
    done = subprocess.run(
        [os.environ["KFPCHECK"], "-o", tmp_path, tmp_path / "music.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
