"""A model that is quick to make: it hears how the sound's power is spread over bands, and which pitch is the loudest.

Takes the place of serving.tagging.sources.LocalModel where what a network thinks of it does not matter.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.heads import Heads
from preprocessing.clip_format import ClipFormat
from serving.library.index_file import IndexCard
from serving.tagging.sources import Answers

TAGS = ("low", "middle", "high", "drum and bass")
EDGES = (0.0, 440.0, 660.0, 8_000.0)
"""Hz between ``low``, ``middle`` and ``high``: of song_files' three parts each is one."""
CLIP = ClipFormat(16_000, 48_000)
BANDS = 24


def between(hertz: Any, edges: Any, at: int) -> Any:
    return (hertz >= edges[at]) & (hertz < edges[at + 1])


@dataclass
class Info:
    tags: tuple[str, ...]
    thresholds: tuple[float, ...]
    heads: Heads


class PitchModel:
    """See the module.

    Args:
        name: what people call it.
        digest: another one is another model.
        seconds: that it takes for a window.
    """

    calls_at_once = 1
    embedding_size = BANDS

    def __init__(self, name: str = "pitch", digest: str = "0123456789abcdef", seconds: float = 0.0) -> None:
        self.name, self.digest = name, digest
        self.clip = CLIP
        self.tags: tuple[str, ...] | None = TAGS
        self.info = Info(TAGS, (0.5, 0.5, 0.5, 0.9), Heads.of_tags(len(TAGS)))
        self.windows = 0
        self._seconds = seconds

    def identity(self) -> str:
        return self.digest

    def answer(self, windows: npt.NDArray[np.float32]) -> Answers:
        time.sleep(self._seconds * len(windows))
        self.windows += len(windows)
        powers = np.abs(np.fft.rfft(windows, axis=1)) ** 2
        hertz = np.fft.rfftfreq(windows.shape[1], 1 / CLIP.sample_rate)
        edges = np.geomspace(50, 8_000, BANDS + 1)
        vectors = np.stack([powers[:, between(hertz, edges, at)].sum(axis=1) for at in range(BANDS)], axis=1)
        parts = np.stack([powers[:, between(hertz, EDGES, at)].max(axis=1) for at in range(3)], axis=1)
        shares = parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-9)
        probabilities = np.concatenate([shares, np.full((len(windows), 1), 0.1)], axis=1).astype(np.float32)
        thresholds = np.array(self.info.thresholds, np.float32)
        embeddings = np.log1p(vectors).astype(np.float32)
        return Answers(TAGS, thresholds, probabilities, self.digest, self.info.heads, embeddings)


def card(model: PitchModel | None = None) -> IndexCard:
    made: Any = model or PitchModel()
    thresholds = np.array(made.info.thresholds, np.float32)
    return IndexCard(made.name, made.digest, TAGS, thresholds, made.info.heads, BANDS)


def index_it(folder: Path, index: Path | None = None, model: PitchModel | None = None, **choices: Any) -> Any:
    """Bring a folder's index up to date; returns the summary and what was said."""
    import contextlib
    from collections.abc import Iterator, Sequence

    from pipeline.console.terminal import ProgressBar
    from serving.library.indexing import Choices, index_folder
    from serving.library.places import INDEX_NAME

    @contextlib.contextmanager
    def bar(files: Sequence[Path]) -> Iterator[ProgressBar]:
        yield ProgressBar(None, len(files))

    said: list[str] = []
    source: Any = model or PitchModel()
    summary = index_folder(folder, index or folder / INDEX_NAME, source, Choices(jobs=2, **choices), said.append, bar)
    return summary, said
