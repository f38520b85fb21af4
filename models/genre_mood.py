"""Four convolutions of 2 x 2 over 3 s of log-mel, 15 units, and a decision for genre and one for mood.

Source: Yu (Stanford, project report after 2018), Music tagging with convolutional neural network: four convolutions of
2 x 2, of which the fourth has a stride of 2 and the others none; batch norm on every layer; one fully connected layer,
of 15 nodes by the discussion; one decision layer for each output (6 genres, 3 moods); L2 of 0.002 on the flattened and
the fully connected layer; learning rate 0.001, batches of 75.

Both decision layers are one layer ``logits`` here, whose outputs the heads divide: the same computation, and a
configuration names the heads. The report leaves open and this chose: 22,050 Hz, 128 mel bands of frames of 2,048
samples every 512, decibels within 80 of the loudest; 16, 16, 32 and 32 channels with ``same`` padding; ReLU after batch
norm; no dropout and no pools; the L2 on the kernels that read the flattened and the fully connected layer.
"""

from __future__ import annotations

from typing import Any, Final

import keras
from keras import layers

from models.initializers import glorot, seed_stream
from models.tensors import FloatTensor

BANDS: Final = 128
FRAMES: Final = 130
"""Of 66,150 samples at 22,050 Hz."""
CHANNELS: Final = (16, 16, 32, 32)
STRIDES: Final = (1, 1, 1, 2)
HIDDEN: Final = 15
L2: Final = 0.002
OUTPUTS: Final = 9
"""6 genres, then 3 moods."""


def build_genre_mood(n_outputs: int = OUTPUTS, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """Normalised ``log_mel`` (batch, 128, 130) -> logits (batch, n_outputs) float32.

    See models.registry.BuildNetwork.
    """
    next_seed = seed_stream(seed)

    def normed(x: FloatTensor, name: str) -> FloatTensor:
        x = layers.BatchNormalization(dtype=dtype, name=f"{name}_batch_norm")(x)
        return layers.ReLU(dtype=dtype, name=f"{name}_relu")(x)

    def dense(units: int, name: str, dtype: str | None) -> layers.Layer:
        return layers.Dense(
            units,
            kernel_initializer=glorot(next_seed),
            kernel_regularizer=keras.regularizers.L2(L2),
            dtype=dtype,
            name=name,
        )

    log_mel = keras.Input((BANDS, FRAMES), name="log_mel")
    x: Any = layers.Reshape((BANDS, FRAMES, 1), dtype=dtype, name="channel")(log_mel)
    for number, (channels, strides) in enumerate(zip(CHANNELS, STRIDES, strict=True), 1):
        x = layers.Conv2D(
            channels,
            2,
            strides=strides,
            padding="same",
            kernel_initializer=glorot(next_seed),
            dtype=dtype,
            name=f"conv_{number}",
        )(x)
        x = normed(x, f"conv_{number}")
    x = layers.Flatten(dtype=dtype, name="features")(x)
    x = normed(dense(HIDDEN, "dense", dtype)(x), "dense")
    return keras.Model(log_mel, dense(n_outputs, "logits", "float32")(x), name="genre_mood")
