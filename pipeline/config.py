"""The pipeline's configuration: typed, from a YAML file with command-line overrides, saved with each run."""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from components.labels import ANY, HeadSettings
from components.training_settings import (
    OUT_OF_FOLD,
    BatchSize,
    Epochs,
    Fit,
    LearningRate,
    NetworkSettings,
    Patience,
    ScoreWindows,
    Settings,
    SteadySchedule,
    TrainWindows,
    Weights,
)
from datasets.dataset import MTAT_LAYOUT, Dataset
from datasets.registry import DATASETS, RULES, find_dataset
from models.registry import NETWORKS, Network, find_network
from pipeline.overrides import set_value
from pipeline.recipes import RECIPES
from preprocessing.beam.settings import BeamSettings
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.constants import N_TAGS
from preprocessing.deformations import parse_deformation
from preprocessing.errors import BadInputError
from preprocessing.excerpts import ExcerptPlace
from preprocessing.settings import (
    LEAST_RATE,
    LEAST_SECONDS,
    MOST_RATE,
    MOST_SECONDS,
    PreprocessSettings,
    settings_in,
)
from preprocessing.settings_file import read_settings_file, wrong_setting
from preprocessing.storage import absolute

log = logging.getLogger(__name__)

PAPER_NETWORKS = ("mel_1d", "mel_2d", "waveform_1d")
"""Of Bengani et al. (2019): what is trained unless a configuration says other."""
MOST_FOR_SUBSETS = 3
"""Up to so many networks all their combinations are measured, as the paper's Table 5 has them."""

_CPU = r"^([0-9]+(\.[0-9]+)?|[0-9]+m)$"
_MEMORY = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"
"""Kubernetes' quantities."""


_RESERVED = frozenset({"examples", "transform_graph", "model", "model_run", "config"})


def check_name(name: str, what: str) -> None:
    """Check a name that nodes, files and settings are made of.

    Raises:
        ValueError: it cannot be one.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name in _RESERVED:
        raise ValueError(f"{name!r} cannot be the name of a {what}: a letter, then letters, digits and _")


def all_subsets(networks: Sequence[str]) -> list[tuple[str, ...]]:
    """All combinations of two and more networks, in the paper's order."""
    return [chosen for size in range(2, len(networks) + 1) for chosen in itertools.combinations(networks, size)]


class HeadConfig(Settings):
    """What a network answers: one list of tags (components.labels.HeadSettings)."""

    kind: Literal["multi-label", "one-of"] = Field("multi-label", description="any number of the tags, or one of them")
    top: int | None = Field(None, ge=1, description="how many of the training split's most frequent tags")
    tags: tuple[str, ...] | None = Field(None, min_length=1, description="the tags, in this order, in place of top")
    prefix: str = Field("", description="of the tags that top counts, such as genre---")

    @model_validator(mode="after")
    def _one_of_two(self) -> HeadConfig:
        if (self.top is None) == (self.tags is None):
            raise ValueError("give either top (how many of the most frequent tags) or tags (a list)")
        if self.tags is not None and len(set(self.tags)) < len(self.tags):
            raise ValueError(f"the tag {max(self.tags, key=self.tags.count)!r} stands there twice")
        if self.kind == "one-of" and (self.top or len(self.tags or ())) < 2:
            raise ValueError("one-of needs two tags at least")
        return self


class ClipConfig(Settings):
    """What a clip is."""

    seconds: float = Field(PAPER_CLIP.seconds, ge=LEAST_SECONDS, le=MOST_SECONDS, description="length")
    sample_rate: int = Field(PAPER_CLIP.sample_rate, ge=LEAST_RATE, le=MOST_RATE, description="Hz")

    @property
    def format(self) -> ClipFormat:
        """In samples."""
        return ClipFormat(self.sample_rate, round(self.seconds * self.sample_rate))


def _preprocess_setting(name: str, **changes: Any) -> Any:
    """Return a setting of ``autotag preprocess`` as a field of the same default, bounds and description."""
    setting = settings_in(PreprocessSettings)[name]
    return Field(**{"default": setting.default, **setting.metadata, **changes})


