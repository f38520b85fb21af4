"""Channels to mono: the mean of those that sound, and of two that cancel each other the one turned over.

Healthy files get the plain mean. A channel in which nothing is heard (a mono recording on one side of a stereo file, an
unused one of 5.1) does not count, and channels of opposite polarity (R = -L), whose mean would be silence, are turned
over. Which channels sound is decided once, by the first half minute; one that begins to sound later counts from then
on. Polarity is looked at second by second, and a change is faded over one second, so that nothing clicks.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from preprocessing.audio.samples import Samples

LOOK_SECONDS: Final = 30.0
"""So much is looked at to find the channels that sound."""

MOST_VALUES: Final = 2**22
"""Most samples times channels looked at: 16 MiB as float32."""

SILENT: Final = 10 ** (-50 / 20)
"""A channel whose peak is below this share of the loudest one's is silent."""

CANCELLED: Final = 2 / 11
"""Below this share of the energy that independent channels' mean would have, they cancel: two channels whose sum has
a tenth of their difference's energy."""

LEAST_PEAK: Final = 1e-4
"""A channel that was silent begins to sound above this (-80 dB)."""

FLOOR: Final = 1e-10
"""Mean square (-100 dB) below which polarity is not looked at."""


class Mixer:
    """Mixes a file's channels, given in blocks; what comes out does not depend on how it was cut.

    Args:
        rate: Hz.
        channels: of the file.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self._stretch = max(1, rate)
        self._channels = channels
        self._look = int(min(LOOK_SECONDS * rate, MOST_VALUES / channels)) if channels > 1 else 0
        self._held: list[Samples] = []
        self._frames = 0
        self._sounding: npt.NDArray[np.bool_] | None = None
        self._begun = False
        self._weights = self._plain = np.full(channels, 1 / channels, np.float32)

    def mix(self, block: Samples, last: bool) -> Samples:
        """Take float32 [frames, channels]; returns float32 [frames mixed by now], with ``last`` all that is left."""
        if self._channels == 1:
            return block[:, 0]
        self._held.append(block)
        self._frames += len(block)
        if self._frames < max(self._look, self._stretch) and not last:
            return np.zeros(0, np.float32)
        held = np.concatenate(self._held) if len(self._held) > 1 else block
        ready = len(held) if last else len(held) // self._stretch * self._stretch
        with np.errstate(invalid="ignore", over="ignore"):
            if self._sounding is None:
                self._sounding = _sounding(held[: self._look] if self._look else held)
                self._weights = self._even(self._sounding)
            self._look = 0
            self._held, self._frames = [held[ready:]], len(held) - ready
            return self._mixed(held[:ready])

    def _mixed(self, samples: Samples) -> Samples:
        mono = mean_of_channels(samples)
        for start in range(0, len(samples), self._stretch):
            part = slice(start, start + self._stretch)
            before, weights = self._weights, self._choose(samples[part], mono[part])
            self._weights = weights
            if np.array_equal(before, self._plain) and np.array_equal(weights, self._plain):
                continue
            if not self._begun and start == 0:
                before = weights
            ramp = np.linspace(0, 1, len(mono[part]), dtype=np.float32)[:, None]
            gains = weights if np.array_equal(before, weights) else before + ramp * (weights - before)
            mono[part] = (samples[part] * gains).sum(axis=1)
        self._begun = self._begun or len(mono) > 0
        return mono

    def _even(self, sounding: npt.NDArray[np.bool_]) -> Samples:
        """The mean of the channels that sound."""
        if sounding.all():
            return self._plain
        weights: Samples = (sounding / sounding.sum()).astype(np.float32)
        return weights

    def _choose(self, samples: Samples, mono: Samples) -> Samples:
        """Weights of a stretch, float32 [channels]."""
        sounding = self._sounding
        assert sounding is not None
        if not sounding.all():
            peaks = _peaks(samples)
            sounding = np.logical_or(sounding, (peaks >= SILENT * peaks.max()) & (peaks > LEAST_PEAK))
            self._sounding = sounding
        count, even = int(sounding.sum()), self._even(sounding)
        flat = np.ascontiguousarray(samples).reshape(-1)
        energy = float(np.dot(flat, flat)) / count
        if count == 1 or not energy > FLOOR * len(samples):
            return even if (self._weights >= 0).all() else self._weights
        mixed = mono if even is self._plain else samples @ even
        mean_energy = float(np.dot(mixed, mixed))
        turned = bool((self._weights < 0).any())
        if not turned and not mean_energy < CANCELLED * energy / count:
            return even
        strongest = samples[:, np.square(samples).sum(axis=0).argmax()]
        weights: Samples = np.where(strongest @ samples < 0, -even, even).astype(np.float32)
        if weights[sounding.argmax()] < 0:  # the first channel stays as it is, whichever is the strongest by the second
            weights = -weights
        over = samples @ weights
        return weights if float(np.dot(over, over)) > mean_energy else even


def mean_of_channels(samples: Samples) -> Samples:
    """Float32 [frames, channels] -> float32 [frames]: the bytes of ``samples.mean(axis=1)``, many times as fast."""
    channels = samples.shape[1]
    if channels > 7:  # from here on numpy adds in another order
        mean: Samples = samples.mean(axis=1)
        return mean
    total: Samples = samples[:, 0] + samples[:, 1]
    for channel in range(2, channels):
        total += samples[:, channel]
    total /= np.float32(channels)
    return total


def _peaks(samples: Samples) -> Samples:
    """Float32 [channels]: the largest sample of each, whatever its sign."""
    peaks = [max(float(column.max(initial=0)), -float(column.min(initial=0))) for column in samples.T]
    return np.array(peaks, np.float32)


def _sounding(samples: Samples) -> npt.NDArray[np.bool_]:
    """Bool [channels]: which channels are heard; all where none is."""
    for step in (16, 1):
        peaks = _peaks(samples[::step])
        sounding: npt.NDArray[np.bool_] = peaks >= SILENT * peaks.max(initial=0)
        if sounding.all():
            break
    return sounding if sounding.any() else np.ones(samples.shape[1], np.bool_)
