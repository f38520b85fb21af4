from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_model import TAGS, Exported, tone, write_audio

from preprocessing.audio import fit_clip
from preprocessing.constants import CLIP_SAMPLES
from preprocessing.errors import BadInputError, ClipError
from serving.model_info import find_model
from serving.tagger import Tagger, windows


@pytest.fixture(scope="module")
def tagger(exported: Exported) -> Tagger:
    return Tagger(exported.path.parent)


def test_short_file_is_one_window_padded_with_silence() -> None:
    samples = tone(5)
    (window,) = windows(samples)
    np.testing.assert_array_equal(window, fit_clip(samples))


@pytest.mark.parametrize("extra", [0, 1, 1000, CLIP_SAMPLES - 1, CLIP_SAMPLES, 2 * CLIP_SAMPLES + 7])
def test_windows_of_a_longer_file_cover_it_and_the_last_ends_where_it_ends(extra: int) -> None:
    samples = np.arange(CLIP_SAMPLES + extra, dtype=np.float32)
    cut = windows(samples)
    assert {len(window) for window in cut} == {CLIP_SAMPLES}
    assert len(cut) == -(-len(samples) // CLIP_SAMPLES)
    np.testing.assert_array_equal(np.unique(np.concatenate(cut)), samples)


def test_long_file_has_the_mean_of_its_windows(tagger: Tagger) -> None:
    samples = tone(29.1 * 5 + 3, 300)
    one_by_one = [tagger.tag_samples(window) for window in windows(samples)]
    assert len(one_by_one) == 6, "more than are sent at once"
    np.testing.assert_allclose(tagger.tag_samples(samples), np.mean(one_by_one, axis=0), atol=1e-5)


@pytest.mark.parametrize("suffix", ["mp3", "wav", "flac", "ogg"])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
def test_any_format_rate_and_channel_count_gives_about_the_same(
    tagger: Tagger, tmp_path: Path, suffix: str, rate: int, channels: int
) -> None:
    path = write_audio(tmp_path / f"a.{suffix}", 12, rate=rate, channels=channels)
    tagged = tagger.tag_file(path)
    assert tagged.seconds == pytest.approx(12, abs=0.15)
    assert tagged.windows == 1
    np.testing.assert_allclose(tagged.probabilities, tagger.tag_samples(tone(12)), atol=0.12)  # MP3 loses some


def test_overshoot_of_a_decoder_is_clipped_as_in_training(tagger: Tagger) -> None:
    loud = tone(30) * 4
    assert np.abs(loud).max() > 1
    np.testing.assert_array_equal(tagger.tag_samples(loud), tagger.tag_samples(np.clip(loud, -1, 1)))


def test_top_is_sorted_and_named(tagger: Tagger, tmp_path: Path) -> None:
    tagged = tagger.tag_file(write_audio(tmp_path / "a.wav", 3))
    top = tagged.top(4)
    assert len(top) == 4
    assert [p for _, p in top] == sorted((float(p) for p in tagged.probabilities), reverse=True)[:4]
    assert len(tagged.top(100)) == len(TAGS)
    assert tagger.tags == TAGS


@pytest.mark.parametrize(("content", "kind"), [(b"", "empty"), (b"ID3 but not music" * 50, "undecodable")])
def test_file_that_cannot_be_decoded_is_a_clip_error(tagger: Tagger, tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "broken.mp3"
    path.write_bytes(content)
    with pytest.raises(ClipError, match="broken.mp3") as caught:
        tagger.tag_file(path)
    assert caught.value.kind == kind


def test_file_that_is_not_there_is_a_clip_error(tagger: Tagger, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="unreadable.*none.wav"):
        tagger.tag_file(tmp_path / "none.wav")


def test_highest_number_is_the_newest_version(tmp_path: Path) -> None:
    for name in ("9", "10", "100", "latest", "200"):
        (tmp_path / name).mkdir()
        if name != "200":  # being written: nothing in it yet
            (tmp_path / name / "saved_model.pb").touch()
    assert find_model(tmp_path) == tmp_path / "100"
    assert find_model(tmp_path / "9") == tmp_path / "9"


def without_model(folder: Path, exported: Exported) -> Path:
    return folder / "none"


def empty_folder(folder: Path, exported: Exported) -> Path:
    return folder


def no_description(folder: Path, exported: Exported) -> Path:
    shutil.copytree(exported.path, folder / "m", ignore=shutil.ignore_patterns("model.json"))
    return folder / "m"


def broken_description(folder: Path, exported: Exported) -> Path:
    copied = Path(shutil.copytree(exported.path, folder / "m"))
    (copied / "model.json").write_text('{"tags": []}')
    return copied


def other_clips(folder: Path, exported: Exported) -> Path:
    copied = Path(shutil.copytree(exported.path, folder / "m"))
    text = (copied / "model.json").read_text("utf-8")
    (copied / "model.json").write_text(text.replace('"hop_length": 787', '"hop_length": 512'), "utf-8")
    return copied


def broken_graph(folder: Path, exported: Exported) -> Path:
    copied = Path(shutil.copytree(exported.path, folder / "m"))
    (copied / "saved_model.pb").write_bytes(b"\xff" * 100)
    return copied


def no_weights(folder: Path, exported: Exported) -> Path:
    copied = Path(shutil.copytree(exported.path, folder / "m"))
    shutil.rmtree(copied / "variables")
    return copied


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_model, "no such folder"),
        (empty_folder, "neither saved_model.pb nor a numbered version"),
        (no_description, "model.json cannot be read"),
        (broken_description, "not autotag's description of a model"),
        (other_clips, "made for other clips"),
        (broken_graph, "cannot be loaded"),
        (no_weights, "cannot be loaded"),
    ],
)
def test_model_that_cannot_be_used_is_said_with_its_path(
    tmp_path: Path, exported: Exported, spoil: Any, words: str
) -> None:
    with pytest.raises(BadInputError, match=words) as caught:
        Tagger(spoil(tmp_path, exported))
    assert str(tmp_path) in str(caught.value)
