"""What a pushed model says of itself: its card, ``model.json`` beside ``saved_model.pb``, read without TensorFlow."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from preprocessing import constants
from preprocessing.digits import is_number
from preprocessing.errors import BadInputError

MODEL_INFO_NAME: Final = "model.json"
SAVED_MODEL_NAME: Final = "saved_model.pb"

InputKind = Literal["log_mel", "waveform"]
"""What a branch reads: log-mel (128, 592) in dB or waveform (465600,) in [-1, 1], both normalised inside the graph."""


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation over the training split: log-mel in dB, waveform in [-1, 1]."""

    log_mel_mean: float
    log_mel_std: float
    waveform_mean: float
    waveform_std: float

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not math.isfinite(value) or (name.endswith("_std") and value <= 0):
                raise ValueError(f"{name} is {value}: means must be finite, deviations finite and positive")


@dataclass(frozen=True)
class BranchInfo:
    """One branch of the pushed ensemble."""

    name: str
    input: InputKind
    parameters: int


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
    """

    roc_auc: float | None
    pr_auc: float | None
    f1: float | None
    scored_tags: int


def clip_constants() -> dict[str, float]:
    """The constants of the clip contract that a model's inputs depend on."""
    names = "SAMPLE_RATE CLIP_SAMPLES N_FFT HOP_LENGTH N_FRAMES N_MELS MEL_FMIN MEL_FMAX POWER_FLOOR TOP_DB PCM_SCALE"
    return {name.lower(): getattr(constants, name) for name in names.split()}


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
        thresholds: tag for tag, from which probability on it counts as heard (best F1 on the validation split).
        normalisation: applied in the graph.
        branches: in the order of the combiner's inputs.
        combiner_parameters: 0 where one branch stands alone.
        data: what it was made from.
        scores: split -> scores.
    """

    tags: tuple[str, ...]
    thresholds: tuple[float, ...]
    normalisation: Normalisation
    branches: tuple[BranchInfo, ...]
    combiner_parameters: int
    data: DataInfo
    scores: dict[str, SplitScores]
    code_version: str = field(default_factory=code_version)
    constants: dict[str, float] = field(default_factory=clip_constants)

    @property
    def parameters(self) -> int:
        """Weights of all branches and the combiner."""
        return self.combiner_parameters + sum(branch.parameters for branch in self.branches)

    def to_json(self) -> str:
        """Return the text of ``model.json``."""
        return (
            json.dumps({**dataclasses.asdict(self), "parameters": self.parameters}, indent=2, ensure_ascii=False) + "\n"
        )

    @classmethod
    def from_json(cls, text: str) -> ModelInfo:
        """Read the text of ``model.json``.

        Raises:
            ValueError, KeyError, TypeError: the text is something else.
        """
        data: dict[str, Any] = json.loads(text)
        return cls(
            tags=tuple(data["tags"]),
            thresholds=tuple(data["thresholds"]),
            normalisation=Normalisation(**data["normalisation"]),
            branches=tuple(BranchInfo(**branch) for branch in data["branches"]),
            combiner_parameters=data["combiner_parameters"],
            data=DataInfo(
                **{
                    **data["data"],
                    "clips_with_tag": {
                        split: tuple(counts) for split, counts in data["data"]["clips_with_tag"].items()
                    },
                }
            ),
            scores={split: SplitScores(**scores) for split, scores in data["scores"].items()},
            code_version=data["code_version"],
            constants=data["constants"],
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


def find_model(directory: Path) -> Path:
    """Return the directory of a SavedModel: ``directory`` itself or, as TF Serving does, its highest numbered version.

    Raises:
        BadInputError: there is none.
    """
    if (directory / SAVED_MODEL_NAME).is_file():
        return directory
    if not directory.is_dir():
        raise BadInputError(
            f"no model at {directory}: no such folder. Train and push one with `autotag run`, or give --model"
        )
    versions = [path for path in directory.iterdir() if is_number(path.name) and (path / SAVED_MODEL_NAME).is_file()]
    if not versions:
        raise BadInputError(
            f"no model at {directory}: neither {SAVED_MODEL_NAME} nor a numbered version with one in it. "
            "If the last run was not blessed, nothing was pushed: see `autotag runs`"
        )
    return max(versions, key=lambda path: int(path.name))


def read_model_info(model_dir: Path) -> ModelInfo:
    """Read ``model.json`` of a SavedModel's directory.

    Raises:
        BadInputError: it is missing, unreadable, or was made for clips of another kind.
    """
    path = model_dir / MODEL_INFO_NAME
    try:
        info = ModelInfo.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}): not a model that autotag exported") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"{path} is not autotag's description of a model: {error!r}. Push the model again"
        ) from error
    if info.constants != clip_constants():
        raise BadInputError(f"{path} was made for other clips, {info.constants}; this version has {clip_constants()}")
    return info
