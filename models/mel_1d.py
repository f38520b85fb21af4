"""Model 1: one-dimensional convolutions along time over the log-mel spectrogram.

Source: Bengani, Vadivel and Jothi (2019), table of Model 1. 2,153,138 parameters at 50 tags. The
table's last row, a convolution with a sigmoid, is the layer ``logits`` here; the sigmoid is the head's.
"""

from __future__ import annotations

import keras
from keras import layers

from models.initializers import glorot, seed_stream
from preprocessing.constants import N_FRAMES, N_MELS, N_TAGS


def build_mel_1d(n_outputs: int = N_TAGS, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """Normalised log-mel ``log_mel`` (batch, 128, 592) float -> logits (batch, n_outputs) float32.

    ``dtype`` is a Keras dtype policy such as "mixed_bfloat16"; None takes the global one. The same ``seed`` gives the
    same initial weights.
    """
    next_seed = seed_stream(seed)

    def conv(filters: int, name: str) -> layers.Layer:
        return layers.Conv1D(
            filters, 4, activation="relu", kernel_initializer=glorot(next_seed), dtype=dtype, name=name
        )

    log_mel = keras.Input((N_MELS, N_FRAMES), name="log_mel")
    x = layers.Reshape((N_MELS, N_FRAMES, 1), dtype=dtype, name="channel")(log_mel)
    x = layers.Conv2D(
        256, (N_MELS, 4), activation="relu", kernel_initializer=glorot(next_seed), dtype=dtype, name="conv_1"
    )(x)  # 1 x 589 x 256
    x = layers.Reshape((N_FRAMES - 3, 256), dtype=dtype, name="reshape_1")(x)
    x = layers.MaxPooling1D(2, dtype=dtype, name="pool_1")(x)  # 294
    x = conv(256, "conv_2")(x)  # 291
    x = layers.BatchNormalization(dtype=dtype, name="batch_norm_2")(x)
    x = layers.MaxPooling1D(2, dtype=dtype, name="pool_2")(x)  # 145
    x = conv(384, "conv_3")(x)  # 142
    x = layers.MaxPooling1D(2, dtype=dtype, name="pool_3")(x)  # 71
    x = layers.BatchNormalization(dtype=dtype, name="batch_norm_3")(x)
    x = layers.Conv1D(n_outputs, 71, kernel_initializer=glorot(next_seed), dtype="float32", name="logits")(x)
    x = layers.Flatten(dtype="float32", name="flatten")(x)
    return keras.Model(log_mel, x, name="mel_1d")
