"""Combiners: one answer of several networks' probabilities.

- ``dense``: the paper's. Two hidden layers over all probabilities; 195,890 parameters for three networks of 50 tags
  (Bengani, Vadivel and Jothi 2019, 'Ensemble').
- ``logistic``: for each tag a weighted sum of the networks' log-odds for it: so few weights that some hundred clips do.
- ``mean``: of the probabilities. Nothing is learnt.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import keras
from keras import layers, ops

from models.heads import ONE_OF, Heads
from models.initializers import glorot, seed_stream
from models.outputs import LOGITS, with_heads
from models.tensors import FloatTensor

Combiner = Literal["dense", "logistic", "mean"]
COMBINERS: Final[tuple[Combiner, ...]] = ("dense", "logistic", "mean")

SMALLEST: Final = 1e-6
"""Probabilities are kept so far from 0 and 1 before their logarithm is taken."""


def build_combiner(
    kind: Combiner, n_networks: int, heads: Heads, *, dtype: str | None = None, seed: int = 0
) -> keras.Model:
    """``networks`` (batch, n_networks * heads.size) float32 -> probabilities (batch, heads.size) float32.

    The input is the networks' probabilities side by side, in the order in which the networks were given:
    ``keras.ops.concatenate([first(x), second(x)], axis=-1)``. ``dtype`` is a Keras dtype policy; the same ``seed``
    gives the same initial weights.

    Raises:
        ValueError: there is no such kind.
    """
    inputs = keras.Input((n_networks * heads.size,), name="networks")
    if kind == "dense":
        return with_heads(keras.Model(inputs, _dense(inputs, heads.size, dtype, seed), name=kind), heads)
    if kind == "logistic":
        logits = LogisticPerTag(n_networks, heads.size, name=LOGITS)(HeadLogits(heads.to_json())(inputs))
        return with_heads(keras.Model(inputs, logits, name=kind), heads)
    if kind == "mean":
        return keras.Model(inputs, NetworkMean(n_networks, name="mean")(inputs), name="mean")
    raise ValueError(f"combiner {kind!r}: expected one of {', '.join(COMBINERS)}")


def _dense(inputs: FloatTensor, n_outputs: int, dtype: str | None, seed: int) -> FloatTensor:
    next_seed = seed_stream(seed)

    def dense(units: int, name: str) -> layers.Layer:
        return layers.Dense(units, activation="relu", kernel_initializer=glorot(next_seed), dtype=dtype, name=name)

    x = dense(256, "dense_1")(inputs)
    x = dense(512, "dense_2")(x)
    return layers.Dense(n_outputs, kernel_initializer=glorot(next_seed), dtype="float32", name=LOGITS)(x)


@keras.saving.register_keras_serializable(package="autotag")
class HeadLogits(layers.Layer):  # type: ignore[misc]
    """Probabilities of several networks, float32 (batch, networks * outputs) -> their logits, of the same shape.

    Log-odds of multi-label heads, logarithms of one-of heads.
    """

    def __init__(self, heads: list[dict[str, Any]], **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.heads = heads

    def call(self, probabilities: FloatTensor) -> FloatTensor:
        """See the class."""
        heads = Heads.from_json(self.heads)
        kept = ops.clip(ops.reshape(probabilities, (-1, probabilities.shape[-1])), SMALLEST, 1 - SMALLEST)
        parts = []
        for first in range(0, probabilities.shape[-1], heads.size):
            for head, at in heads.slices():
                own = kept[:, first + at.start : first + at.stop]
                parts.append(ops.log(own) if head.kind == ONE_OF else ops.log(own) - ops.log(1 - own))
        return ops.concatenate(parts, axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """As the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable(package="autotag")
class LogisticPerTag(layers.Layer):  # type: ignore[misc]
    """Logits of several networks, float32 (batch, networks * outputs) -> logits (batch, outputs).

    ``kernel`` (networks, outputs) weighs each network's logit of an output, ``bias`` (outputs,) is added. The initial
    weights make the mean of the networks' logits.
    """

    def __init__(self, n_networks: int, n_outputs: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.n_networks = n_networks
        self.n_outputs = n_outputs

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        even = keras.initializers.Constant(1 / self.n_networks)
        self.kernel = self.add_weight(name="kernel", shape=(self.n_networks, self.n_outputs), initializer=even)
        self.bias = self.add_weight(name="bias", shape=(self.n_outputs,), initializer="zeros")
        self.built = True

    def call(self, logits: FloatTensor) -> FloatTensor:
        """See the class."""
        by_network = ops.reshape(logits, (-1, self.n_networks, self.n_outputs))
        return ops.sum(by_network * self.kernel, axis=1) + self.bias

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, outputs)."""
        return input_shape[0], self.n_outputs

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "n_networks": self.n_networks, "n_outputs": self.n_outputs}


@keras.saving.register_keras_serializable(package="autotag")
class NetworkMean(layers.Layer):  # type: ignore[misc]
    """Values of several networks side by side, float32 (batch, networks * n) -> their mean (batch, n)."""

    def __init__(self, n_networks: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.n_networks = n_networks

    def call(self, values: FloatTensor) -> FloatTensor:
        """See the class."""
        return ops.mean(ops.reshape(values, (-1, self.n_networks, values.shape[-1] // self.n_networks)), axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, n)."""
        width = input_shape[-1]
        return input_shape[0], None if width is None else width // self.n_networks

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "n_networks": self.n_networks}
