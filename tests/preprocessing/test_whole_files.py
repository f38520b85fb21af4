"""A local file is there whole or not at all, and nothing else is left beside it."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from preprocessing import storage
from preprocessing.whole_files import (
    TEMPORARY_MARK,
    open_whole,
    replacement,
    temporary_folder,
    temporary_name,
    write_whole,
    writer_is_dead,
)

Write = Callable[[Path, BaseException], None]


@pytest.mark.parametrize(("data", "expected"), [(b"\x00\xff", b"\x00\xff"), ("Größe\n", "Größe\n".encode())])
def test_bytes_are_written_as_they_are_and_text_as_utf_8(tmp_path: Path, data: bytes | str, expected: bytes) -> None:
    write_whole(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == expected
    assert os.listdir(tmp_path) == ["file"]


def test_temporary_file_lies_beside_and_is_known_by_its_mark(tmp_path: Path) -> None:
    with open_whole(tmp_path / "file"):
        (name,) = os.listdir(tmp_path)
    assert name.startswith(f".file{TEMPORARY_MARK}")


def write_half(path: Path, error: BaseException) -> None:
    with open_whole(path) as file:
        file.write(b"half")
        raise error


def write_half_by_path(path: Path, error: BaseException) -> None:
    with replacement(path) as temporary:
        temporary.write_bytes(b"half")
        raise error


@pytest.mark.parametrize("write", [write_half, write_half_by_path])
@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_any_error_leaves_what_was_there_and_nothing_else(tmp_path: Path, error: BaseException, write: Write) -> None:
    write_whole(tmp_path / "file", "before")
    with pytest.raises(type(error)):
        write(tmp_path / "file", error)
    assert (tmp_path / "file").read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


def test_rename_that_fails_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_whole(tmp_path / "folder", "text")
    assert os.listdir(tmp_path) == ["folder"]


def test_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none" / "file", "text")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_a_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("letter", ["a", "é", "歌"])
def test_name_as_long_as_a_file_system_takes_can_be_written(tmp_path: Path, letter: str) -> None:
    name = letter * (255 // len(letter.encode()))
    write_whole(tmp_path / name, "text")
    with replacement(tmp_path / name, suffix=f".{letter}") as path:
        path.write_text("text")
    assert os.listdir(tmp_path) == [name]


def test_two_writers_at_once_do_not_meet(tmp_path: Path) -> None:
    with open_whole(tmp_path / "file") as first:
        with open_whole(tmp_path / "file") as second:
            first.write(b"first")
            second.write(b"second")
        assert (tmp_path / "file").read_bytes() == b"second"
    assert (tmp_path / "file").read_bytes() == b"first"


def test_relative_path_is_written_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_whole("file", "text")
    assert os.listdir(tmp_path) == ["file"]
    assert temporary_name("/file").startswith("/.file")


def test_sweep_finds_what_a_killed_writer_left(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom preprocessing.whole_files import open_whole\n"
        "with open_whole(sys.argv[1]):\n    os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "file")], check=False, timeout=60)
    assert len(os.listdir(tmp_path)) == 1
    storage.sweep_dead(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_module_imports_the_standard_library_alone() -> None:
    program = (
        "import sys\nimport preprocessing.whole_files\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'numpy', 'fsspec', 'apache_beam', 'tensorflow'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"


def test_file_that_a_library_writes_takes_the_place_and_keeps_suffix_and_mode_until_then(tmp_path: Path) -> None:
    (tmp_path / "song.flac").write_bytes(b"before")
    with replacement(tmp_path / "song.flac", 0o600, ".flac") as path:
        assert path.parent == tmp_path
        assert path.name.startswith(f".song.flac{TEMPORARY_MARK}")
        assert path.suffix == ".flac"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.write_bytes(b"after")
        assert (tmp_path / "song.flac").read_bytes() == b"before"
    assert (tmp_path / "song.flac").read_bytes() == b"after"
    assert os.listdir(tmp_path) == ["song.flac"]


def fill(parent: Path, final: Path | None) -> None:
    with temporary_folder(parent) as folder:
        assert folder.parent == parent
        assert TEMPORARY_MARK in folder.name
        (folder / "file").write_text("text")
        if final is None:
            raise KeyboardInterrupt
        folder.rename(final)


def test_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    parent = tmp_path / "new" / "below"
    with pytest.raises(KeyboardInterrupt):
        fill(parent, None)
    assert os.listdir(parent) == []
    before = os.umask(0o027)
    try:
        fill(parent, parent / "1")
    finally:
        os.umask(before)
    assert os.listdir(parent) == ["1"]
    assert (parent / "1" / "file").read_text() == "text"
    assert stat.S_IMODE((parent / "1").stat().st_mode) == 0o750


def test_a_temporary_name_says_whether_its_writer_is_dead() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from preprocessing.whole_files import temporary_name; print(temporary_name('file'))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert writer_is_dead(done.stdout.strip()) is True
    assert writer_is_dead(temporary_name("file", ".flac")) is False
    for name in ("file", f".file{TEMPORARY_MARK}elsewhere-1-2"):
        assert writer_is_dead(name) is None
