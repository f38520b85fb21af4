"""Folders: what is taken, what is left out, and that nothing is left out without a word."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from preprocessing.folders import LeftOut, Walked, walk_audio
from serving.tagging import audio_files
from serving.tagging.audio_files import find_audio, fixed_part


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    for name in ("a.mp3", "b/01.WV", "b/cover.jpg", "b/back.JPG", "b/notes", "c/x.ape", ".trash/old.mp3", "._a.mp3"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names(walked: list[str], folder: Path) -> list[str]:
    return [os.path.relpath(path, folder) for path in walked]


def test_what_is_not_taken_is_counted_by_suffix(library: Path) -> None:
    walked = walk_audio(str(library))
    assert names(walked.files, library) == ["a.mp3", "b/01.WV", "c/x.ape"]
    assert walked.left_out.to_json() == {"by_suffix": {"": 1, ".jpg": 2}, "hidden": 2, "unreadable": {}}
    assert walked.left_out.describe() == "2 .jpg, 1 without suffix, 2 hidden"


@pytest.mark.parametrize("suffix", [".mp2", ".wv", ".ape", ".mpc", ".dsf", ".aifc", ".w64", ".caf", ".webm", ".mka"])
def test_formats_that_a_decoder_at_hand_reads_are_taken(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"song{suffix}").write_bytes(b"x")
    assert names(walk_audio(str(tmp_path)).files, tmp_path) == [f"song{suffix}"]


def test_linked_folder_is_followed_once_and_circles_end(library: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far.mp3").write_bytes(b"x")
    (library / "b" / "linked").symlink_to(tmp_path / "elsewhere")
    (library / "b" / "again").symlink_to(tmp_path / "elsewhere")
    (library / "0-to-c").symlink_to("c")
    (library / "c" / "up").symlink_to("..")
    (tmp_path / "elsewhere" / "back").symlink_to(library)
    walked = walk_audio(str(library))
    assert names(walked.files, library) == ["a.mp3", "b/01.WV", "b/again/far.mp3", "c/x.ape"]
    assert not walked.left_out.unreadable


def test_folder_that_cannot_be_read_is_named_with_the_reason(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, library / "b")
    found = find_audio([str(library)])
    assert [path.name for path in found.files] == ["a.mp3", "x.ape"]
    (failed,) = found.missing
    assert failed.path == library / "b"
    assert (failed.error.kind, failed.reason) == ("unreadable", "permission denied: nothing in it was looked at")


def test_pattern_of_any_depth_names_what_it_could_not_look_into(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, library / "b")
    (library / "c" / "up").symlink_to("..")
    (library / "c" / "round").symlink_to("..")
    found = find_audio([str(library / "**" / "*.ape"), str(library / "**" / "c")])
    assert found.files == [library / "c" / "x.ape"]
    assert {failed.path for failed in found.missing} == {library / "b"}


def refuse(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the system refuse to list a folder, which it would not do where root runs the tests."""
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


def test_link_that_leads_nowhere_is_named(library: Path) -> None:
    (library / "drive").symlink_to("/mnt/not mounted")
    (library / "cover.png").symlink_to("gone.png")
    left_out = walk_audio(str(library)).left_out
    assert left_out.unreadable == {str(library / "drive"): "no such file or directory"}
    assert left_out.by_suffix[".png"] == 1


def test_name_that_is_too_long_is_said_so() -> None:
    with pytest.raises(Exception, match="file name too long"):
        find_audio(["x" * 300])


def test_pattern_right_below_the_root_names_files_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = {"/": Walked(["/music/b/a.mp3", "/home/a.mp3"], LeftOut())}
    monkeypatch.setattr(audio_files, "walk_audio", trees.__getitem__)
    assert find_audio(["/mus*/**/*.mp3"]).files == [Path("/music/b/a.mp3")]
    assert fixed_part("/mus*/**/*.mp3") == Path("/")
