"""Dynamic range compression as SoX's ``compand`` does it, written anew from what that effect does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from preprocessing.audio.samples import Samples


@dataclass(frozen=True)
class Compander:
    """Settings of SoX's ``compand``.

    Attributes:
        attack: seconds in which the level that is followed rises.
        decay: seconds in which it falls.
        points: level -> level, both in dB of full scale; the gain is linear in dB between them and constant outside.
        gain: dB added to all levels.
        delay: seconds by which the level is ahead of the sound.
    """

    attack: float
    decay: float
    points: tuple[tuple[float, float], ...]
    gain: float = 0.0
    delay: float = 0.0


def _slow(*points: tuple[float, float]) -> Compander:
    return Compander(0.1, 0.3, ((-90, -90), *points), delay=0.1)


COMPANDERS: Final[Mapping[str, Compander]] = {
    "radio": Compander(0.01, 1.0, ((-90, -90), (-70, -70), (-60, -20), (0, 0)), gain=-5.0),
    "film_standard": _slow((-70, -64), (-43, -37), (-31, -31), (-21, -21), (0, -20)),
    "film_light": _slow((-70, -64), (-53, -47), (-41, -41), (-21, -21), (0, -20)),
    "music_standard": _slow((-70, -58), (-55, -43), (-31, -31), (-21, -21), (0, -20)),
    "music_light": _slow((-70, -58), (-65, -53), (-41, -41), (-21, -21), (0, -11)),
    "speech": _slow((-70, -55), (-50, -35), (-31, -31), (-21, -21), (0, -20)),
}
"""Dolby E's profiles as SoX's options, of muda's presets (McFee, Humphrey and Bello 2015)."""


def companded(samples: Samples, sample_rate: int, compander: Compander) -> Samples:
    """Compress the dynamic range as SoX's ``compand`` does, beginning at full scale; float32 [n], cut at full scale."""
    level = _followed(samples, _share(compander.attack, sample_rate), _share(compander.decay, sample_rate))
    ahead = int(compander.delay * sample_rate)
    heard = level[np.minimum(np.arange(len(samples)) + ahead, len(samples) - 1)]
    inputs, outputs = np.array(compander.points, np.float64).T
    decibels = np.interp(20 * np.log10(np.maximum(heard, 1e-10)), inputs, outputs - inputs) + compander.gain
    deformed: Samples = np.clip(samples * 10 ** (decibels / 20), -1, 1).astype(np.float32)
    return deformed


def _share(seconds: float, sample_rate: int) -> float:
    return 1 - math.exp(-1 / (sample_rate * seconds)) if seconds * sample_rate > 1 else 1.0


def _followed(samples: Samples, attack: float, decay: float) -> npt.NDArray[np.float64]:
    """The level, float64 [n]: it nears each sample by a share that depends on whether it rises or falls."""
    level, levels = 1.0, []
    for value in np.abs(samples.astype(np.float64)).tolist():
        difference = value - level
        level += difference * (attack if difference > 0 else decay)
        levels.append(level)
    return np.array(levels)
