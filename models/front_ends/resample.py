"""Change of sample rate as a Keras layer: a fixed low-pass filter, the same in every runtime.

A polyphase filter written as one matrix product: a block of the input and what the filter reaches on both sides of it
gives a block of the output. The filter is a sinc under a Kaiser window that passes up to 0.9 of the lower of the two
Nyquist frequencies and stops 100 dB from it upwards (Kaiser's design formulas as in scipy.signal.kaiserord).
"""

from __future__ import annotations

import functools
import math
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops
from scipy.signal import kaiser_beta

from models.front_ends.layers import PACKAGE
from models.front_ends.spectrum import frames_of
from models.tensors import FloatTensor

PASSBAND: Final = 0.9
"""Of the lower Nyquist frequency."""

STOPBAND_DB: Final = 100.0
MOST_COEFFICIENTS: Final = 4_000_000


@keras.saving.register_keras_serializable(package=PACKAGE)
class Resample(layers.Layer):  # type: ignore[misc]
    """[batch, n] float32 at ``rate_in`` -> [batch, samples_out] float32 at ``rate_out``, from the same first instant.

    Before the first sample and behind the last one lie zeros. Always float32, and without weights.

    Args:
        rate_in: Hz.
        rate_out: Hz.
        samples_out: that come out, whatever the number that goes in.
        kwargs: of every Keras layer, ``dtype`` excepted, which is float32 whatever is given.

    Raises:
        ValueError: a rate is not positive, or the two have so small a common divisor that the filter would take more
            than MOST_COEFFICIENTS; or, when called, the number of samples is not known.
    """

    def __init__(self, rate_in: int, rate_out: int, samples_out: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        if min(rate_in, rate_out, samples_out) < 1:
            raise ValueError(f"{rate_in} Hz to {samples_out} samples at {rate_out} Hz: all must be positive")
        self.rate_in, self.rate_out, self.samples_out = rate_in, rate_out, samples_out
        self._filter()

    @property
    def fingerprint(self) -> str:
        """Names the computation, in as far as it does not depend on the number of samples."""
        return f"resample-{self.rate_in}-{self.rate_out}-{PASSBAND}-{STOPBAND_DB:.0f}"

    def call(self, waveform: FloatTensor) -> FloatTensor:
        """See the class."""
        samples = waveform.shape[1]
        if samples is None:
            raise ValueError(f"{self.name} needs a known number of samples")
        if self.rate_in == self.rate_out:
            return _cut(waveform, self.samples_out)
        filters, block, margin = self._filter()
        blocks = -(-self.samples_out // filters.shape[1])
        reached = (blocks - 1) * block + len(filters) - margin
        signal = ops.pad(_cut(waveform, reached), ((0, 0), (margin, 0)))
        resampled = ops.matmul(frames_of(signal, len(filters), block), ops.convert_to_tensor(filters))
        return ops.reshape(resampled, (-1, blocks * filters.shape[1]))[:, : self.samples_out]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, samples_out)."""
        return input_shape[0], self.samples_out

    def get_config(self) -> dict[str, Any]:
        """See keras.layers.Layer."""
        settings = {"rate_in": self.rate_in, "rate_out": self.rate_out, "samples_out": self.samples_out}
        return {**super().get_config(), **settings}

    def _filter(self) -> tuple[npt.NDArray[np.float32], int, int]:
        divisor = math.gcd(self.rate_in, self.rate_out)
        return polyphase_filter(self.rate_in // divisor, self.rate_out // divisor)


def resampled_length(samples: int, rate_in: int, rate_out: int) -> int:
    """Samples at ``rate_out`` that last as long as ``samples`` at ``rate_in``, rounded up, as librosa.resample has."""
    return -(-samples * rate_out // rate_in)


@functools.cache
def polyphase_filter(step_in: int, step_out: int) -> tuple[npt.NDArray[np.float32], int, int]:
    """Return the matrix of blocks, how many samples of input a block has, and how many are read before it.

    Args:
        step_in: samples of input that last as long as ``step_out`` of output; the two without a common divisor.
        step_out: see ``step_in``.

    Returns:
        float32 [block + 2 margin, samples of output in a block].

    Raises:
        ValueError: it would have more than MOST_COEFFICIENTS.
    """
    nyquist = 0.5 * min(1.0, step_out / step_in)  # cycles per sample of input
    width = nyquist * (1.0 - PASSBAND)
    reach = math.ceil(0.5 * (STOPBAND_DB - 7.95) / (2.285 * 2 * math.pi * width))
    repeats = max(1, 2 * reach // step_in)
    block, outputs = repeats * step_in, repeats * step_out
    if (block + 2 * reach) * outputs > MOST_COEFFICIENTS:
        raise ValueError(f"sample rates of the ratio {step_out} to {step_in} would need too large a filter")
    cutoff = 2.0 * (nyquist - width / 2)
    wanted = np.arange(outputs) * (step_in / step_out) + reach
    distance = np.arange(block + 2 * reach)[:, np.newaxis] - wanted
    inside = np.sqrt(np.maximum(0.0, 1.0 - np.square(distance / reach)))
    window = np.where(np.abs(distance) <= reach, np.i0(kaiser_beta(STOPBAND_DB) * inside), 0.0)
    filters = window * np.sinc(cutoff * distance)
    return (filters / filters.sum(axis=0)).astype(np.float32), block, reach


def _cut(waveform: FloatTensor, samples: int) -> FloatTensor:
    """Make it so many samples long, with zeros at its end where it is shorter."""
    missing = samples - waveform.shape[1]
    return ops.pad(waveform, ((0, 0), (0, missing))) if missing > 0 else waveform[:, :samples]
