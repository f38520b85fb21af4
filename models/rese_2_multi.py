"""ReSE-2-Multi: residual blocks with squeeze and excitation over 2.7 s of waveform, read at its last three levels.

Source: Kim, Lee and Nam (2018), Sample-level CNN architectures for music auto-tagging using raw waveforms (arXiv
1710.10451); the layers' order and sizes are facts read in its public code (tae-jun/resemul). Each block has two
convolutions, of which the second is weighed channel by channel: the channels' means go through a hidden layer that is
16 times as wide. The largest value of each channel of the last three blocks is kept. Trainable at 50 outputs, as its
README counts: 26,980,146. Batch norm is Keras' own.
"""

from __future__ import annotations

from typing import Final

import keras
from keras import layers

from models.initializers import SeedStream, seed_stream
from models.sample_cnn_2017 import DROPOUT, SAMPLES, WIDTHS, conv_batch_norm, he_uniform, stem
from models.tensors import FloatTensor

WIDENING: Final = 16
"""Of the hidden layer of squeeze and excitation."""
BLOCK_DROPOUT: Final = 0.2
LEVELS: Final = 3
"""Blocks at the end whose maxima are read."""


def build_rese_2_multi(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``waveform`` (batch, 59049) -> logits (batch, n_outputs) float32. See models.registry.BuildNetwork."""
    next_seed = seed_stream(seed)
    waveform = keras.Input((SAMPLES,), name="waveform")
    x = stem(waveform, next_seed, dtype)
    levels = []
    for number, width in enumerate(WIDTHS, 1):  # 6561 ... 1
        x = _block(x, width, f"block_{number}", next_seed, dtype)
        levels.append(x)
    maxima = [
        layers.GlobalMaxPooling1D(dtype=dtype, name=f"max_{number}")(level)
        for number, level in enumerate(levels[-LEVELS:], 1)
    ]
    x = layers.Concatenate(dtype=dtype, name="levels")(maxima)
    x = layers.Dense(x.shape[-1], kernel_initializer=he_uniform(next_seed), dtype=dtype, name="dense")(x)
    x = layers.BatchNormalization(dtype=dtype, name="dense_batch_norm")(x)
    x = layers.ReLU(dtype=dtype, name="dense_relu")(x)
    x = layers.Dropout(DROPOUT, seed=next_seed(), dtype=dtype, name="dropout")(x)
    logits = layers.Dense(n_outputs, kernel_initializer=he_uniform(next_seed), dtype="float32", name="logits")(x)
    return keras.Model(waveform, logits, name="rese_2_multi")


def _block(x: FloatTensor, width: int, block: str, next_seed: SeedStream, dtype: str | None) -> FloatTensor:
    """(batch, time, channels) -> (batch, time // 3, width)."""
    y = conv_batch_norm(x, width, 3, block, next_seed, dtype, "_1")
    y = layers.ReLU(dtype=dtype, name=f"{block}_relu_1")(y)
    y = layers.Dropout(BLOCK_DROPOUT, seed=next_seed(), dtype=dtype, name=f"{block}_dropout")(y)
    y = conv_batch_norm(y, width, 3, block, next_seed, dtype, "_2")
    y = _weighed(y, width, block, next_seed, dtype)
    if x.shape[-1] != width:
        x = conv_batch_norm(x, width, 1, f"{block}_shortcut", next_seed, dtype)
    x = layers.Add(dtype=dtype, name=f"{block}_sum")([x, y])
    x = layers.ReLU(dtype=dtype, name=f"{block}_relu_2")(x)
    return layers.MaxPooling1D(3, dtype=dtype, name=f"{block}_pool")(x)


def _weighed(x: FloatTensor, width: int, block: str, next_seed: SeedStream, dtype: str | None) -> FloatTensor:
    """Squeeze and excitation of (batch, time, width)."""

    def dense(units: int, activation: str, name: str) -> layers.Layer:
        return layers.Dense(
            units,
            activation=activation,
            kernel_initializer=he_uniform(next_seed),
            dtype=dtype,
            name=f"{block}_{name}",
        )

    mean = layers.GlobalAveragePooling1D(keepdims=True, dtype=dtype, name=f"{block}_mean")(x)
    weights = dense(width, "sigmoid", "excite")(dense(WIDENING * width, "relu", "squeeze")(mean))
    return layers.Multiply(dtype=dtype, name=f"{block}_scale")([x, weights])
