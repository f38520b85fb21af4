"""Fully convolutional networks of 3 x 3 convolutions and uneven pools over 29 s, three to seven layers deep.

Source: Choi, Fazekas and Sandler (2016), Automatic tagging using deep convolutional neural networks (arXiv 1606.00298),
and the slides of its talk in the author's public repository (music-auto_tagging-keras): all kernels 3 x 3, all ReLU,
2,048 maps of 1 x 1 at the end. The four layers of ``fcn_4`` are published with their pools, and its trainable count
agrees (17,365,938 at 50 outputs). Each convolution is followed by batch norm, ReLU, pool and dropout of 0.5.

Where the sources are silent:

- ``fcn_3``: neither widths nor pools are published. Widths grow by 4 at each layer, as those of ``fcn_5`` by 2; the
  pools end with one value.
- ``fcn_5``: widths and pools as public re-implementations have them. ``fcn_6`` and ``fcn_7`` add one and two
  convolutions of 1 x 1 and 1,024 maps.
- ``fcn_5_narrow``: the slides say "[32@1 - 256@5]"; the widths between and the pools are those of the repository's
  narrow network, whose README counts 850,368 trainable weights before the output. That one has ELU; here it is ReLU as
  in the slides.
- ``fcn_4`` on STFT (128 bins) has the pools of ``fcn_4``, of whose last one 1 of 5 bands is left over; on MFCC (90) the
  last pool is 3 bands high, as no more are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import keras
from keras import layers

from models.initializers import glorot, seed_stream
from models.tensors import FloatTensor

FRAMES = 1366
"""Of 349,440 samples at 12 kHz."""
DROPOUT = 0.5

Block = tuple[int, tuple[int, int]]
"""Channels, and the pool over (bands, frames)."""


@dataclass(frozen=True)
class Design:
    """One of the networks.

    Attributes:
        blocks: 3 x 3 convolutions and their pools.
        bands: of the input.
        pointwise: channels of the 1 x 1 convolutions that follow.
    """

    blocks: tuple[Block, ...]
    bands: int = 96
    pointwise: tuple[int, ...] = ()


_FIVE: Final[tuple[Block, ...]] = (
    (128, (2, 4)),
    (256, (2, 4)),
    (512, (2, 4)),
    (1024, (3, 5)),
    (2048, (4, 4)),
)
_FOUR: Final[tuple[Block, ...]] = ((128, (2, 4)), (384, (4, 5)), (768, (3, 8)), (2048, (4, 8)))
_NARROW: Final[tuple[Block, ...]] = ((32, (2, 4)), (128, (2, 4)), (128, (2, 4)), (192, (3, 5)), (256, (4, 4)))

DESIGNS: Final[dict[str, Design]] = {
    "fcn_3": Design(((128, (3, 5)), (512, (4, 16)), (2048, (8, 17)))),
    "fcn_4": Design(_FOUR),
    "fcn_5": Design(_FIVE),
    "fcn_6": Design(_FIVE, pointwise=(1024,)),
    "fcn_7": Design(_FIVE, pointwise=(1024, 1024)),
    "fcn_5_narrow": Design(_NARROW),
    "fcn_4_stft": Design(_FOUR, bands=128),
    "fcn_4_mfcc": Design((*_FOUR[:3], (2048, (3, 8))), bands=90),
}
"""By the network's name."""


def build_fcn_2016(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0, name: str = "fcn_4") -> keras.Model:
    """Normalised ``log_mel`` (batch, bands, 1366) -> logits (batch, n_outputs) float32.

    Args:
        n_outputs: number of logits.
        dtype: Keras dtype policy; the logits are float32 in any.
        seed: of initial weights and dropouts.
        name: which of DESIGNS.
    """
    design = DESIGNS[name]
    next_seed = seed_stream(seed)

    def block(x: FloatTensor, channels: int, kernel: int, pool: tuple[int, int] | None, number: int) -> FloatTensor:
        x = layers.Conv2D(
            channels,
            kernel,
            padding="same",
            kernel_initializer=glorot(next_seed),
            dtype=dtype,
            name=f"conv_{number}",
        )(x)
        x = layers.BatchNormalization(dtype=dtype, name=f"batch_norm_{number}")(x)
        x = layers.ReLU(dtype=dtype, name=f"relu_{number}")(x)
        if pool:
            x = layers.MaxPooling2D(pool, dtype=dtype, name=f"pool_{number}")(x)
        return layers.Dropout(DROPOUT, seed=next_seed(), dtype=dtype, name=f"dropout_{number}")(x)

    log_mel = keras.Input((design.bands, FRAMES), name="log_mel")
    x = layers.Reshape((design.bands, FRAMES, 1), dtype=dtype, name="channel")(log_mel)
    for number, (channels, pool) in enumerate(design.blocks, 1):
        x = block(x, channels, 3, pool, number)
    for number, channels in enumerate(design.pointwise, 1 + len(design.blocks)):
        x = block(x, channels, 1, None, number)
    x = layers.Flatten(dtype=dtype, name="features")(x)
    logits = layers.Dense(n_outputs, kernel_initializer=glorot(next_seed), dtype="float32", name="logits")(x)
    return keras.Model(log_mel, logits, name=name)
