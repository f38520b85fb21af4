"""Short-chunk CNN with residual blocks: seven of stride two over 3.7 s of log-mel.

Source: Won, Ferraro, Bogdanov and Serra (2020), Evaluation of CNN-based Automatic Music Tagging Models (arXiv
2006.00751), and its public code (model.py); the shortcuts are convolutions of 3 x 3. Trainable 12,104,244 at 50
outputs, as in the comparison's list of layers; with batch norm's averages 12,116,022.
"""

from __future__ import annotations

import keras
from keras import layers

from models.blocks_2020 import Blocks
from models.short_chunk import FRAMES, MELS, WIDTHS


def build_short_chunk_res(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``log_mel`` (batch, 128, 231) dB -> logits (batch, n_outputs) float32. See models.registry.BuildNetwork."""
    blocks = Blocks.seeded(seed, dtype)
    log_mel = keras.Input((MELS, FRAMES), name="log_mel")
    x = blocks.normalised_log_mel(log_mel)
    for number, width in enumerate(WIDTHS, start=1):
        x = blocks.residual_block(x, width, f"block_{number}", strides=2)  # 64 x 116 ... 1 x 2
    x = layers.GlobalMaxPooling2D(dtype=dtype, name="time_max")(x)
    x = blocks.hidden_head(x, WIDTHS[-1])
    return keras.Model(log_mel, blocks.logits(x, n_outputs), name="short_chunk_res")
