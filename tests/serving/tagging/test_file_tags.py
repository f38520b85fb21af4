"""Tags in audio files: what is written is read again, and nothing else in the file changes."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest
import soundfile as sf
from dressed_songs import FORMATS, M4A, audio_bytes, boxes, song, write_file_tags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutagen.flac import FLAC
from mutagen.id3 import ID3
from mutagen.mp4 import MP4
from tones import write_audio

from preprocessing.errors import BadInputError, ClipError
from serving.tagging import file_tags
from serving.tagging.file_tags import NO_TAGS, FileTags, check_field, check_writable, read_file_tags

NEW = FileTags(("guitar", "männer", "no vocals", "日本の歌"), "autotag 0123 hop=29.1")


def all_but_ours(path: Path) -> dict[str, Any]:
    file: Any = mutagen.File(path)
    ours = [key for key in file.tags if "autotag" in str(key).lower()] if file.tags is not None else []
    kept = {str(key): repr(file.tags[key]) for key in (file.tags.keys() if file.tags is not None else [])}
    for key in ours:
        kept.pop(str(key[0] if isinstance(key, tuple) else key), None)
    if isinstance(file, FLAC):
        kept["pictures"] = repr([picture.write() for picture in file.pictures])
    return {key: value for key, value in kept.items() if "autotag" not in key.lower()}


def mp4_chunks(data: bytes) -> list[bytes]:
    """What the chunk offsets of an M4A point at, 16 bytes each."""
    start, end = 0, len(data)
    for wanted in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stco"):
        start, end = next((start, end) for kind, start, end in boxes(data, start, end) if kind == wanted)
    count = struct.unpack(">I", data[start + 4 : start + 8])[0]
    offsets = struct.unpack(f">{count}I", data[start + 8 : start + 8 + 4 * count])
    return [data[offset : offset + 16] for offset in offsets]


@pytest.mark.parametrize("name", FORMATS)
def test_tags_are_written_beside_the_others_and_the_audio_is_untouched(tmp_path: Path, name: str) -> None:
    path = song(tmp_path / f"a.{name}")
    before, audio, others = path.read_bytes(), audio_bytes(path), all_but_ours(path)
    assert len(others) >= 4
    assert read_file_tags(path) == NO_TAGS

    write_file_tags(path, NEW)

    assert read_file_tags(path) == NEW
    assert all_but_ours(path) == others
    assert audio
    assert audio_bytes(path) == audio
    if path.suffix == ".m4a":
        assert mp4_chunks(path.read_bytes()) == mp4_chunks(before)
    else:
        (tmp_path / "before").write_bytes(before)
        np.testing.assert_array_equal(sf.read(path)[0], sf.read(tmp_path / "before")[0])
        (tmp_path / "before").unlink()
    assert {file.name for file in tmp_path.iterdir()} <= {path.name, "a.ogg"}, "no copy is left"


@pytest.mark.parametrize("name", FORMATS)
def test_tags_written_again_replace_the_old_ones(tmp_path: Path, name: str) -> None:
    path = song(tmp_path / f"a.{name}")
    write_file_tags(path, NEW)
    write_file_tags(path, FileTags(("piano",), "autotag 4567"))
    assert read_file_tags(path) == FileTags(("piano",), "autotag 4567")
    write_file_tags(path, FileTags((), "autotag 89ab"))
    assert read_file_tags(path) == FileTags((), "autotag 89ab")


@pytest.mark.parametrize("name", FORMATS)
def test_several_values_are_several_for_other_programs_too(tmp_path: Path, name: str) -> None:
    path = song(tmp_path / f"a.{name}")
    write_file_tags(path, NEW, "HEARD")
    file: Any = mutagen.File(path)
    if isinstance(file.tags, ID3):
        assert file.tags["TXXX:HEARD"].text == list(NEW.tags)
    elif isinstance(file, MP4):
        assert [bytes(value).decode() for value in file.tags["----:com.apple.iTunes:HEARD"]] == list(NEW.tags)
    else:
        assert file.tags["heard"] == list(NEW.tags)
    assert read_file_tags(path) == NO_TAGS
    assert read_file_tags(path, "HEARD") == NEW


@pytest.mark.parametrize("seconds", [0.2])
@pytest.mark.parametrize("name", FORMATS)
def test_file_without_any_tags_gets_its_first(tmp_path: Path, name: str, seconds: float) -> None:
    path = tmp_path / f"a.{name}"
    if path.suffix == ".m4a":
        shutil.copy(M4A / "moov_last.m4a", path)
    elif path.suffix == ".opus":
        sf.write(path, np.zeros(9_600), 48_000, format="OGG", subtype="OPUS")
    else:
        write_audio(path, seconds)
    audio = audio_bytes(path)
    write_file_tags(path, NEW)
    assert read_file_tags(path) == NEW
    assert audio_bytes(path) == audio


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("songs")
    return {name: song(folder / f"a.{name}", 0.1) for name in FORMATS}


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tags=st.lists(texts, max_size=8, unique=True), model=texts)
def test_any_tag_is_read_as_it_was_written(songs: dict[str, Path], name: str, tags: list[str], model: str) -> None:
    written = FileTags(tuple(tags), model)
    write_file_tags(songs[name], written)
    assert read_file_tags(songs[name]) == written


@pytest.mark.parametrize("bad", ["", "a\0b"])
def test_tag_that_no_file_can_hold_is_refused(tmp_path: Path, bad: str) -> None:
    path = song(tmp_path / "a.mp3")
    before = path.read_bytes()
    with pytest.raises(ClipError, match="could not be read again"):
        write_file_tags(path, FileTags((bad,), "m"))
    assert path.read_bytes() == before


def test_id3v23_stays_23_and_id3v1_keeps_its_bytes(tmp_path: Path) -> None:
    path = song(tmp_path / "a.id3v23.mp3")
    end = path.read_bytes()[-128:]
    assert end.startswith(b"TAG")
    write_file_tags(path, NEW)
    assert path.read_bytes()[:5] == b"ID3\x03\x00"
    assert path.read_bytes()[-128:] == end
    assert ID3(path, translate=False)["TYER"].text == ["1999"]


@pytest.mark.parametrize("name", ["moov_first", "moov_last", "fragmented"])
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg on PATH")
def test_m4a_decodes_to_the_same_samples(tmp_path: Path, name: str) -> None:
    path = Path(shutil.copy(M4A / f"{name}.m4a", tmp_path))

    def decoded() -> bytes:
        call = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "s16le", "-"]
        return subprocess.run(call, capture_output=True, check=True, timeout=60).stdout

    before = decoded()
    write_file_tags(path, NEW)
    assert len(before) > 10_000
    assert decoded() == before


def test_permissions_are_kept_links_followed_and_the_time_is_new(tmp_path: Path) -> None:
    path = song(tmp_path / "a.flac")
    path.chmod(0o640)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "b.flac"
    link.symlink_to(path)
    write_file_tags(link, NEW)
    assert link.is_symlink()
    assert read_file_tags(path) == NEW
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.stat().st_mtime > 1_500_000_000


@pytest.mark.parametrize("name", ["mp3", "flac", "ogg", "m4a", "wav"])
def test_read_only_file_is_left_alone_and_named(tmp_path: Path, name: str) -> None:
    path = song(tmp_path / f"a.{name}")
    path.chmod(0o444)
    before = path.read_bytes()
    with pytest.raises(ClipError, match=f"a.{name} is read-only") as caught:
        write_file_tags(path, NEW)
    assert caught.value.kind == "unwritable"
    assert path.read_bytes() == before
    with pytest.raises(ClipError, match=f"a.{name} is read-only"):
        check_writable(path)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, where the tests have them."""
    mine = os.getresuid()
    if mine[0] == 0:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(*mine)


