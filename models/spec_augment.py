"""Masks on what a network reads, in training alone (SpecAugment, Park et al. 2019, arXiv 1904.08779).

The published policies mask with zeros after a normalisation; here the mask is the mean of the clip's own input, which
is the same for normalised inputs and right for others. Time is not warped: the authors found little in it.
"""

from __future__ import annotations

from typing import Any, Final

import keras
from keras import layers, ops

from models.tensors import BoolTensor, FloatTensor, IntTensor

MASKS: Final = 2
"""Of each kind, as in the published policies LD and SM."""


@keras.saving.register_keras_serializable(package="autotag")
class SpecAugment(layers.Layer):  # type: ignore[misc]
    """Mask stretches of bands and of time.

    Call: [batch, ..., bands, frames] float, or a waveform [batch, samples], which has masks of time alone -> the same
    shape; unchanged but in training.

    Args:
        frequency: largest share of the bands that one mask covers; 0 for none.
        time: largest share of the frames that one mask covers; 0 for none.
        masks: of each kind.
        seed: of the masks.
    """

    def __init__(
        self, frequency: float = 0.0, time: float = 0.0, masks: int = MASKS, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.frequency, self.time, self.masks, self.seed = frequency, time, masks, seed
        self._generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: FloatTensor, training: bool = False) -> FloatTensor:
        """See the class."""
        if not training:
            return inputs
        rows = ops.shape(inputs)[0]
        kept = self._kept(rows, inputs.shape[-1], self.time)
        if len(inputs.shape) > 2:
            bands = self._kept(rows, inputs.shape[-2], self.frequency)
            kept = ops.logical_and(ops.expand_dims(bands, -1), ops.expand_dims(kept, -2))
        for _ in range(len(inputs.shape) - 3):
            kept = ops.expand_dims(kept, 1)
        mean = ops.mean(inputs, axis=tuple(range(1, len(inputs.shape))), keepdims=True)
        return ops.where(kept, inputs, mean)

    def _kept(self, rows: IntTensor, size: int, largest: float) -> BoolTensor:
        """Bool [rows, size]: what no mask covers."""
        kept = ops.ones((rows, size), "bool")
        if not largest:
            return kept
        at = ops.expand_dims(ops.arange(size, dtype="float32"), 0)
        for _ in range(self.masks):
            width = keras.random.uniform((rows, 1), 0, largest * size, seed=self._generator)
            start = keras.random.uniform((rows, 1), seed=self._generator) * (size - width)
            kept = ops.logical_and(kept, ops.logical_or(at < start, at >= start + width))
        return kept

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        values = {"frequency": self.frequency, "time": self.time, "masks": self.masks, "seed": self.seed}
        return {**super().get_config(), **values}
