"""Model 3: one-dimensional convolutions over the raw waveform.

Source: Bengani, Vadivel and Jothi (2019), table of Model 3. 783,794 parameters at 50 tags.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from models.initializers import glorot, seed_stream
from models.tensors import FloatTensor
from preprocessing.constants import CLIP_SAMPLES, N_TAGS


@keras.saving.register_keras_serializable(package="autotag")
class WaveformConvPool(layers.Layer):  # type: ignore[misc]
    """``Conv1D(filters, kernel_size, relu)`` on one channel and ``MaxPooling1D(pool_size)``, as one matrix product.

    The network's cost lies in this first layer, whose output before the pool is 300 times the clip. Here the
    ``pool_size + kernel_size - 1`` samples under one pool are a row; one product with the kernel, repeated at each
    offset, gives all positions of the pool, and ReLU follows the maximum (it commutes with it). Weights are those of
    Conv1D: kernel (kernel_size, 1, filters), bias (filters,).

    Call: (batch, samples) or (batch, samples, 1) float -> (batch, (samples - kernel_size + 1) // pool_size, filters).

    Raises:
        ValueError: the kernel is longer than the pool by more than 1.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        pool_size: int,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not kernel_size - 1 <= pool_size:
            raise ValueError(f"kernel_size {kernel_size} must not exceed pool_size {pool_size} by more than 1")
        self.filters = filters
        self.kernel_size = kernel_size
        self.pool_size = pool_size
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        self.kernel = self.add_weight(
            name="kernel", shape=(self.kernel_size, 1, self.filters), initializer=self.kernel_initializer
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        self.built = True

    def call(self, waveform: FloatTensor) -> FloatTensor:
        """See the class."""
        n_pools = self._n_pools(waveform.shape[1])
        rows = self._samples_under_pools(ops.reshape(waveform, (-1, waveform.shape[1])), n_pools)
        positions = ops.matmul(rows, self._kernel_at_each_offset())
        positions = ops.reshape(positions, (-1, n_pools, self.pool_size, self.filters))
        return ops.relu(ops.max(positions, axis=2) + ops.cast(self.bias, positions.dtype))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, pools, filters)."""
        assert input_shape[1] is not None
        return input_shape[0], self._n_pools(input_shape[1]), self.filters

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "pool_size": self.pool_size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    def _n_pools(self, samples: int) -> int:
        return (samples - self.kernel_size + 1) // self.pool_size

    def _samples_under_pools(self, waveform: FloatTensor, n_pools: int) -> FloatTensor:
        """(batch, samples) -> (batch, n_pools, pool_size + kernel_size - 1): each pool's samples and the next few."""
        length, overlap = n_pools * self.pool_size, self.kernel_size - 1
        own = ops.reshape(waveform[:, :length], (-1, n_pools, self.pool_size))
        last = waveform[:, None, length : length + overlap]
        following = ops.concatenate([own[:, 1:, :overlap], last], axis=1)
        return ops.concatenate([own, following], axis=2)

    def _kernel_at_each_offset(self) -> FloatTensor:
        """(pool_size + kernel_size - 1, pool_size * filters): column block ``p`` holds the kernel from row ``p`` on."""
        kernel = ops.cast(ops.reshape(self.kernel, (self.kernel_size, self.filters)), self.compute_dtype)
        blocks = [ops.pad(kernel, ((p, self.pool_size - 1 - p), (0, 0))) for p in range(self.pool_size)]
        return ops.concatenate(blocks, axis=1)


def build_waveform_1d(n_outputs: int = N_TAGS, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """Normalised ``waveform`` (batch, 465600) float -> logits (batch, n_outputs) float32.

    ``dtype`` is a Keras dtype policy such as "mixed_bfloat16"; None takes the global one. The first layer stays in
    float32, which is faster there and keeps the waveform's resolution. The same ``seed`` gives the same initial
    weights.
    """
    next_seed = seed_stream(seed)

    def conv(filters: int, name: str) -> layers.Layer:
        return layers.Conv1D(
            filters, 3, activation="relu", kernel_initializer=glorot(next_seed), dtype=dtype, name=name
        )

    waveform = keras.Input((CLIP_SAMPLES,), name="waveform")
    x = WaveformConvPool(64, 5, 16, kernel_initializer=glorot(next_seed), dtype="float32", name="conv_pool_1")(waveform)
    x = conv(128, "conv_2a")(x)  # 29097
    x = conv(128, "conv_2b")(x)  # 29095
    x = layers.MaxPooling1D(4, dtype=dtype, name="pool_2")(x)  # 7273
    x = layers.BatchNormalization(dtype=dtype, name="batch_norm_2")(x)
    x = layers.Dropout(0.2, seed=next_seed(), dtype=dtype, name="dropout_2")(x)
    x = conv(128, "conv_3a")(x)  # 7271
    x = conv(128, "conv_3b")(x)  # 7269
    x = layers.MaxPooling1D(4, dtype=dtype, name="pool_3")(x)  # 1817
    x = layers.BatchNormalization(dtype=dtype, name="batch_norm_3")(x)
    x = layers.Dropout(0.2, seed=next_seed(), dtype=dtype, name="dropout_3")(x)
    x = conv(256, "conv_4a")(x)  # 1815
    x = conv(256, "conv_4b")(x)  # 1813
    x = layers.GlobalMaxPooling1D(dtype=dtype, name="pool_4")(x)
    x = layers.Dense(1024, activation="relu", kernel_initializer=glorot(next_seed), dtype=dtype, name="dense_5")(x)
    x = layers.Dense(n_outputs, kernel_initializer=glorot(next_seed), dtype="float32", name="logits")(x)
    return keras.Model(waveform, x, name="waveform_1d")
