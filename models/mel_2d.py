"""Model 2: separable-shaped two-dimensional convolutions over the log-mel spectrogram.

Source: Bengani, Vadivel and Jothi (2019), table of Model 2. 2,124,466 parameters at 50 tags. The paper's text says
depthwise separable; its table and the stated 8.14 MB fit plain convolutions of 3 x 1 and then 1 x 3, so those stand.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from models.convolution import BiasReLU, glorot, seed_stream
from preprocessing.constants import N_FRAMES, N_MELS, N_TAGS


def build_mel_2d(n_tags: int = N_TAGS, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """Normalised log-mel ``log_mel`` (batch, 128, 592) float -> tag probabilities (batch, n_tags) float32.

    ``dtype`` is a Keras dtype policy such as "mixed_bfloat16"; None takes the global one. The same ``seed`` gives the
    same initial weights.
    """
    next_seed = seed_stream(seed)

    def conv(x: Any, filters: int, kernel: tuple[int, int], name: str, **options: Any) -> Any:
        initializer = glorot(next_seed)
        return layers.Conv2D(filters, kernel, kernel_initializer=initializer, dtype=dtype, name=name, **options)(x)

    def conv_pool(x: Any, filters: int, kernel: tuple[int, int], size: int, name: str, padding: str = "same") -> Any:
        """``conv_<name>b`` and ``pool_<name>``, with bias and ReLU after both (models.convolution)."""
        x = conv(x, filters, kernel, f"conv_{name}b", padding=padding, use_bias=False)
        x = layers.MaxPooling2D(size, dtype=dtype, name=f"pool_{name}")(x)
        return BiasReLU(dtype=dtype, name=f"bias_relu_{name}")(x)

    log_mel = keras.Input((N_MELS, N_FRAMES), name="log_mel")
    x = layers.Reshape((N_MELS, N_FRAMES, 1), dtype=dtype, name="channel")(log_mel)
    x = conv(x, 128, (3, 1), "conv_1a", padding="same", activation="relu")
    x = conv_pool(x, 128, (1, 3), 4, "1")  # 128 x 592, then 32 x 148
    x = conv(x, 256, (3, 1), "conv_2a", padding="same", activation="relu")
    x = conv_pool(x, 256, (1, 3), 4, "2")  # 8 x 37
    x = conv(x, 256, (3, 1), "conv_3a", padding="same", activation="relu")
    x = conv_pool(x, 256, (1, 3), 2, "3")  # 4 x 18
    x = conv(x, 512, (3, 1), "conv_4a", activation="relu")  # 2 x 18
    x = conv_pool(x, 512, (1, 3), 2, "4", padding="valid")  # 2 x 16, then 1 x 8
    x = layers.Conv2D(
        n_tags, (1, 8), activation="sigmoid", kernel_initializer=glorot(next_seed), dtype="float32", name="conv_5"
    )(x)
    tags = layers.Flatten(dtype="float32", name="tags")(x)
    return keras.Model(log_mel, tags, name="mel_2d")
