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
from preprocessing.splits import PAPER_RATIO

BRANCH_NAMES = ("mel_1d", "mel_2d", "waveform_1d")


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
    n_tags: int = Field(N_TAGS, ge=1)
    synonyms: str | None = None
    shard_clips: int = Field(128, ge=1)
    schema_file: str | None = Field(
        None, description="curated schema; the one that comes with the package unless given"
    )
    max_short_share: float = Field(0.02, ge=0, le=1, description="of clips shorter than 80 % of a clip, per split")
    max_silent_share: float = Field(0.02, ge=0, le=1, description="of silent clips, per split")

    def preprocess_settings(self) -> PreprocessSettings:
        """What ``autotag preprocess`` takes for the same data."""
        return PreprocessSettings(self.split, self.ratio, self.seed, self.n_tags, self.synonyms, self.shard_clips)


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
    beam: tuple[str, ...] = Field((), description="Beam options of ExampleGen, StatisticsGen, Transform and Evaluator")

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
        return os.path.abspath(self.push_dir or os.path.join(self.root, "pushed"))

    @property
    def metadata_file(self) -> str:
        """SQLite file of ML Metadata."""
        return os.path.join(os.path.abspath(self.root), "metadata.sqlite")

    def to_yaml(self) -> str:
        """Serialise in full."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


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
