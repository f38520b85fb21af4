"""Reading of training data: augmentation, random windows and folds, each the same for the same seed."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.reader import Augmentation, Fold, RandomWindows, augmented, waveform_dataset
from preprocessing.clip_format import ClipFormat
from preprocessing.examples import encode_example, write_record

DECIBEL = 0.1
"""Of a log-mel whose deviation is 10 dB."""


def batches(*shape: int) -> tf.data.Dataset:
    values = np.random.default_rng(0).normal(size=(6, *shape)).astype("f4")
    return tf.data.Dataset.from_tensor_slices({"inputs": values, "clip_id": [b"%d" % i for i in range(6)]}).batch(3)


def inputs(dataset: tf.data.Dataset) -> np.ndarray:
    return np.concatenate([batch["inputs"].numpy() for batch in dataset])


@pytest.mark.parametrize("shape", [(4, 12), (40,)], ids=["log-mel", "waveform"])
def test_time_shift_turns_each_clip_round(shape: tuple[int, ...]) -> None:
    plain = inputs(batches(*shape))
    shifted = inputs(augmented(batches(*shape), Augmentation(time_shift=True), 3, DECIBEL))
    shifts = []
    for before, after in zip(plain, shifted, strict=True):
        turns = [turn for turn in range(shape[-1]) if np.array_equal(np.roll(before, -turn, axis=-1), after)]
        assert len(turns) == 1
        shifts += turns
    assert len(set(shifts)) > 1


def test_gain_adds_to_decibels_and_multiplies_a_waveform() -> None:
    gain = Augmentation(gain_db=6.0)
    added = inputs(augmented(batches(4, 12), gain, 3, DECIBEL)) - inputs(batches(4, 12))
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1], added.shape), atol=1e-5)
    assert 0.1 < np.abs(added[:, 0, 0]).mean() < 1.5  # 6 dB are 0.6 deviations
    ratio = inputs(augmented(batches(40), gain, 3, DECIBEL)) / inputs(batches(40))
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-4)
    assert ratio[:, 0].std() > 0.05


def test_same_seed_gives_the_same_clips_and_another_seed_others() -> None:
    both = Augmentation(time_shift=True, gain_db=3.0)
    first, again, other = (inputs(augmented(batches(40), both, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_augmentation_leaves_the_batches_alone() -> None:
    plain = batches(40)
    assert augmented(plain, Augmentation(), 1) is plain


CLIP = ClipFormat(sample_rate=1000, samples=400)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve clips of four tracks; clip n begins at sample value 1000 n and rises by one a sample."""
    path = tmp_path_factory.mktemp("examples") / "train-00000-of-00001.tfrecord"
    with path.open("wb") as file:
        for number in range(12):
            features = {
                "waveform": (1000 * number + np.arange(CLIP.samples)).astype("<i2").tobytes(),
                "tags": [b"loud"] if number % 2 else [],
                "clip_id": b"%02d" % number,
                "track": b"track-%d" % (number % 4),
            }
            write_record(file, encode_example(features))
    return str(path)


def samples(batch: dict[str, tf.Tensor]) -> np.ndarray:
    return np.round(batch["inputs"].numpy() * 32768).astype(int)


def test_random_windows_are_parts_of_their_clips_and_others_in_each_epoch(examples: str) -> None:
    def windows(seed: int) -> dict[bytes, list[int]]:
        read = waveform_dataset([examples], ["loud"], 5, seed, clip=CLIP, windows=RandomWindows(50, 2))
        found: dict[bytes, list[int]] = {}
        for batch in read:
            assert batch["inputs"].shape[1] == 50
            for clip_id, row, label in zip(batch["clip_id"].numpy(), samples(batch), batch["labels"], strict=True):
                np.testing.assert_array_equal(np.diff(row), 1)
                start = row[0] - 1000 * int(clip_id)
                assert 0 <= start <= CLIP.samples - 50
                assert float(label[0]) == int(clip_id) % 2
                found.setdefault(clip_id, []).append(start)
        return found

    first, again, other = windows(1), windows(1), windows(2)
    assert first == again
    assert first != other
    assert len(first) == 12
    assert all(len(starts) == 2 for starts in first.values())


def test_random_windows_without_a_seed_are_refused(examples: str) -> None:
    with pytest.raises(ValueError, match="need a seed"):
        waveform_dataset([examples], ["loud"], 5, clip=CLIP, windows=RandomWindows(50))


def test_folds_divide_the_clips_by_whole_tracks(examples: str) -> None:
    def tracks(fold: Fold) -> tuple[set[bytes], int]:
        batches = list(waveform_dataset([examples], ["loud"], 5, clip=CLIP, fold=fold))
        names = [name for batch in batches for name in batch["track"].numpy()]
        return set(names), len(names)

    inside = [tracks(Fold(number, 3, inside=True)) for number in range(3)]
    assert sum(clips for _, clips in inside) == 12
    for number, (names, clips) in enumerate(inside):
        others, left = tracks(Fold(number, 3, inside=False))
        assert not names & others
        assert clips + left == 12


def test_no_file_is_said_with_its_pattern() -> None:
    with pytest.raises(ValueError, match="no TFRecord files match"):
        waveform_dataset([str(Path("/nowhere") / "*")], ["loud"], 5)
