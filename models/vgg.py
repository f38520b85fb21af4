"""VGG of the musicnn package: five convolutions of 3 x 3 and 128 channels over 3 s of log-mel.

Source: Pons et al. (2018), End-to-end learning for music audio tagging at scale, and the musicnn package (Pons and
Serra 2019), whose trained weights fit. Trainable at 50 outputs, as those weights count: 605,748; with batch norm's
averages 607,030.

The package's two sets of weights were trained with different pools, and the weights' shapes do not tell them apart:
those of MagnaTagATune with the package's own, those of the Million Song Dataset with the pools that its graph file
states. ``pools`` says which. Batch norm is TensorFlow 1's (epsilon 0.001, momentum 0.99) and comes after the ReLU.
"""

from __future__ import annotations

from typing import Final

import keras
from keras import layers

from models.initializers import glorot, seed_stream

MELS = 96
FRAMES = 187
FILTERS = 128
BLOCK_DROPOUT = 0.25
DROPOUT = 0.5

Pool = tuple[tuple[int, int], tuple[int, int]]
"""Size and stride, both (bands, frames)."""

_SAME_END: Final[tuple[Pool, ...]] = (((2, 2), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4)))
POOLS: Final[dict[str, tuple[Pool, ...]]] = {
    "mtt": (((1, 4), (2, 2)), ((2, 2), (2, 2)), *_SAME_END),
    "msd": (((1, 4), (1, 4)), ((4, 1), (4, 1)), *_SAME_END),
}
"""By the data set that the weights were trained on."""


def build_vgg(
    n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0, pools: str = "mtt", name: str = "vgg"
) -> keras.Model:
    """``log_mel`` (batch, 96, 187) log10(1 + 10,000 mel power) -> logits (batch, n_outputs) float32.

    Args:
        n_outputs: number of logits.
        dtype: Keras dtype policy; the first batch norm and the logits are float32 in any.
        seed: of initial weights and dropouts.
        pools: which of POOLS.
        name: of the network.
    """
    next_seed = seed_stream(seed)
    log_mel = keras.Input((MELS, FRAMES), name="log_mel")
    x = layers.Reshape((MELS, FRAMES, 1), dtype="float32", name="channel")(log_mel)
    x = layers.BatchNormalization(dtype="float32", name="input_batch_norm")(x)
    for block, (size, strides) in enumerate(POOLS[pools], 1):
        if block > 1:
            x = layers.Dropout(BLOCK_DROPOUT, seed=next_seed(), dtype=dtype, name=f"dropout_{block - 1}")(x)
        x = layers.Conv2D(
            FILTERS,
            3,
            padding="same",
            activation="relu",
            kernel_initializer=glorot(next_seed),
            dtype=dtype,
            name=f"conv_{block}",
        )(x)
        x = layers.BatchNormalization(dtype=dtype, name=f"batch_norm_{block}")(x)
        x = layers.MaxPooling2D(size, strides, dtype=dtype, name=f"pool_{block}")(x)
    x = layers.Flatten(dtype=dtype, name="features")(x)  # 1 x 2 x 128
    x = layers.Dropout(DROPOUT, seed=next_seed(), dtype=dtype, name="dropout_5")(x)
    logits = layers.Dense(n_outputs, kernel_initializer=glorot(next_seed), dtype="float32", name="logits")(x)
    return keras.Model(log_mel, logits, name=name)
