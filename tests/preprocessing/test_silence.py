"""What counts as nothing to hear: in numpy, and in the graph."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.audio.samples import fit_clip
from preprocessing.clip_format import ClipFormat
from preprocessing.silence import is_silent, mean_of_heard
from serving.graph import silence

RATE = 16_000
SECOND = ClipFormat(RATE, RATE)


def noise(dbfs: float, samples: int = 10 * RATE, seed: int = 0) -> np.ndarray:
    return (10 ** (dbfs / 20) * np.random.default_rng(seed).normal(size=samples)).astype(np.float32)


@pytest.mark.parametrize(
    ("window", "silent"),
    [
        (np.zeros(10 * RATE, np.float32), True),
        (np.full(10 * RATE, 0.5, np.float32), True),
        (np.round(noise(-93) * 32_768).astype(np.float32) / 32_768, True),
        (noise(-75), True),
        (noise(-73) + np.float32(0.3), True),
        (noise(-67), False),
        (noise(-60), False),
        (np.concatenate([noise(-20, 6_000), np.zeros(10 * RATE - 6_000, np.float32)]), True),
        (np.concatenate([noise(-20, 12_800), np.zeros(10 * RATE - 12_800, np.float32)]), False),
        (np.zeros(1, np.float32), True),
        (noise(-20, 30), False),
    ],
    ids=[
        "zeros",
        "offset",
        "dither",
        "open input",
        "noise on an offset",
        "soft",
        "softer music",
        "a click in silence",
        "a word in silence",
        "a sample",
        "two milliseconds",
    ],
)
def test_window_is_silent_below_minus_70_dbfs(window: np.ndarray, silent: bool) -> None:
    assert is_silent(window, RATE) is silent


def test_music_turned_down_by_40_db_is_not_silent() -> None:
    assert not is_silent(0.01 * noise(-20), RATE)


@settings(max_examples=40, deadline=None)
@given(
    levels=st.lists(st.floats(-110, -10).filter(lambda db: abs(db + 70) > 1), min_size=10, max_size=10),
    length=st.integers(1, RATE),
    clip=st.sampled_from([SECOND, ClipFormat(RATE, 1_599), ClipFormat(8_000, 12_345), ClipFormat(5, 7)]),
)
def test_graph_calls_silent_what_numpy_does(levels: list[float], length: int, clip: ClipFormat) -> None:
    parts = [noise(level, RATE // 10, seed) for seed, level in enumerate(levels)]
    window = fit_clip(np.concatenate(parts)[:length], clip)
    assert silence.are_silent(tf.constant(window[np.newaxis]), clip).numpy().tolist() == [
        is_silent(window, clip.sample_rate)
    ]


def test_mean_is_over_what_is_heard_and_0_where_nothing_is() -> None:
    rows = np.float32([[1, 2], [9, 9], [3, 4], [5, 5]])
    silent = np.array([False, True, False, True])
    np.testing.assert_array_equal(mean_of_heard(rows, silent), [2, 3])
    np.testing.assert_array_equal(mean_of_heard(rows, np.full(4, True)), [0, 0])
    zeroed = np.where(silent[:, None], 0, rows)
    means = silence.mean_of_heard(tf.constant(zeroed), tf.constant(silent), tf.constant([3, 1]))
    np.testing.assert_array_equal(means, [[2, 3], [0, 0]])


def test_answer_of_a_silent_clip_is_0_whatever_a_network_says_of_it() -> None:
    clips = np.stack([np.zeros(RATE, np.float32), noise(-20, RATE)])
    computed = silence.with_heard(lambda waveform: waveform[:, :2] / tf.zeros([1]) * 0 + 0.5, SECOND)
    answers, silent = silence.split_heard(computed(tf.constant(clips)))
    assert silent.numpy().tolist() == [True, False]
    assert answers.numpy()[0].tolist() == [0, 0]