class DataConfig(Settings):
    """Audio, annotations, and how they are divided."""

    dataset: str = _preprocess_setting("dataset")
    name: str | None = Field(None, description="of the data, for the model card; the data set's own unless given")
    licence: str | None = Field(None, description="of the data, for the model card; the data set's own unless given")
    subset: str | None = _preprocess_setting("subset", default=None)
    audio_dir: str = Field("demo-data", description="folder that the paths in the annotations are relative to")
    annotations: str | None = Field(None, description="file or folder; annotations_final.csv in audio_dir unless given")
    split: str = _preprocess_setting("split")
    ratio: tuple[int, int, int] = _preprocess_setting("ratio")
    seed: int = _preprocess_setting("seed")
    heads: dict[str, HeadConfig] = Field(
        default_factory=lambda: {"tags": HeadConfig(top=N_TAGS)}, description="name -> what is answered"
    )
    synonyms: str | None = _preprocess_setting("synonyms")
    shard_clips: int = _preprocess_setting("shard_clips")
    clip: ClipConfig = _preprocess_setting("clip", default=ClipConfig())
    excerpts: ExcerptPlace = _preprocess_setting("excerpts")
    excerpt_count: int = _preprocess_setting("excerpt_count")
    columns: dict[str, str] = _preprocess_setting("columns", default={})
    schema_file: str | None = Field(
        None, description="curated schema; the one that comes with the package unless given"
    )
    max_short_share: float = Field(0.02, ge=0, le=1, description="of clips shorter than 80 % of a clip, per split")
    max_silent_share: float = Field(0.02, ge=0, le=1, description="of silent clips, per split")
    max_incomplete_share: float = Field(
        0.02, ge=0, le=1, description="of clips with less audio than their files should have, per split"
    )

    @field_validator("split")
    @classmethod
    def _known_split(cls, split: str) -> str:
        if split not in RULES:
            raise ValueError(f"expected one of {', '.join(RULES)}")
        return split

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, dataset: str) -> str:
        if dataset not in DATASETS:
            raise ValueError(f"expected one of {', '.join(DATASETS)}")
        return dataset

    @field_validator("heads")
    @classmethod
    def _heads_apart(cls, heads: dict[str, HeadConfig]) -> dict[str, HeadConfig]:
        if not heads:
            raise ValueError("give one head at least, such as {tags: {top: 50}}")
        for name in heads:
            check_name(name, "head")
        listed = [tag for head in heads.values() for tag in head.tags or ()]
        if len(set(listed)) < len(listed):
            raise ValueError(f"the tag {max(listed, key=listed.count)!r} is in two heads")
        counted = [head.prefix for head in heads.values() if head.tags is None]
        if len(set(counted)) < len(counted):
            raise ValueError("two heads with top and the same prefix would learn the same tags")
        return heads

    @model_validator(mode="after")
    def _of_the_data_set(self) -> DataConfig:
        try:
            self.reader.subset_name(self.subset or "")
        except BadInputError as error:
            raise ValueError(str(error)) from None
        if self.split not in self.reader.rules:
            raise ValueError(
                f"split {self.split!r}: expected one of {', '.join(self.reader.rules)} for the data set "
                f"{self.dataset!r}"
            )
        if self.annotations is None and self.reader.layout.audio:
            raise ValueError(
                f"annotations: give the folder; as `autotag download {self.dataset} DIR` leaves it, "
                f"{self.reader.layout.source('DIR', self.reader.subset_name(self.subset or '')).annotations}"
            )
        return self

    def head_settings(self) -> tuple[HeadSettings, ...]:
        """What components take for the heads."""
        settings = []
        for name, head in self.heads.items():
            others = {other: values for other, values in self.heads.items() if other != name}
            taken = [tag for values in others.values() for tag in values.tags or ()]
            taken += [
                f"{values.prefix}{ANY}"
                for values in others.values()
                if values.tags is None and values.prefix.startswith(head.prefix) and values.prefix
            ]
            of_head = HeadSettings(name, head.kind, head.top, head.tags, head.prefix)
            settings.append(of_head if head.tags is not None else replace(of_head, others=tuple(taken)))
        return tuple(settings)

    @property
    def reader(self) -> Dataset:
        """The data set's entry in the registry."""
        return find_dataset(self.dataset)

    @property
    def edition(self) -> tuple[str, ...]:
        """Which of a data set's published versions it is: subset, and folder of the annotations such as split-3."""
        if self.reader.layout == MTAT_LAYOUT:
            return ()
        subset = self.reader.subset_name(self.subset or "")
        return (*([subset] if subset else []), self.annotations_file.rstrip("/").rpartition("/")[2])

    @property
    def annotations_file(self) -> str:
        """Where the annotations are."""
        if self.annotations is not None:
            return self.annotations
        return self.reader.layout.source(self.audio_dir).annotations

    def preprocess_settings(self) -> PreprocessSettings:
        """What ``autotag preprocess`` takes for the same data."""
        fixed = [tag for head in self.heads.values() for tag in head.tags or ()]
        counted = sum(head.top or 0 for head in self.heads.values())
        tags = tuple(fixed) if fixed and not counted else None
        as_they_are = ("split", "ratio", "seed", "synonyms", "shard_clips", "dataset", "excerpts", "excerpt_count")
        return PreprocessSettings(
            **{name: getattr(self, name) for name in as_they_are},
            n_tags=counted or len(fixed),
            tags=tags,
            columns=tuple(self.columns.items()),
            clip=self.clip.format,
            subset=self.subset or "",
        )


