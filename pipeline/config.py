"""The pipeline's configuration: typed, from a YAML file with command-line overrides, saved with each run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from preprocessing.constants import N_TAGS
from preprocessing.errors import BadInputError
from preprocessing.manifest import PreprocessSettings
from preprocessing.runners import BeamSettings
from preprocessing.splits import PAPER_RATIO

BRANCH_NAMES = ("mel_1d", "mel_2d", "waveform_1d")


_CPU = r"^([0-9]+(\.[0-9]+)?|[0-9]+m)$"
_MEMORY = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"
"""Kubernetes' quantities."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class DataConfig(_Settings):
    """Audio, annotations, and how they are divided."""

    name: str = Field("unnamed", description="of the data set, for the model card")
    licence: str = Field("not stated", description="of the data, for the model card")
    audio_dir: str = Field("demo-data", description="folder that the paths in the annotations are relative to")
    annotations: str = Field("demo-data/annotations_final.csv", description="annotations_final.csv")
    split: Literal["track", "paper", "folder", "clean"] = "track"
    ratio: tuple[int, int, int] = PAPER_RATIO
    seed: int = 0
    n_tags: int = Field(N_TAGS, ge=1, description="how many of the training split's most frequent tags are learnt")
    tags: tuple[str, ...] | None = Field(None, min_length=1, description="the tags to learn, in place of n_tags")
    synonyms: str | None = None
    shard_clips: int = Field(128, ge=1)
    schema_file: str | None = Field(
        None, description="curated schema; the one that comes with the package unless given"
    )
    max_short_share: float = Field(0.02, ge=0, le=1, description="of clips shorter than 80 % of a clip, per split")
    max_silent_share: float = Field(0.02, ge=0, le=1, description="of silent clips, per split")

    def preprocess_settings(self) -> PreprocessSettings:
        """What ``autotag preprocess`` takes for the same data."""
        return PreprocessSettings(
            self.split, self.ratio, self.seed, self.n_tags, self.synonyms, self.shard_clips, self.tags
        )

    @property
    def tag_count(self) -> int:
        """How many tags are learnt."""
        return self.n_tags if self.tags is None else len(self.tags)


