"""What counts as nothing to hear, and the mean over what is heard. One rule for numpy, graph and client.

A window (a clip, as a network is given it) is silent where more than 95 % of its stretches of 0.1 s have less than
-70 dBFS: the root of the mean square about the stretch's own mean, so that a constant offset is no sound. Digital
silence, dither (-93 dBFS) and the noise of an input with nothing plugged in (-90 to -75) lie below; music turned down
by 40 dB does not. Windows that are silent do not count in a song's mean, and a song of such windows alone has no tag.

This is not the health feature ``silent`` (preprocessing.features), which warns of a delivery whose clips are so quiet,
-60 dBFS, that something went wrong; such a clip is an example all the same.

serving.graph.silence is the same in the graph.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from preprocessing.constants import SILENT_SHARE

NOTHING_DBFS: Final = -70.0
NOTHING_POWER: Final = 10 ** (NOTHING_DBFS / 10)
STRETCHES_PER_SECOND: Final = 10

Floats = npt.NDArray[np.float32]
Booleans = npt.NDArray[np.bool_]


def stretch_samples(samples: int, sample_rate: int) -> int:
    """Return the length of a stretch in a window of so many samples at so many Hz; the window's, if that is shorter."""
    return max(1, min(samples, sample_rate // STRETCHES_PER_SECOND))


def is_silent(window: Floats, sample_rate: int) -> bool:
    """Whether there is nothing to hear in float32 [n], n at least 1; what follows the last whole stretch is left out.

    Args:
        window: as a network is given it: a short file repeated.
        sample_rate: Hz.
    """
    size = stretch_samples(len(window), sample_rate)
    stretches = window[: len(window) // size * size].reshape(-1, size)
    stretches = stretches - stretches.mean(axis=1, keepdims=True)
    powers = np.einsum("ns,ns->n", stretches, stretches) / size
    return bool(np.mean(powers < NOTHING_POWER) > SILENT_SHARE)


def mean_of_heard(by_window: Floats, silent: Booleans) -> Floats:
    """Float32 [windows, n], bool [windows] -> float32 [n]: mean over the windows that are not silent; 0 without any."""
    if silent.all():
        return np.zeros(by_window.shape[1:], np.float32)
    mean: Floats = by_window[~silent].mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean
