"""The same network in another precision."""

from __future__ import annotations

from typing import Any

import keras

LOWER_PRECISIONS = ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16")


def in_float32(model: keras.Model) -> keras.Model:
    """Return the network itself, or a copy with the same weights that computes in float32 where it does not.

    Layers within layers (a nested network, a wrapped or a custom layer that makes others) are in float32 in the copy,
    too: a layer's policy is changed wherever it stands in the network's configuration, and a custom layer gives its own
    policy to the layers that it makes.
    """
    config = model.get_config()
    exact = _in_float32(config)
    if exact == config:
        return model
    copy = model.__class__.from_config(exact)
    copy.set_weights(model.get_weights())
    return copy


def _in_float32(config: Any) -> Any:
    """A Keras configuration, or a part of one, with each dtype policy of a lower precision changed to float32."""
    if isinstance(config, dict):
        return {
            key: "float32" if key == "dtype" and _policy(value) in LOWER_PRECISIONS else _in_float32(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_in_float32(part) for part in config)
    return config


def _policy(dtype: Any) -> str | None:
    """Name of a policy as a configuration has it: by itself, or serialised (keras.dtype_policies)."""
    if isinstance(dtype, dict):
        name: str | None = dtype.get("config", {}).get("name")
        return name
    return dtype if isinstance(dtype, str) else None
