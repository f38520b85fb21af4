"""Trained arrays into a built network, each where it belongs, and none left over: the end of every mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from preprocessing.errors import BadInputError

Array = npt.NDArray[Any]


def put_weights(model: keras.Model, arrays: Mapping[str, Array]) -> None:
    """Set all of a network's weights, batch norm's averages included; nothing is set where anything is wrong.

    Args:
        model: a built network.
        arrays: by the weight's path in Keras: ``conv_1/kernel``, ``gru_1/gru_cell/bias``, ``batch_norm_1/moving_mean``.

    Raises:
        BadInputError: arrays are missing, left over, of another shape, or not finite.
    """
    weights = {weight.path: weight for weight in model.weights if weight.dtype.startswith("float")}
    wrong = [f"{path} is missing" for path in weights if path not in arrays]
    wrong += [f"{path} is left over" for path in arrays if path not in weights]
    for path in weights.keys() & arrays.keys():
        if tuple(weights[path].shape) != arrays[path].shape:
            wrong.append(f"{path} is {list(arrays[path].shape)}, expected {list(weights[path].shape)}")
        elif not np.isfinite(arrays[path]).all():
            wrong.append(f"{path} has values that are not finite")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise BadInputError(f"the weights are not those of {model.name}: {'; '.join(sorted(wrong)[:5])}{more}")
    for path, weight in weights.items():
        weight.assign(arrays[path])
