"""What a file is and how much of it there should be, told from its bytes alone."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from song_files import OPTIONS, RATE, SONG_SECONDS, SUFFIXES, as_wav, needs_ffmpeg, part, song, song_as

from preprocessing.audio.containers import look_into
from preprocessing.audio.file_bytes import PIECE, DescriptorBytes, MemoryBytes, find, find_all
from preprocessing.audio.mpeg_frames import walk
from preprocessing.audio.mpeg_headers import MPEG

DEMUXERS = {
    "mp3": "mp3", "cbr": "mp3", "vbr": "mp3", "wav": "wav", "flac": "flac", "ogg": "ogg", "opus": "ogg", "oga": "ogg",
    "m4a": "mov", "faststart": "mov", "aac": "aac", "webm": "matroska", "wma": "asf", "aiff": "aiff",
}  # fmt: skip


def look(data: bytes):
    return look_into(MemoryBytes(data))


@needs_ffmpeg
@pytest.mark.parametrize("kind", OPTIONS)
def test_kind_and_length_are_told_by_content(kind):
    content = look(song_as(kind))
    assert content.demuxer == DEMUXERS[kind]
    (only,) = content.parts
    if kind not in ("m4a", "faststart", "webm"):
        assert only.seconds == pytest.approx(SONG_SECONDS, abs=0.1)
    assert only.ends


@needs_ffmpeg
@pytest.mark.parametrize("kind", OPTIONS)
def test_file_that_follows_another_of_its_kind_is_found(kind):
    parts = look(2 * song_as(kind)).parts
    lengths = [part.seconds for part in parts]
    if kind in ("mp3", "cbr", "vbr", "aac"):
        assert sum(lengths) == pytest.approx(2 * SONG_SECONDS, abs=0.2)
    elif kind != "webm":
        assert [part.start for part in parts][1] == len(song_as(kind))


@pytest.mark.parametrize("form", ["WAV", "AIFF", "AU", "CAF", "W64", "RF64"])
def test_cut_file_with_a_header_claims_what_it_had(form):
    buffer = io.BytesIO()
    sf.write(buffer, part(0), RATE, format=form, subtype="PCM_16")
    data = buffer.getvalue()
    for share in (1.0, 0.5, 0.1):
        (only,) = look(data[: round(share * len(data))]).parts
        assert only.seconds == pytest.approx(5.0, abs=0.01)
        assert only.there == pytest.approx(5.0 * share, abs=0.05)


@needs_ffmpeg
def test_walk_counts_frames_up_to_the_damage_and_over_it():
    data = song_as("cbr")
    middle = len(data) // 2
    stream = walk(MemoryBytes(data[:middle] + b"junk" * 300 + data[middle:]), MPEG, 0)
    assert stream is not None
    assert stream.seconds == pytest.approx(SONG_SECONDS, abs=0.1)
    assert stream.regular == pytest.approx(SONG_SECONDS / 2, abs=0.1)
    assert stream.breaks == 1


@needs_ffmpeg
@pytest.mark.parametrize("kind", [*SUFFIXES, "aac"])
def test_look_into_a_file_on_disk_is_that_into_its_bytes(tmp_path, kind):
    data = 3 * song_as(kind)
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        assert look_into(DescriptorBytes(file.fileno())) == look(data)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=2_000),
    st.sampled_from(
        [b"", b"RIFF\xff\xff\xff\xffWAVE", b"FORM\0\0\0\x04AIFF", b".snd", b"caff\0\1\0\0", b"riff\x2e\x91\xcf\x11",
         b"OggS\0\2", b"fLaC\0\0\0\x22", b"\0\0\0\x20ftypM4A ", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
         b"ID3\4\0\0\0\0\0\5", b"APETAGEX", b"\xff\xfb\x90\x00", b"\xff\xf1\x50\x80"]
    ),
)  # fmt: skip
def test_any_bytes_have_parts_that_lie_in_the_file(junk, magic):
    data = magic + junk
    content = look(data)
    assert content.parts
    for one in content.parts:
        assert 0 <= one.start <= one.end <= max(len(data), one.start)
        assert one.seconds is None or one.seconds >= 0


@pytest.mark.parametrize(
    "unit", [b"\xff\xfb\x90\x00", b"\xff", b"\xff\xfb\x10\x00" + bytes(20), b"OggS", b"fLaC\0\0\0\x22",
             b"\0\0\0\x08free", b"RIFF\0\0\0\0WAVE", b"APETAGEX" + bytes(24), b"TAG" + bytes(125)], ids=repr
)  # fmt: skip
def test_look_into_hostile_bytes_takes_no_time(unit):
    start = time.process_time()
    look(unit * (4_000_000 // len(unit)))
    assert time.process_time() - start < 6


@given(st.integers(0, 3 * PIECE), st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_what_lies_across_pieces_is_found(tmp_path_factory, place, length):
    data = bytearray(3 * PIECE + 16)
    data[place : place + length] = b"\x01" * length
    path = tmp_path_factory.getbasetemp() / "pieces"
    path.write_bytes(data)
    with path.open("rb") as file:
        on_disk = DescriptorBytes(file.fileno())
        assert find(on_disk, b"\x01" * length) == place
        assert list(find_all(on_disk, b"\x01" * length)) == [place]
        assert find(on_disk, b"\x02") == -1


def test_text_pictures_and_play_lists_are_no_audio():
    for data in (b"<html>" * 100, b"#EXTM3U\nhttp://somewhere/a.mp3\n", b"ffconcat version 1.0\nfile 'a.mp3'\n",
                 b"\x89PNG\r\n\x1a\n" + bytes(500), b"PK\3\4" + bytes(500), np.arange(5_000).tobytes()):  # fmt: skip
        assert look(data).demuxer is None


def test_wav_of_a_song_is_one_part():
    (only,) = look(as_wav(song())).parts
    assert (only.start, only.seconds) == (0, SONG_SECONDS)
