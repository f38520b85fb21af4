"""A comparison compiled for Kubeflow: its steps, what each is given and asks for, and the step that writes results."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact

from components.comparison_metrics import METRICS
from components.network_scorer import COSTS, keep_evaluation
from pipeline.commands import kubeflow
from pipeline.compare.config import ComparisonConfig, Entry
from pipeline.compare.output import write_results
from pipeline.compare.results import Evaluation, make_rows
from pipeline.compare.runner import Progress
from pipeline.compare.writer import ComparisonWriterExecutor, input_key
from pipeline.kubeflow.compiler import compile_comparison, find_data_versions
from pipeline.kubeflow.pipeline_spec import shard_folders
from preprocessing.errors import AutotagError, BadInputError

Tasks = dict[str, dict[str, Any]]

SETTINGS: dict[str, Any] = {
    "name": "taggers",
    "data": {name: {"dataset": "synthetic", "audio_dir": f"/data/{name}"} for name in ("one", "two")},
    "networks": {"mel_1d": {"epochs": 4}, "short": {"network": "dieleman_mel", "epochs": 2}},
    "ensembles": {"both": {"of": ["mel_1d", "short"], "combiner": "mean"}},
    "seeds": [0, 5],
    "kubeflow": {
        "image": "registry.example/autotag:1",
        "work_dir": "/data/compared",
        "steps": {
            "Trainer_mel_1d__paper__5__two": {"gpus": 2},
            "Trainer_*": {"gpus": 1, "memory": "16Gi"},
            "Trainer_*__two": {"memory": "32Gi"},
        },
    },
}
ENTRIES = [
    f"{name}--paper--{seed}--{data}"
    for name in ("mel-1d", "short", "both")
    for seed in (0, 5)
    for data in ("one", "two")
]


def config(**changes: Any) -> ComparisonConfig:
    return ComparisonConfig.model_validate({**SETTINGS, **changes})


def on_cluster(**changes: Any) -> dict[str, Any]:
    return {**SETTINGS["kubeflow"], **changes}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the command writes, which knows a comparison's file by its shape."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "taggers.yaml").write_text(yaml.safe_dump(SETTINGS, sort_keys=False))
    arguments = ["compile", str(folder / "taggers.yaml"), "-o", str(folder / "out.yaml"), "--set", "seeds=[0, 5]"]
    done = CliRunner().invoke(kubeflow.command, arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return list(yaml.safe_load_all((folder / "out.yaml").read_text()))


@pytest.fixture(scope="module")
def tasks(documents: list[dict[str, Any]]) -> Tasks:
    found: Tasks = documents[0]["root"]["dag"]["tasks"]
    return found


def limits(documents: list[dict[str, Any]], step: str) -> tuple[str, str]:
    asked = documents[0]["deploymentSpec"]["executors"][f"{step}_executor"]["container"]["resources"]
    return asked["resourceMemoryLimit"], asked.get("accelerator", {}).get("resourceCount", "0")


def test_each_data_set_has_its_own_steps_and_one_pipeline_has_all(
    documents: list[dict[str, Any]], tasks: Tasks
) -> None:
    assert documents[0]["pipelineInfo"] == {"name": "taggers"}
    for data in ("one", "two"):
        given = tasks[f"ClipExampleGen--{data}"]["inputs"]["parameters"]
        assert given["audio_dir"]["runtimeValue"]["constant"] == f"/data/{data}"
        assert given["work_dir"]["runtimeValue"]["constant"] == f"/data/compared/{data}/shards"
    for entry in ENTRIES:
        kinds = ("EnsembleScorer",) if entry.startswith("both") else ("Trainer", "NetworkScorer")
        assert all(f"{kind}-{entry}" in tasks for kind in kinds)
    of_one = {name for name in tasks if name.endswith("--one")}
    for name, task in tasks.items():
        needed = set(task.get("dependentTasks", []))
        assert name == "Comparison" or needed <= of_one or not needed & of_one, "no data set waits for another"


def test_trainings_wait_for_no_other_training(tasks: Tasks) -> None:
    trainers = {name for name in tasks if name.startswith("Trainer-")}
    assert len(trainers) == 8
    assert not any(trainers & set(tasks[name]["dependentTasks"]) for name in trainers)
    both = set(tasks["EnsembleScorer-both--paper--5--two"]["dependentTasks"])
    assert {"NetworkScorer-mel-1d--paper--5--two", "Trainer-short--paper--5--two"} <= both
    assert not [name for name in both if "paper--0" in name], "an ensemble is of one seed"


def test_last_step_is_given_every_evaluation(tasks: Tasks) -> None:
    last = tasks["Comparison"]
    given = {key: source["taskOutputArtifact"] for key, source in last["inputs"]["artifacts"].items()}
    assert given.keys() == {input_key(entry) for entry in config().entries()}
    assert given["evaluation_two__both__paper__5"] == {
        "producerTask": "EnsembleScorer-both--paper--5--two",
        "outputArtifactKey": "evaluation",
    }
    assert set(last["dependentTasks"]) == {source["producerTask"] for source in given.values()}
    assert not [name for name, task in tasks.items() if "Comparison" in task.get("dependentTasks", [])]


def test_cluster_settings_are_no_part_of_what_results_are_known_by(tasks: Tasks) -> None:
    changed = compile_comparison(config(kubeflow=on_cluster(steps={}, retries=0)), {"one": "any", "two": "any"})
    for name, task in changed[0]["root"]["dag"]["tasks"].items():
        assert task["inputs"].get("parameters") == tasks[name]["inputs"].get("parameters"), name


def test_steps_by_pattern_and_by_name(documents: list[dict[str, Any]]) -> None:
    assert limits(documents, "Trainer_short__paper__0__one") == ("16Gi", "1")
    assert limits(documents, "Trainer_short__paper__0__two") == ("32Gi", "1"), "the later pattern stands over others"
    assert limits(documents, "Trainer_mel_1d__paper__5__two") == ("32Gi", "2"), "a name stands over patterns"
    assert limits(documents, "NetworkScorer_short__paper__0__one") == ("4Gi", "0")


def test_data_that_are_known_come_from_the_cache_and_results_are_always_written(tasks: Tasks) -> None:
    def cached(found: Tasks) -> dict[str, bool]:
        return {name: task["cachingOptions"]["enableCache"] for name, task in found.items()}

    unseen = {"ClipExampleGen--one", "ClipExampleGen--two"}
    assert {name for name, there in cached(tasks).items() if not there} == {"Comparison", *unseen}
    seen = compile_comparison(config(), {"one": "f" * 64, "two": "any"})[0]["root"]["dag"]["tasks"]
    assert {name for name, there in cached(seen).items() if not there} == {"Comparison", "ClipExampleGen--two"}


def test_one_data_set_has_steps_that_are_named_as_in_a_run() -> None:
    alone = config(data={"one": SETTINGS["data"]["one"]}, kubeflow=on_cluster(steps={"Transform": {"cpu": "2"}}))
    found = compile_comparison(alone, {"one": "any"})[0]["root"]["dag"]["tasks"]
    assert {"ClipExampleGen", "Transform", "Trainer-mel-1d--paper--0", "Comparison"} <= found.keys()


def test_garbage_collection_knows_the_shards_of_all_data_sets(documents: list[dict[str, Any]]) -> None:
    found = shard_folders(documents[0])
    assert [one.folder for one in found] == ["/data/compared/one/shards", "/data/compared/two/shards"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {**SETTINGS["data"], "two": {"audio_dir": "/mnt/two"}}}, "data.two.audio_dir /mnt/two: lies on none"),
        ({"data": {**SETTINGS["data"], "two": {"audio_dir": "two"}}}, "data.two.audio_dir two: on Kubeflow give"),
        ({"kubeflow": on_cluster(image=None)}, "kubeflow.image is not set"),
        ({"kubeflow": on_cluster(work_dir="/scratch")}, "kubeflow.work_dir /scratch"),
        ({"kubeflow": on_cluster(steps={"Trainer_mel_2d*": {"gpus": 1}})}, "kubeflow.steps.Trainer_mel_2d*: there is"),
        ({"name": "my_taggers"}, "--set name=my-taggers"),
        ({"seeds": list(range(20))}, "divide the networks, recipes, seeds or data sets between several files"),
    ],
)
def test_what_cannot_be_on_a_cluster_is_said_before_anything_is_sent(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInputError) as error:
        compile_comparison(config(**changes), {"one": "any", "two": "any"})
    assert words in str(error.value)


def test_data_that_cannot_be_seen_from_here_have_no_version() -> None:
    assert find_data_versions(config()) == {}


@pytest.mark.skipif("KFPCHECK" not in os.environ, reason="KFPCHECK names no program that asks KFP's API server")
def test_the_real_server_accepts_the_file(documents: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "taggers.yaml").write_text(yaml.safe_dump_all(documents))
    call = [os.environ["KFPCHECK"], "-o", tmp_path, tmp_path / "taggers.yaml"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def evaluation(folder: Path, entry: Entry, random: np.random.Generator) -> Artifact:
    """What a scorer of this entry makes, of made-up answers."""
    made: Artifact = standard_artifacts.ModelEvaluation()
    made.uri = str(folder / input_key(entry))
    labels = (np.arange(60).reshape(20, 3) % 4 == 0).astype("f4")
    of_split = {
        "clip_ids": np.array([b"%02d" % number for number in range(20)]),
        "tracks": np.array([b"%02d" % (number // 2) for number in range(20)]),
        "labels": labels,
        "predictions": random.random((20, 3)).astype("f4"),
    }
    arrays = {f"{split}/{part}": array for split in ("valid", "test") for part, array in of_split.items()}
    costs = {**dict.fromkeys(COSTS, 2.5), "training_minutes": 0.0}
    arrays["tags"] = np.array(["rock", "piano", "sad"])
    keep_evaluation(made, {"entry": entry.name, "comparison_key": "key"}, arrays, costs)
    return made


def as_passed(artifact: Artifact) -> Artifact:
    """The artifact as TFX makes it of what Kubeflow hands over, where 0.0 is 0 and every number a JSON number."""
    from kfp.pipeline_spec import pipeline_spec_pb2
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils as utils

    passed = utils.to_runtime_artifact(artifact, {})
    passed.type.schema_title = "tfx.ModelEvaluation"
    (back,) = utils.parse_raw_artifact_dict({"key": pipeline_spec_pb2.ArtifactList(artifacts=[passed])})["key"]
    made: Artifact = back
    return made


@pytest.fixture
def made(tmp_path: Path) -> tuple[ComparisonConfig, dict[str, list[Artifact]]]:
    comparison = config(root=str(tmp_path / "work"))
    random = np.random.default_rng(0)
    evaluations = {entry: evaluation(tmp_path, entry, random) for entry in comparison.entries()}
    return comparison, {input_key(entry): [as_passed(one)] for entry, one in evaluations.items()}


def write(comparison: ComparisonConfig, inputs: dict[str, list[Artifact]], folder: Path) -> Artifact:
    output: Artifact = standard_artifacts.ModelEvaluation()
    output.uri = str(folder / "artifact")
    config_json = comparison.model_dump_json(exclude={"kubeflow"})
    ComparisonWriterExecutor().Do(inputs, {"comparison": [output]}, {"config": config_json})
    return output


def test_results_are_those_that_a_local_comparison_writes(
    made: tuple[ComparisonConfig, dict[str, list[Artifact]]], tmp_path: Path
) -> None:
    comparison, inputs = made
    output = write(comparison, inputs, tmp_path)
    names = (*METRICS, *COSTS)
    evaluations = []
    for entry in comparison.entries():
        (artifact,) = inputs[input_key(entry)]
        figures = {name: artifact.get_float_custom_property(name) for name in names}
        evaluations.append(Evaluation.of(entry, artifact.uri, figures, current=True))
    rows = make_rows(comparison, evaluations)
    local = write_results(tmp_path / "local", comparison, rows, Progress(done=list(comparison.entries())))
    for path in local:
        if path.suffix != ".json":  # the configuration in it says where
            assert (tmp_path / "artifact" / path.name).read_bytes() == path.read_bytes()
        assert (tmp_path / "work" / path.name).read_bytes() == (tmp_path / "artifact" / path.name).read_bytes()
    values = json.loads((tmp_path / "work" / "comparison.json").read_text())
    assert [(row["data"], row["seeds"]) for row in values["rows"]] == [("one", [0, 5])] * 3 + [("two", [0, 5])] * 3
    assert values["failed"] == values["left"] == []
    assert {row["costs"]["training_minutes"] for row in values["rows"]} == {0.0}
    best = values["rows"][3]
    assert output.get_string_custom_property("best_on_two") == f"{best['network']}, paper"
    assert output.get_float_custom_property("roc_auc_on_two") == best["figures"]["roc_auc"]["value"]


def test_evaluation_without_its_figures_is_not_taken_for_zero(
    made: tuple[ComparisonConfig, dict[str, list[Artifact]]], tmp_path: Path
) -> None:
    comparison, inputs = made
    (artifact,) = inputs["evaluation_one__short__paper__5"]
    del artifact.mlmd_artifact.custom_properties["hamming"]
    with pytest.raises(AutotagError, match="the evaluation of short, paper, seed 5, on one has no hamming"):
        write(comparison, inputs, tmp_path)
    assert not (tmp_path / "work").exists()
