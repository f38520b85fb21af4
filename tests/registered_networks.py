"""Networks that a test registers for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import layers

from models.front_ends.settings import LogMel
from models.initializers import glorot, seed_stream
from models.registry import NETWORKS, Network, register
from preprocessing.windows import WindowRule

TINY_MEL = LogMel(sample_rate=8000, n_fft=256, hop_length=160, n_mels=16, scale="ln_1p")


@contextmanager
def registered(name: str, builder: str, **settings: Any) -> Iterator[Network]:
    """Have a network in the registry meanwhile.

    Args:
        name: of the network.
        builder: ``module:function``.
        settings: what it hears, as models.registry.Network has it.
    """
    yield register(Network(name=name, title=name, source="this test", builder=builder, parameters=0, **settings))
    del NETWORKS[name]


def build_tiny(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """Log-mel (batch, 16, frames) -> logits (batch, n_outputs): means over time and one layer."""
    log_mel = keras.Input(TINY_MEL.shape(8000), name="log_mel")
    x = layers.Permute((2, 1), dtype=dtype)(log_mel)
    x = layers.GlobalAveragePooling1D(dtype=dtype)(layers.BatchNormalization(dtype=dtype)(x))
    logits = layers.Dense(n_outputs, kernel_initializer=glorot(seed_stream(seed)), dtype="float32", name="logits")(x)
    return keras.Model(log_mel, logits, name="tiny")


@contextmanager
def tiny_network() -> Iterator[Network]:
    """Have a network of seconds ``tiny`` in the registry meanwhile, which learns in a few epochs."""
    settings = {"window_samples": 8000, "sample_rate": 8000, "front_end": TINY_MEL, "score_windows": WindowRule(2)}
    with registered("tiny", f"{__name__}:build_tiny", **settings) as network:
        yield network
