from __future__ import annotations

import keras
import numpy as np
import pytest

from models.heads import ONE_OF, Head, Heads
from models.outputs import with_heads
from models.registry import NETWORKS

HEADS = Heads((Head("genre", ONE_OF, 6), Head("mood", ONE_OF, 3)))


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return NETWORKS["genre_mood"].build(dtype="float32", seed=2)


def test_four_convolutions_of_two_by_two_of_which_the_last_halves(network: keras.Model) -> None:
    convolutions = [network.get_layer(f"conv_{number}") for number in (1, 2, 3, 4)]
    assert {layer.kernel_size for layer in convolutions} == {(2, 2)}
    assert [layer.output.shape[1:3] for layer in convolutions] == [(128, 130)] * 3 + [(64, 65)]
    assert network.get_layer("dense").units == 15


def test_what_reads_the_flattened_and_the_fully_connected_layer_is_regularised(network: keras.Model) -> None:
    kernels = [np.array(network.get_layer(name).kernel) for name in ("dense", "logits")]
    expected = 0.002 * sum(float(np.sum(kernel**2)) for kernel in kernels)
    assert float(sum(network.losses)) == pytest.approx(expected, rel=1e-5)


def test_genre_and_mood_are_each_one_of_several(network: keras.Model) -> None:
    log_mel = np.random.default_rng(0).standard_normal((2, 128, 130)).astype(np.float32)
    answers = np.array(with_heads(network, HEADS)(log_mel))
    np.testing.assert_allclose([answers[:, :6].sum(axis=1), answers[:, 6:].sum(axis=1)], 1.0, atol=1e-6)


def test_clip_of_thirty_seconds_has_ten_slices() -> None:
    entry = NETWORKS["genre_mood"]
    assert len(entry.score_windows.starts(30 * entry.sample_rate, entry.window_samples)) == 10
