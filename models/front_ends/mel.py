"""Mel filterbanks: triangles evenly spaced on Slaney's or HTK's mel scale, equal to librosa.filters.mel.

Computed here because importing librosa takes seconds, which whoever loads a served model would pay.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np
import numpy.typing as npt

Double = npt.NDArray[np.float64]


@functools.cache
def mel_filterbank(
    sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float, *, htk: bool, area_norm: bool
) -> npt.NDArray[np.float32]:
    """Triangular filters, (n_fft // 2 + 1 frequencies, n_mels) float32.

    Args:
        sample_rate: Hz.
        n_fft: samples in a frame.
        n_mels: bands.
        fmin: Hz, lower edge of the first band.
        fmax: Hz, upper edge of the last one.
        htk: HTK's scale, 2595 log10(1 + f / 700), instead of Slaney's.
        area_norm: each filter divided by half its width in Hz; otherwise all are 1 at their centre.
    """
    frequencies = np.arange(1 + n_fft // 2) * (sample_rate / n_fft)
    to_mel, to_hertz = (_htk_mel, _htk_hertz) if htk else (_slaney_mel, _slaney_hertz)
    edges = to_hertz(np.linspace(to_mel(fmin), to_mel(fmax), n_mels + 2))
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies[:, None] - left) / (centre - left)
    falling = (right - frequencies[:, None]) / (right - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    if area_norm:
        triangles = triangles * 2.0 / (right - left)
    filters: npt.NDArray[np.float32] = triangles.astype(np.float32)
    return filters


def _htk_mel(hertz: float) -> float:
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


def _htk_hertz(mel: Double) -> Double:
    return np.asarray(700.0 * (np.power(10.0, mel / 2595.0) - 1.0))


_LINEAR_BELOW_HERTZ: Final = 1000.0
_HERTZ_PER_MEL: Final = 200.0 / 3
_LINEAR_BELOW_MEL: Final = _LINEAR_BELOW_HERTZ / _HERTZ_PER_MEL
_LOG_STEP: Final = math.log(6.4) / 27.0
"""Slaney's Auditory Toolbox: linear up to 1 kHz, then 27 equal steps of logarithm from 1 kHz to 6.4 kHz."""


def _slaney_mel(hertz: float) -> float:
    if hertz < _LINEAR_BELOW_HERTZ:
        return hertz / _HERTZ_PER_MEL
    return _LINEAR_BELOW_MEL + math.log(hertz / _LINEAR_BELOW_HERTZ) / _LOG_STEP


def _slaney_hertz(mel: Double) -> Double:
    logarithmic = _LINEAR_BELOW_HERTZ * np.exp(_LOG_STEP * (mel - _LINEAR_BELOW_MEL))
    return np.where(mel < _LINEAR_BELOW_MEL, mel * _HERTZ_PER_MEL, logarithmic)
