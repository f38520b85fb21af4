"""SampleCNN as it was first published: eleven convolutions of three samples over 2.7 s of waveform.

Source: Lee, Park, Kim and Nam (2017), Sample-level deep convolutional neural networks for music auto-tagging using raw
waveforms (arXiv 1703.01789), the network of 3^9, and its public code (jongpillee/sampleCNN): 22,050 Hz, no
normalisation, no padding before the first layer. Trainable at 50 outputs 1,869,874; with batch norm's averages
1,875,762. Batch norm is Keras' own, initial weights are He's uniform ones.
"""

from __future__ import annotations

from typing import Final

import keras
from keras import layers

from models.initializers import SeedStream, seed_stream
from models.tensors import FloatTensor

SAMPLES: Final = 59_049
"""3^10: 2.68 s at 22,050 Hz."""
STEM_WIDTH: Final = 128
WIDTHS: Final = (128, 128, 256, 256, 256, 256, 256, 256, 512)
"""Of the convolutions of three that a pool of three follows."""
LAST_WIDTH: Final = 512
DROPOUT: Final = 0.5


def he_uniform(next_seed: SeedStream) -> keras.initializers.Initializer:
    """He's uniform initial weights, seeded."""
    return keras.initializers.HeUniform(seed=next_seed())


def conv_batch_norm(
    x: FloatTensor, width: int, kernel: int, block: str, next_seed: SeedStream, dtype: str | None, number: str = ""
) -> FloatTensor:
    """Convolution over (batch, time, channels) and batch norm, named ``<block>_conv`` and ``<block>_batch_norm``."""
    x = layers.Conv1D(
        width,
        kernel,
        padding="same",
        kernel_initializer=he_uniform(next_seed),
        dtype=dtype,
        name=f"{block}_conv{number}",
    )(x)
    return layers.BatchNormalization(dtype=dtype, name=f"{block}_batch_norm{number}")(x)


def stem(waveform: FloatTensor, next_seed: SeedStream, dtype: str | None) -> FloatTensor:
    """Waveform (batch, 59049) -> (batch, 19683, 128): a convolution at every third sample, batch norm, ReLU."""
    x = layers.Reshape((SAMPLES, 1), dtype=dtype, name="channel")(waveform)
    x = layers.Conv1D(
        STEM_WIDTH, 3, strides=3, kernel_initializer=he_uniform(next_seed), dtype=dtype, name="stem_conv"
    )(x)
    x = layers.BatchNormalization(dtype=dtype, name="stem_batch_norm")(x)
    return layers.ReLU(dtype=dtype, name="stem_relu")(x)


def build_sample_cnn_2017(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``waveform`` (batch, 59049) -> logits (batch, n_outputs) float32. See models.registry.BuildNetwork."""
    next_seed = seed_stream(seed)
    waveform = keras.Input((SAMPLES,), name="waveform")
    x = stem(waveform, next_seed, dtype)
    for number, width in enumerate(WIDTHS, 1):  # 6561 ... 1
        x = conv_batch_norm(x, width, 3, f"block_{number}", next_seed, dtype)
        x = layers.ReLU(dtype=dtype, name=f"block_{number}_relu")(x)
        x = layers.MaxPooling1D(3, dtype=dtype, name=f"block_{number}_pool")(x)
    x = conv_batch_norm(x, LAST_WIDTH, 1, "last", next_seed, dtype)
    x = layers.ReLU(dtype=dtype, name="last_relu")(x)
    x = layers.Flatten(dtype=dtype, name="features")(x)
    x = layers.Dropout(DROPOUT, seed=next_seed(), dtype=dtype, name="dropout")(x)
    logits = layers.Dense(n_outputs, kernel_initializer=he_uniform(next_seed), dtype="float32", name="logits")(x)
    return keras.Model(waveform, logits, name="sample_cnn_2017")
