"""The same network in another precision."""

from __future__ import annotations

import keras


def in_float32(model: keras.Model) -> keras.Model:
    """Return the network itself, or a copy with the same weights that computes in float32 where it does not."""
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy
