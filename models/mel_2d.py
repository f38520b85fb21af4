"""Model 2: separable-shaped two-dimensional convolutions over the log-mel spectrogram.

Source: Bengani, Vadivel and Jothi (2019), table of Model 2. 2,124,466 parameters at 50 tags. The paper's text says
depthwise separable; its table and the stated 8.14 MB fit plain convolutions of 3 x 1 and then 1 x 3, so those stand.
The table's last row, a convolution with a sigmoid, is the layer ``logits`` here; the sigmoid is the head's.
"""

from __future__ import annotations

import keras
from keras import layers

from models.initializers import glorot, seed_stream
from preprocessing.constants import N_FRAMES, N_MELS, N_TAGS


def build_mel_2d(n_outputs: int = N_TAGS, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """Normalised log-mel ``log_mel`` (batch, 128, 592) float -> logits (batch, n_outputs) float32.

    ``dtype`` is a Keras dtype policy such as "mixed_bfloat16"; None takes the global one. The same ``seed`` gives the
    same initial weights.
    """
    next_seed = seed_stream(seed)

    def conv(filters: int, kernel: tuple[int, int], name: str, padding: str = "same") -> layers.Layer:
        return layers.Conv2D(
            filters,
            kernel,
            padding=padding,
            activation="relu",
            kernel_initializer=glorot(next_seed),
            dtype=dtype,
            name=name,
        )

    def pool(size: int, name: str) -> layers.Layer:
        return layers.MaxPooling2D(size, dtype=dtype, name=name)

    log_mel = keras.Input((N_MELS, N_FRAMES), name="log_mel")
    x = layers.Reshape((N_MELS, N_FRAMES, 1), dtype=dtype, name="channel")(log_mel)
    x = conv(128, (3, 1), "conv_1a")(x)
    x = conv(128, (1, 3), "conv_1b")(x)
    x = pool(4, "pool_1")(x)  # 32 x 148
    x = conv(256, (3, 1), "conv_2a")(x)
    x = conv(256, (1, 3), "conv_2b")(x)
    x = pool(4, "pool_2")(x)  # 8 x 37
    x = conv(256, (3, 1), "conv_3a")(x)
    x = conv(256, (1, 3), "conv_3b")(x)
    x = pool(2, "pool_3")(x)  # 4 x 18
    x = conv(512, (3, 1), "conv_4a", "valid")(x)  # 2 x 18
    x = conv(512, (1, 3), "conv_4b", "valid")(x)  # 2 x 16
    x = pool(2, "pool_4")(x)  # 1 x 8
    x = layers.Conv2D(n_outputs, (1, 8), kernel_initializer=glorot(next_seed), dtype="float32", name="logits")(x)
    x = layers.Flatten(dtype="float32", name="flatten")(x)
    return keras.Model(log_mel, x, name="mel_2d")
