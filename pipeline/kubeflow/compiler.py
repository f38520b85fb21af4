"""The pipeline compiled for Kubeflow Pipelines: TFX's compiler, and what it leaves out.

TFX compiles the components; what a step asks of the cluster, retries, which steps may come from the cache, volumes and
secrets are written into the compiled specification here, in the words of KFP's PipelineSpec and of kfp-kubernetes'
KubernetesExecutorConfig (the second document of the file).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from datasets.reading import read_manifest
from pipeline.config import KubeflowConfig, PipelineConfig, StepResources
from pipeline.paths import check_paths, check_root
from preprocessing import storage
from preprocessing.errors import BadInputError

Spec = dict[str, Any]

ENTRYPOINT: Final = ("python", "-m", "pipeline.kubeflow.entrypoint")
NEVER_CACHED: Final = ("Baseline", "Pusher")
"""They look at the push folder, which KFP's cache knows nothing of."""
NEVER_RETRIED: Final = ("RequireNoAnomalies",)
"""Its failure is its answer."""


def for_cluster(config: PipelineConfig) -> PipelineConfig:
    """Return the settings as the steps see them: kubeflow.work_dir stands for root.

    Raises:
        BadInputError: a path means nothing in a pod, there is no image.
    """
    kubeflow = config.kubeflow
    if not kubeflow.image:
        raise BadInputError("kubeflow.image is not set: name the project's image as the cluster pulls it")
    command = config.beam.worker_command
    if command is not None and not os.path.isabs(command):
        raise BadInputError(f"beam.worker_command {command}: on Kubeflow give the path as the steps and workers see it")
    check_root("kubeflow.work_dir", kubeflow.work_dir)
    check_root("kubeflow.pipeline_root", kubeflow.pipeline_root)
    changed = config.model_copy(update={"root": kubeflow.work_dir})
    check_paths(changed)
    for setting, path in (
        ("data.audio_dir", config.data.audio_dir),
        ("data.annotations", config.data.annotations_file),
        ("data.synonyms", config.data.synonyms or "default"),
        ("kubeflow.work_dir", kubeflow.work_dir),
        ("push_dir", changed.pushed),
    ):
        _check_path(setting, path, kubeflow, read_only=setting.startswith("data."))
    return changed


def _check_path(setting: str, path: str, kubeflow: KubeflowConfig, *, read_only: bool) -> None:
    if path == "default" or (read_only and "://" in path):
        return
    if "://" in path:
        raise BadInputError(f"{setting} {path}: expected a folder on one of kubeflow.volumes, not an object store")
    if not os.path.isabs(path):
        raise BadInputError(f"{setting} {path}: on Kubeflow give the path as the steps see it, or an object store's")
    mounts = [volume.path.rstrip("/") + "/" for volume in kubeflow.volumes]
    if not any((path + "/").startswith(mount) for mount in mounts):
        listed = ", ".join(mounts) or "there are none"
        raise BadInputError(
            f"{setting} {path}: lies on none of kubeflow.volumes ({listed}), and a pod's own files end with it"
        )


