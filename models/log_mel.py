"""Log-mel spectrogram as a Keras layer, so that a served model takes waveforms and sees the training features.

Equal to ``librosa.power_to_db(librosa.feature.melspectrogram(...), ref=1.0, amin=1e-10, top_db=80)`` at the constants
of the clip contract: zeros round the clip (librosa's ``center=True, pad_mode="constant"``), periodic Hann window,
power, Slaney's mel scale and area normalisation, dB, and nothing more than 80 dB below the clip's own maximum.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from preprocessing import constants


@keras.saving.register_keras_serializable(package="autotag")
class LogMel(layers.Layer):  # type: ignore[misc]
    """(batch, 465600) float32 waveform in [-1, 1] -> (batch, 128, 592) float32 log-mel in dB.

    Always float32, under a mixed policy too: bfloat16 has no FFT and too few bits for a waveform. It has no weights.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)

    def call(self, waveform: Any) -> Any:
        """See the class."""
        margin = constants.N_FFT // 2
        padded = ops.pad(waveform, ((0, 0), (margin, margin)))  # keras.ops.stft's own centring reflects
        real, imaginary = ops.stft(
            padded, constants.N_FFT, constants.HOP_LENGTH, constants.N_FFT, window="hann", center=False
        )
        power = ops.square(real) + ops.square(imaginary)
        mel_power = ops.matmul(power, ops.convert_to_tensor(mel_filterbank()))
        return ops.transpose(_power_to_db(mel_power), (0, 2, 1))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, mel bins, frames)."""
        samples = input_shape[1]
        return input_shape[0], constants.N_MELS, None if samples is None else 1 + samples // constants.HOP_LENGTH


@functools.cache
def mel_filterbank() -> npt.NDArray[np.float32]:
    """Slaney's triangular filters of equal area, (1025 frequencies, 128 mel bins) float32: librosa.filters.mel's own.

    Computed here because importing librosa takes seconds, which whoever loads a served model would pay.
    """
    frequencies = np.linspace(0.0, constants.SAMPLE_RATE / 2, 1 + constants.N_FFT // 2)
    lowest, highest = _hertz_to_mel(constants.MEL_FMIN), _hertz_to_mel(constants.MEL_FMAX)
    edges = _mel_to_hertz(np.linspace(lowest, highest, constants.N_MELS + 2))
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies[:, None] - left) / (centre - left)
    falling = (right - frequencies[:, None]) / (right - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters: npt.NDArray[np.float32] = (triangles * 2.0 / (right - left)).astype(np.float32)
    return filters


_LINEAR_BELOW_HERTZ = 1000.0
_HERTZ_PER_MEL = 200.0 / 3
_LINEAR_BELOW_MEL = _LINEAR_BELOW_HERTZ / _HERTZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27.0
"""Slaney's Auditory Toolbox: linear up to 1 kHz, then 27 equal steps of logarithm from 1 kHz to 6.4 kHz."""


def _hertz_to_mel(hertz: float) -> float:
    if hertz < _LINEAR_BELOW_HERTZ:
        return hertz / _HERTZ_PER_MEL
    return _LINEAR_BELOW_MEL + math.log(hertz / _LINEAR_BELOW_HERTZ) / _LOG_STEP


def _mel_to_hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    logarithmic = _LINEAR_BELOW_HERTZ * np.exp(_LOG_STEP * (mel - _LINEAR_BELOW_MEL))
    return np.where(mel < _LINEAR_BELOW_MEL, mel * _HERTZ_PER_MEL, logarithmic)


def _power_to_db(power: Any) -> Any:
    """Decibels of (batch, frames, bins) power, cut 80 dB below each clip's maximum."""
    decibels = 10.0 / math.log(10.0) * ops.log(ops.maximum(power, constants.POWER_FLOOR))
    loudest = ops.max(decibels, axis=(1, 2), keepdims=True)
    return ops.maximum(decibels, loudest - constants.TOP_DB)
