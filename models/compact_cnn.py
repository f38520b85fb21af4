"""Compact CNN: five convolutions of 32 channels over 29 s of log-mel, 39,282 trainable weights at 50 outputs.

Source: compact_cnn in Choi's public repository (music-auto_tagging-keras, 2017), used in Choi, Fazekas, Sandler and Cho
(2017), Transfer learning for music classification and regression tasks (arXiv 1703.09179). Decibels are taken below the
window's loudest value, as the repository's spectrogram layer does.

The source's batch norm is Keras 1's mode 2, which has no averages and takes the statistics of whatever batch it is
given, at inference too: an answer then depends on the clips beside it. Here batch norm is the ordinary one, trained and
served with averages, which adds 320 weights that do not train. So the published weights, which have none, are not
loaded.
"""

from __future__ import annotations

from typing import Final

import keras
from keras import layers

from models.initializers import seed_stream

MELS = 96
FRAMES = 1360
"""Of 348,000 samples at 12 kHz."""
CHANNELS = 32
POOLS: Final = ((2, 4), (3, 4), (2, 5), (2, 4), (4, 4))


def build_compact_cnn(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``log_mel`` (batch, 96, 1360) dB -> logits (batch, n_outputs) float32.

    Args:
        n_outputs: number of logits.
        dtype: Keras dtype policy; the decibels before the first convolution and the logits are float32 in any.
        seed: of initial weights.
    """
    next_seed = seed_stream(seed)
    log_mel = keras.Input((MELS, FRAMES), name="log_mel")
    x = layers.Reshape((MELS, FRAMES, 1), dtype="float32", name="channel")(log_mel)
    loudest = layers.GlobalMaxPooling2D(keepdims=True, dtype="float32", name="loudest")(x)
    x = layers.Subtract(dtype="float32", name="below_loudest")([x, loudest])
    for block, pool in enumerate(POOLS, 1):
        x = layers.Conv2D(
            CHANNELS,
            3,
            padding="same",
            kernel_initializer=keras.initializers.HeNormal(seed=next_seed()),
            dtype=dtype,
            name=f"conv_{block}",
        )(x)
        x = layers.BatchNormalization(dtype=dtype, name=f"batch_norm_{block}")(x)
        x = layers.ELU(dtype=dtype, name=f"elu_{block}")(x)
        x = layers.MaxPooling2D(pool, dtype=dtype, name=f"pool_{block}")(x)
    x = layers.Flatten(dtype=dtype, name="features")(x)
    logits = layers.Dense(
        n_outputs, kernel_initializer=keras.initializers.GlorotUniform(seed=next_seed()), dtype="float32", name="logits"
    )(x)
    return keras.Model(log_mel, logits, name="compact_cnn")
