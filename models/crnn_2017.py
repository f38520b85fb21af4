"""Convolutional recurrent network: four convolutions over 29 s of log-mel, then two GRUs over what is left of time.

Source: Choi, Fazekas, Sandler and Cho (2017), Convolutional recurrent neural networks for music classification (arXiv
1609.04243), as the first author's public code has it (MusicTaggerCRNN of music-auto_tagging-keras), whose trained
weights fit. Trainable at 50 outputs, as its README counts: 396,786.

It was written for Keras 1, whose GRU differs from today's: the gates' sigmoid is the piecewise linear
clip(0.2 x + 0.5), and the reset gate comes before the recurrent product. The first batch norm is over time frames (one
mean and variance for each of 1,440), as the trained weights have it; the repository's later code says frequency. The
published answers do not tell Keras 1's epsilon of batch norm (1e-6) from today's (0.001), which is used.

The GRUs are unrolled over their 15 steps, so that LiteRT and ONNX get a graph without a loop.
"""

from __future__ import annotations

from typing import Final

import keras
from keras import layers, ops

from models.initializers import glorot, seed_stream
from models.tensors import FloatTensor

MELS = 96
FRAMES = 1366
"""Of 349,440 samples at 12 kHz."""
PADDING = 37
"""Frames of zeros on each side."""
BLOCKS: Final = ((64, (2, 2)), (128, (3, 3)), (128, (4, 4)), (128, (4, 4)))
"""Channels, and the pool over (bands, frames)."""
STEPS = 15
UNITS = 32
BLOCK_DROPOUT = 0.1
DROPOUT = 0.3


@keras.saving.register_keras_serializable(package="autotag")  # type: ignore[misc]
def hard_sigmoid_of_keras_1(x: FloatTensor) -> FloatTensor:
    """clip(0.2 x + 0.5, 0, 1). Today's Keras calls another slope (1/6) by that name."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def build_crnn_2017(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``log_mel`` (batch, 96, 1366) dB of the squared mel power -> logits (batch, n_outputs) float32.

    Args:
        n_outputs: number of logits.
        dtype: Keras dtype policy; the first batch norm and the logits are float32 in any.
        seed: of initial weights and dropouts.
    """
    next_seed = seed_stream(seed)

    def gru(name: str, every_step: bool) -> layers.Layer:
        return layers.GRU(
            UNITS,
            recurrent_activation=hard_sigmoid_of_keras_1,
            return_sequences=every_step,
            reset_after=False,
            unroll=True,
            kernel_initializer=glorot(next_seed),
            recurrent_initializer=keras.initializers.Orthogonal(seed=next_seed()),
            dtype=dtype,
            name=name,
        )

    log_mel = keras.Input((MELS, FRAMES), name="log_mel")
    x = layers.Reshape((MELS, FRAMES, 1), dtype="float32", name="channel")(log_mel)
    x = layers.ZeroPadding2D((0, PADDING), dtype="float32", name="padding")(x)
    x = layers.BatchNormalization(axis=2, dtype="float32", name="input_batch_norm")(x)
    for block, (channels, pool) in enumerate(BLOCKS, 1):
        x = layers.Conv2D(
            channels, 3, padding="same", kernel_initializer=glorot(next_seed), dtype=dtype, name=f"conv_{block}"
        )(x)
        x = layers.BatchNormalization(dtype=dtype, name=f"batch_norm_{block}")(x)
        x = layers.ELU(dtype=dtype, name=f"elu_{block}")(x)
        x = layers.MaxPooling2D(pool, dtype=dtype, name=f"pool_{block}")(x)
        x = layers.Dropout(BLOCK_DROPOUT, seed=next_seed(), dtype=dtype, name=f"dropout_{block}")(x)
    x = layers.Reshape((STEPS, BLOCKS[-1][0]), dtype=dtype, name="steps")(x)  # 1 x 15 x 128
    x = gru("gru_1", every_step=True)(x)
    x = gru("gru_2", every_step=False)(x)
    x = layers.Dropout(DROPOUT, seed=next_seed(), dtype=dtype, name="dropout_5")(x)
    logits = layers.Dense(n_outputs, kernel_initializer=glorot(next_seed), dtype="float32", name="logits")(x)
    return keras.Model(log_mel, logits, name="crnn_2017")