def compile_pipeline(config: PipelineConfig, data_version: str) -> list[Spec]:
    """Compile for Kubeflow Pipelines.

    Args:
        config: settings.
        data_version: fingerprint of the manifest that the run is to be made from, or
            components.example_gen.ANY_VERSION.

    Returns:
        The file's documents: the pipeline and, where there are volumes, secrets or the like, the platform's part.

    Raises:
        BadInputError: a setting means nothing on a cluster.
    """
    from components.example_gen import ANY_VERSION
    from pipeline.create import Inputs, create_pipeline
    from pipeline.local_runner import read_schema

    settings = for_cluster(config)
    inputs = Inputs(None, data_version, read_schema(config.data.schema_file), "each run")
    spec = _compile_tfx(create_pipeline(settings, inputs), settings.kubeflow)
    steps = list(spec["root"]["dag"]["tasks"])
    unknown = sorted(settings.kubeflow.steps.keys() - set(steps))
    if unknown:
        raise BadInputError(
            f"kubeflow.steps.{unknown[0]}: there is no such step; the steps are {', '.join(sorted(steps))}"
        )
    never = NEVER_CACHED if data_version != ANY_VERSION else (*NEVER_CACHED, "ClipExampleGen")
    spec = with_tasks(spec, lambda step: task_options(step, settings.kubeflow, never))
    spec = with_containers(spec, lambda step: container_options(step, settings.kubeflow))
    platform = {step: platform_options(step, settings.kubeflow) for step in steps}
    executors = {_executor(spec, step): options for step, options in platform.items() if options}
    documents = [with_argo_names(spec)]
    if executors:
        documents.append({"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}})
    return documents


def to_yaml(documents: list[Spec]) -> str:
    """Write the documents as one YAML file, the same text for the same pipeline."""
    return yaml.safe_dump_all(documents, sort_keys=True, width=120)


@dataclass(frozen=True)
class ShardFolder:
    """Where a compiled pipeline keeps its shards.

    Attributes:
        folder: of the shards of all code.
        code: hash of the source that makes an example, the name of the folder in it.
    """

    folder: str
    code: str


def shard_folder(spec: Spec) -> ShardFolder | None:
    """Return where a compiled pipeline keeps its shards, None where it is not one of this project."""
    task = spec.get("root", {}).get("dag", {}).get("tasks", {}).get("ClipExampleGen", {})
    parameters = task.get("inputs", {}).get("parameters", {})
    try:
        folder, code = (parameters[name]["runtimeValue"]["constant"] for name in ("work_dir", "code"))
    except KeyError:
        return None
    return ShardFolder(os.path.normpath(folder), code)


def step_names(text: str) -> list[str]:
    """Return the names of a compiled file's tasks."""
    return list(next(yaml.safe_load_all(text))["root"]["dag"]["tasks"])


def _compile_tfx(pipeline: Any, kubeflow: KubeflowConfig) -> Spec:
    from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
            default_image=kubeflow.image, default_commands=list(ENTRYPOINT), use_pipeline_spec_2_1=True
        )
    )
    try:
        job = runner.run(pipeline, write_out=False)
    except ValueError as error:  # the pipeline's name
        raise BadInputError(f"name {pipeline.pipeline_info.pipeline_name}: {error}") from None
    spec: Spec = job["pipelineSpec"]
    return spec


def component_id(step: str) -> str:
    """Return the component's id out of its task's name (with_argo_names); no component here has ``-`` in its id."""
    return step.replace("-", "_")


def with_argo_names(spec: Spec) -> Spec:
    """Return the specification with tasks named as Argo has to read them in dependencies: ``-`` for ``_``."""
    names = {step: step.replace("_", "-") for step in spec["root"]["dag"]["tasks"]}
    changed = copy.deepcopy(spec)
    tasks = changed["root"]["dag"]["tasks"]
    for task in tasks.values():
        task["taskInfo"]["name"] = names[task["taskInfo"]["name"]]
        if "dependentTasks" in task:
            task["dependentTasks"] = [names[step] for step in task["dependentTasks"]]
        for source in task.get("inputs", {}).get("artifacts", {}).values():
            output = source["taskOutputArtifact"]
            output["producerTask"] = names[output["producerTask"]]
    changed["root"]["dag"]["tasks"] = {names[step]: task for step, task in tasks.items()}
    return changed


def with_tasks(spec: Spec, options: Callable[[str], Spec]) -> Spec:
    """Return the specification with ``options(step)`` set in each step's task."""
    changed = copy.deepcopy(spec)
    for step, task in changed["root"]["dag"]["tasks"].items():
        task.update(options(step))
    return changed


def with_containers(spec: Spec, options: Callable[[str], Spec]) -> Spec:
    """Return the specification with ``options(step)`` set in each step's container."""
    changed = copy.deepcopy(spec)
    for step in changed["root"]["dag"]["tasks"]:
        changed["deploymentSpec"]["executors"][_executor(spec, step)]["container"].update(options(step))
    return changed


