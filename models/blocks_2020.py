"""Blocks of the networks of the 2020 comparison, as PyTorch computes them, from Keras' own layers.

Source: Won, Ferraro, Bogdanov and Serra (2020), Evaluation of CNN-based Automatic Music Tagging Models, and its public
PyTorch code (minzwon/sota-music-tagging-models, modules.py), whose trained weights fit these layers. What differs from
Keras' defaults: batch norm's epsilon is 1e-5 and its momentum 0.9; a convolution pads half its kernel on both sides
whatever its stride, where Keras' ``same`` pads a strided one on the right alone.

Layers are named ``<block>_<what>``: ``block_1_conv``, ``block_1_batch_norm`` ...; ``serving.pretrained.sota_2020``
finds by these names where a published weight belongs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import keras
from keras import layers

from models.initializers import SeedStream, seed_stream
from models.tensors import FloatTensor

BATCH_NORM_EPSILON: Final = 1e-5
BATCH_NORM_MOMENTUM: Final = 0.9
DROPOUT: Final = 0.5


def torch_uniform(next_seed: SeedStream) -> keras.initializers.Initializer:
    """PyTorch's default for kernels, seeded: uniform within one by the root of the fan-in."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=next_seed())


@dataclass(frozen=True)
class Blocks:
    """Makes the layers of one network.

    Attributes:
        dtype: Keras dtype policy of all layers but the first batch norm and the logits, which are float32.
        next_seed: gives each layer's seed.
    """

    dtype: str | None
    next_seed: SeedStream

    @classmethod
    def seeded(cls, seed: int, dtype: str | None) -> Blocks:
        """Blocks whose initial weights and dropouts depend on ``seed`` alone."""
        return cls(dtype, seed_stream(seed))

    def normalised_log_mel(self, log_mel: FloatTensor) -> FloatTensor:
        """(batch, mels, frames) dB -> (batch, mels, frames, 1) float32, one mean and variance for all bands."""
        x = layers.Reshape((*log_mel.shape[1:], 1), dtype="float32", name="channel")(log_mel)
        return self.input_batch_norm(x)

    def input_batch_norm(self, x: FloatTensor) -> FloatTensor:
        """Batch norm over the channels of (batch, bands, frames, channels), float32: decibels need more than bfloat16.

        PyTorch's ``spec_bn``.
        """
        return layers.BatchNormalization(
            epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, dtype="float32", name="input_batch_norm"
        )(x)

    def conv(
        self, x: FloatTensor, filters: int, kernel: int | Sequence[int], name: str, strides: int | tuple[int, int] = 1
    ) -> FloatTensor:
        """Convolution over one axis (batch, time, channels) or two (batch, bands, frames, channels).

        It pads half the kernel on both sides.
        """
        axes = len(x.shape) - 2
        sizes = (kernel,) * axes if isinstance(kernel, int) else tuple(kernel)
        strided = strides != 1
        if strided and max(sizes) > 1:
            x = self._zeros_around(x, [size // 2 for size in sizes], f"{name}_padding")
        layer = layers.Conv1D if axes == 1 else layers.Conv2D
        return layer(
            filters,
            sizes,
            strides=strides,
            padding="valid" if strided else "same",
            kernel_initializer=torch_uniform(self.next_seed),
            dtype=self.dtype,
            name=name,
        )(x)

    def batch_norm(self, x: FloatTensor, name: str) -> FloatTensor:
        """Batch norm over the last axis."""
        return layers.BatchNormalization(
            epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, dtype=self.dtype, name=name
        )(x)

    def relu(self, x: FloatTensor, name: str) -> FloatTensor:
        """Rectifier."""
        return layers.ReLU(dtype=self.dtype, name=name)(x)

    def pool(self, x: FloatTensor, size: int | tuple[int, ...], name: str) -> FloatTensor:
        """Maximum over windows that do not overlap; what is left over at the end is dropped. 1 gives ``x`` itself."""
        if size == 1:
            return x
        layer = layers.MaxPooling1D if len(x.shape) == 3 else layers.MaxPooling2D
        return layer(size, dtype=self.dtype, name=name)(x)

    def dense(self, x: FloatTensor, units: int, name: str, activation: str | None = None) -> FloatTensor:
        """Fully connected layer."""
        return layers.Dense(
            units,
            activation=activation,
            kernel_initializer=torch_uniform(self.next_seed),
            dtype=self.dtype,
            name=name,
        )(x)

    def dropout(self, x: FloatTensor, name: str, rate: float = DROPOUT) -> FloatTensor:
        """Dropout of its own seed."""
        return layers.Dropout(rate, seed=self.next_seed(), dtype=self.dtype, name=name)(x)

    def conv_block(
        self,
        x: FloatTensor,
        filters: int,
        block: str,
        kernel: int = 3,
        pool: int | tuple[int, ...] = 1,
        strides: int = 1,
    ) -> FloatTensor:
        """Convolution, batch norm, ReLU, maximum pool (Conv_1d and Conv_2d of the source)."""
        x = self.conv(x, filters, kernel, f"{block}_conv", strides)
        x = self.batch_norm(x, f"{block}_batch_norm")
        return self.pool(self.relu(x, f"{block}_relu"), pool, f"{block}_pool")

    def residual_block(
        self,
        x: FloatTensor,
        filters: int,
        block: str,
        strides: int | tuple[int, int] = 1,
        kernel: int = 3,
        pool: int | tuple[int, int] = 1,
        squeeze: bool = False,
    ) -> FloatTensor:
        """Two convolutions round which the input is added, then ReLU and maximum pool.

        The input goes through a convolution of the same kernel and batch norm where the block's stride is not 1 or its
        width another (Res_2d, Res_2d_mp and ResSE_1d of the source).

        Args:
            x: (batch, time, channels) or (batch, bands, frames, channels).
            filters: width of the block.
            block: its name.
            strides: of the first convolution and the shortcut.
            kernel: size along every axis.
            pool: of the maximum pool at the end; 1 for none.
            squeeze: whether the channels are weighed before the sum (squeeze and excitation).
        """
        y = self.conv(x, filters, kernel, f"{block}_conv_1", strides)
        y = self.relu(self.batch_norm(y, f"{block}_batch_norm_1"), f"{block}_relu_1")
        y = self.batch_norm(self.conv(y, filters, kernel, f"{block}_conv_2"), f"{block}_batch_norm_2")
        if squeeze:
            y = self._excite(y, filters, block)
        if strides != 1 or x.shape[-1] != filters:
            x = self.conv(x, filters, kernel, f"{block}_shortcut_conv", strides)
            x = self.batch_norm(x, f"{block}_shortcut_batch_norm")
        x = layers.Add(dtype=self.dtype, name=f"{block}_sum")([x, y])
        return self.pool(self.relu(x, f"{block}_relu_2"), pool, f"{block}_pool")

    def hidden_head(self, x: FloatTensor, units: int) -> FloatTensor:
        """Fully connected layer, batch norm, ReLU, dropout: what precedes the logits of most networks."""
        x = self.relu(self.batch_norm(self.dense(x, units, "dense"), "dense_batch_norm"), "dense_relu")
        return self.dropout(x, "dropout")

    def logits(self, x: FloatTensor, n_outputs: int) -> FloatTensor:
        """(batch, features) -> (batch, n_outputs) float32."""
        return layers.Dense(
            n_outputs, kernel_initializer=torch_uniform(self.next_seed), dtype="float32", name="logits"
        )(x)

    def _excite(self, x: FloatTensor, filters: int, block: str) -> FloatTensor:
        """Squeeze and excitation of (batch, time, channels) without a bottleneck."""
        weights = layers.GlobalAveragePooling1D(dtype=self.dtype, name=f"{block}_mean")(x)
        weights = self.dense(weights, filters, f"{block}_squeeze", "relu")
        weights = self.dense(weights, filters, f"{block}_excite", "sigmoid")
        weights = layers.Reshape((1, filters), dtype=self.dtype, name=f"{block}_weights")(weights)
        return layers.Multiply(dtype=self.dtype, name=f"{block}_scale")([x, weights])

    def _zeros_around(self, x: FloatTensor, margins: list[int], name: str) -> FloatTensor:
        if len(margins) == 1:
            return layers.ZeroPadding1D(margins[0], dtype=self.dtype, name=name)(x)
        return layers.ZeroPadding2D(tuple(margins), dtype=self.dtype, name=name)(x)
