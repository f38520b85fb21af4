"""A window brought to one level, as a Keras layer, in front of networks that are trained so (``level: rms``).

A recording that is turned down then has the tags that it had. What that costs and saves is measured by
pipeline/configs/compare/level.yaml; docs/explanation/level.md has the figures.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from models.front_ends.layers import PACKAGE
from models.tensors import FloatTensor
from preprocessing.level import LEAST, LEVEL


@keras.saving.register_keras_serializable(package=PACKAGE)
class RmsLevel(layers.Layer):  # type: ignore[misc]
    """[batch, n] float32 -> the same, each row scaled so that its deviation about its own mean is -18 dBFS.

    Rows of less than -70 dBFS are scaled as if they had that. Always float32, and without weights.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, waveform: FloatTensor) -> FloatTensor:
        """See the class."""
        deviation = ops.sqrt(ops.var(waveform, axis=-1, keepdims=True))
        return waveform * (LEVEL / ops.maximum(deviation, LEAST))
