"""The musicnn package's trained weights (musicnn 0.1.0 of the package index, ISC) into ``musicnn`` and ``vgg``.

Its wheel holds four checkpoints. TensorFlow 1 numbered the variables in the order in which the package made its layers,
so that order is what the tables here state. Kernels are (frames, bands, in, out) there and (bands, frames, in, out)
here; those of the temporal layers have one band too many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import keras
import numpy as np

from preprocessing.errors import BadInputError
from serving.pretrained.layer_weights import Array, put_weights

WHEEL: Final = "musicnn-0.1.0-py3-none-any.whl"
NETWORK_OF: Final[Mapping[str, str]] = {
    "MTT_musicnn": "musicnn",
    "MTT_vgg": "vgg",
    "MSD_musicnn": "musicnn",
    "MSD_vgg": "vgg_msd",
}
"""Name in models.registry of the network that each checkpoint was trained with. The two of ``vgg`` have weights of
equal shapes and other pools, so each would load into the other's network and answer wrongly."""

_MUSICNN: Final[Mapping[str, str]] = {
    "batch_normalization": "input_batch_norm",
    "conv2d": "tall_38_conv",
    "batch_normalization_1": "tall_38_batch_norm",
    "conv2d_1": "tall_67_conv",
    "batch_normalization_2": "tall_67_batch_norm",
    "conv2d_2": "long_128_conv",
    "batch_normalization_3": "long_128_batch_norm",
    "conv2d_3": "long_64_conv",
    "batch_normalization_4": "long_64_batch_norm",
    "conv2d_4": "long_32_conv",
    "batch_normalization_5": "long_32_batch_norm",
    "conv2d_5": "middle_1_conv",
    "batch_normalization_6": "middle_1_batch_norm",
    "conv2d_6": "middle_2_conv",
    "batch_normalization_7": "middle_2_batch_norm",
    "conv2d_7": "middle_3_conv",
    "batch_normalization_8": "middle_3_batch_norm",
    "batch_normalization_9": "pooled_batch_norm",
    "dense": "dense",
    "batch_normalization_10": "dense_batch_norm",
    "dense_1": "logits",
}
_VGG: Final[Mapping[str, str]] = {
    "batch_normalization": "input_batch_norm",
    **{f"{block}CNN": f"conv_{block}" for block in range(1, 6)},
    **{f"batch_normalization_{block}": f"batch_norm_{block}" for block in range(1, 6)},
    "dense": "logits",
}


def assign(model: keras.Model, arrays: Mapping[str, Array]) -> None:
    """Put a checkpoint's arrays, by variable name, into a built ``musicnn``, ``vgg`` or ``vgg_msd``.

    Raises:
        BadInputError: they are not that network's.
    """
    layers = _MUSICNN if model.name == "musicnn" else _VGG
    put_weights(model, {_path(name, layers): _as_here(name, array, layers) for name, array in arrays.items()})


def check_network(checkpoint: str, network: str) -> None:
    """Refuse one of the package's checkpoints for a network that it was not trained with.

    Raises:
        BadInputError: see above. A checkpoint of another name passes.
    """
    trained = NETWORK_OF.get(checkpoint, network)
    if trained != network:
        raise BadInputError(f"{checkpoint} holds weights of {trained}, not of {network}")


def _path(name: str, layers: Mapping[str, str]) -> str:
    layer, _, variable = name.rpartition("/")
    return f"{layers.get(layer, layer)}/{variable}"


def _as_here(name: str, array: Array, layers: Mapping[str, str]) -> Array:
    if array.ndim != 4:
        return array
    if layers.get(name.rpartition("/")[0], "").startswith("middle"):
        return array[:, :, 0]
    return np.swapaxes(array, 0, 1)
