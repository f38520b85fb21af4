"""SampleCNN: eleven convolutions of three samples over 3.7 s of waveform.

Source: Lee, Park, Kim and Nam (2017) as the comparison of Won et al. (2020) has it (arXiv 2006.00751, public code
model.py): 16 kHz, and the first layer pads one sample where Lee's own network pads none. Trainable 1,869,874 at 50
outputs, as in the comparison's list of layers; with batch norm's averages 1,875,762.
"""

from __future__ import annotations

import keras
from keras import layers

from models.blocks_2020 import Blocks

SAMPLES = 59_049
"""3^10: 3.69 s at 16 kHz."""
WIDTHS = (128, 128, 256, 256, 256, 256, 256, 256, 512)
"""Of the convolutions of three that a pool of three follows."""


def build_sample_cnn(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``waveform`` (batch, 59049) -> logits (batch, n_outputs) float32. See models.registry.BuildNetwork."""
    blocks = Blocks.seeded(seed, dtype)
    waveform = keras.Input((SAMPLES,), name="waveform")
    x = layers.Reshape((SAMPLES, 1), dtype=dtype, name="channel")(waveform)
    x = blocks.conv_block(x, 128, "block_1", strides=3)  # 19683
    for number, width in enumerate(WIDTHS, start=2):
        x = blocks.conv_block(x, width, f"block_{number}", pool=3)  # 6561 ... 1
    x = blocks.conv_block(x, 512, "block_11", kernel=1)
    x = layers.Flatten(dtype=dtype, name="features")(x)
    x = blocks.dropout(x, "dropout")
    return keras.Model(waveform, blocks.logits(x, n_outputs), name="sample_cnn")