@pytest.mark.parametrize("call", [check_writable, partial(write_file_tags, new=NEW)])
def test_file_in_a_read_only_folder_is_named(call: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = song(Path(folder) / "a.mp3")
        path.chmod(0o666)
        os.chmod(folder, 0o555)
        with as_nobody(), pytest.raises(ClipError, match="a.mp3: its folder is read-only") as caught:
            call(path)
        os.chmod(folder, 0o755)
    assert caught.value.kind == "unwritable"


def test_what_can_be_written_passes_the_check_untouched(songs: dict[str, Path]) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in songs.values()}
    for path in songs.values():
        check_writable(path)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before


@pytest.mark.parametrize("name", ["mp3", "flac", "ogg", "opus", "m4a", "wav", "aiff"])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_full_disk_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path, name: str, share: float) -> None:
    path = song(tmp_path / f"a.{name}", 0.3)
    before, files = path.read_bytes(), set(tmp_path.iterdir())
    room = round(len(before) * share)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(ClipError, match=f"a.{name}: File too large") as caught:
            write_file_tags(path, FileTags(NEW.tags, "model " * 5_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.kind == "unwritable"
    assert path.read_bytes() == before
    assert set(tmp_path.iterdir()) == files


def test_disk_that_fails_when_flushed_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: Any) -> None:
    path = song(tmp_path / "a.mp3")
    before = path.read_bytes()

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ClipError, match="No space left on device"):
        write_file_tags(path, NEW)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_file_changed_by_somebody_else_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: Any) -> None:
    path = song(tmp_path / "a.mp3")
    save = file_tags._save

    def save_while_another_writes(file: Any, copy: Path) -> None:
        save(file, copy)
        path.write_bytes(path.read_bytes() + b"more")

    monkeypatch.setattr(file_tags, "_save", save_while_another_writes)
    with pytest.raises(ClipError, match="changed by another program"):
        write_file_tags(path, NEW)
    assert path.read_bytes().endswith(b"more")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.txt", "a.au", "a.wma"])
def test_format_without_tags_is_refused_in_clear_words(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no song " * 500)
    with pytest.raises(ClipError, match=f"{name}: only MP3, FLAC") as caught:
        write_file_tags(tmp_path / name, NEW)
    assert caught.value.kind == "untaggable"


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"none\.mp3: No such file"):
        read_file_tags(tmp_path / "none.mp3")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FORMATS), junk=st.binary(min_size=1, max_size=40), at=st.integers(0, 400))
def test_damaged_tags_are_written_or_refused_and_never_lost(
    songs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, name: str, junk: bytes, at: int
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / f"a.{name}"
    data = bytearray(songs[name].read_bytes())
    data[at : at + len(junk)] = junk
    path.write_bytes(data)
    try:
        write_file_tags(path, NEW)
    except ClipError:
        assert path.read_bytes() == data
    else:
        assert read_file_tags(path) == NEW
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize("field", ["AUTOTAG", "MY_TAGS", "x", "Heard-1.0"])
def test_field_of_our_own_is_taken(field: str) -> None:
    assert check_field(field) == field


@pytest.mark.parametrize("field", ["", "ä", "a=b", "a:b", "1a", "GENRE", "title", "replaygain_track_gain", "x" * 65])
def test_field_that_formats_cannot_hold_or_players_use_is_refused(field: str) -> None:
    with pytest.raises(BadInputError, match="field"):
        check_field(field)
