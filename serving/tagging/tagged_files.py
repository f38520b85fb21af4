"""What was heard in a file: tags with their probabilities, where they were heard, or why there are none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.heads import Heads
from preprocessing.audio.decoding import Heard
from preprocessing.clip_format import PAPER_CLIP
from preprocessing.errors import ClipError
from serving.tagging.sources import Probabilities, Vectors


@dataclass(frozen=True)
class Selection:
    """Which of a file's tags are shown and written.

    Attributes:
        threshold: from which probability on: a number, "model" for each tag's own threshold, or None for any.
        most: at most so many, the most probable; None for no limit.
    """

    threshold: float | Literal["model"] | None = None
    most: int | None = None


@dataclass(frozen=True)
class HeardPart:
    """Where in a file that lies which was heard.

    Attributes:
        start: seconds from the file's beginning.
        file_seconds: length of the file; None where it was not asked for, as of a part from the beginning on.
    """

    start: float
    file_seconds: float | None


@dataclass(frozen=True)
class TaggedFile:
    """What was heard in one file.

    Attributes:
        path: the file.
        seconds: length of what was decoded.
        heard: that, and how much there should be.
        tags: the model's tags, in the order of its outputs.
        thresholds: float32 [n_tags], from which probability on a tag counts as heard.
        probabilities: float32 [n_tags], mean over the windows in which there is something to hear; 0 without any.
        starts: float64 [windows], seconds from the beginning at which each window starts.
        window_probabilities: float32 [windows, n_tags], 0 where a window is silent.
        model: identity of the model that heard them, one for all windows.
        source: what people call that model.
        window_seconds: length of a window.
        heads: as Answers has them.
        silent_windows: bool [windows], there is nothing to hear; None for none of them.
        part: where in the file that lies, where only a part was to be heard; None for all of it.
        embedding: float32 [size], mean over the windows in which there is something to hear, 0 without any; None where
            the model was not asked for it.
    """

    path: Path
    seconds: float
    tags: tuple[str, ...]
    thresholds: Probabilities
    probabilities: Probabilities
    starts: npt.NDArray[np.float64]
    window_probabilities: Probabilities
    model: str
    source: str
    window_seconds: float = PAPER_CLIP.seconds
    heads: Heads | None = None
    heard: Heard | None = None
    silent_windows: npt.NDArray[np.bool_] | None = None
    part: HeardPart | None = None
    embedding: Vectors | None = None

    @property
    def begin(self) -> float:
        """Seconds of the file before what was heard."""
        return self.part.start if self.part is not None else 0.0

    @property
    def end(self) -> float:
        """Seconds from the file's beginning to the end of what was heard."""
        return self.begin + self.seconds

    @property
    def shortfall(self) -> str:
        """How much of the file was heard, such as ``43.8 of 87.6 s``; empty where nothing is known to be missing."""
        return self.heard.shortfall if self.heard is not None else ""

    @property
    def silences(self) -> npt.NDArray[np.bool_]:
        """Bool [windows], there is nothing to hear."""
        return np.zeros(self.windows, np.bool_) if self.silent_windows is None else self.silent_windows

    @property
    def silent(self) -> bool:
        """Nothing is to be heard in the whole file, which therefore has no tag."""
        return bool(self.silences.all())

    @property
    def windows(self) -> int:
        """Number of windows."""
        return len(self.starts)

    @property
    def above(self) -> npt.NDArray[np.bool_]:
        """Bool [n_tags]: the tag reaches its threshold, or is the most probable one of a one-of head.

        None of a silent file's does.
        """
        if self.silent:
            return np.zeros(len(self.tags), np.bool_)
        heads = self.heads or Heads.of_tags(len(self.tags))
        return heads.decide(self.probabilities, self.thresholds)

    def top(self, count: int) -> list[tuple[str, float]]:
        """The ``count`` most probable tags, the most probable first."""
        return self.select(Selection(most=count))

    def select(self, selection: Selection) -> list[tuple[str, float]]:
        """The tags chosen, with their probability, the most probable first; none of a silent file."""
        if self.silent:
            return []
        threshold = selection.threshold
        order = np.argsort(-self.probabilities, kind="stable")
        if threshold is not None:
            heard = self.above if threshold == "model" else self.probabilities >= threshold
            order = order[heard[order]]
        return [(self.tags[i], float(self.probabilities[i])) for i in order[: selection.most]]


@dataclass(frozen=True)
class FailedFile:
    """A file that could not be tagged."""

    path: Path
    error: ClipError

    @property
    def reason(self) -> str:
        """The error's detail without the path, for where the path stands beside it."""
        return self.error.detail.removeprefix(str(self.path)).removeprefix(":").strip()
