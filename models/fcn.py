"""FCN: five convolutions and pools over 29 s of log-mel.

Source: Choi, Fazekas and Sandler (2016) as the comparison of Won et al. (2020) has it (arXiv 2006.00751, public code
model.py). Trainable 447,732 at 50 outputs, as its published weights count; with batch norm's averages 448,758.
"""

from __future__ import annotations

import keras
from keras import layers

from models.blocks_2020 import Blocks

MELS = 96
FRAMES = 1813
"""Of 464,000 samples."""


def build_fcn(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``log_mel`` (batch, 96, 1813) dB -> logits (batch, n_outputs) float32. See models.registry.BuildNetwork."""
    blocks = Blocks.seeded(seed, dtype)
    log_mel = keras.Input((MELS, FRAMES), name="log_mel")
    x = blocks.normalised_log_mel(log_mel)
    x = blocks.conv_block(x, 64, "block_1", pool=(2, 4))  # 48 x 453
    x = blocks.conv_block(x, 128, "block_2", pool=(2, 4))  # 24 x 113
    x = blocks.conv_block(x, 128, "block_3", pool=(2, 4))  # 12 x 28
    x = blocks.conv_block(x, 128, "block_4", pool=(3, 5))  # 4 x 5
    x = blocks.conv_block(x, 64, "block_5", pool=(4, 4))  # 1 x 1
    x = layers.Flatten(dtype=dtype, name="features")(x)
    x = blocks.dropout(x, "dropout")
    return keras.Model(log_mel, blocks.logits(x, n_outputs), name="fcn")
