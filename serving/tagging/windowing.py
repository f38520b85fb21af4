"""Windows of one clip's length, cut from samples or from a stream of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from preprocessing.audio.samples import Samples, fit_clip
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.windows import least_rest

SHORTEST_HOP_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Window:
    """One window of a file.

    Attributes:
        start: its first sample's place in the file.
        length: samples of the file in it: the clip's, or all that a shorter file has.
        samples: float32 [clip samples], from the first one again after ``length``.
    """

    start: int
    length: int
    samples: Samples


def stream_windows(
    blocks: Iterable[Samples], hop: int | None = None, clip: ClipFormat = PAPER_CLIP
) -> Iterator[Window]:
    """Cut blocks of float32 [any length] into windows of a clip's length, one every ``hop`` samples.

    What is shorter than a clip is repeated (preprocessing.audio.samples.fit_clip); of what is longer the last window
    ends where the file ends, or less than half a second before (preprocessing.windows). Holds one window and one block.

    Args:
        blocks: what follows each other in the file.
        hop: samples from one window's start to the next one's, from 1 to the clip's; None for the latter.
        clip: length and rate of a window.

    Raises:
        ValueError: the hop is out of range.
    """
    size = clip.samples
    hop = size if hop is None else hop
    if not 1 <= hop <= size:
        raise ValueError(f"hop must be from 1 to {size} samples, got {hop}")
    held = np.zeros(0, dtype=np.float32)
    end = start = 0  # of the samples so far; of the next window
    for block in blocks:
        held = np.concatenate([held, block])
        end += len(block)
        while start + size <= end:
            first = start - (end - len(held))
            yield Window(start, size, held[first : first + size])
            start += hop
        held = held[-size:]
    if end < size:
        yield Window(0, end, fit_clip(held, clip))
    elif end - (start - hop + size) >= least_rest(clip):
        yield Window(end - size, size, held)


def windows(samples: Samples, hop: int | None = None, clip: ClipFormat = PAPER_CLIP) -> list[Samples]:
    """Cut float32 [n] into clips of float32 [clip samples], by the rule of stream_windows; errors as there."""
    return [window.samples for window in stream_windows([samples], hop, clip)]