class WindowsConfig(Settings):
    """Windows of a clip, of a network that hears less than a clip."""

    train: TrainWindows = 1
    score: ScoreWindows = None


class HeadFirst(Settings):
    """Train the last layer first."""

    all_after: int = Field(ge=1, description="epochs of the last layer alone, before all is trained")


class NetworkChoice(Settings):
    """Which network, and what stands for settings that are not given."""

    network: str | None = Field(None, description="of `autotag networks`; its name here unless given")
    recipe: Literal["paper", "comparison", "good"] = Field(
        "paper", description="what stands for settings that are not given: pipeline/recipes.py"
    )


class NetworkConfig(NetworkSettings, NetworkChoice):
    """One network and how it is trained."""

    windows: WindowsConfig = Field(
        WindowsConfig(), description="of a clip, that a network learns from and is asked about"
    )
    weights: Weights = None
    train: Literal["all", "head"] | HeadFirst = Field("all", description="what is trained, where weights are given")

    @model_validator(mode="before")
    @classmethod
    def _with_recipe(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        recipe = values.get("recipe", "paper")
        return {**RECIPES.get(recipe if isinstance(recipe, str) else "", {}), **values}

    @model_validator(mode="after")
    def _weights_for_head(self) -> NetworkConfig:
        if self.train != "all" and self.weights is None:
            raise ValueError("train other than 'all' needs weights to start from")
        return self

    def training_settings(self) -> dict[str, Any]:
        """What a Trainer takes, as JSON."""
        values = self.model_dump(mode="json", exclude={"network", "recipe", "windows", "train"})
        train = self.train.all_after if isinstance(self.train, HeadFirst) else self.train
        return {**values, "train_windows": self.windows.train, "score_windows": self.windows.score, "train": train}


class CombinerConfig(Settings):
    """How combiners that are trained in epochs are trained: in float32, on the networks' probabilities."""

    epochs: Epochs = 100
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 1e-3
    schedule: SteadySchedule = Field("cosine", description="of the learning rate")
    patience: Patience = 10
    seed: int = Field(0, description="of weights and order")
    folds: int = Field(3, ge=2, le=20, description="of the training split, for combiners that are fitted out of fold")

    def training_settings(self) -> dict[str, Any]:
        """What EnsembleTrainer takes, as JSON."""
        return self.model_dump(mode="json", exclude={"folds"})


class EnsembleConfig(Settings):
    """Several networks and what makes one answer of theirs (models.combiner)."""

    of: tuple[str, ...] = Field(min_length=2, description="networks, in the order of the combiner's inputs")
    combiner: Literal["dense", "logistic", "mean"] = Field("dense", description="the paper's; per tag; nothing learnt")
    fit: Fit = Field("valid", description="on whose predictions: see components/combiners.py")

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, values: Any) -> Any:
        return {"of": values} if isinstance(values, list | tuple) else values


