"""Tags into WAV and AIFF files whose sizes are not what is there: written, and the audio as it was."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import soundfile as sf
from dressed_songs import write_file_tags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocessing.errors import ClipError
from serving.tagging.chunks import read_layout
from serving.tagging.file_tags import FileTags, check_writable, read_file_tags

TAGS: Final = FileTags(("slow", "guitar"), "model")
SAMPLES: Final = (np.arange(20_001) * 37 % 2_000 - 1_000).astype("<i2").tobytes()
FORMAT: Final = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
BYTE_FORMAT: Final = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8_000, 8_000, 1, 8)
BYTES: Final = bytes(range(256)) * 30 + b"x"
NOTE: Final = b"LIST" + struct.pack("<I", 12) + b"INFOISFT\0\0\0\0"
MOST: Final = 2**32 - 1


def riff(*parts: bytes, size: int | None = None, magic: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + b"".join(parts)
    return magic + struct.pack("<I", len(body) if size is None else size) + body


def data(content: bytes, size: int | None = None, pad: bytes = b"") -> bytes:
    return b"data" + struct.pack("<I", len(content) if size is None else size) + content + pad


def ds64(total: int, samples: int) -> bytes:
    return b"ds64" + struct.pack("<IQQQI", 28, total, samples, 0, 0)


def form(size: int, frames: int, audio: int) -> bytes:
    big = np.frombuffer(SAMPLES, "<i2").astype(">i2").tobytes()
    common = b"COMM" + struct.pack(">IhIh", 18, 1, frames, 16) + bytes.fromhex("400cfa00000000000000")
    return b"FORM" + struct.pack(">I", size) + b"AIFF" + common + b"SSND" + struct.pack(">III", audio, 0, 0) + big


RF64: Final = data(SAMPLES, MOST)
FILES: Final = {
    "a pipe of ffmpeg.wav": (riff(FORMAT, NOTE, data(SAMPLES, MOST), size=MOST), SAMPLES),
    "a pipe of sox.wav": (riff(FORMAT, data(SAMPLES, 0), size=0), SAMPLES),
    "no pad byte at the end.wav": (riff(BYTE_FORMAT, data(BYTES)), BYTES),
    "no pad byte inside.wav": (riff(BYTE_FORMAT, data(BYTES), NOTE), BYTES),
    "cut.wav": (riff(FORMAT, data(SAMPLES, 90_000), size=90_100), SAMPLES),
    "wrong size of all.wav": (riff(FORMAT, data(SAMPLES), size=36), SAMPLES),
    "rf64.wav": (riff(ds64(40_118, 40_002), FORMAT, RF64, NOTE, size=MOST, magic=b"RF64"), SAMPLES),
    "bw64.wav": (riff(ds64(40_098, 40_002), FORMAT, RF64, size=MOST, magic=b"BW64"), SAMPLES),
    "rf64 down a pipe.wav": (riff(ds64(0, 0), FORMAT, RF64, size=MOST, magic=b"RF64"), SAMPLES),
    "a wav called.mp3": (riff(FORMAT, data(SAMPLES, MOST), size=MOST), SAMPLES),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_tags_are_written_the_sizes_are_right_and_the_samples_as_they_were(tmp_path: Path, name: str) -> None:
    content, samples = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert read_file_tags(path) == FileTags((), "")
    check_writable(path)
    for tags in (TAGS, FileTags(("fast",), "another")):
        write_file_tags(path, tags)
        assert read_file_tags(path) == tags
        written, layout = path.read_bytes(), read_layout(path)
        assert layout is not None
        assert layout.end == len(written)
        assert len(written) == 8 + claimed(written)
        (audio,) = (chunk for chunk in layout.chunks if chunk.name == b"data")
        assert written[audio.begin : audio.end] == samples
        assert [chunk.name for chunk in layout.chunks].count(b"id3 ") == 1
        assert (b"ISFT" in written) == (b"ISFT" in content)
    if not name.startswith("bw64"):
        assert len(sf.read(path)[0]) == len(samples) // (1 if samples is BYTES else 2)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def claimed(content: bytes) -> int:
    """What a file says that it has after its first eight bytes."""
    if content[:4] == b"RIFF":
        return int(struct.unpack("<I", content[4:8])[0])
    return int(struct.unpack("<Q", content[20:28])[0])


def test_aiff_down_a_pipe_gets_sizes_and_number_of_frames(tmp_path: Path) -> None:
    path = tmp_path / "piped.aiff"
    path.write_bytes(form(0, 0, 0))
    write_file_tags(path, TAGS)
    assert read_file_tags(path) == TAGS
    samples, rate = sf.read(path, dtype="int16")
    assert (samples.tobytes(), rate) == (SAMPLES, 16_000)
    layout = read_layout(path)
    assert layout is not None
    assert layout.sound


def test_sound_files_are_told_from_others(tmp_path: Path) -> None:
    for content, sound in (
        (riff(FORMAT, data(SAMPLES)), True),
        (riff(BYTE_FORMAT, data(BYTES, pad=b"\0"), NOTE), True),
        (riff(BYTE_FORMAT, data(BYTES)), False),
        (riff(FORMAT, data(SAMPLES, MOST)), False),
    ):
        (tmp_path / "a.wav").write_bytes(content)
        layout = read_layout(tmp_path / "a.wav")
        assert layout is not None
        assert layout.sound is sound
    (tmp_path / "a.wav").write_bytes(b"RIFF\0\0\0\0AVI ")
    assert read_layout(tmp_path / "a.wav") is None


def test_rf64_without_its_sizes_is_refused_in_words_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(riff(FORMAT, data(SAMPLES, MOST), size=MOST, magic=b"RF64"))
    before = path.read_bytes()
    with pytest.raises(ClipError, match="begins as RF64 and has no sizes"):
        write_file_tags(path, TAGS)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize("call", [["-f", "wav"], ["-f", "wav", "-rf64", "always"], ["-f", "aiff"]])
def test_what_ffmpeg_writes_to_a_pipe_takes_tags_and_is_decoded_as_before(tmp_path: Path, call: list[str]) -> None:
    tone = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=440:d=1:r=16000", *call, "pipe:1"]
    path = tmp_path / f"piped.{call[1]}"
    path.write_bytes(subprocess.run(tone, capture_output=True, check=True).stdout)
    write_file_tags(path, TAGS)
    assert read_file_tags(path) == TAGS
    samples, rate = sf.read(path)
    assert (len(samples), rate) == (16_000, 16_000)


INNER_WORDS: Final = ("chunk", "format requires", "struct", "mutagen", "0x", "Error", "frame", "sync")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(FILES)),
    at=st.floats(0, 1, exclude_max=True),
    change=st.binary(min_size=1, max_size=12),
    cut=st.floats(0, 1),
)
def test_damaged_files_are_written_or_refused_in_words_and_never_changed_by_halves(
    tmp_path: Path, name: str, at: float, change: bytes, cut: float
) -> None:
    content = bytearray(FILES[name][0])
    place = int(at * 120)
    content[place : place + len(change)] = change
    content = content[: 12 + int(cut * len(content))]
    path = tmp_path / "damaged.wav"
    path.write_bytes(content)
    refused = None
    try:
        write_file_tags(path, TAGS)
    except ClipError as error:
        refused = error
    if refused is None:
        assert read_file_tags(path) == TAGS
    else:
        assert path.read_bytes() == content
        assert refused.kind in ("untaggable", "unwritable")
        said = refused.detail.removeprefix(str(path))
        assert not [word for word in INNER_WORDS if word in said], said
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
