"""Trained weights of the 2020 comparison (Won et al., arXiv 2006.00751; PyTorch state dicts) into its networks here.

The repository (minzwon/sota-music-tagging-models; weights also in ethman/sota-music-tagging-models, MIT) names layers
by their attributes in model.py, modules.py and attention_modules.py; the table here says which layer of ours each is.
PyTorch's kernels are (out, in, ...), Keras' (..., in, out); PyTorch's GRU has its gates in the order reset, update,
new, Keras' in the order update, reset, new. The counters of batch norm are left out.

A state dict also holds its front end's window and mel filters. They are no weights here, but have to equal ours:
weights that heard another spectrogram would load and answer wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import keras
import numpy as np
from scipy.signal import get_window

from models.front_ends.mel import mel_filterbank
from preprocessing.errors import BadInputError
from serving.pretrained.layer_weights import Array, put_weights

NETWORKS: Final = (
    "fcn",
    "crnn",
    "musicnn_2020",
    "musicnn_2020_msd",
    "sample_cnn",
    "sample_cnn_se",
    "short_chunk",
    "short_chunk_res",
    "self_attention",
    "harmonic_cnn",
)
"""Names in models.registry."""

SAMPLE_RATE: Final = 16_000
N_FFT: Final = 512
FRONT_END_TOLERANCE: Final = 1e-4
"""Published filters are 1.1e-5 off ours at most: their triangles were computed in float32."""

_BLOCKS: Final[Mapping[str, str]] = {
    "conv": "conv",
    "bn": "batch_norm",
    "conv_1": "conv_1",
    "bn_1": "batch_norm_1",
    "conv_2": "conv_2",
    "bn_2": "batch_norm_2",
    "conv_3": "shortcut_conv",
    "bn_3": "shortcut_batch_norm",
    "dense1": "squeeze",
    "dense2": "excite",
}
_ENCODER: Final[Mapping[str, str]] = {
    "attention.self.query": "attention/query",
    "attention.self.key": "attention/key",
    "attention.self.value": "attention/value",
    "attention.output.dense": "attention/attention_output",
    "attention.output.LayerNorm": "attention_layer_norm",
    "intermediate.dense": "inner",
    "output.dense": "outer",
    "output.LayerNorm": "dense_layer_norm",
}
_MUSICNN_FILTERS: Final = ("tall_67", "tall_38", "long_129", "long_65", "long_33")

LAYERS: Final[Mapping[str, str]] = {
    "spec_bn": "input_batch_norm",
    "hstft_bn": "input_batch_norm",
    "dense": "logits",
    "dense1": "dense",
    "bn": "dense_batch_norm",
    "dense2": "logits",
    "pooler.dense": "pooler",
    **{f"layer{n}.{theirs}": f"block_{n}_{ours}" for n in range(1, 12) for theirs, ours in _BLOCKS.items()},
    **{f"encoder.layer.{n}.{theirs}": f"encoder_{n + 1}_{ours}" for n in (0, 1) for theirs, ours in _ENCODER.items()},
    **{f"layers.{n}.conv": f"{filters}_conv" for n, filters in enumerate(_MUSICNN_FILTERS)},
    **{f"layers.{n}.bn": f"{filters}_batch_norm" for n, filters in enumerate(_MUSICNN_FILTERS)},
}
"""Path of ours by the name of theirs."""

_PARAMETERS: Final[Mapping[str, str]] = {"weight": "kernel", "bias": "bias"}
_NORM_PARAMETERS: Final[Mapping[str, str]] = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
QUALITY: Final = "harmonic_filters/quality"
"""``hstft.bw_Q``, which has one axis there and none here."""


def assign(model: keras.Model, arrays: Mapping[str, Array]) -> None:
    """Put a state dict into a built network of the comparison.

    Args:
        model: one of NETWORKS, untrained.
        arrays: by PyTorch's names.

    Raises:
        BadInputError: they are not that network's, or are of another front end.
    """
    rest = {name: array for name, array in arrays.items() if not name.endswith(".num_batches_tracked")}
    for name, expected in _front_end(model).items():
        _check_equal(name, rest.pop(name, None), expected)
    weights = _take_gru(rest)
    shapes = {weight.path: tuple(weight.shape) for weight in model.weights}
    for name, array in rest.items():
        path = _path(name)
        weights[path] = _as_here(array, path, shapes.get(path))
    put_weights(model, weights)


def _front_end(model: keras.Model) -> dict[str, Array]:
    """What a state dict holds of the network's front end, by name."""
    window = get_window("hann", N_FFT)
    match model.input.name:
        case "log_mel":
            bands = model.input.shape[1]
            filters = mel_filterbank(SAMPLE_RATE, N_FFT, bands, 0.0, SAMPLE_RATE / 2, htk=True, area_norm=False)
            return {"spec.spectrogram.window": window, "spec.mel_scale.fb": filters}
        case "power":
            return {"hstft.spec.window": window}
        case _:
            return {}


def _check_equal(name: str, array: Array | None, expected: Array) -> None:
    if array is None:
        raise BadInputError(f"the weights are not those of the 2020 comparison: {name}, its front end's, is missing")
    if array.shape != expected.shape or not np.allclose(array, expected, rtol=0, atol=FRONT_END_TOLERANCE):
        raise BadInputError(f"the weights were trained on another spectrogram: {name} differs from ours")


def _path(name: str) -> str:
    """Path in Keras of a weight; its name in PyTorch where none is known, so that it counts as left over."""
    if name == "hstft.bw_Q":
        return QUALITY
    theirs, _, parameter = name.rpartition(".")
    layer = LAYERS.get(theirs, "")
    parameters = _NORM_PARAMETERS if "_norm" in layer else _PARAMETERS
    return f"{layer}/{parameters[parameter]}" if layer and parameter in parameters else name


def _as_here(array: Array, path: str, shape: tuple[int, ...] | None) -> Array:
    """A weight with its axes in Keras' order: (out, in, ...) -> (..., in, out); attention's have one for the heads."""
    if path.endswith("/kernel") and array.ndim > 1:
        array = array.transpose(*range(2, array.ndim), 1, 0)
    if shape is not None and ("_attention/" in path or path == QUALITY) and array.size == math.prod(shape):
        return array.reshape(shape)
    return array


def _take_gru(rest: dict[str, Array]) -> dict[str, Array]:
    """Take the two recurrent layers' weights out of ``rest``, where they are, and return them by path in Keras."""
    weights = {}
    for number in (0, 1):
        names = [f"layer5.{part}_l{number}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        if not all(name in rest for name in names):
            continue
        kernel, recurrent, input_bias, recurrent_bias = (_gates(rest.pop(name)) for name in names)
        cell = f"gru_{number + 1}/gru_cell"
        weights[f"{cell}/kernel"] = kernel.T
        weights[f"{cell}/recurrent_kernel"] = recurrent.T
        weights[f"{cell}/bias"] = np.stack([input_bias, recurrent_bias])
    return weights


def _gates(array: Array) -> Array:
    """[reset, update, new] along the first axis -> [update, reset, new]."""
    if len(array) % 3:
        raise BadInputError(f"the weights are not those of crnn: a recurrent layer of {list(array.shape)}")
    reset, update, new = np.split(array, 3)
    return np.concatenate([update, reset, new])
