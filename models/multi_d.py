"""Multi-D: filters of twelve shapes side by side over 3 s of log-mel, for timbre whatever its pitch.

Source: Pons, Slizovskaia, Gong, Gomez and Serra (2017), Timbre analysis of music audio signals with convolutional
neural networks (arXiv 1703.06697), in the form of the authors' later public code (jordipons/musicnn-training,
``timbre``), whose trainable count agrees: 185,856. Each filter's largest answer along the bands is kept, so that it
hears its pattern at any pitch; a convolution over time and two fully connected layers follow. TensorFlow 1's batch
norm (Keras' defaults), after the ReLU.
"""

from __future__ import annotations

from typing import Any, Final

import keras
from keras import layers

from models.initializers import SeedStream, glorot, seed_stream
from models.tensors import FloatTensor

BANDS: Final = 96
FRAMES: Final = 187
SHAPES: Final = {
    76: {7: 3, 5: 3, 3: 6, 1: 10},
    57: {7: 5, 5: 5, 3: 10, 1: 15},
    19: {7: 5, 5: 5, 3: 10, 1: 15},
}
"""Filters by the bands (0.8, 0.6 and 0.2 of all) and the frames under them: 92 in all."""
FILTERS: Final = 32
KERNEL: Final = 8
POOL: Final = 4
HIDDEN: Final = 100


def build_multi_d(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``log_mel`` (batch, 96, 187) -> logits (batch, n_outputs) float32. See models.registry.BuildNetwork."""
    next_seed = seed_stream(seed)

    def options(name: str) -> dict[str, Any]:
        return {"kernel_initializer": glorot(next_seed), "dtype": dtype, "name": name}

    log_mel = keras.Input((BANDS, FRAMES), name="log_mel")
    x = layers.Reshape((BANDS, FRAMES, 1), dtype="float32", name="channel")(log_mel)
    x = layers.BatchNormalization(dtype="float32", name="input_batch_norm")(x)
    timbre = [
        _loudest_band(x, filters, (bands, frames), next_seed, dtype)
        for bands, by_frames in SHAPES.items()
        for frames, filters in by_frames.items()
    ]
    x = layers.Concatenate(dtype=dtype, name="timbre")(timbre)  # 187 x 92
    x = layers.Conv1D(FILTERS, KERNEL, activation="relu", **options("conv"))(x)
    x = layers.MaxPooling1D(POOL, dtype=dtype, name="pool")(x)
    x = layers.Flatten(dtype=dtype, name="features")(x)
    x = layers.Dense(HIDDEN, activation="relu", **options("dense"))(x)
    logits = layers.Dense(n_outputs, **{**options("logits"), "dtype": "float32"})(x)
    return keras.Model(log_mel, logits, name="multi_d")


def _loudest_band(
    x: FloatTensor, filters: int, kernel: tuple[int, int], next_seed: SeedStream, dtype: str | None
) -> FloatTensor:
    """(batch, 96, 187, 1) -> (batch, 187, filters). Frames are padded with zeros, bands are not."""
    bands, frames = kernel
    name = f"timbre_{bands}_{frames}"
    if frames > 1:
        x = layers.ZeroPadding2D((0, frames // 2), dtype=dtype, name=f"{name}_padding")(x)
    x = layers.Conv2D(
        filters, kernel, activation="relu", kernel_initializer=glorot(next_seed), dtype=dtype, name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(dtype=dtype, name=f"{name}_batch_norm")(x)
    x = layers.MaxPooling2D((x.shape[1], 1), dtype=dtype, name=f"{name}_max")(x)
    return layers.Reshape((FRAMES, filters), dtype=dtype, name=f"{name}_features")(x)
