"""Channels to mono: the plain mean of healthy files; silent channels do not count; what cancels is turned over."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.audio.channels import Mixer, mean_of_channels

RATE = 4_000
Samples = npt.NDArray[np.float32]


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> Samples:
    return np.random.default_rng(seed).normal(0, level, round(seconds * RATE)).astype(np.float32)


def mixed(*channels: Samples, block: int | None = None) -> Samples:
    samples = np.stack(channels, axis=1)
    mixer, block = Mixer(RATE, len(channels)), block or len(samples)
    cuts = range(0, len(samples), block)
    pieces = [mixer.mix(samples[start : start + block], last=start == cuts[-1]) for start in cuts]
    return np.concatenate(pieces)


@settings(max_examples=30, deadline=None)
@given(channels=st.integers(1, 12), seed=st.integers(0, 99), block=st.integers(1, 200_000))
def test_independent_channels_give_the_bytes_of_their_mean_however_they_are_cut(channels, seed, block):
    own = [noise(40, 100 * seed + number) for number in range(channels)]
    block = max(block, 1_000)
    np.testing.assert_array_equal(mixed(*own, block=block), np.stack(own, axis=1).mean(axis=1))


@pytest.mark.parametrize("channels", [2, 3, 6, 8, 11])
def test_mean_of_channels_is_numpys_bit_for_bit(channels):
    samples = np.random.default_rng(channels).normal(0, 0.3, (10_000, channels)).astype(np.float32)
    np.testing.assert_array_equal(mean_of_channels(samples), samples.mean(axis=1))


@pytest.mark.parametrize("side", [0, 1])
def test_silent_channel_does_not_count(side):
    one, hiss = noise(35), noise(35, 1, 1e-5)
    for silent in (np.zeros_like(one), hiss):
        pair = (silent, one) if side else (one, silent)
        np.testing.assert_allclose(mixed(*pair), one, atol=1e-4)


def test_of_surround_sound_those_that_sound_count():
    left, right, nothing = noise(35), noise(35, 1), np.zeros(35 * RATE, np.float32)
    np.testing.assert_allclose(mixed(left, right, *[nothing] * 4), (left + right) / 2, atol=1e-6)


def test_channel_that_begins_within_half_a_minute_leaves_the_mean_as_it_is():
    one, late = noise(60), noise(60, 1)
    late[: 25 * RATE] = 0
    np.testing.assert_array_equal(mixed(one, late), np.stack([one, late], axis=1).mean(axis=1))


def test_channel_that_begins_later_is_faded_in():
    one, late = np.full(60 * RATE, 0.5, np.float32), np.zeros(60 * RATE, np.float32)
    late[45 * RATE :] = 0.5
    mono = mixed(one, late)
    assert np.abs(np.diff(mono)).max() < 0.26, "no more than the channel itself jumps"
    np.testing.assert_allclose(mono, 0.5, atol=0.3)
    np.testing.assert_allclose(mono[47 * RATE :], 0.5, atol=1e-6)


@pytest.mark.parametrize("gain", [1.0, 0.8, 0.6])
def test_opposite_channels_are_heard(gain):
    one = noise(33)
    np.testing.assert_allclose(mixed(one, -gain * one), (1 + gain) / 2 * one, atol=1e-6)


def test_opposite_channels_with_what_a_codec_adds_are_heard():
    one = noise(33)
    mono = mixed(one + noise(33, 1, 0.005), -one + noise(33, 2, 0.005))
    assert np.corrcoef(mono, one)[0, 1] > 0.99


def test_polarity_that_changes_is_faded_without_a_click_and_nothing_is_lost():
    time = np.arange(60 * RATE) / RATE
    one = (0.3 * np.sin(2 * np.pi * 5 * time)).astype(np.float32)
    other = np.where(time < 40, one, -one).astype(np.float32)
    mono = mixed(one, other)
    assert np.abs(np.diff(mono)).max() < 1.1 * np.abs(np.diff(one)).max()
    np.testing.assert_allclose(mono[: 40 * RATE], one[: 40 * RATE], atol=1e-6)
    np.testing.assert_allclose(mono[41 * RATE :], one[41 * RATE :], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(block=st.integers(500, 60_000))
def test_mix_of_what_cancels_does_not_depend_on_how_it_was_cut(block):
    one, two = noise(45), noise(45, 1)
    other = np.concatenate([two[: 20 * RATE], -one[20 * RATE :]])
    np.testing.assert_array_equal(mixed(one, other, block=block), mixed(one, other))


def test_silence_is_silence():
    nothing = np.zeros(3 * RATE, np.float32)
    assert not mixed(nothing, nothing).any()
