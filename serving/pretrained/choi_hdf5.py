"""Choi's trained weights of 2016 (Keras 1, HDF5) into ``crnn_2017``.

Source: ``music_tagger_crnn_weights_tensorflow.h5`` of the public repository music-auto_tagging-keras (MIT). Kernels of
convolutions are (out, in, bands, frames) there, already turned the way TensorFlow multiplies; those of the file for
Theano, whose names lack TensorFlow's ending, are not and are refused. Each GRU has its three parts apart, and
``running_std`` holds the variance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import h5py
import keras
import numpy as np

from preprocessing.errors import BadInputError
from serving.pretrained.layer_weights import Array, put_weights

LARGEST: Final = 1 << 28
"""Values that one array may have."""

_OF_TENSORFLOW: Final = re.compile(r"^(?P<name>.+?)(_\d+)?:0$")
_VARIABLES: Final[Mapping[str, str]] = {
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}
_LAYERS: Final[Mapping[str, str]] = {
    "bn_0_freq": "input_batch_norm",
    **{f"conv{block}": f"conv_{block}" for block in range(1, 5)},
    **{f"bn{block}": f"batch_norm_{block}" for block in range(1, 5)},
    "output": "logits",
}
_GRUS: Final[Mapping[str, str]] = {"gru1": "gru_1", "gru2": "gru_2"}
_GATES: Final = "zrh"
"""In Keras' order: update, reset, new state."""


def is_keras_1_file(path: Path) -> bool:
    """Whether a file is HDF5 as Keras 1 wrote weights: layers' names as an attribute of the root."""
    try:
        with h5py.File(path, "r") as file:
            return "layer_names" in file.attrs
    except (OSError, RuntimeError):
        return False


def read_keras_1(path: Path) -> dict[str, Array]:
    """Return the arrays by ``layer/variable``: ``conv1/W``, ``gru1/U_h``.

    Raises:
        BadInputError: the file cannot be read, or was written with Theano.
    """
    arrays: dict[str, Array] = {}
    try:
        with h5py.File(path, "r") as file:
            for layer, group in file.items():
                for name, values in group.items():
                    match = _OF_TENSORFLOW.match(name)
                    if match is None:
                        raise BadInputError(f"{path}: {name} is not TensorFlow's: take the file made with it")
                    if not np.issubdtype(values.dtype, np.floating) or values.size > LARGEST:
                        raise BadInputError(f"{path}: {name} is {values.dtype} {list(values.shape)}: no weight")
                    arrays[f"{layer}/{match['name'].removeprefix(f'{layer}_')}"] = values[()]
    except (OSError, RuntimeError, KeyError, AttributeError, ValueError, TypeError) as error:
        raise BadInputError(f"{path}: cannot be read as HDF5 of Keras 1: {error}") from error
    return arrays


def assign(model: keras.Model, arrays: Mapping[str, Array]) -> None:
    """Put the arrays, by ``layer/variable``, into a built ``crnn_2017``.

    Raises:
        BadInputError: they are not that network's.
    """
    plain = {name: array for name, array in arrays.items() if name.partition("/")[0] not in _GRUS}
    weights = {_path(name): _as_here(array) for name, array in plain.items()}
    for theirs, ours in _GRUS.items():
        weights |= _gru(theirs, f"{ours}/gru_cell", arrays)
    put_weights(model, weights)


def _path(name: str) -> str:
    layer, _, variable = name.partition("/")
    return f"{_LAYERS.get(layer, layer)}/{_VARIABLES.get(variable, variable)}"


def _as_here(array: Array) -> Array:
    """Kernels (out, in, bands, frames) -> (bands, frames, in, out)."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def _gru(layer: str, cell: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The three gates side by side. Where one is missing, so is the weight that it belongs to."""
    weights = {}
    for theirs, ours in (("W", "kernel"), ("U", "recurrent_kernel"), ("b", "bias")):
        parts = [arrays.get(f"{layer}/{theirs}_{gate}") for gate in _GATES]
        present = [part for part in parts if part is not None]
        if len(present) == len(parts) and len({part.shape[:-1] for part in present}) == 1:
            weights[f"{cell}/{ours}"] = np.concatenate(present, axis=-1)
    return weights
