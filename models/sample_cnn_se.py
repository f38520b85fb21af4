"""SampleCNN with residual blocks and squeeze and excitation, over 3.7 s of waveform.

Source: Kim, Lee and Nam (2018) as the comparison of Won et al. (2020) has it (arXiv 2006.00751, public code model.py):
every layer is such a block, its shortcut is a convolution of the block's own kernel, and squeeze and excitation has no
bottleneck and comes before the sum. Trainable 6,951,858 at 50 outputs, as in the comparison's list of layers; with
batch norm's averages 6,966,450.
"""

from __future__ import annotations

import keras
from keras import layers

from models.blocks_2020 import Blocks
from models.sample_cnn import SAMPLES, WIDTHS


def build_sample_cnn_se(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``waveform`` (batch, 59049) -> logits (batch, n_outputs) float32. See models.registry.BuildNetwork."""
    blocks = Blocks.seeded(seed, dtype)
    waveform = keras.Input((SAMPLES,), name="waveform")
    x = layers.Reshape((SAMPLES, 1), dtype=dtype, name="channel")(waveform)
    x = blocks.residual_block(x, 128, "block_1", strides=3, squeeze=True)  # 19683
    for number, width in enumerate(WIDTHS, start=2):
        x = blocks.residual_block(x, width, f"block_{number}", pool=3, squeeze=True)  # 6561 ... 1
    x = blocks.residual_block(x, 512, "block_11", kernel=1, squeeze=True)
    x = layers.Flatten(dtype=dtype, name="features")(x)
    x = blocks.hidden_head(x, 512)
    return keras.Model(waveform, blocks.logits(x, n_outputs), name="sample_cnn_se")
