"""Blocks that the branches share: a convolution, its max pool, and the ReLU after both.

ReLU and adding a channel's bias are increasing functions, so both commute with a max pool: done after it they touch
4 to 16 times fewer values, forwards and backwards, and the result is the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import keras

SeedStream = Callable[[], int]
"""Gives another seed at each call: one for each layer, so that layers of equal shape do not start alike."""


def seed_stream(seed: int) -> SeedStream:
    """A stream of layer seeds that depends on ``seed`` alone."""
    stream = random.Random(seed)
    return lambda: stream.randrange(2**31)


def glorot(next_seed: SeedStream) -> keras.initializers.Initializer:
    """Keras' own default for kernels, seeded."""
    return keras.initializers.GlorotUniform(seed=next_seed())
