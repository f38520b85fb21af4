"""A stretch of a recording: its grammar, and that it is the same sound as in the whole file, wherever it begins."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.audio.audio_file import AudioFile
from preprocessing.audio.streams import AudioStream, open_audio
from preprocessing.audio.stretches import Stretch, parse_stretch
from preprocessing.constants import SAMPLE_RATE
from preprocessing.errors import BadInputError, ClipError

RATE = 44_100
LONG = 30.0


@pytest.mark.parametrize(
    ("text", "where", "seconds"),
    [
        ("start:30", "start", 30.0),
        ("middle:60", "middle", 60.0),
        ("end:12.5", "end", 12.5),
        ("30:60", 30.0, 60.0),
        ("1:30:60", 90.0, 60.0),
        ("90:30:60", 5430.0, 60.0),
        ("1:02:30.5:60", 3750.5, 60.0),
        ("0:10", 0.0, 10.0),
    ],
)
def test_last_number_is_the_length_and_what_stands_before_says_where(
    text: str, where: str | float, seconds: float
) -> None:
    assert parse_stretch(text) == Stretch(where, seconds)
    assert parse_stretch(str(parse_stretch(text))) == Stretch(where, seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "60",
        "middle",
        "middle:",
        ":60",
        "center:60",
        "-5:60",
        "1:2:3:4:5",
        "1e3:60",
        "middle:60s",
        "30:-1",
        "nan:5",
        "٣:60",
    ],
)
def test_what_is_no_part_is_refused_with_what_is_one(text: str) -> None:
    with pytest.raises(BadInputError, match="is no part of a file: expected WHERE:SECONDS"):
        parse_stretch(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [("middle:0", "a part has 1 s at least"), ("1:75:60", "less than 60"), ("1:60:00:60", "less than 60")],
)
def test_part_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        parse_stretch(text)


@given(st.text("0123456789:.stardmile-", max_size=14))
def test_any_text_is_a_stretch_or_refused(text: str) -> None:
    with contextlib.suppress(BadInputError):
        stretch = parse_stretch(text)
        assert stretch.seconds >= 1
        assert isinstance(stretch.where, str) or stretch.where >= 0


@given(st.sampled_from(("start", "middle", "end")), st.floats(1, 1e5), st.floats(0.1, 1e5))
def test_named_stretch_lies_in_the_recording(where: str, seconds: float, length: float) -> None:
    begin = Stretch(where, seconds).begin(length)
    assert 0 <= begin < length
    assert begin + min(seconds, length) <= length * (1 + 1e-12)


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chirp with noise in stereo, 30 s, in every format at hand."""
    folder = tmp_path_factory.mktemp("song")
    time = np.arange(int(LONG * RATE)) / RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    samples = np.float32(0.3 * np.sin(2 * np.pi * (200 + 30 * time) * time) + 0.05 * noise)
    for name in ("a.wav", "a.flac", "a.ogg", "a.mp3"):
        sf.write(folder / name, np.stack([samples, samples / 2], 1), RATE)
    if shutil.which("ffmpeg"):
        for name in ("a.opus", "a.m4a", "a.aac"):
            subprocess.run(["ffmpeg", "-v", "error", "-i", folder / "a.wav", folder / name], check=True)
    return folder


def decoded(path: Path) -> np.ndarray:
    with open_audio(path) as stream:
        return np.concatenate(list(stream.blocks))


