"""The front ends as Keras layers: models.front_ends.settings says what each computes.

There is one implementation of each. It uses nothing but operators that TensorFlow, LiteRT and ONNX all have, so that
it converts as it stands; no runtime needs another lowering, and none is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
import scipy.fft
from keras import layers, ops
from scipy.signal import savgol_filter

from models.front_ends import settings as front_ends
from models.front_ends import spectrum
from models.front_ends.mel import mel_filterbank
from models.tensors import FloatTensor

PACKAGE: Final = "autotag"
RAISED: Final = 2.0**15
COMPRESSION: Final = 10_000.0
"""Power is multiplied by it before log(1 + x)."""


class FrontEndLayer(layers.Layer):  # type: ignore[misc]
    """[batch, samples] float32 in [-1, 1] -> [batch, *settings.shape(samples)] float32.

    Always float32, under a mixed policy too: bfloat16 has too few bits for a waveform. It has no weights.

    Args:
        settings: what to compute, or its ``to_json``.
        kwargs: of every Keras layer, ``dtype`` excepted, which is float32 whatever is given.

    Raises:
        ValueError: the number of samples is not known, or is too small for a single frame or for reflection.
    """

    def __init__(self, settings: front_ends.FrontEnd | Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.settings: Any = (
            settings if isinstance(settings, front_ends.FrontEnd) else front_ends.front_end(dict(settings))
        )

    @property
    def fingerprint(self) -> str:
        """The settings'."""
        return str(self.settings.fingerprint)

    def get_config(self) -> dict[str, Any]:
        """See keras.layers.Layer: ``settings`` is the settings' JSON."""
        return {**super().get_config(), "settings": self.settings.to_json()}

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Check the number of samples."""
        if len(input_shape) != 2 or input_shape[1] is None:
            raise ValueError(f"{self.name} takes [batch, samples] with a known number of samples, not {input_shape}")
        self.settings.check_samples(input_shape[1])
        super().build(input_shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, *settings.shape(samples))."""
        samples = input_shape[1]
        if samples is None:
            raise ValueError(f"{self.name} needs a known number of samples")
        return input_shape[0], *self.settings.shape(samples)


@keras.saving.register_keras_serializable(package=PACKAGE)
class Stft(FrontEndLayer):
    """[batch, samples] -> [batch, frequencies, frames]: models.front_ends.settings.Stft."""

    def call(self, waveform: FloatTensor) -> FloatTensor:
        """See the class."""
        settings = self.settings
        bands, frames = settings.shape(waveform.shape[1])
        power = ops.take(_power(waveform, settings), spectrum.places(settings.n_fft)[:bands].astype(np.int32), axis=1)
        power = ops.reshape(power, (-1, frames, bands))
        return ops.transpose(_scaled(power, settings), (0, 2, 1))


@keras.saving.register_keras_serializable(package=PACKAGE)
class LogMel(FrontEndLayer):
    """[batch, samples] -> [batch, mel bands, frames]: models.front_ends.settings.LogMel."""

    def call(self, waveform: FloatTensor) -> FloatTensor:
        """See the class."""
        return ops.transpose(_log_mel(waveform, self.settings), (0, 2, 1))


@keras.saving.register_keras_serializable(package=PACKAGE)
class Mfcc(FrontEndLayer):
    """[batch, samples] -> [batch, coefficients and differences, frames]: models.front_ends.settings.Mfcc."""

    def call(self, waveform: FloatTensor) -> FloatTensor:
        """See the class."""
        settings = self.settings
        cosines = scipy.fft.dct(np.eye(settings.n_mels), type=2, norm="ortho", axis=0)[: settings.n_mfcc]
        coefficients = ops.matmul(_log_mel(waveform, settings), _constant(cosines.T))
        orders = [_differences(coefficients, order, settings.delta_width) for order in range(1, settings.deltas + 1)]
        return ops.transpose(ops.concatenate([coefficients, *orders], axis=2), (0, 2, 1))


@keras.saving.register_keras_serializable(package=PACKAGE)
class Stack(FrontEndLayer):
    """[batch, samples] -> [batch, front ends, bands, frames]: models.front_ends.settings.Stack."""

    def call(self, waveform: FloatTensor) -> FloatTensor:
        """See the class."""
        parts = [_LAYERS[type(part)](part).call(waveform) for part in self.settings.parts]
        return ops.stack(parts, axis=1)


