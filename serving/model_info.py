"""What a pushed model says of itself: its card, ``model.json`` beside ``saved_model.pb``, read without TensorFlow."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from models.heads import Heads
from preprocessing.clip_format import ClipFormat
from preprocessing.errors import BadInputError
from preprocessing.level import Level
from preprocessing.windows import WindowRule

MODEL_INFO_NAME: Final = "model.json"
FORMAT: Final = 2
"""Of ``model.json``; 1 knew one clip, three networks and one list of tags."""


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation over the training split of what a network reads: dB of log-mel, or waveform."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not math.isfinite(value) or (name == "std" and value <= 0):
                raise ValueError(f"{name} is {value}: a mean must be finite, a deviation finite and positive")


@dataclass(frozen=True)
class MemberInfo:
    """One network of the pushed model.

    Attributes:
        name: as the configuration calls it.
        network: its name in models.registry.
        parameters: its weights.
        window_samples: that it hears at once, at ``sample_rate``.
        sample_rate: Hz.
        front_end: settings from which its input is computed; None where it reads the waveform.
        windows: those of a clip over which its answers are averaged.
        normalisation: of its input, in the graph; None where it takes it as it is.
        trained_on: what its weights were first trained on, where they came from elsewhere.
        level: at which it hears a window.
    """

    name: str
    network: str
    parameters: int
    window_samples: int
    sample_rate: int
    front_end: dict[str, Any] | None
    windows: WindowRule
    normalisation: Normalisation | None = None
    trained_on: str | None = None
    level: Level = "as_is"

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> MemberInfo:
        """Read one entry of ``members`` in ``model.json``."""
        learnt = values["normalisation"]
        return cls(
            **{
                **values,
                "windows": WindowRule(**values["windows"]),
                "normalisation": None if learnt is None else Normalisation(**learnt),
            }
        )


@dataclass(frozen=True)
class CombinerInfo:
    """What makes one answer of several networks': a kind of models.combiner, and its weights."""

    kind: str
    parameters: int


@dataclass(frozen=True)
class Origin:
    """Where a model comes from that was not trained here.

    Attributes:
        name: in the list of trained models, or the file that was imported.
        source: repository, package or paper.
        licence: of the weights.
        published: figures as their source states them, with their split; "" where there are none.
        notes: what a user has to know, such as that thresholds were not measured.
    """

    name: str
    source: str
    licence: str
    published: str = ""
    notes: str = ""


@dataclass(frozen=True)
class DataInfo:
    """The data that a model was made from.

    Attributes:
        name: of the data set.
        licence: of the data, which a model made from it carries.
        split: rule by which clips were divided, with its ratio and seed.
        clips: split -> number of clips.
        clips_with_tag: split -> number of clips that carry each tag, in the order of the outputs.
    """

    name: str
    licence: str
    split: dict[str, Any]
    clips: dict[str, int]
    clips_with_tag: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class SplitScores:
    """How the model did on one split: macro means over the tags that have both classes there; None where none has.

    Attributes:
        roc_auc: area under the receiver operating characteristic.
        pr_auc: average precision.
        f1: at the model's thresholds.
        scored_tags: number of tags with both classes.
        accuracy: of each one-of head, over the clips that are labelled with one of its tags.
    """

    roc_auc: float | None
    pr_auc: float | None
    f1: float | None
    scored_tags: int
    accuracy: dict[str, float] = field(default_factory=dict)


def code_version() -> str:
    """Version of this package, or "unknown" where it is not installed."""
    try:
        return importlib.metadata.version("autotag")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True)
class ModelInfo:
    """The model card.

    Attributes:
        tags: in the order of the outputs.
        thresholds: tag for tag, from which probability on it counts as heard (best F1 on the validation split). Those
            of one-of heads are not looked at: of these the most probable tag counts.
        heads: slices of the outputs.
        clip: what the model takes at once.
        members: its networks, in the order of the combiner's inputs.
        combiner: None where one network stands alone.
        data: what it was made from.
        scores: split -> scores.
        origin: None where it was trained here.
    """

    tags: tuple[str, ...]
    thresholds: tuple[float, ...]
    heads: Heads
    clip: ClipFormat
    members: tuple[MemberInfo, ...]
    combiner: CombinerInfo | None
    data: DataInfo
    scores: dict[str, SplitScores]
    origin: Origin | None = None
    code_version: str = field(default_factory=code_version)

    @property
    def parameters(self) -> int:
        """Weights of all networks and the combiner."""
        return (self.combiner.parameters if self.combiner else 0) + sum(member.parameters for member in self.members)

    def to_json(self) -> str:
        """Return the text of ``model.json``."""
        values = {**dataclasses.asdict(self), "heads": self.heads.to_json(), "parameters": self.parameters}
        return json.dumps({"format": FORMAT, **values}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ModelInfo:
        """Read the text of ``model.json``.

        Raises:
            ValueError, KeyError, TypeError: the text is something else.
        """
        data: dict[str, Any] = json.loads(text)
        if data.get("format") != FORMAT:
            raise ValueError(f"its format is {data.get('format', 1)!r}, and this version of autotag reads {FORMAT}")
        of_data = data["data"]
        counts = {split: tuple(tags) for split, tags in of_data["clips_with_tag"].items()}
        combiner, origin = data["combiner"], data["origin"]
        return cls(
            tags=tuple(data["tags"]),
            thresholds=tuple(data["thresholds"]),
            heads=Heads.from_json(data["heads"]),
            clip=ClipFormat(**data["clip"]),
            members=tuple(MemberInfo.from_json(member) for member in data["members"]),
            combiner=None if combiner is None else CombinerInfo(**combiner),
            data=DataInfo(**{**of_data, "clips_with_tag": counts}),
            scores={split: SplitScores(**scores) for split, scores in data["scores"].items()},
            origin=None if origin is None else Origin(**origin),
            code_version=data["code_version"],
        )


def check_tag_names(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the tags as a tuple.

    Raises:
        ValueError: none, one twice, an empty one, or one of several lines.
    """
    if not tags or len(set(tags)) != len(tags):
        raise ValueError(f"tag names must be there and differ, got {list(tags)}")
    for tag in tags:
        if not tag or "\n" in tag:
            raise ValueError(f"a tag name must be one line of text, got {tag!r}")
    return tuple(tags)


def check_thresholds(thresholds: Sequence[float], tags: Sequence[str]) -> tuple[float, ...]:
    """Return the thresholds as a tuple.

    Raises:
        ValueError: not one a tag, or one that is no probability.
    """
    values = tuple(float(threshold) for threshold in thresholds)
    if len(values) != len(tags) or not all(0 <= value <= 1 for value in values):
        raise ValueError(f"expected a threshold from 0 to 1 for each of {len(tags)} tags, got {list(values)}")
    return values


def read_model_info(model_dir: Path) -> ModelInfo:
    """Read ``model.json`` of a SavedModel's directory.

    Raises:
        BadInputError: it is missing or unreadable, or another version of autotag wrote it.
    """
    path = model_dir / MODEL_INFO_NAME
    try:
        return ModelInfo.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}): not a model that autotag exported") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"{path} is not a description of a model that this version of autotag reads: {error}. Push the model again"
        ) from error
