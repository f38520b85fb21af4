"""Augmentation: what it changes, and that a seed gives the same clips again."""

import numpy as np
import pytest
import tensorflow as tf

from components.reader import Augmentation, augmented
from serving.model_info import Normalisation

NORMALISATION = Normalisation(log_mel_mean=-20.0, log_mel_std=10.0, waveform_mean=0.0, waveform_std=0.1)


def batches(*shape: int) -> tf.data.Dataset:
    values = np.random.default_rng(0).normal(size=(6, *shape)).astype("f4")
    return tf.data.Dataset.from_tensor_slices({"inputs": values, "clip_id": [b"%d" % i for i in range(6)]}).batch(3)


def inputs(dataset: tf.data.Dataset) -> np.ndarray:
    return np.concatenate([batch["inputs"].numpy() for batch in dataset])


@pytest.mark.parametrize("shape", [(4, 12), (40,)], ids=["log-mel", "waveform"])
def test_time_shift_turns_each_clip_round(shape: tuple[int, ...]) -> None:
    plain = inputs(batches(*shape))
    shifted = inputs(augmented(batches(*shape), Augmentation(time_shift=True), NORMALISATION, seed=3))
    shifts = []
    for before, after in zip(plain, shifted, strict=True):
        turns = [turn for turn in range(shape[-1]) if np.array_equal(np.roll(before, -turn, axis=-1), after)]
        assert len(turns) == 1
        shifts += turns
    assert len(set(shifts)) > 1


def test_gain_adds_to_decibels_and_multiplies_a_waveform() -> None:
    gain = Augmentation(gain_db=6.0)
    added = inputs(augmented(batches(4, 12), gain, NORMALISATION, seed=3)) - inputs(batches(4, 12))
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1], added.shape), atol=1e-5)
    assert 0.1 < np.abs(added[:, 0, 0]).mean() < 1.5  # 6 dB are 0.6 deviations
    ratio = inputs(augmented(batches(40), gain, NORMALISATION, seed=3)) / inputs(batches(40))
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-4)
    assert ratio[:, 0].std() > 0.05


def test_same_seed_gives_the_same_clips_and_another_seed_others() -> None:
    both = Augmentation(time_shift=True, gain_db=3.0)
    first, again, other = (inputs(augmented(batches(40), both, NORMALISATION, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_augmentation_leaves_the_batches_alone() -> None:
    plain = batches(40)
    assert augmented(plain, Augmentation(), NORMALISATION, seed=1) is plain