def deformation_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return deformations as preprocessing.deformations writes them, in the same order.

    Raises:
        ValueError: there is no such deformation, or one stands there twice.
    """
    try:
        found = tuple(parse_deformation(name).name for name in names)
    except BadInputError as error:
        raise ValueError(str(error)) from None
    if len(set(found)) < len(found):
        raise ValueError(f"{max(found, key=found.count)!r} stands there twice")
    return found


class RobustnessConfig(Settings):
    """What the candidate is tested with besides the clean test split."""

    deformations: tuple[str, ...] = Field((), description="noise_0.1, mp3_32 and others: preprocessing/deformations.py")

    @field_validator("deformations")
    @classmethod
    def _known(cls, deformations: tuple[str, ...]) -> tuple[str, ...]:
        return deformation_names(deformations)


class GateConfig(Settings):
    """When a model may be pushed."""

    min_roc_auc: float = Field(0.80, ge=0, le=1, description="macro ROC-AUC on the test split, at least")
    max_drop: float = Field(0.005, ge=0, le=1, description="ROC-AUC that it may lie below the latest blessed model")
    robustness: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="deformation -> ROC-AUC that it may lie below that of the clean test split"
    )

    @field_validator("robustness")
    @classmethod
    def _known(cls, limits: dict[str, float]) -> dict[str, float]:
        return dict(zip(deformation_names(list(limits)), limits.values(), strict=True))


class MetadataConfig(Settings):
    """Where ML Metadata is kept: a file under the run's root, or a server that several people and machines share."""

    kind: Literal["sqlite", "mysql", "postgresql"] = Field("sqlite", description="mysql is MariaDB's too")
    host: str | None = Field(None, description="of the database server")
    port: int | None = Field(None, ge=1, le=65535, description="3306 (mysql) or 5432 (postgresql) unless given")
    database: str | None = Field(None, pattern=r"^[A-Za-z0-9_]+$", description="name of the database")
    user: str | None = Field(None, description="of the database")
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


class PipelineConfig(Settings):
    """Everything that a run is made from."""

    name: str = Field("autotag", description="of the pipeline, by which runs are listed")
    root: str = Field("demo-run", description="artifacts, metadata, checkpoints and pushed models")
    push_dir: str | None = Field(None, description="where TF Serving looks; ROOT/pushed unless given")
    data: DataConfig = Field(DataConfig(), description="what is learnt from")
    networks: dict[str, NetworkConfig] = Field(
        default_factory=lambda: {name: NetworkConfig() for name in PAPER_NETWORKS},
        min_length=1,
        description="what is trained",
    )
    ensembles: dict[str, EnsembleConfig] = Field(
        default_factory=dict, description="of networks above; the paper's, where its three networks are all there is"
    )
    combiner: CombinerConfig = Field(CombinerConfig(), description="how those of ensembles are fitted")
    push: str | None = Field(None, description="network or ensemble of the model that is pushed")
    gate: GateConfig = Field(GateConfig(), description="when a model may be pushed")
    robustness: RobustnessConfig = Field(RobustnessConfig(), description="under which deformations it is tested")
    beam: BeamSettings = Field(
        BeamSettings(),
        description="of ExampleGen, StatisticsGen, Transform, Evaluator and the like, as autotag preprocess has it",
    )
    metadata: MetadataConfig = Field(MetadataConfig(), description="where ML Metadata is kept")
    kubeflow: KubeflowConfig = Field(KubeflowConfig(), description="where and how it runs on Kubeflow")

    @model_validator(mode="before")
    @classmethod
    def _paper_ensemble(cls, values: Any) -> Any:
        """The paper's three networks and nothing said of ensembles: the paper's ensemble."""
        if not isinstance(values, dict) or values.keys() & {"ensembles", "push"}:
            return values
        if set(values.get("networks") or PAPER_NETWORKS) == set(PAPER_NETWORKS):
            paper = {"of": PAPER_NETWORKS, "combiner": "dense", "fit": "in_sample"}
            return {**values, "ensembles": {"paper": paper}}
        return values

    @field_validator("networks")
    @classmethod
    def _known_networks(cls, networks: dict[str, NetworkConfig]) -> dict[str, NetworkConfig]:
        for name, network in networks.items():
            check_name(name, "network")
            if (network.network or name) not in NETWORKS:
                raise ValueError(
                    f"{name}: no network is called {network.network or name!r}; there are {', '.join(NETWORKS)}"
                )
        return networks

    @model_validator(mode="after")
    def _ensembles_of_networks(self) -> PipelineConfig:
        for name, ensemble in self.ensembles.items():
            check_name(name, "ensemble")
            if name in self.networks:
                raise ValueError(f"ensembles: {name!r} is a network's name already")
            missing = [network for network in ensemble.of if network not in self.networks]
            if missing or len(set(ensemble.of)) < len(ensemble.of):
                raise ValueError(
                    f"ensembles.{name}: {list(ensemble.of)}: expected different ones of {', '.join(self.networks)}"
                )
        possible = [*self.networks, *self.ensembles]
        if self.push is not None and self.push not in possible:
            raise ValueError(f"push: {self.push!r}: expected one of {', '.join(possible)}")
        if self.push is None and len(self.ensembles) != 1 and len(self.networks) != 1:
            raise ValueError(f"push: say which model is to be pushed: {', '.join(possible)}")
        return self

    @model_validator(mode="after")
    def _networks_hear_clips(self) -> PipelineConfig:
        for name in self.networks:
            try:
                self.network(name).window_in(self.data.clip.format)
            except BadInputError as error:
                raise ValueError(f"networks.{name}: {error}") from None
        return self

    @model_validator(mode="after")
    def _deformations_of_these_clips(self) -> PipelineConfig:
        for name in self.deformations:
            try:
                parse_deformation(name).check(self.data.clip.sample_rate)
            except BadInputError as error:
                raise ValueError(f"robustness: {error}") from None
        return self

    @property
    def deformations(self) -> tuple[str, ...]:
        """Names of those that are measured: all that are listed, then those that the gate alone asks for."""
        return tuple(dict.fromkeys([*self.robustness.deformations, *self.gate.robustness]))

    def network(self, name: str) -> Network:
        """Return the registry's entry of a network of this configuration."""
        return find_network(self.networks[name].network or name)

    @property
    def push_name(self) -> str:
        """Network or ensemble that is pushed."""
        return self.push or next(iter(self.ensembles), None) or next(iter(self.networks))

    @property
    def needs_folds(self) -> bool:
        """Whether some combiner is fitted on predictions for clips that the networks were not trained on."""
        return any(one.fit == OUT_OF_FOLD and one.combiner != "mean" for one in self.all_combinations().values())

    def all_combinations(self) -> dict[str, EnsembleConfig]:
        """Return the ensembles and, of up to three networks, all further subsets, combined as the pushed one is."""
        combinations = dict(self.ensembles)
        if 2 <= len(self.networks) <= MOST_FOR_SUBSETS:
            like = self.ensembles.get(self.push_name) or next(iter(self.ensembles.values()), None)
            there = {frozenset(one.of) for one in combinations.values()}
            for chosen in all_subsets(list(self.networks)):
                if like is not None and frozenset(chosen) not in there:
                    combinations["+".join(chosen)] = EnsembleConfig(of=chosen, combiner=like.combiner, fit=like.fit)
        return combinations

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


