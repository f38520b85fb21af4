"""CRNN: four convolutions and pools, then two recurrent layers over what is left of 29 s.

Source: Choi, Fazekas, Sandler and Cho (2017) as the comparison of Won et al. (2020) has it (arXiv 2006.00751, public
code model.py). Trainable 394,100 at 50 outputs, as its published weights count; with batch norm's averages 394,998.
The recurrent layers are unrolled over their 18 steps, so that engines without loops can run them.
"""

from __future__ import annotations

import keras
from keras import layers

from models.blocks_2020 import Blocks, torch_uniform
from models.tensors import FloatTensor

MELS = 96
FRAMES = 1813
"""Of 464,000 samples."""
GRU_UNITS = 32


def build_crnn(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``log_mel`` (batch, 96, 1813) dB -> logits (batch, n_outputs) float32. See models.registry.BuildNetwork."""
    blocks = Blocks.seeded(seed, dtype)

    def gru(x: FloatTensor, name: str, whole: bool) -> FloatTensor:
        return layers.GRU(
            GRU_UNITS,
            return_sequences=whole,
            reset_after=True,
            unroll=True,
            kernel_initializer=torch_uniform(blocks.next_seed),
            recurrent_initializer=keras.initializers.Orthogonal(seed=blocks.next_seed()),
            dtype=dtype,
            name=name,
        )(x)

    log_mel = keras.Input((MELS, FRAMES), name="log_mel")
    x = blocks.normalised_log_mel(log_mel)
    x = blocks.conv_block(x, 64, "block_1", pool=(2, 2))  # 48 x 906
    x = blocks.conv_block(x, 128, "block_2", pool=(3, 3))  # 16 x 302
    x = blocks.conv_block(x, 128, "block_3", pool=(4, 4))  # 4 x 75
    x = blocks.conv_block(x, 128, "block_4", pool=(4, 4))  # 1 x 18
    x = layers.Reshape(x.shape[2:], dtype=dtype, name="steps")(x)
    x = gru(x, "gru_1", whole=True)
    x = gru(x, "gru_2", whole=False)
    x = blocks.dropout(x, "dropout")
    return keras.Model(log_mel, blocks.logits(x, n_outputs), name="crnn")