class TrainConfig(_Settings):
    """How one network is trained (components.training.TrainingSettings)."""

    epochs: int = Field(30, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    patience: int = Field(5, ge=1)
    seed: int = 0
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    time_shift: bool = Field(False, description="turn each training clip round by a random time")
    gain_db: float = Field(0.0, ge=0, description="deviation of a random gain on each training clip")


class CombinerConfig(_Settings):
    """How the combiners are trained: in float32, on the branches' probabilities."""

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    patience: int = Field(10, ge=1)
    seed: int = 0


class GateConfig(_Settings):
    """When a model may be pushed."""

    min_roc_auc: float = Field(0.80, ge=0, le=1, description="macro ROC-AUC on the test split, at least")
    max_drop: float = Field(0.005, ge=0, le=1, description="ROC-AUC that it may lie below the latest blessed model")


class MetadataConfig(_Settings):
    """Where ML Metadata is kept: a file under the run's root, or a server that several people and machines share."""

    kind: Literal["sqlite", "mysql", "postgresql"] = Field("sqlite", description="mysql is MariaDB's too")
    host: str | None = None
    port: int | None = Field(None, ge=1, le=65535, description="3306 (mysql) or 5432 (postgresql) unless given")
    database: str | None = Field(None, pattern=r"^[A-Za-z0-9_]+$")
    user: str | None = None
    password_env: str | None = Field(
        "AUTOTAG_METADATA_PASSWORD", description="variable that holds the password; null where the server asks for none"
    )
    password_file: str | None = Field(None, description="file that holds the password, instead of the variable")

    @model_validator(mode="after")
    def _server_or_none(self) -> MetadataConfig:
        needed = ("host", "database", "user")
        if self.kind != "sqlite":
            missing = [name for name in needed if not getattr(self, name)]
            if missing:
                raise ValueError(f"{self.kind} needs {', '.join(missing)}")
        else:
            given = [name for name in (*needed, "port", "password_file") if getattr(self, name)]
            if given:
                raise ValueError(f"{given[0]} is of a server: set kind to mysql or postgresql")
        return self


class TolerationConfig(_Settings):
    """A taint of nodes that a step puts up with."""

    key: str = Field(min_length=1, description="nvidia.com/gpu, for one")
    value: str | None = Field(None, description="any unless given")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class StepResources(_Settings):
    """What a step asks of the cluster; what is not given is not asked for."""

    cpu: str | None = Field(None, pattern=_CPU, description="cores, requested and at most: 2, 0.5 or 500m")
    memory: str | None = Field(None, pattern=_MEMORY, description="requested and at most: 8Gi, 512Mi")
    gpus: int = Field(0, ge=0)
    gpu_type: str = Field("nvidia.com/gpu", description="name of the cluster's resource")
    node_selector: dict[str, str] = Field(default_factory=dict, description="labels that the node must carry")
    tolerations: tuple[TolerationConfig, ...] = ()


class VolumeConfig(_Settings):
    """A persistent volume that every step sees."""

    claim: str = Field(min_length=1, description="name of the PersistentVolumeClaim")
    path: str = Field(pattern="^/", description="where the steps see it")


class SecretConfig(_Settings):
    """A Kubernetes secret for every step, as variables or as files."""

    name: str = Field(min_length=1)
    env: dict[str, str] = Field(default_factory=dict, description="environment variable -> key in the secret")
    path: str | None = Field(None, pattern="^/", description="folder in which the keys lie as files")

    @model_validator(mode="after")
    def _used(self) -> SecretConfig:
        if not self.env and not self.path:
            raise ValueError("give env (variable: key) or path")
        return self


class KubeflowConfig(_Settings):
    """Where and how the pipeline runs on Kubeflow Pipelines."""

    host: str | None = Field(None, description="address of the API, such as http://localhost:8888")
    namespace: str | None = Field(None, description="in multi-user mode")
    token_env: str | None = Field(None, description="variable that holds a bearer token for the API")
    token_file: str | None = Field(None, description="file that holds it, read again for each request")
    experiment: str = Field("autotag", min_length=1)
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
    volumes: tuple[VolumeConfig, ...] = (VolumeConfig(claim="autotag-data", path="/data"),)
    secrets: tuple[SecretConfig, ...] = ()
    env: dict[str, str] = Field(default_factory=dict, description="environment variables of every step")
    image_pull_secrets: tuple[str, ...] = ()
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    caching: bool = Field(True, description="take a step's result from an earlier run with the same inputs")
    retries: int = Field(2, ge=0, description="of a step that failed")
    retry_seconds: int = Field(60, ge=0, description="before the first retry; doubled for each further one")
    resources: StepResources = Field(StepResources(cpu="1", memory="4Gi"), description="of steps not named in steps")
    steps: dict[str, StepResources] = Field(
        default_factory=lambda: {"Transform": StepResources(cpu="2", memory="8Gi")},
        description="name of a step -> what it asks of the cluster",
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


class PipelineConfig(_Settings):
    """Everything that a run is made from."""

    name: str = "autotag"
    root: str = Field("demo-run", description="artifacts, metadata, checkpoints and pushed models")
    push_dir: str | None = Field(None, description="where TF Serving looks; ROOT/pushed unless given")
    data: DataConfig = DataConfig()
    branches: dict[str, TrainConfig] = Field(default_factory=lambda: {name: TrainConfig() for name in BRANCH_NAMES})
    combiner: CombinerConfig = CombinerConfig()
    ensemble: tuple[str, ...] = Field(BRANCH_NAMES, description="branches of the model that is pushed")
    gate: GateConfig = GateConfig()
    beam: BeamSettings = Field(
        BeamSettings(),
        description="of ExampleGen, StatisticsGen, Transform, Evaluator, as autotag preprocess has it",
    )
    metadata: MetadataConfig = MetadataConfig()
    kubeflow: KubeflowConfig = KubeflowConfig()

    @field_validator("branches")
    @classmethod
    def _known_branches(cls, branches: dict[str, TrainConfig]) -> dict[str, TrainConfig]:
        unknown = sorted(branches.keys() - set(BRANCH_NAMES))
        if unknown:
            raise ValueError(f"unknown branch {unknown[0]!r}; known: {', '.join(BRANCH_NAMES)}")
        return {name: branches[name] for name in BRANCH_NAMES if name in branches}

    @model_validator(mode="after")
    def _ensemble_of_branches(self) -> PipelineConfig:
        missing = [name for name in self.ensemble if name not in self.branches]
        if missing or not self.ensemble:
            raise ValueError(f"ensemble {list(self.ensemble)}: expected branches out of {', '.join(self.branches)}")
        if list(self.ensemble) != [name for name in BRANCH_NAMES if name in self.ensemble]:
            raise ValueError(f"ensemble {list(self.ensemble)}: expected the order {', '.join(BRANCH_NAMES)}")
        return self

    @property
    def pushed(self) -> str:
        """Folder of the pushed versions."""
        return absolute(self.push_dir or os.path.join(self.root, "pushed"))

    @property
    def metadata_file(self) -> str:
        """SQLite file of ML Metadata, where it is one."""
        return os.path.join(os.path.abspath(self.root), "metadata.sqlite")

    def to_yaml(self) -> str:
        """Serialise in full."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def absolute(path: str) -> str:
    """Make a path absolute; an address on an object store (``s3://...``) stays as it is."""
    return path if "://" in path else os.path.abspath(path)


def load_config(path: str | None, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read a configuration.

    Args:
        path: YAML file; None for the defaults.
        overrides: ``KEY=VALUE`` with a dotted key and a YAML value, such as ``branches.mel_1d.epochs=3``.

    Raises:
        BadInputError: says which setting is wrong and why.
    """
    values: Any = {}
    if path:
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise BadInputError(f"configuration {path}: {error}") from None
        if not isinstance(values, dict):
            raise BadInputError(f"configuration {path}: expected a mapping of settings")
    for override in overrides:
        _set(values, override)
    try:
        return PipelineConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "configuration"
        message = first["msg"].removeprefix("Value error, ")
        raise BadInputError(f"{path or 'settings'}: {where}: {message} (got {first['input']!r})") from None


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise BadInputError(f"--set {override}: expected KEY=VALUE, such as --set branches.mel_1d.epochs=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInputError(f"--set {override}: {error}") from None
    *parents, last = key.split(".")
    if parents and parents[0] == "branches" and "branches" not in values:
        values["branches"] = {name: {} for name in BRANCH_NAMES}
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise BadInputError(f"--set {override}: {parent!r} is a value and has no settings below it")
    values[last] = value