def _executor(spec: Spec, step: str) -> str:
    label: str = spec["components"][spec["root"]["dag"]["tasks"][step]["componentRef"]["name"]]["executorLabel"]
    return label


def task_options(step: str, kubeflow: KubeflowConfig, never_cached: tuple[str, ...]) -> Spec:
    """Caching and retries of a step, as in KFP's PipelineTaskSpec."""
    options: Spec = {"cachingOptions": {"enableCache": kubeflow.caching and step not in never_cached}}
    if kubeflow.retries and step not in NEVER_RETRIED:
        options["retryPolicy"] = {
            "maxRetryCount": kubeflow.retries,
            "backoffDuration": f"{kubeflow.retry_seconds}s",
            "backoffFactor": 2,
            "backoffMaxDuration": "3600s",
        }
    return options


def resources_of(step: str, kubeflow: KubeflowConfig) -> StepResources:
    """What a step asks of the cluster; settings of ``steps`` over those of ``resources``."""
    given = kubeflow.steps.get(step)
    if given is None:
        return kubeflow.resources
    return kubeflow.resources.model_copy(update={name: getattr(given, name) for name in given.model_fields_set})


def container_options(step: str, kubeflow: KubeflowConfig) -> Spec:
    """CPU, memory, accelerators and environment of a step, as in KFP's PipelineContainerSpec."""
    asked = resources_of(step, kubeflow)
    resources: Spec = {}
    if asked.cpu:
        resources |= {"resourceCpuRequest": asked.cpu, "resourceCpuLimit": asked.cpu}
    if asked.memory:
        resources |= {"resourceMemoryRequest": asked.memory, "resourceMemoryLimit": asked.memory}
    if asked.gpus:
        resources["accelerator"] = {"resourceType": asked.gpu_type, "resourceCount": str(asked.gpus)}
    options: Spec = {"resources": resources} if resources else {}
    if kubeflow.env:
        options["env"] = [{"name": name, "value": value} for name, value in sorted(kubeflow.env.items())]
    return options


def platform_options(step: str, kubeflow: KubeflowConfig) -> Spec:
    """Volumes, secrets, node and image pulling of a step, as in kfp-kubernetes' KubernetesExecutorConfig."""
    options: Spec = {
        "pvcMount": [{"constant": volume.claim, "mountPath": volume.path} for volume in kubeflow.volumes],
        "secretAsEnv": [
            {"secretName": secret.name, "keyToEnv": _keys(secret.env)} for secret in kubeflow.secrets if secret.env
        ],
        "secretAsVolume": [
            {"secretName": secret.name, "mountPath": secret.path} for secret in kubeflow.secrets if secret.path
        ],
        "imagePullSecret": [{"secretName": name} for name in kubeflow.image_pull_secrets],
        "imagePullPolicy": kubeflow.image_pull_policy,
    }
    asked = resources_of(step, kubeflow)
    if asked.node_selector:
        options["nodeSelector"] = {"labels": dict(asked.node_selector)}
    options["tolerations"] = [
        {"operator": "Equal" if one.value else "Exists", **one.model_dump(exclude_none=True)}
        for one in asked.tolerations
    ]
    return {key: value for key, value in options.items() if value}


def _keys(env: Mapping[str, str]) -> list[Spec]:
    return [{"envVar": variable, "secretKey": key} for variable, key in sorted(env.items())]


def find_data_version(config: PipelineConfig, on_clip: Callable[[int, int], None] | None = None) -> str | None:
    """Return the fingerprint of the data, or None where they cannot be seen from here.

    Raises:
        BadInputError: they can be seen and cannot be used.
    """
    audio_dir, annotations = map(storage.absolute, (config.data.audio_dir, config.data.annotations_file))
    try:
        visible = storage.exists(annotations)
    except (OSError, ValueError, ImportError):  # no access, no credentials, no client for the store
        visible = False
    if not visible:
        return None
    return read_manifest(audio_dir, annotations, config.data.preprocess_settings(), on_clip).fingerprint