def layer_for(settings: front_ends.FrontEnd) -> FrontEndLayer:
    """Return the layer that computes a front end."""
    return _LAYERS[type(settings)](settings, name=settings.kind.lower())


_LAYERS: Final[dict[type[front_ends.FrontEnd], type[FrontEndLayer]]] = {
    front_ends.Stft: Stft,
    front_ends.LogMel: LogMel,
    front_ends.Mfcc: Mfcc,
    front_ends.Stack: Stack,
}


def _power(waveform: FloatTensor, settings: front_ends.Spectrogram) -> FloatTensor:
    """[batch, samples] -> [batch * frames, spectrum.size] in models.front_ends.spectrum's order."""
    signal = spectrum.padded(waveform, settings.n_fft, settings.pad)
    return spectrum.power_spectrum(spectrum.frames_of(signal, settings.n_fft, settings.hop_length))


def _log_mel(waveform: FloatTensor, settings: front_ends.LogMel) -> FloatTensor:
    """[batch, samples] -> [batch, frames, bands]."""
    filters = mel_filterbank(
        settings.sample_rate,
        settings.n_fft,
        settings.n_mels,
        settings.fmin,
        settings.highest,
        htk=settings.htk,
        area_norm=settings.area_norm,
    )
    in_order = np.zeros((spectrum.size(settings.n_fft), settings.n_mels), np.float32)
    in_order[spectrum.places(settings.n_fft)] = filters
    mel = ops.matmul(_power(waveform, settings), _constant(in_order))
    mel = ops.reshape(mel, (-1, settings.frames(waveform.shape[1]), settings.n_mels))
    if settings.exponent == 2.0:
        mel = ops.square(mel)
    elif settings.exponent != 1.0:
        mel = ops.power(mel, settings.exponent)
    return _scaled(mel, settings)


def _differences(values: FloatTensor, order: int, width: int) -> FloatTensor:
    """[batch, frames, n] -> their ``order``-th derivative over time by a polynomial through ``width`` frames.

    librosa.feature.delta: Savitzky and Golay's filter, the first and the last frames by the polynomial of those next
    to them.
    """
    filters = savgol_filter(np.eye(width), width, polyorder=order, deriv=order, axis=0, mode="interp")
    half = width // 2
    inner = values.shape[1] - 2 * half
    middle = sum(float(filters[half, place]) * values[:, place : place + inner] for place in range(width))
    first = ops.matmul(_constant(filters[:half]), values[:, :width])
    last = ops.matmul(_constant(filters[half + 1 :]), values[:, -width:])
    return ops.concatenate([first, middle, last], axis=1)


def _scaled(power: FloatTensor, settings: front_ends.Spectrogram) -> FloatTensor:
    """[batch, frames, bands] power -> on the settings' scale."""
    match settings.scale:
        case "power":
            return power
        case "magnitude":
            return ops.sqrt(power)
        case "db":
            return decibels(power, settings.floor, settings.top_db)
        case "log10_1p":
            return ops.log(1.0 + COMPRESSION * power) * (1.0 / math.log(10.0))
        case "ln_1p":
            return ops.log(1.0 + COMPRESSION * power)


def decibels(power: FloatTensor, floor: float = 1e-10, top_db: float | None = None) -> FloatTensor:
    """10 log10(max(power, floor)) of [batch, ...] float32, and nothing more than ``top_db`` below a row's maximum.

    Computed of 2^15 times the power: where a network's constants are stored as float16, 1e-10 would become 0.
    """
    raised = ops.log(ops.maximum(power * RAISED, floor * RAISED))
    values = 10.0 / math.log(10.0) * raised - 10.0 * math.log10(RAISED)
    if top_db is None:
        return values
    loudest = ops.max(values, axis=tuple(range(1, len(values.shape))), keepdims=True)
    return ops.maximum(values, loudest - top_db)


def _constant(values: npt.NDArray[Any]) -> FloatTensor:
    return ops.convert_to_tensor(values.astype(np.float32))
