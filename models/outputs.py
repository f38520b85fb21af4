"""From a network's logits to the probabilities of its heads, the loss on them, and where training starts.

A head owns its activation and loss (models.heads): sigmoid and binary cross entropy where each tag is a question of
its own, softmax and categorical cross entropy where one of several is asked for. The bias of an untrained network is
set so that it answers with the tags' frequencies, as the prior of a class-imbalanced detector is (Lin et al. 2017,
'Focal loss', section 4.1): the steps that would learn them are saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from models.heads import ONE_OF, Heads
from models.tensors import FloatTensor

LOGITS: Final = "logits"
"""Name of the layer whose bias is a network's answer where it has heard nothing."""

LEAST_FREQUENCY: Final = 0.001
"""Frequencies of tags are taken to lie this far from 0 and 1 at least."""


def _heads(heads: Heads | Sequence[dict[str, Any]]) -> Heads:
    return heads if isinstance(heads, Heads) else Heads.from_json(heads)


@keras.saving.register_keras_serializable(package="autotag")
class HeadActivations(layers.Layer):  # type: ignore[misc]
    """Each head's activation on its slice of the logits.

    Call: (batch, outputs) float -> (batch, outputs) float32, always computed in float32.

    Args:
        heads: Heads, or what its ``to_json`` gave.
    """

    def __init__(self, heads: Heads | Sequence[dict[str, Any]], **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.heads = _heads(heads)

    def call(self, logits: FloatTensor) -> FloatTensor:
        """See the class."""
        parts = [
            ops.softmax(logits[:, at], axis=-1) if head.kind == ONE_OF else ops.sigmoid(logits[:, at])
            for head, at in self.heads.slices()
        ]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, outputs)."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "heads": self.heads.to_json()}


def with_heads(network: keras.Model, heads: Heads) -> keras.Model:
    """Return the network with the heads' activations behind it; weights are shared.

    Args:
        network: its input -> logits (batch, heads.size) float32.
        heads: what it answers.

    Returns:
        The same input -> probabilities (batch, heads.size) float32, under the network's name.

    Raises:
        ValueError: the network has another number of outputs.
    """
    if network.output.shape[-1] != heads.size:
        raise ValueError(f"{network.name} has {network.output.shape[-1]} outputs, its heads {heads.size}")
    return keras.Model(network.input, HeadActivations(heads, name="tags")(network.output), name=network.name)


@keras.saving.register_keras_serializable(package="autotag")
class HeadsLoss(keras.losses.Loss):  # type: ignore[misc]
    """Sum over the heads of their losses.

    A multi-label head's is the binary cross entropy, averaged over its tags and the clips; a one-of head's the
    categorical cross entropy, averaged over the clips that are labelled with one of its tags. A clip with none says
    nothing about such a head, so it does not count there.

    Call: labels and probabilities, both (batch, outputs) float -> a number. Labels between 0 and 1 are those of mixed
    clips.

    Args:
        heads: Heads, or what its ``to_json`` gave.
        frequencies: [outputs], each tag's share of the training clips; needed where ``balance`` is not 0.
        balance: exponent of the weight of rare tags, from 0 (none) to 1: what is labelled with a tag of a multi-label
            head counts as ((1 - f) / f) ** balance of what is not, what is labelled with a tag of a one-of head as
            (mean f / f) ** balance of what is labelled with a usual one (f: the tag's frequency; a milder form of the
            weights by inverse frequency that Cui et al. 2019, arXiv 1901.05555, start from).
        smoothing: share by which labels move towards undecided (Szegedy et al. 2016, arXiv 1512.00567, section 7).
    """

    def __init__(
        self,
        heads: Heads | Sequence[dict[str, Any]],
        frequencies: npt.ArrayLike | None = None,
        balance: float = 0.0,
        smoothing: float = 0.0,
        name: str = "heads_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.heads, self.balance, self.smoothing = _heads(heads), balance, smoothing
        self.frequencies = None if frequencies is None else [float(share) for share in np.asarray(frequencies)]
        if balance and self.frequencies is None:
            raise ValueError("a loss that is balanced needs the tags' frequencies")

    def call(self, y_true: FloatTensor, y_pred: FloatTensor) -> FloatTensor:
        """(batch,), whose mean is the loss."""
        losses = [
            (_one_of_loss if head.kind == ONE_OF else _multi_label_loss)(
                y_true[:, at], y_pred[:, at], self._weights(head.kind, at), self.smoothing
            )
            for head, at in self.heads.slices()
        ]
        return sum(losses[1:], start=losses[0])

    def _weights(self, kind: str, at: slice) -> npt.NDArray[np.float32]:
        if not self.balance:
            return np.ones(at.stop - at.start, np.float32)
        shares = np.clip(np.asarray(self.frequencies)[at], LEAST_FREQUENCY, 1 - LEAST_FREQUENCY)
        odds = shares.mean() / shares if kind == ONE_OF else (1 - shares) / shares
        return np.asarray(odds**self.balance, np.float32)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        values = {"frequencies": self.frequencies, "balance": self.balance, "smoothing": self.smoothing}
        return {**super().get_config(), "heads": self.heads.to_json(), **values}


def _multi_label_loss(
    labels: FloatTensor, probabilities: FloatTensor, weights: npt.NDArray[np.float32], smoothing: float
) -> FloatTensor:
    labels = labels * (1 - smoothing) + smoothing / 2
    epsilon = keras.config.epsilon()
    probabilities = ops.clip(probabilities, epsilon, 1 - epsilon)
    entropy = labels * weights * ops.log(probabilities) + (1 - labels) * ops.log(1 - probabilities)
    return -ops.mean(entropy, axis=-1)


def _one_of_loss(
    labels: FloatTensor, probabilities: FloatTensor, weights: npt.NDArray[np.float32], smoothing: float
) -> FloatTensor:
    labelled = ops.cast(ops.any(labels > 0, axis=-1), probabilities.dtype)
    counted = ops.maximum(ops.sum(labelled), 1.0)
    labels = labels * (1 - smoothing) + smoothing / labels.shape[-1]
    log_probabilities = ops.log(ops.clip(probabilities, keras.config.epsilon(), 1.0))
    clips = ops.sum(ops.ones_like(labelled))
    return -ops.sum(labels * weights * log_probabilities, axis=-1) * labelled * (clips / counted)


def set_initial_bias(network: keras.Model, heads: Heads, frequencies: npt.ArrayLike) -> None:
    """Let an untrained network start from the tags' frequencies.

    Args:
        network: with or without its heads' activations; its layer ``logits`` takes the bias.
        heads: what it answers.
        frequencies: [outputs], each tag's share of the training clips. A multi-label head's give log-odds; a one-of
            head's are set in proportion to each other first, as some clips may have none of its tags.

    Raises:
        ValueError: there is no layer ``logits``, or it has another number of outputs.
    """
    shares = np.asarray(frequencies, np.float64)
    bias = np.empty(heads.size)
    for head, at in heads.slices():
        share = shares[at]
        if head.kind == ONE_OF:
            share = share / share.sum() if share.sum() > 0 else np.full(head.size, 1 / head.size)
            bias[at] = np.log(np.maximum(share, LEAST_FREQUENCY))
        else:
            share = np.clip(share, LEAST_FREQUENCY, 1 - LEAST_FREQUENCY)
            bias[at] = np.log(share / (1 - share))
    variable = network.get_layer(LOGITS).bias
    variable.assign(bias.reshape(variable.shape))
