"""Harmonic CNN: learnt harmonic filters as six channels, then seven convolutional blocks over 5 s.

Source: Won, Chun, Nieto and Serra (2020), Data-driven harmonic filters for audio representation learning, as the
comparison of Won et al. (2020) has it (arXiv 2006.00751, public code model.py): n_fft 512, where the filters' own
repository has 513. Trainable at 50 outputs: 3,631,550 and the filters' one quality factor; with batch norm's averages
3,636,427.
"""

from __future__ import annotations

import keras
from keras import layers

from models.blocks_2020 import Blocks
from models.front_ends.harmonic import HarmonicFilters
from models.front_ends.layers import decibels

BINS = 257
FRAMES = 313
"""Of 80,000 samples."""
SAMPLE_RATE = 16_000
HARMONICS = 6


def build_harmonic_cnn(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``power`` (batch, 257, 313) of an STFT -> logits (batch, n_outputs) float32. See models.registry.BuildNetwork."""
    blocks = Blocks.seeded(seed, dtype)
    power = keras.Input((BINS, FRAMES), name="power")
    x = HarmonicFilters(SAMPLE_RATE, HARMONICS, name="harmonic_filters")(power)
    x = layers.Permute((2, 3, 1), dtype="float32", name="channels_last")(decibels(x))
    x = blocks.input_batch_norm(x)
    x = blocks.conv_block(x, 128, "block_1", pool=2)  # 64 x 156
    x = blocks.residual_block(x, 128, "block_2", pool=2)  # 32 x 78
    x = blocks.residual_block(x, 128, "block_3", pool=2)  # 16 x 39
    x = blocks.residual_block(x, 128, "block_4", pool=2)  # 8 x 19
    x = blocks.conv_block(x, 256, "block_5", pool=2)  # 4 x 9
    x = blocks.residual_block(x, 256, "block_6", pool=(2, 3))  # 2 x 3
    x = blocks.residual_block(x, 256, "block_7", pool=(2, 3))  # 1 x 1
    x = layers.GlobalMaxPooling2D(dtype=dtype, name="time_max")(x)
    x = blocks.hidden_head(x, 256)
    return keras.Model(power, blocks.logits(x, n_outputs), name="harmonic_cnn")