def load_config(path: str | None, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read a configuration.

    Args:
        path: YAML file; None for the defaults.
        overrides: ``KEY=VALUE`` with a dotted key, such as ``networks.mel_1d.epochs=3``; see pipeline.overrides.

    Raises:
        BadInputError: says which setting is wrong and why.
    """
    values = read_settings_file(path) if path else {}
    for override in overrides:
        if override.startswith(("networks.", "branches.")) and not values.keys() & {"networks", "branches"}:
            values["networks"] = {name: {} for name in PAPER_NETWORKS}
        set_value(PipelineConfig, values, override)
    values = convert_old(values, path or "settings")
    try:
        return PipelineConfig.model_validate(values)
    except ValidationError as error:
        raise wrong_setting(error, path or "settings") from None


def convert_old(values: dict[str, Any], source: str) -> dict[str, Any]:
    """Return settings as they are written today, with a line in the log where they were written as in 0.1.

    ``branches`` are ``networks``; ``ensemble``, a list, is one of ``ensembles`` and what is pushed; ``data.n_tags`` and
    ``data.tags`` are ``data.heads.tags``.
    """
    values, old = dict(values), []
    if "branches" in values:
        old.append("branches")
        mine = values.pop("branches") or {}
        networks = dict(values.get("networks") or {})
        for name, settings in mine.items():
            networks[name] = {**(networks.get(name) or {}), **(settings or {})}
        values["networks"] = networks
    if "ensemble" in values:
        old.append("ensemble")
        chosen = values.pop("ensemble")
        if isinstance(chosen, list | tuple) and len(chosen) == 1:
            values["push"] = chosen[0]
        else:
            values["ensembles"] = {"all": {"of": chosen, "combiner": "dense", "fit": "in_sample"}}
            values["push"] = "all"
    data = values.get("data")
    if isinstance(data, dict) and data.keys() & {"n_tags", "tags"}:
        old += [f"data.{key}" for key in ("n_tags", "tags") if key in data]
        data = dict(data)
        count, tags = data.pop("n_tags", None), data.pop("tags", None)
        head = {"tags": tags} if tags is not None else {"top": count}
        values["data"] = {**data, "heads": {"tags": head}}
    if old:
        log.warning(
            "%s: %s as in autotag 0.1; `autotag run --show-config` prints it as it is written today",
            source,
            ", ".join(old),
        )
    return values
