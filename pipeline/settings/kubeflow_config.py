"""Where and how the pipeline runs on Kubeflow Pipelines: the section ``kubeflow`` of a configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from components.training_settings import Settings

_CPU = r"^([0-9]+(\.[0-9]+)?|[0-9]+m)$"
_MEMORY = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"
"""Kubernetes' quantities."""


class TolerationConfig(Settings):
    """A taint of nodes that a step puts up with."""

    key: str = Field(min_length=1, description="nvidia.com/gpu, for one")
    value: str | None = Field(None, description="any unless given")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(None, description="any unless given")


class StepResources(Settings):
    """What a step asks of the cluster; what is not given is not asked for."""

    cpu: str | None = Field(None, pattern=_CPU, description="cores, requested and at most: 2, 0.5 or 500m")
    memory: str | None = Field(None, pattern=_MEMORY, description="requested and at most: 8Gi, 512Mi")
    gpus: int = Field(0, ge=0, description="requested and at most")
    gpu_type: str = Field("nvidia.com/gpu", description="name of the cluster's resource")
    node_selector: dict[str, str] = Field(default_factory=dict, description="labels that the node must carry")
    tolerations: tuple[TolerationConfig, ...] = Field((), description="taints of nodes that it puts up with")


class VolumeConfig(Settings):
    """A persistent volume that every step sees."""

    claim: str = Field(min_length=1, description="name of the PersistentVolumeClaim")
    path: str = Field(pattern="^/", description="where the steps see it")


class SecretConfig(Settings):
    """A Kubernetes secret for every step, as variables or as files."""

    name: str = Field(min_length=1, description="of the secret")
    env: dict[str, str] = Field(default_factory=dict, description="environment variable -> key in the secret")
    path: str | None = Field(None, pattern="^/", description="folder in which the keys lie as files")

    @model_validator(mode="after")
    def _used(self) -> SecretConfig:
        if not self.env and not self.path:
            raise ValueError("give env (variable: key) or path")
        return self


class KubeflowConfig(Settings):
    """Where and how the pipeline runs on Kubeflow Pipelines."""

    host: str | None = Field(None, description="address of the API, such as http://localhost:8888")
    namespace: str | None = Field(None, description="in multi-user mode")
    token_env: str | None = Field(None, description="variable that holds a bearer token for the API")
    token_file: str | None = Field(None, description="file that holds it, read again for each request")
    experiment: str = Field("autotag", min_length=1, description="in which runs are listed")
    service_account: str | None = Field(
        None, min_length=1, description="Kubernetes service account of the steps; the server's own unless given"
    )
    metadata: str | None = Field(
        None, description="HOST:PORT of Kubeflow's own ML Metadata, where runs' figures are read: localhost:8080"
    )
    image: str | None = Field(None, description="the project's image, with which every step runs")
    pipeline_root: str = Field(
        "minio://mlpipeline/v2/artifacts", pattern=r"^(minio|s3|gs)://[^/]+", description="where artifacts go"
    )
    work_dir: str = Field(
        "/data/autotag", pattern="^/", description="stands for root in the steps: shards, checkpoints, pushed models"
    )
    volumes: tuple[VolumeConfig, ...] = Field(
        (VolumeConfig(claim="autotag-data", path="/data"),), description="that every step sees"
    )
    secrets: tuple[SecretConfig, ...] = Field((), description="for every step")
    env: dict[str, str] = Field(default_factory=dict, description="environment variables of every step")
    image_pull_secrets: tuple[str, ...] = Field((), description="names of secrets with which the image is fetched")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        None, description="the cluster's own unless given"
    )
    caching: bool = Field(True, description="take a step's result from an earlier run with the same inputs")
    retries: int = Field(2, ge=0, description="of a step that failed")
    retry_seconds: int = Field(60, ge=0, description="before the first retry; doubled for each further one")
    resources: StepResources = Field(StepResources(cpu="1", memory="4Gi"), description="of steps not named in steps")
    steps: dict[str, StepResources] = Field(
        default_factory=lambda: {"Transform*": StepResources(cpu="2", memory="8Gi")},
        description="name of a step, or several as Trainer_* -> what it asks of the cluster",
    )

    @model_validator(mode="after")
    def _on_a_volume(self) -> KubeflowConfig:
        paths = [volume.path.rstrip("/") or "/" for volume in self.volumes]
        if len(set(paths)) < len(paths):
            raise ValueError(f"two volumes at {max(paths, key=paths.count)}")
        return self

    @model_validator(mode="after")
    def _one_token(self) -> KubeflowConfig:
        if self.token_env and self.token_file:
            raise ValueError("give token_env or token_file, not both")
        return self
