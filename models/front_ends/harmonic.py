"""Harmonic filters: a filterbank over the fundamental frequency and its multiples whose bandwidth is learnt.

Won, Chun, Nieto and Serra (2020), Data-driven harmonic filters for audio representation learning, with one quality
factor for all filters (``only_Q`` in the networks of Won et al. 2020, Evaluation of CNN-based automatic music tagging
models). Centre frequencies stand half a semitone apart from ``lowest_note``; filter h, k is a triangle round h times
the k-th of them, (0.1079 f + 24.7) / Q Hz wide at half its height: Glasberg and Moore's bandwidth of hearing over Q.
"""

from __future__ import annotations

import math
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from models.front_ends.layers import PACKAGE
from models.tensors import FloatTensor

BANDWIDTH_SLOPE: Final = 0.1079
BANDWIDTH_AT_ZERO: Final = 24.7
LOWEST_NOTE: Final = 24
"""MIDI number of C1."""


@keras.saving.register_keras_serializable(package=PACKAGE)
class HarmonicFilters(layers.Layer):  # type: ignore[misc]
    """Power spectrogram [batch, bins, frames] -> power through the filters [batch, harmonics, levels, frames] float32.

    Always float32: a power has a larger range than bfloat16 has digits for. Its one weight is ``quality``, a scalar
    that starts at 1. models.front_ends.layers.decibels makes decibels of what it gives.

    Args:
        sample_rate: Hz, of the waveform of which the spectrogram was taken.
        harmonics: multiples of the fundamental, 1 the fundamental itself.
        levels: fundamentals; None for as many as keep all harmonics below half the sample rate.
        kwargs: of every Keras layer, ``dtype`` excepted, which is float32 whatever is given.
    """

    def __init__(self, sample_rate: int = 16_000, harmonics: int = 6, levels: int | None = None, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.sample_rate, self.harmonics = sample_rate, harmonics
        self.levels = highest_level(sample_rate, harmonics) if levels is None else levels

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weight."""
        self.quality = self.add_weight(name="quality", shape=(), initializer="ones")
        super().build(input_shape)

    def call(self, power: FloatTensor) -> FloatTensor:
        """See the class."""
        bins, frames = power.shape[1], power.shape[2]
        filtered = ops.matmul(self._filters(bins), power)
        return ops.reshape(filtered, (-1, self.harmonics, self.levels, frames))

    def _filters(self, bins: int) -> FloatTensor:
        """[harmonics * levels, bins] triangles."""
        centres = centre_frequencies(self.harmonics, self.levels)[:, np.newaxis]
        away = np.abs(np.linspace(0.0, self.sample_rate / 2, bins) - centres)
        slopes = (2.0 * away / (BANDWIDTH_SLOPE * centres + BANDWIDTH_AT_ZERO)).astype(np.float32)
        return ops.maximum(1.0 - self.quality * ops.convert_to_tensor(slopes), 0.0)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, harmonics, levels, frames)."""
        return input_shape[0], self.harmonics, self.levels, input_shape[2]

    def get_config(self) -> dict[str, Any]:
        """See keras.layers.Layer."""
        settings = {"sample_rate": self.sample_rate, "harmonics": self.harmonics, "levels": self.levels}
        return {**super().get_config(), **settings}


def highest_level(sample_rate: int, harmonics: int) -> int:
    """Number of half semitones from LOWEST_NOTE to the note nearest below half the rate over ``harmonics``."""
    highest_note = round(69 + 12 * math.log2(sample_rate / (2 * harmonics) / 440.0))
    return 2 * (highest_note - LOWEST_NOTE)


def centre_frequencies(harmonics: int, levels: int) -> npt.NDArray[np.float64]:
    """[harmonics * levels] Hz, all levels of the first harmonic first."""
    notes = LOWEST_NOTE + np.arange(levels) / 2
    fundamentals = 440.0 * 2.0 ** ((notes - 69) / 12)
    frequencies: npt.NDArray[np.float64] = np.outer(np.arange(1, harmonics + 1), fundamentals).ravel()
    return frequencies
