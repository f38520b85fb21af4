"""Sound written as MP3 and read again, as files do to it."""

from __future__ import annotations

import io
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

RATES: Final = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Hz that MP3 has."""

DELAY: Final = 1105
"""Samples by which LAME and a decoder delay the sound, where the file has no room to say so."""


def mp3_rate(sample_rate: int) -> int:
    """Return the rate at which MP3 holds sound of a rate: the same or the next higher one that it has."""
    return min((rate for rate in RATES if rate >= sample_rate), default=RATES[-1])


def recoded(
    samples: npt.NDArray[np.float32], rate: int, level: float, mode: Literal["CONSTANT", "VARIABLE"]
) -> npt.NDArray[np.float32]:
    """Write sound as MP3 and read it again; what lies beyond full scale is cut, as an encoder does.

    Args:
        samples: float32 [n].
        rate: Hz, of RATES.
        level: libsndfile's compression level, from 0 to less than 1.
        mode: of the bit rate.

    Returns:
        float32 [n], not delayed; zeros where the decoder gave less.
    """
    import soundfile as sf

    buffer = io.BytesIO()
    sf.write(buffer, np.clip(samples, -1, 1), rate, format="MP3", compression_level=level, bitrate_mode=mode)
    buffer.seek(0)
    decoded = sf.read(buffer, dtype="float32")[0]
    if len(decoded) > len(samples):
        decoded = decoded[DELAY:]
    return np.pad(decoded[: len(samples)], (0, max(0, len(samples) - len(decoded))))
