"""CNN with self-attention: seven residual blocks over 15 s of log-mel, two layers of BERT over their time axis.

Source: Won, Chun and Serra (2019), Toward interpretable music tagging with self-attention (arXiv 1906.04972), as the
comparison of Won et al. (2020) has it (arXiv 2006.00751, public code model.py, attention_modules.py). Trainable
10,521,652 at 50 outputs, as in the comparison's list of layers; with batch norm's averages 10,530,870.

Nothing says where in time a step stands: the source has no positional encoding. The token before the steps, whose last
state is what the answer is made of, is no weight but 256 fixed random numbers; the trained weights expect those of
NumPy's legacy generator with seed 0.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from models.blocks_2020 import Blocks, torch_uniform
from models.tensors import FloatTensor

MELS = 128
FRAMES = 938
"""Of 240,000 samples."""
BLOCKS: tuple[tuple[int, int | tuple[int, int]], ...] = (
    (128, 2),
    (128, 2),
    (256, 2),
    (256, (2, 1)),
    (256, (2, 1)),
    (256, (2, 1)),
    (256, (2, 1)),
)
"""Width and stride (bands, frames)."""
WIDTH = 256
HEADS = 8
INNER_WIDTH = 1024
ATTENTION_DROPOUT = 0.5
HIDDEN_DROPOUT = 0.4
LAYER_NORM_EPSILON = 1e-12


@keras.saving.register_keras_serializable(package="autotag")
class FixedToken(layers.Layer):  # type: ignore[misc]
    """(batch, steps, width) -> (batch, 1 + steps, width): a token before the steps, the same always, and no weight."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Draw the token."""
        width = input_shape[-1]
        assert width is not None
        self.token = np.random.RandomState(0).random((1, 1, width)).astype(np.float32)
        super().build(input_shape)

    def call(self, steps: FloatTensor) -> FloatTensor:
        """See the class."""
        token = ops.cast(ops.convert_to_tensor(self.token), steps.dtype)
        return ops.concatenate([ops.zeros_like(steps[:, :1]) + token, steps], axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """One step more."""
        assert input_shape[1] is not None
        return input_shape[0], input_shape[1] + 1, input_shape[2]


def build_self_attention(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``log_mel`` (batch, 128, 938) dB -> logits (batch, n_outputs) float32. See models.registry.BuildNetwork."""
    blocks = Blocks.seeded(seed, dtype)
    log_mel = keras.Input((MELS, FRAMES), name="log_mel")
    x = blocks.normalised_log_mel(log_mel)
    for number, (width, strides) in enumerate(BLOCKS, start=1):
        x = blocks.residual_block(x, width, f"block_{number}", strides=strides)  # 64 x 469 ... 1 x 118
    x = layers.Reshape(x.shape[2:], dtype=dtype, name="steps")(x)
    x = FixedToken(dtype=dtype, name="token")(x)
    for number in (1, 2):
        x = _bert_layer(blocks, x, f"encoder_{number}")
    x = layers.Cropping1D((0, x.shape[1] - 1), dtype=dtype, name="first_step")(x)
    x = layers.Flatten(dtype=dtype, name="features")(x)
    x = blocks.dense(x, WIDTH, "pooler", "tanh")
    x = blocks.dropout(x, "dropout")
    return keras.Model(log_mel, blocks.logits(x, n_outputs), name="self_attention")


def _bert_layer(blocks: Blocks, x: FloatTensor, name: str) -> FloatTensor:
    """(batch, steps, 256) -> the same: attention, then two dense layers, each added to its input and normalised."""
    attention = layers.MultiHeadAttention(
        HEADS,
        WIDTH // HEADS,
        dropout=ATTENTION_DROPOUT,
        seed=blocks.next_seed(),
        dtype=blocks.dtype,
        name=f"{name}_attention",
    )
    y = attention(x, x)
    _start(attention, blocks)
    x = _added(blocks, x, y, f"{name}_attention")
    y = blocks.dense(x, INNER_WIDTH, f"{name}_inner", "gelu")
    y = blocks.dense(y, WIDTH, f"{name}_outer")
    return _added(blocks, x, y, f"{name}_dense")


def _start(attention: Any, blocks: Blocks) -> None:
    """Give each projection a start of its own: the layer seeds all of them with one initialiser and so alike."""
    for dense in (attention.query_dense, attention.key_dense, attention.value_dense, attention.output_dense):
        start = torch_uniform(blocks.next_seed)((WIDTH, WIDTH))
        dense.kernel.assign(ops.reshape(start, dense.kernel.shape))


def _added(blocks: Blocks, x: FloatTensor, y: FloatTensor, name: str) -> FloatTensor:
    y = blocks.dropout(y, f"{name}_dropout", HIDDEN_DROPOUT)
    x = layers.Add(dtype=blocks.dtype, name=f"{name}_sum")([x, y])
    return layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, dtype=blocks.dtype, name=f"{name}_layer_norm")(x)
