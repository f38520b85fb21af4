"""Two or three convolutions over the MFCCs of a clip and one fully connected layer.

Source: Aleskeeva, Klironomou, Markou and Xenaki (2018), Development of a convolutional neural network for multi label
auto tagging of music audio files: "two or three convolutional layers (with or without max pooling), followed by a fully
connected layer", ReLU, from shallower to deeper.

The sizes stood in a figure that is lost. Chosen here: 20 coefficients of frames of 64 ms every 32 ms; convolutions of
5 x 5 with 32, 64 and 128 channels; pools of 2 coefficients by 4 frames, and strides of as much where there are none,
as the fully connected layer (128 units) would have 75 million weights otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import keras
from keras import layers

from models.initializers import glorot, seed_stream

COEFFICIENTS: Final = 20
FRAMES: Final = 910
"""Of 465,600 samples at 16 kHz."""
KERNEL: Final = 5
"""No less than a stride: LiteRT's interpreter gives zeros for a padded convolution whose stride is greater than its
kernel (google-ai-edge/LiteRT, issue 9256)."""
REDUCTION: Final = (2, 4)
"""Coefficients and frames that become one at each convolution."""
HIDDEN: Final = 128


@dataclass(frozen=True)
class Depth:
    """One of the networks.

    Attributes:
        channels: of each convolution.
        pools: whether pools reduce what convolutions give; strides do otherwise.
    """

    channels: tuple[int, ...]
    pools: bool = True


DEPTHS: Final[dict[str, Depth]] = {
    "mfcc_cnn_shallow": Depth((32, 64), pools=False),
    "mfcc_cnn_middle": Depth((32, 64)),
    "mfcc_cnn_deep": Depth((32, 64, 128)),
}
"""By the network's name."""


def build_mfcc_cnn(
    n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0, name: str = "mfcc_cnn_deep"
) -> keras.Model:
    """Normalised ``mfcc`` (batch, 20, 910) -> logits (batch, n_outputs) float32.

    Args:
        n_outputs: number of logits.
        dtype: Keras dtype policy; the logits are float32 in any.
        seed: of the initial weights.
        name: which of DEPTHS.
    """
    depth = DEPTHS[name]
    next_seed = seed_stream(seed)
    mfcc = keras.Input((COEFFICIENTS, FRAMES), name="mfcc")
    x: Any = layers.Reshape((COEFFICIENTS, FRAMES, 1), dtype=dtype, name="channel")(mfcc)
    for number, channels in enumerate(depth.channels, 1):
        x = layers.Conv2D(
            channels,
            KERNEL,
            strides=1 if depth.pools else REDUCTION,
            padding="same",
            activation="relu",
            kernel_initializer=glorot(next_seed),
            dtype=dtype,
            name=f"conv_{number}",
        )(x)
        if depth.pools:
            x = layers.MaxPooling2D(REDUCTION, dtype=dtype, name=f"pool_{number}")(x)
    x = layers.Flatten(dtype=dtype, name="features")(x)
    x = layers.Dense(HIDDEN, activation="relu", kernel_initializer=glorot(next_seed), dtype=dtype, name="dense")(x)
    logits = layers.Dense(n_outputs, kernel_initializer=glorot(next_seed), dtype="float32", name="logits")(x)
    return keras.Model(mfcc, logits, name=name)
