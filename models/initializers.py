"""Initial weights that depend on a network's seed alone, whatever the global random state."""

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
