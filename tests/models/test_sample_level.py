from __future__ import annotations

import keras
import numpy as np
import pytest

from models.registry import NETWORKS
from preprocessing.constants import CLIP_SECONDS

NAMES = ("sample_cnn_2017", "rese_2_multi")


@pytest.fixture(scope="module", params=NAMES)
def network(request: pytest.FixtureRequest) -> keras.Model:
    return NETWORKS[request.param].build(dtype="float32", seed=1)


def test_first_layer_reads_three_samples_at_a_time_from_the_first_on(network: keras.Model) -> None:
    stem = keras.Model(network.input, network.get_layer("stem_conv").output)
    waveform = np.zeros((1, 59_049), np.float32)
    waveform[0, [2, 59_046]] = 1.0
    answer = np.array(stem(waveform))
    assert answer.shape == (1, 19_683, 128)
    heard = np.flatnonzero(np.any(answer != 0, axis=(0, 2)))
    assert heard.tolist() == [0, 19_682]


def test_blocks_end_with_one_step(network: keras.Model) -> None:
    steps = [network.get_layer(f"block_{number}_pool").output.shape[1] for number in range(1, 10)]
    assert steps == [3 ** (9 - number) for number in range(1, 10)]


@pytest.mark.parametrize("name", NAMES)
def test_clip_has_ten_segments(name: str) -> None:
    entry = NETWORKS[name]
    starts = entry.score_windows.starts(int(CLIP_SECONDS * entry.sample_rate), entry.window_samples)
    assert starts == tuple(range(0, 10 * 59_049, 59_049))


def test_last_three_levels_are_read_by_their_maxima() -> None:
    network = NETWORKS["rese_2_multi"].build(dtype="float32", seed=1)
    assert network.get_layer("levels").output.shape == (None, 256 + 256 + 512)
    levels = [network.get_layer(f"block_{number}_pool").output for number in (7, 8, 9)]
    model = keras.Model(network.input, [*levels, network.get_layer("levels").output])
    *levels, maxima = model(np.random.default_rng(0).normal(0, 0.1, (1, 59_049)).astype(np.float32))
    expected = np.concatenate([np.array(level).max(axis=1) for level in levels], axis=1)
    np.testing.assert_array_equal(np.array(maxima), expected)


def test_squeeze_and_excitation_widens_sixteen_times() -> None:
    network = NETWORKS["rese_2_multi"].build(dtype="float32", seed=1)
    assert network.get_layer("block_1_squeeze").kernel.shape == (128, 2048)
    assert network.get_layer("block_9_squeeze").kernel.shape == (512, 8192)
