"""KFP's PipelineSpec and kfp-kubernetes' KubernetesExecutorConfig: what stands in a compiled pipeline.

Dictionaries as in the file's YAML documents; nothing of TFX or kfp is imported.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import yaml

from pipeline.settings.kubeflow_config import KubeflowConfig, StepResources

Spec = dict[str, Any]
NEVER_RETRIED: Final = ("RequireNoAnomalies",)
"""Its failure is its answer."""
EXAMPLE_GEN: Final = "ClipExampleGen"


@dataclass(frozen=True)
class ShardFolder:
    """Where a compiled pipeline keeps its shards.

    Attributes:
        folder: of the shards of all code.
        code: hash of the source that makes an example, the name of the folder in it.
    """

    folder: str
    code: str


def shard_folders(spec: Spec) -> list[ShardFolder]:
    """Return where a compiled pipeline keeps the shards of its data sets; none where it is not one of this project."""
    return [
        ShardFolder(os.path.normpath(given["work_dir"]), given["code"])
        for given in example_gens(spec).values()
        if given.keys() >= {"work_dir", "code"}
    ]


def example_gens(spec: Spec) -> dict[str, Mapping[str, Any]]:
    """Return step -> its parameters, of the steps that make examples: one for each data set."""
    tasks: Spec = spec.get("root", {}).get("dag", {}).get("tasks", {})
    return {
        step: {
            name: value["runtimeValue"]["constant"]
            for name, value in task.get("inputs", {}).get("parameters", {}).items()
            if "constant" in value.get("runtimeValue", {})
        }
        for step, task in tasks.items()
        if step.partition("-")[0].partition("_")[0] == EXAMPLE_GEN
    }


def step_names(text: str) -> list[str]:
    """Return the names of a compiled file's tasks."""
    return list(next(yaml.safe_load_all(text))["root"]["dag"]["tasks"])


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
        changed["deploymentSpec"]["executors"][executor_of(spec, step)]["container"].update(options(step))
    return changed


def executor_of(spec: Spec, step: str) -> str:
    """Return the label of the executor that runs a step."""
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
    """What a step asks of the cluster: ``resources``, over them ``steps`` of patterns in their order, then by name."""
    asked = kubeflow.resources
    patterns = [name for name in kubeflow.steps if name != step and fnmatchcase(step, name)]
    for name in (*patterns, *({step} & kubeflow.steps.keys())):
        given = kubeflow.steps[name]
        asked = asked.model_copy(update={name: getattr(given, name) for name in given.model_fields_set})
    return asked


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


def to_yaml(documents: list[Spec]) -> str:
    """Write the documents as one YAML file, the same text for the same pipeline."""
    return yaml.safe_dump_all(documents, sort_keys=True, width=120)
