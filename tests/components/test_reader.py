"""Reading of training data: random windows and folds, each the same for the same seed."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.reader import Fold, RandomWindows, waveform_dataset
from preprocessing.clip_format import ClipFormat
from preprocessing.examples import encode_example, write_record

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
