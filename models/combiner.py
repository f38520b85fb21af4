"""The combiner: a small dense network over the branches' tag probabilities.

Source: Bengani, Vadivel and Jothi (2019), 'Ensemble'. 195,890 parameters for three branches of 50 tags.
"""

from __future__ import annotations

import keras
from keras import layers

from models.convolution import glorot, seed_stream
from models.heads import Heads
from models.outputs import LOGITS, with_heads
from preprocessing.constants import N_TAGS


def build_combiner(n_branches: int, n_tags: int = N_TAGS, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``branch_tags`` (batch, n_branches * n_tags) float -> tag probabilities (batch, n_tags) float32.

    The input is the branches' probabilities side by side, in the order in which the branches were given:
    ``keras.ops.concatenate([first(x), second(x)], axis=-1)``. ``dtype`` and ``seed`` as in the branches.
    """
    next_seed = seed_stream(seed)
    branch_tags = keras.Input((n_branches * n_tags,), name="branch_tags")
    x = layers.Dense(256, activation="relu", kernel_initializer=glorot(next_seed), dtype=dtype, name="dense_1")(
        branch_tags
    )
    x = layers.Dense(512, activation="relu", kernel_initializer=glorot(next_seed), dtype=dtype, name="dense_2")(x)
    logits = layers.Dense(n_tags, kernel_initializer=glorot(next_seed), dtype="float32", name=LOGITS)(x)
    return with_heads(keras.Model(branch_tags, logits, name="combiner"), Heads.of_tags(n_tags))
