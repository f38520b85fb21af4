from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from models.precision import in_float32


@keras.saving.register_keras_serializable(package="test_precision")
class Residual(layers.Layer):
    """A custom layer that makes others in its own precision."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units = units
        self.dense = layers.Dense(units, dtype=self.dtype_policy)
        self.norm = layers.BatchNormalization(dtype=self.dtype_policy)

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.dense.build(shape)
        self.norm.build(shape)
        self.built = True

    def call(self, x: Any) -> Any:
        return x + ops.relu(self.norm(self.dense(x)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def nested_network(dtype: str) -> keras.layers.Layer:
    inner = keras.Input((4, 8))
    return keras.Model(inner, layers.Add(dtype=dtype)([inner, layers.Dense(8, dtype=dtype)(inner)]), name="block")


BLOCKS: dict[str, Callable[[str], layers.Layer]] = {
    "plain layer": lambda dtype: layers.Dense(8, dtype=dtype),
    "nested network": nested_network,
    "custom layer with layers of its own": lambda dtype: Residual(8, dtype=dtype),
    "wrapped layer": lambda dtype: layers.TimeDistributed(layers.Dense(8, dtype=dtype), dtype=dtype),
    "recurrent layer": lambda dtype: layers.Bidirectional(
        layers.GRU(4, return_sequences=True, dtype=dtype), dtype=dtype
    ),
    "sequence in a sequence": lambda dtype: keras.Sequential(
        [keras.Input((4, 8)), keras.Sequential([keras.Input((4, 8)), Residual(8, dtype=dtype)])]
    ),
}


@pytest.fixture(params=BLOCKS)
def build(request: pytest.FixtureRequest) -> Callable[[str], keras.Model]:
    def network(dtype: str) -> keras.Model:
        x = keras.Input((4, 8))
        y = layers.GlobalAveragePooling1D(dtype=dtype)(BLOCKS[request.param](dtype)(x))
        return keras.Model(x, layers.Dense(3, dtype="float32", name="logits")(y))

    return network


def computing_types(network: keras.Model) -> set[str]:
    return {layer.compute_dtype for layer in network._flatten_layers()}


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_every_layer_of_the_copy_computes_in_float32(build: Callable[[str], keras.Model], dtype: str) -> None:
    mixed, reference = build(dtype), build("float32")
    assert computing_types(mixed) > {"float32"}
    exact = in_float32(mixed)
    assert computing_types(exact) == {"float32"}
    reference.set_weights(mixed.get_weights())
    x = np.random.default_rng(1).normal(size=(2, 4, 8)).astype(np.float32)
    np.testing.assert_allclose(exact(x), reference(x), atol=1e-6)


def test_network_in_float32_is_returned_itself(build: Callable[[str], keras.Model]) -> None:
    network = build("float32")
    assert in_float32(network) is network


def test_copy_of_a_copy_is_the_copy(build: Callable[[str], keras.Model]) -> None:
    exact = in_float32(build("mixed_bfloat16"))
    assert in_float32(exact) is exact
