"""Fingerprints: by which two files are known for the same recording, whatever encoded them and wherever they were cut.

32 bits a step, each of which says whether the difference of the energies of two neighbouring bands grew from one frame
to the next (Haitsma and Kalker 2002, 'A highly robust audio fingerprinting system', section 4: 33 bands between 300
and 2,000 Hz, frames of 0.37 s). The step is 0.064 s here, not 0.0116, a fifth of the bytes: overlapping frames change
slowly, and two recordings that lie half a step apart still agree in most bits. Of each file the first SECONDS are
taken, 4 kB.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.fft

from preprocessing.audio.samples import Samples

FRAME_SECONDS: Final = 0.37
STEP_SECONDS: Final = 0.064
SECONDS: Final = 60.0
"""Heard of each file."""
BITS: Final = 32
LOWEST_HZ: Final = 300.0
HIGHEST_HZ: Final = 2000.0
FRAMES_AT_ONCE: Final = 256

Fingerprint = npt.NDArray[np.uint32]


@functools.cache
def _bands(sample_rate: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Window of a frame, and in which bins of its spectrum the bands begin and the last one ends."""
    size = round(FRAME_SECONDS * sample_rate)
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BITS + 2) * size / sample_rate
    return np.hanning(size).astype(np.float32), np.round(edges).astype(np.intp)


class Fingerprinter:
    """Takes a recording piece by piece.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._window, self._edges = _bands(sample_rate)
        self._step = round(STEP_SECONDS * sample_rate)
        self._wanted = round(SECONDS * sample_rate)
        self.taken = 0
        """Samples so far."""
        self._rest = np.zeros(0, np.float32)
        self._energies: list[npt.NDArray[np.float32]] = []

    def add(self, samples: Samples) -> None:
        """Float32 [n], which follow those before; what comes after SECONDS is passed over."""
        self.taken += len(samples)
        taken = samples[: self._wanted]
        self._wanted -= len(taken)
        held = np.concatenate([self._rest, taken])
        size = len(self._window)
        if len(held) < size:
            self._rest = held
            return
        frames = np.lib.stride_tricks.sliding_window_view(held, size)[:: self._step]
        for first in range(0, len(frames), FRAMES_AT_ONCE):
            self._energies.append(_energies(frames[first : first + FRAMES_AT_ONCE], self._window, self._edges))
        self._rest = held[len(frames) * self._step :]

    def finish(self) -> Fingerprint:
        """Uint32 [steps]; empty where there was less than two frames."""
        energies = np.concatenate([np.zeros((0, BITS + 1), np.float32), *self._energies])
        differences = energies[:, :-1] - energies[:, 1:]
        bits = differences[1:] > differences[:-1]
        return np.packbits(bits, axis=1, bitorder="little").view("<u4").reshape(-1).astype(np.uint32)


def fingerprint(samples: Samples, sample_rate: int) -> Fingerprint:
    """Float32 [n] -> uint32 [steps], of the first SECONDS; empty where there is less than two frames."""
    whole = Fingerprinter(sample_rate)
    whole.add(samples)
    return whole.finish()


def _energies(frames: Samples, window: npt.NDArray[np.float32], edges: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
    """Float32 [frames, size] -> float32 [frames, BITS + 1]."""
    spectrum = scipy.fft.rfft(frames * window)[:, : edges[-1]]
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    sums: npt.NDArray[np.float32] = np.add.reduceat(power, edges[:-1], axis=1)
    return sums
