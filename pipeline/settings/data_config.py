"""What is learnt from: the section ``data`` of a configuration."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from components.labels import ANY, HeadSettings
from components.training_settings import Settings
from datasets.dataset import MTAT_LAYOUT, Dataset
from datasets.registry import DATASETS, RULES, find_dataset
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.constants import N_TAGS
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

_RESERVED = frozenset({"examples", "transform_graph", "model", "model_run", "config"})


def check_name(name: str, what: str) -> None:
    """Check a name that nodes, files and settings are made of.

    Raises:
        ValueError: it cannot be one.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name in _RESERVED:
        raise ValueError(f"{name!r} cannot be the name of a {what}: a letter, then letters, digits and _")


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
