"""Short-chunk CNN: seven convolutions and pools of two over 3.7 s of log-mel.

Source: Won, Ferraro, Bogdanov and Serra (2020), Evaluation of CNN-based Automatic Music Tagging Models (arXiv
2006.00751), and its public code (model.py). Trainable 3,687,348 at 50 outputs, as in the comparison's list of layers;
with batch norm's averages 3,691,958.
"""

from __future__ import annotations

import keras
from keras import layers

from models.blocks_2020 import Blocks

MELS = 128
FRAMES = 231
"""Of 59,049 samples."""
WIDTHS = (128, 128, 256, 256, 256, 256, 512)


def build_short_chunk(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``log_mel`` (batch, 128, 231) dB -> logits (batch, n_outputs) float32. See models.registry.BuildNetwork."""
    blocks = Blocks.seeded(seed, dtype)
    log_mel = keras.Input((MELS, FRAMES), name="log_mel")
    x = blocks.normalised_log_mel(log_mel)
    for number, width in enumerate(WIDTHS, start=1):
        x = blocks.conv_block(x, width, f"block_{number}", pool=2)  # 64 x 115 ... 1 x 1
    x = layers.GlobalMaxPooling2D(dtype=dtype, name="time_max")(x)
    x = blocks.hidden_head(x, WIDTHS[-1])
    return keras.Model(log_mel, blocks.logits(x, n_outputs), name="short_chunk")
