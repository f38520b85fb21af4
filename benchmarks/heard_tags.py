"""How far a model's tags move where a clip is short, or turned down: what padding, repeating and one level do.

    .venv/bin/python -m benchmarks.heard_tags demo-run/pushed demo-data/annotations_final.csv --every 14

Clips are the rows of a table in MagnaTagATune's layout, beside which the audio lies. Short: the tags of a clip's first
3, 10, 20 and 25 s, followed by zeros and repeated, against those of the whole clip. Level: clips turned up and down, as
they are and with windows brought to one level (``autotag tag --level rms``), against the clips as they are and at one
level. Missing and invented tags go by the model's thresholds; ROC-AUC and PR-AUC are those of the tags that the table
has too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from components.shared_tags import SharedTags, find_shared_tags
from components.tag_scores import score_shared_tags
from datasets.mtat import parse_annotations
from preprocessing.audio.loading import load_clip
from preprocessing.audio.samples import fit_clip, from_pcm, to_pcm
from preprocessing.deformations import amplified
from preprocessing.level import levelled
from serving.engines.runtimes import AUTO
from serving.tagging.sources import WINDOWS_AT_ONCE, LocalModel

SECONDS: Final = (3, 10, 20, 25)
MOVED: Final = 0.1
"""A tag whose probability changes by more counts as moved."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Clips:
    """A model and what it is asked about.

    Attributes:
        model: which.
        waveforms: float32 [clip samples] each.
        tags: of each clip, as annotated.
        shared: which of the model's tags those answer for.
    """

    model: LocalModel
    waveforms: list[Floats]
    tags: list[Sequence[str]]
    shared: SharedTags

    @classmethod
    def read(cls, model: LocalModel, annotations: Path, every: int) -> Clips:
        """Read and decode each ``every``-th clip of a table.

        Raises:
            BadInputError: the table cannot be read.
            ClipError: a clip cannot be.
        """
        table = parse_annotations(annotations.read_bytes(), str(annotations))[::every]
        files = [(annotations.parent / clip.path).read_bytes() for clip in table]
        waveforms = [fit_clip(load_clip(data, clip=model.clip)[0], model.clip) for data in files]
        known = sorted({tag for clip in table for tag in clip.tags})
        return cls(model, waveforms, [clip.tags for clip in table], find_shared_tags(model.info.tags, known))

    def ask(self, heard: Callable[[Floats], Floats]) -> Floats:
        """Return probabilities, float32 [clips, tags], of what ``heard`` makes of the waveforms."""
        rows = []
        for first in range(0, len(self.waveforms), WINDOWS_AT_ONCE):
            windows = np.stack([heard(waveform) for waveform in self.waveforms[first : first + WINDOWS_AT_ONCE]])
            rows.append(self.model.answer(windows).probabilities)
        return np.concatenate(rows)

    def show(self, name: str, found: Floats, expected: Floats) -> None:
        """Print a row: how far the probabilities are from others, and how they score."""
        thresholds = np.float32(self.model.info.thresholds)
        missing, invented = (
            int(np.sum((one >= thresholds) & (other < thresholds)))
            for one, other in ((expected, found), (found, expected))
        )
        apart = np.abs(found - expected)
        scores = score_shared_tags(self.tags, found, self.shared)
        print(
            f"{name:28s} missing {missing:4d}  invented {invented:4d}  moved {(apart > MOVED).sum(axis=1).mean():5.2f} "
            f"a clip  furthest {apart.max(axis=1).mean():.3f} (mean), {apart.max():.3f} (worst)  "
            f"ROC-AUC {scores.roc_auc:.4f}, PR-AUC {scores.pr_auc:.4f}",
            flush=True,
        )


def padded(samples: int, waveform: Floats) -> Floats:
    """The first samples of float32 [n], and zeros behind them."""
    return np.pad(waveform[:samples], (0, len(waveform) - samples))


def repeated(samples: int, waveform: Floats) -> Floats:
    """The first samples of float32 [n], again and again."""
    return np.resize(waveform[:samples], len(waveform))


def turned(decibels: float, waveform: Floats) -> Floats:
    """Float32 [n] turned up or down, in the 16 bits of a file."""
    return from_pcm(to_pcm(amplified(waveform, decibels)))


def measure_short(clips: Clips, whole: Floats) -> None:
    """Print the rows of short clips."""
    for seconds in SECONDS:
        samples = seconds * clips.model.clip.sample_rate
        clips.show(f"{seconds} s, zeros behind", clips.ask(partial(padded, samples)), whole)
        clips.show(f"{seconds} s, repeated", clips.ask(partial(repeated, samples)), whole)


def measure_level(clips: Clips, whole: Floats, changes: Sequence[float]) -> None:
    """Print the rows of clips turned up and down by so many dB."""
    at_level = clips.ask(levelled)
    clips.show("one level", at_level, whole)
    for decibels in changes:
        change = partial(turned, decibels)
        clips.show(f"{decibels:g} dB", clips.ask(change), whole)
        clips.show(f"{decibels:g} dB, one level", clips.ask(partial(_levelled_after, change)), at_level)


def _levelled_after(change: Callable[[Floats], Floats], waveform: Floats) -> Floats:
    return levelled(change(waveform))


def main() -> None:
    """Measure one model on the clips of a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="pushed version, or what `autotag pretrained NAME` prints")
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take each so manieth clip of the table")
    parser.add_argument("--decibels", type=float, nargs="*", default=[6, -3, -6, -12, -20, -30, -40])
    parser.add_argument("--no-short", action="store_true", help="leave short clips out")
    parser.add_argument("--engine", default=AUTO)
    arguments = parser.parse_args()
    model = LocalModel(arguments.model, arguments.engine)
    clips = Clips.read(model, arguments.annotations, arguments.every)
    whole = clips.ask(lambda waveform: waveform)
    heard = int(np.sum(whole >= np.float32(model.info.thresholds)))
    print(f"{model.identity()}: {len(clips.waveforms)} clips, {heard} tags; {clips.shared}")
    clips.show("as they are", whole, whole)
    if not arguments.no_short:
        measure_short(clips, whole)
    if arguments.decibels:
        measure_level(clips, whole, arguments.decibels)


if __name__ == "__main__":
    main()
