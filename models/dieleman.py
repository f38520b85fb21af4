"""Two convolutions over time and two fully connected layers, over 3 s of log-mel or of waveform.

Source: Dieleman and Schrauwen (2014), End-to-end learning for music audio (ICASSP), the best settings of either input:
frames of 256 samples that do not overlap. Convolutions are 8 frames long with 32 filters and ReLU, each followed by a
maximum pool of 4; 100 units with ReLU. Over the waveform, a layer of filters as long as a frame takes the place of the
spectrogram.

The variant of 96 bands with batch norm on its input is that of the musicnn authors' comparison (jordipons/
musicnn-training), whose trainable count agrees: 66,784.

The source was not at hand word for word; chosen here: natural logarithm of 1 + 10,000 times the mel power, 128 filters
with ReLU over the waveform (as many as there are mel bands), convolutions that do not pad, no dropout.
"""

from __future__ import annotations

from typing import Final

import keras
from keras import layers

from models.initializers import SeedStream, glorot, seed_stream
from models.tensors import FloatTensor

FRAMES: Final = 187
SAMPLES: Final = 48_000
"""3 s at 16 kHz: 187 whole frames."""
FRAME: Final = 256
"""Samples."""
WAVEFORM_FILTERS: Final = 128
FILTERS: Final = 32
KERNEL: Final = 8
POOL: Final = 4
HIDDEN: Final = 100


def build_dieleman_mel(
    n_outputs: int = 50,
    *,
    dtype: str | None = None,
    seed: int = 0,
    bands: int = 128,
    input_batch_norm: bool = False,
    name: str = "dieleman_mel",
) -> keras.Model:
    """``log_mel`` (batch, bands, 187) -> logits (batch, n_outputs) float32.

    Args:
        n_outputs: number of logits.
        dtype: Keras dtype policy; a batch norm on the input and the logits are float32 in any.
        seed: of the initial weights.
        bands: of the input.
        input_batch_norm: whether one mean and deviation for all bands are learnt.
        name: of the network.
    """
    next_seed = seed_stream(seed)
    log_mel = keras.Input((bands, FRAMES), name="log_mel")
    x = layers.Permute((2, 1), dtype="float32" if input_batch_norm else dtype, name="by_frame")(log_mel)
    if input_batch_norm:
        x = layers.Reshape((FRAMES, bands, 1), dtype="float32", name="channel")(x)
        x = layers.BatchNormalization(dtype="float32", name="input_batch_norm")(x)
        x = layers.Reshape((FRAMES, bands), dtype="float32", name="bands")(x)
    return keras.Model(log_mel, _logits(x, n_outputs, next_seed, dtype), name=name)


def build_dieleman_raw(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``waveform`` (batch, 48000) -> logits (batch, n_outputs) float32. See models.registry.BuildNetwork."""
    next_seed = seed_stream(seed)
    waveform = keras.Input((SAMPLES,), name="waveform")
    x = layers.Reshape((SAMPLES, 1), dtype=dtype, name="channel")(waveform)
    x = layers.Conv1D(
        WAVEFORM_FILTERS,
        FRAME,
        strides=FRAME,
        activation="relu",
        kernel_initializer=glorot(next_seed),
        dtype=dtype,
        name="frames",
    )(x)
    return keras.Model(waveform, _logits(x, n_outputs, next_seed, dtype), name="dieleman_raw")


def _logits(x: FloatTensor, n_outputs: int, next_seed: SeedStream, dtype: str | None) -> FloatTensor:
    """(batch, 187, channels) -> (batch, n_outputs)."""
    for number in (1, 2):  # 45, 9
        x = layers.Conv1D(
            FILTERS,
            KERNEL,
            activation="relu",
            kernel_initializer=glorot(next_seed),
            dtype=dtype,
            name=f"conv_{number}",
        )(x)
        x = layers.MaxPooling1D(POOL, dtype=dtype, name=f"pool_{number}")(x)
    x = layers.Flatten(dtype=dtype, name="features")(x)
    x = layers.Dense(HIDDEN, activation="relu", kernel_initializer=glorot(next_seed), dtype=dtype, name="dense")(x)
    return layers.Dense(n_outputs, kernel_initializer=glorot(next_seed), dtype="float32", name="logits")(x)
