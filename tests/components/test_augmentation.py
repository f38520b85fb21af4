"""Changes of training clips: the same for the same seed, and of one meaning for waveforms and the stored log-mel."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.augmentation import StoredLogMel, augmented, recompressed
from components.training_settings import Augmentation
from preprocessing.clip_format import ClipFormat
from preprocessing.features import log_mel
from serving.model_info import Normalisation

Array = np.ndarray[Any, np.dtype[np.float32]]

CLIP = ClipFormat(16_000, 48_000)
STORED = StoredLogMel(Normalisation(-40.0, 20.0), CLIP.sample_rate)
ALL = Augmentation(time_shift=True, gain_db=3, equaliser_db=3, noise=1, mp3=0.5, mixup=0.4)


def music(rows: int = 6) -> Array:
    """Chords in noise: all bands have something in them."""
    random = np.random.default_rng(1)
    time = np.arange(CLIP.samples) / CLIP.sample_rate
    tones = sum(0.05 * np.sin(2 * np.pi * random.uniform(100, 6000, (rows, 1)) * time) for _ in range(5))
    return np.asarray(tones + random.normal(0, 0.002, (rows, CLIP.samples)), np.float32)


def mel_of(waveforms: Array) -> Array:
    return np.stack([log_mel(row, CLIP) for row in waveforms])


def normalised(mel: Array) -> Array:
    return np.asarray((mel - STORED.normalisation.mean) / STORED.normalisation.std, np.float32)


def decibels(values: Array) -> Array:
    return np.asarray(values * STORED.normalisation.std + STORED.normalisation.mean)


def mean_power(mel: Array) -> Array:
    """Over time, in dB."""
    return np.asarray(10 * np.log10((10 ** (mel / 10)).mean(axis=-1)))


def changed(values: Array, augmentation: Augmentation, seed: int = 3, stored: StoredLogMel | None = None) -> Any:
    rows = {
        "inputs": values,
        "labels": np.eye(len(values), dtype="f4"),
        "clip_id": [b"%d" % i for i in range(len(values))],
    }
    dataset = augmented(tf.data.Dataset.from_tensor_slices(rows).batch(3), augmentation, seed, CLIP, stored)
    parts = list(dataset.as_numpy_iterator())
    return {name: np.concatenate([part[name] for part in parts]) for name in rows}


@pytest.mark.parametrize("shape", [(4, 12), (40,)], ids=["log-mel", "waveform"])
def test_time_shift_turns_each_clip_round(shape: tuple[int, ...]) -> None:
    plain = np.random.default_rng(0).normal(size=(6, *shape)).astype("f4")
    stored = STORED if len(shape) == 2 else None
    shifted = changed(plain, Augmentation(time_shift=True), stored=stored)["inputs"]
    shifts = []
    for before, after in zip(plain, shifted, strict=True):
        turns = [turn for turn in range(shape[-1]) if np.array_equal(np.roll(before, -turn, axis=-1), after)]
        assert len(turns) == 1
        shifts += turns
    assert len(set(shifts)) > 1


@pytest.mark.parametrize(
    ("augmentation", "tolerance"),
    [(Augmentation(gain_db=6), 0.01), (Augmentation(equaliser_db=6), 0.5), (Augmentation(noise=1), 0.5)],
    ids=["gain", "equaliser", "noise"],
)
def test_change_of_the_waveform_is_heard_as_the_change_of_the_log_mel(
    augmentation: Augmentation, tolerance: float
) -> None:
    """Noise is random in the waveform and its expected power in the log-mel: mean powers over time are compared."""
    waveforms = music()
    by_waveform = mel_of(changed(waveforms, augmentation)["inputs"])
    by_mel = decibels(changed(normalised(mel_of(waveforms)), augmentation, stored=STORED)["inputs"])
    assert np.abs(by_mel - mel_of(waveforms)).mean() > 3 * tolerance
    assert np.median(np.abs(mean_power(by_waveform) - mean_power(by_mel))) < tolerance


def test_mixed_clips_have_the_power_and_the_tags_of_both() -> None:
    waveforms = music()
    mixed = changed(waveforms, Augmentation(mixup=1.0))
    by_mel = changed(normalised(mel_of(waveforms)), Augmentation(mixup=1.0), stored=STORED)
    np.testing.assert_allclose(mixed["labels"], by_mel["labels"], atol=1e-6)
    np.testing.assert_allclose(mixed["labels"].sum(axis=1), 1, atol=1e-6)
    own = np.diag(mixed["labels"])
    assert np.all(own >= 0.5)
    assert own[[0, 2, 3, 5]].max() < 1
    difference = mean_power(mel_of(mixed["inputs"])) - mean_power(decibels(by_mel["inputs"]))
    assert np.median(np.abs(difference)) < 0.5


def test_mp3_keeps_the_length_and_changes_the_sound_a_little() -> None:
    waveforms = music()
    some = recompressed(waveforms, np.array([0.9, -1, 0.0, -1, 0.5, -1], np.float32), CLIP.sample_rate)
    assert some.shape == waveforms.shape
    np.testing.assert_array_equal(some[1::2], waveforms[1::2])
    likeness = [np.corrcoef(one, other)[0, 1] for one, other in zip(some[::2], waveforms[::2], strict=True)]
    assert all(0.8 < value < 0.99999 for value in likeness)
    taken = changed(waveforms, Augmentation(mp3=1.0))["inputs"]
    assert all(np.corrcoef(one, other)[0, 1] < 0.99999 for one, other in zip(taken, waveforms, strict=True))


def test_log_mel_cannot_go_through_mp3() -> None:
    with pytest.raises(ValueError, match="waveforms alone"):
        changed(normalised(mel_of(music(3))), Augmentation(mp3=0.5), stored=STORED)


def test_same_seed_gives_the_same_clips_and_another_seed_others() -> None:
    first, again, other = (changed(music(), ALL, seed) for seed in (1, 1, 2))
    for name in ("inputs", "labels"):
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first["inputs"], other["inputs"])


def test_no_augmentation_leaves_the_batches_alone() -> None:
    plain = tf.data.Dataset.from_tensors({"inputs": tf.zeros([2, 5]), "labels": tf.zeros([2, 1])})
    assert augmented(plain, Augmentation(), 1, CLIP) is plain


def test_silence_stays_finite() -> None:
    silence = np.zeros((3, CLIP.samples), np.float32)
    assert np.isfinite(changed(silence, ALL)["inputs"]).all()
    lowest = normalised(np.full((3, 128, 61), -100, np.float32))
    augmentation = Augmentation(time_shift=True, gain_db=3, equaliser_db=3, noise=1, mixup=0.4)
    assert np.isfinite(changed(lowest, augmentation, stored=STORED)["inputs"]).all()