def hear(path: Path, part: str) -> tuple[np.ndarray, AudioStream]:
    with open_audio(path, 2.0, stretch=parse_stretch(part)) as stream:
        return np.concatenate(list(stream.blocks)), stream


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.opus", "a.m4a", "a.aac"])
def test_stretch_is_the_same_sound_as_in_the_whole_file(song: Path, name: str) -> None:
    if not (song / name).exists():
        pytest.skip("needs ffmpeg")
    whole = decoded(song / name)
    length = len(whole) / SAMPLE_RATE
    for part, begin, seconds in (
        ("start:7", 0, 7),
        ("middle:7", (length - 7) / 2, 7),
        ("end:7", length - 7, 7),
        ("12.25:5", 12.25, 5),
        ("0:20:60", 20, length - 20),
        ("middle:100", 0, length),
    ):
        heard, stream = hear(song / name, part)
        assert stream.begin == pytest.approx(begin, abs=0.01), part
        assert len(heard) / SAMPLE_RATE == pytest.approx(seconds, abs=0.01), part
        first = round(stream.begin * SAMPLE_RATE)
        same = min(len(heard), len(whole) - first)
        np.testing.assert_allclose(heard[:same], whole[first : first + same], atol=1e-6, err_msg=part)
        assert stream.heard.complete
        assert stream.seconds == pytest.approx(seconds, abs=0.02)
        if part != "start:7":
            assert stream.file_seconds == pytest.approx(length, abs=0.01)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.ogg", "a.m4a"])
def test_stretch_beyond_the_end_is_said_with_the_files_length(song: Path, name: str) -> None:
    if not (song / name).exists():
        pytest.skip("needs ffmpeg")
    with pytest.raises(ClipError, match=rf"{name}: the part begins at 90 s, and the file ends at 30.0 s") as error:
        hear(song / name, "1:30:60")
    assert error.value.kind == "no_part"


def test_what_lies_before_is_sought_and_not_decoded(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = sf.SoundFile.read

    def counted(self: sf.SoundFile, frames: int = -1, *arguments: object, **options: object) -> np.ndarray:
        samples: np.ndarray = original(self, frames, *arguments, **options)
        read.append(len(samples))
        return samples

    monkeypatch.setattr(sf.SoundFile, "read", counted)
    hear(song / "a.mp3", "end:5")
    assert sum(read) <= 8 * RATE


def test_cut_file_says_what_is_missing_of_the_part_that_was_asked_for(song: Path, tmp_path: Path) -> None:
    data = (song / "a.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[: len(data) // 2])
    assert hear(tmp_path / "cut.wav", "start:10")[1].heard.complete
    assert hear(tmp_path / "cut.wav", "5:10")[1].heard.complete
    assert hear(tmp_path / "cut.wav", "10:10")[1].heard.shortfall == "5.0 of 10.0 s"
    for part in ("middle:5", "end:5"):
        heard, stream = hear(tmp_path / "cut.wav", part)
        assert len(heard) == 5 * SAMPLE_RATE
        assert stream.heard.shortfall == "15.0 of 30.0 s"


def test_files_that_follow_each_other_are_one_recording(song: Path, tmp_path: Path) -> None:
    (tmp_path / "joined.ogg").write_bytes(2 * (song / "a.ogg").read_bytes())
    whole = decoded(tmp_path / "joined.ogg")
    heard, stream = hear(tmp_path / "joined.ogg", "28:4")
    assert stream.file_seconds == pytest.approx(60, abs=0.01)
    np.testing.assert_allclose(heard, whole[28 * SAMPLE_RATE : 32 * SAMPLE_RATE], atol=1e-6)


def test_damage_before_the_part_is_no_concern_of_it(song: Path, tmp_path: Path) -> None:
    data = bytearray((song / "a.flac").read_bytes())
    data[len(data) // 10 : len(data) // 10 + 50] = bytes(50)
    (tmp_path / "a.flac").write_bytes(data)
    whole = decoded(song / "a.flac")
    heard, stream = hear(tmp_path / "a.flac", "20:5")
    np.testing.assert_allclose(heard, whole[20 * SAMPLE_RATE : 25 * SAMPLE_RATE], atol=1e-6)
    assert stream.heard.complete


def test_memory_holds_blocks_of_a_long_part(song: Path) -> None:
    with contextlib.closing(
        AudioStream(AudioFile((song / "a.wav").read_bytes(), ""), SAMPLE_RATE, 2.0, parse_stretch("1:28"))
    ) as stream:
        assert max(len(block) for block in stream.blocks) <= 2.1 * SAMPLE_RATE
