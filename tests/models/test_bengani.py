"""The three networks of the paper have the output shape of every row of its tables, and the outputs' share of weights.

What every network keeps is held by test_networks.
"""

from __future__ import annotations

import pytest

from models.registry import NETWORKS

TABLES: dict[str, dict[str, tuple[int, ...]]] = {
    "mel_1d": {
        "conv_1": (1, 589, 256),
        "reshape_1": (589, 256),
        "pool_1": (294, 256),
        "conv_2": (291, 256),
        "batch_norm_2": (291, 256),
        "pool_2": (145, 256),
        "conv_3": (142, 384),
        "pool_3": (71, 384),
        "batch_norm_3": (71, 384),
        "logits": (1, 50),
    },
    "mel_2d": {
        "conv_1a": (128, 592, 128),
        "conv_1b": (128, 592, 128),
        "pool_1": (32, 148, 128),
        "conv_2a": (32, 148, 256),
        "conv_2b": (32, 148, 256),
        "pool_2": (8, 37, 256),
        "conv_3a": (8, 37, 256),
        "conv_3b": (8, 37, 256),
        "pool_3": (4, 18, 256),
        "conv_4a": (2, 18, 512),
        "conv_4b": (2, 16, 512),
        "pool_4": (1, 8, 512),
        "logits": (1, 1, 50),
    },
    "waveform_1d": {
        "conv_pool_1": (29099, 64),
        "conv_2a": (29097, 128),
        "conv_2b": (29095, 128),
        "pool_2": (7273, 128),
        "batch_norm_2": (7273, 128),
        "dropout_2": (7273, 128),
        "conv_3a": (7271, 128),
        "conv_3b": (7269, 128),
        "pool_3": (1817, 128),
        "batch_norm_3": (1817, 128),
        "dropout_3": (1817, 128),
        "conv_4a": (1815, 256),
        "conv_4b": (1813, 256),
        "pool_4": (256,),
        "dense_5": (1024,),
        "logits": (50,),
    },
}


LAST_FAN_IN = {"mel_1d": 71 * 384, "mel_2d": 8 * 512, "waveform_1d": 1024}
"""Weights of one output, without its bias."""


@pytest.mark.parametrize("name", TABLES)
def test_output_shape_at_every_row_of_the_table(name: str) -> None:
    network = NETWORKS[name].build()
    shapes = {row: tuple(network.get_layer(row).output.shape) for row in TABLES[name]}
    assert shapes == {row: (None, *shape) for row, shape in TABLES[name].items()}


@pytest.mark.parametrize("name", TABLES)
def test_a_tag_less_saves_its_weights_of_the_last_layer(name: str) -> None:
    entry = NETWORKS[name]
    assert entry.build(49).count_params() == entry.parameters - LAST_FAN_IN[name] - 1
