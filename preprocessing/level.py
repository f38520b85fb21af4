"""How loud a window is, and a window brought to a level at which tags do not depend on the level of a recording.

The level is the root of the mean square about the window's own mean, in dB re full scale. What is brought to a level is
scaled as a whole, so that nothing but its loudness changes. models.front_ends.level does it in the graph of networks
that are trained so; what is here stands in front of models that are not, whose windows may not leave full scale.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from preprocessing.audio.samples import Samples
from preprocessing.silence import NOTHING_DBFS

Level = Literal["as_is", "rms"]
"""What a network hears: windows as they are, or each brought to LEVEL_DBFS."""

LEVEL_DBFS: Final = -18.0
"""About what records have: the median is -16.7 over 24 real excerpts and -18.4 over 20 synthetic ones."""

LEVEL: Final = 10 ** (LEVEL_DBFS / 20)
LEAST: Final = 10 ** (NOTHING_DBFS / 20)
"""What lies below counts as nothing to hear, and is amplified no more than what has this level: the noise of an input
with nothing plugged in is not brought to the level of music."""


def level_of(window: Samples) -> float:
    """Return the level of float32 [n], n at least 1, as an amplitude: the deviation about its mean."""
    centred = window - window.mean(dtype=np.float64).astype(np.float32)
    return float(np.sqrt(np.dot(centred, centred) / len(centred)))


def levelled(window: Samples) -> Samples:
    """Bring float32 [n] to LEVEL_DBFS, or to where its largest sample reaches full scale, if that is less."""
    gain = LEVEL / max(level_of(window), LEAST)
    peak = float(np.abs(window).max())
    return window * np.float32(min(gain, 1 / peak) if peak else 1.0)
