"""A pipeline, or a comparison, compiled for Kubeflow Pipelines: TFX's compiler, and what it leaves out.

TFX compiles the components; what a step asks of the cluster, retries, which steps may come from the cache, volumes and
secrets are written into the compiled specification here, in the words of KFP's PipelineSpec and of kfp-kubernetes'
KubernetesExecutorConfig (the second document of the file).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from datasets.reading import read_manifest
from pipeline.compare.config import ComparisonConfig
from pipeline.kubeflow.pipeline_spec import (
    Spec,
    container_options,
    example_gens,
    executor_of,
    platform_options,
    task_options,
    to_yaml,
    with_argo_names,
    with_containers,
    with_tasks,
)
from pipeline.paths import check_paths, check_root
from pipeline.settings.config import PipelineConfig
from pipeline.settings.kubeflow_config import KubeflowConfig
from preprocessing import storage
from preprocessing.errors import BadInputError

ENTRYPOINT: Final = ("python", "-m", "pipeline.kubeflow.entrypoint")
NEVER_CACHED: Final = ("Baseline", "Pusher", "Comparison")
"""They look at the push folder, or write into work_dir, which KFP's cache knows nothing of."""
DATA: Final = "data"
"""What stands for the name of a run's data set, which has none."""
MOST_BYTES: Final = 127 * 1024
"""Of all tasks: KFP hands their description to the first pod as one argument, of which Linux takes 128 KiB."""


def for_cluster(config: PipelineConfig, root: str | None = None, data: str = DATA) -> PipelineConfig:
    """Return the settings as the steps see them.

    Args:
        config: settings.
        root: stands for theirs; kubeflow.work_dir unless given.
        data: name of the setting that is the data.

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
    changed = config.model_copy(update={"root": root or kubeflow.work_dir})
    check_paths(changed)
    for setting, path in (
        (f"{data}.audio_dir", config.data.audio_dir),
        (f"{data}.annotations", config.data.annotations_file),
        (f"{data}.synonyms", config.data.synonyms or "default"),
        ("kubeflow.work_dir", kubeflow.work_dir),
        ("push_dir", changed.pushed),
    ):
        _check_path(setting, path, kubeflow, read_only=setting.startswith(f"{data}."))
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
    from pipeline.create import create_pipeline

    settings = for_cluster(config)
    return _documents(create_pipeline(settings, _inputs(settings, data_version)), settings.kubeflow)


def compile_comparison(config: ComparisonConfig, versions: Mapping[str, str]) -> list[Spec]:
    """Compile a comparison for Kubeflow Pipelines: one pipeline, with all data sets in it.

    Args:
        config: the comparison; kubeflow.work_dir stands for its root.
        versions: data set -> as compile_pipeline's data_version.

    Returns:
        As compile_pipeline.

    Raises:
        BadInputError: a setting means nothing on a cluster, or there are more trainings than one pipeline can have.
    """
    from pipeline.compare.create import create_comparison_pipeline

    settings = config.model_copy(update={"root": config.kubeflow.work_dir})
    inputs = {}
    for data in settings.data:
        pipeline = settings.pipeline(data)
        inputs[data] = _inputs(for_cluster(pipeline, pipeline.root, f"{DATA}.{data}"), versions[data])
    return _documents(create_comparison_pipeline(settings, inputs), settings.kubeflow)


def compile_config(config: PipelineConfig | ComparisonConfig, versions: Mapping[str, str]) -> str:
    """Return what is uploaded for a run's configuration, or a comparison's.

    Args:
        config: settings.
        versions: as find_data_versions returns them; data without one are read as they are when a run begins.

    Raises:
        BadInputError: see compile_pipeline and compile_comparison.
    """
    from components.example_gen import ANY_VERSION

    known = {data: versions.get(data, ANY_VERSION) for data in data_pipelines(config)}
    if isinstance(config, ComparisonConfig):
        return to_yaml(compile_comparison(config, known))
    return to_yaml(compile_pipeline(config, known[DATA]))


def _inputs(config: PipelineConfig, data_version: str) -> Any:
    from pipeline.entry_keys import Inputs
    from pipeline.runs.local_runner import read_schema

    return Inputs(None, data_version, read_schema(config.data.schema_file), "each run")


def _documents(pipeline: Any, kubeflow: KubeflowConfig) -> list[Spec]:
    from components.example_gen import ANY_VERSION

    _check_name(pipeline.pipeline_info.pipeline_name)
    spec = _compile_tfx(pipeline, kubeflow)
    steps = list(spec["root"]["dag"]["tasks"])
    size = len(json.dumps(spec["root"], separators=(",", ":")))
    if size > MOST_BYTES:
        raise BadInputError(
            f"{pipeline.pipeline_info.pipeline_name}: the description of its {len(steps)} steps takes "
            f"{size / 1024:.0f} KiB, and Kubeflow Pipelines can begin with {MOST_BYTES // 1024} at most: divide the "
            "networks, recipes, seeds or data sets between several files"
        )
    unknown = [name for name in sorted(kubeflow.steps) if not any(fnmatchcase(step, name) for step in steps)]
    if unknown:
        raise BadInputError(
            f"kubeflow.steps.{unknown[0]}: there is no such step; the steps are {', '.join(sorted(steps))}"
        )
    as_they_are = (step for step, given in example_gens(spec).items() if given["data_version"] == ANY_VERSION)
    never = (*NEVER_CACHED, *as_they_are)
    spec = with_tasks(spec, lambda step: task_options(step, kubeflow, never))
    spec = with_containers(spec, lambda step: container_options(step, kubeflow))
    platform = {step: platform_options(step, kubeflow) for step in steps}
    executors = {executor_of(spec, step): options for step, options in platform.items() if options}
    documents = [with_argo_names(spec)]
    if executors:
        documents.append({"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}})
    return documents


def _check_name(name: str) -> None:
    if not re.fullmatch("[a-z0-9][a-z0-9-]{0,127}", name):
        other = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:128] or "autotag"
        raise BadInputError(
            f"name {name}: a pipeline on Kubeflow is named with small letters, digits and '-' alone: --set name={other}"
        )


def _compile_tfx(pipeline: Any, kubeflow: KubeflowConfig) -> Spec:
    from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
            default_image=kubeflow.image, default_commands=list(ENTRYPOINT), use_pipeline_spec_2_1=True
        )
    )
    spec: Spec = runner.run(pipeline, write_out=False)["pipelineSpec"]
    return spec


def data_pipelines(config: PipelineConfig | ComparisonConfig) -> dict[str, PipelineConfig]:
    """Return data set -> settings of a pipeline that reads it; a run's is called DATA."""
    if isinstance(config, PipelineConfig):
        return {DATA: config}
    return {data: config.pipeline(data) for data in config.data}


def find_data_versions(
    config: PipelineConfig | ComparisonConfig, on_clip: Callable[[int, int], None] | None = None
) -> dict[str, str]:
    """Return data set -> fingerprint of its data, without those that cannot be seen from here.

    Raises:
        BadInputError: some can be seen and cannot be used.
    """
    found = {data: find_data_version(pipeline, on_clip) for data, pipeline in data_pipelines(config).items()}
    return {data: version for data, version in found.items() if version is not None}


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
