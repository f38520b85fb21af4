"""Folders as classes: what becomes a clip, and that everything else is said."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from audio_samples import encoded, tone
from command_runner import invoke

from datasets import folders
from datasets.dataset import Source
from datasets.reading import read_clips, read_manifest
from preprocessing.clip_format import ClipFormat
from preprocessing.clips import AnnotatedClip
from preprocessing.errors import BadInputError
from preprocessing.settings import PreprocessSettings

SONG = encoded(tone(1.0))


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SONG)
    return root


def read(root: Path, subset: str = "class") -> list[AnnotatedClip]:
    return folders.read(Source(str(root), str(root), subset=subset))


def test_first_folder_is_the_class_and_the_second_the_artist_where_files_lie_deeper(tmp_path: Path) -> None:
    put(tmp_path, "rock/a.mp3", "rock/Band/Album/01 - b.mp3", "jazz/Trio/c.wav")
    assert read(tmp_path) == [
        AnnotatedClip("jazz/Trio/c.wav", "jazz/Trio/c.wav", ("jazz",), "jazz/Trio/c", "Trio"),
        AnnotatedClip(
            "rock/Band/Album/01 - b.mp3", "rock/Band/Album/01 - b.mp3", ("rock",), "rock/Band/Album/01 - b", "Band"
        ),
        AnnotatedClip("rock/a.mp3", "rock/a.mp3", ("rock",), "rock/a"),
    ]


def test_every_folder_on_the_way_is_a_tag_where_that_is_asked_for(tmp_path: Path) -> None:
    put(tmp_path, "rock/live/a.mp3", "rock/b.mp3", "jazz/live/jazz/c.mp3")
    assert [clip.tags for clip in read(tmp_path, "path")] == [("jazz", "live"), ("rock",), ("rock", "live")]


def test_what_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "rock/a.mp3", "jazz/b.mp3", "loose.mp3", ".hidden/c.mp3", "jazz/._b.mp3")
    (tmp_path / "empty").mkdir()
    (tmp_path / "covers").mkdir()
    (tmp_path / "covers" / "x.jpg").touch()
    (tmp_path / "notes.txt").touch()
    with caplog.at_level(logging.WARNING):
        assert [clip.path for clip in read(tmp_path)] == ["jazz/b.mp3", "rock/a.mp3"]
    assert [record.getMessage() for record in caplog.records] == [
        f"1 in {tmp_path} itself, in no class's folder: left out (loose.mp3)",
        "2 without audio: no class (covers, empty)",
        f"{tmp_path}: left out, going by their names: 1 .jpg, 1 .txt, 2 hidden",
    ]


def test_linked_class_is_a_class(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "a.mp3")
    put(tmp_path / "root", "rock/b.mp3")
    (tmp_path / "root" / "jazz").symlink_to(tmp_path / "elsewhere")
    assert Counter(clip.tags[0] for clip in read(tmp_path / "root")) == {"rock": 1, "jazz": 1}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "has no class with audio in it: expected two folders at least"),
        (["a.mp3", "b.mp3"], "has no class with audio"),
        (["rock/a.mp3", "rock/b.mp3"], "has the one class 'rock' with audio"),
        (["rock/a.mp3", "ja\nzz/b.mp3"], "cannot be a tag"),
        (["rock/a.mp3", " jazz/b.mp3"], "cannot be a tag"),
        (["rock/a.mp3", os.fsdecode(b"caf\xe9/b.mp3")], r"caf\\xe9/b.mp3: a clip's name has to be UTF-8"),
        (["rock/a.mp3", os.fsdecode(b"jazz/\xe9.mp3")], r"jazz/\\xe9.mp3: a clip's name has to be UTF-8"),
    ],
)
def test_folders_that_are_no_classes_are_refused(tmp_path: Path, names: list[str], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        read(put(tmp_path, *names))


@pytest.mark.parametrize(
    ("audio", "annotations", "words"),
    [
        ("s3://music", "s3://music", "on this machine alone"),
        ("{0}", "{0}/rock", "folders as classes have none beside the audio"),
        ("{0}/none", "{0}/none", "none: No such file or directory"),
    ],
)
def test_place_that_cannot_be_walked_is_refused(tmp_path: Path, audio: str, annotations: str, words: str) -> None:
    put(tmp_path, "rock/a.mp3", "jazz/b.mp3")
    with pytest.raises(BadInputError, match=words):
        folders.read(Source(audio.format(tmp_path), annotations.format(tmp_path)))


def test_artists_stay_on_one_side_where_folders_name_them_and_their_lack_is_said(tmp_path: Path) -> None:
    names = [f"{kind}/band {band}/{song}.mp3" for kind in ("a", "b") for band in range(8) for song in range(2)]
    put(tmp_path, *names)
    settings = PreprocessSettings(
        dataset="folders", split="artist", ratio=(1, 1, 1), n_tags=2, clip=ClipFormat(8_000, 8_000)
    )
    manifest = read_manifest(str(tmp_path), str(tmp_path), settings)
    sides: dict[str, set[str]] = {}
    for clip in manifest.clips:
        sides.setdefault(clip.path.split("/")[1], set()).add(clip.split)
    assert {len(found) for found in sides.values()} == {1}
    shutil.move(tmp_path / "a" / "band 0" / "0.mp3", tmp_path / "a" / "0.mp3")
    with pytest.raises(BadInputError, match="split 'artist' needs each clip's artist"):
        read_manifest(str(tmp_path), str(tmp_path), settings)


def test_commands_show_and_preprocess_the_folders(tmp_path: Path) -> None:
    root = put(tmp_path / "music", *(f"{kind}/{song}.mp3" for kind in ("rock", "jazz") for song in range(8)), "x.mp3")
    shown = invoke("dataset", "folders", root)
    assert shown.exit_code == 0, shown.stderr
    assert "clips: 16 of 16 tracks; 2 tags" in shown.stdout
    assert "split artist cannot be used" in shown.stdout
    assert "most frequent tags: jazz 8, rock 8" in shown.stdout
    assert "audio: 16 of 16 on disk" in shown.stdout
    out = tmp_path / "out"
    done = invoke(
        "preprocess", root, root, out, "--dataset", "folders", "--tags", 2, "--ratio", "2:1:1", "--workers", 1,
        "--clip-seconds", 1, catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert json.loads((out / "summary.json").read_text())["examples"] == 16
    assert sorted((out / "tags.txt").read_text().split()) == ["jazz", "rock"]


def test_manifest_changes_with_the_folder_that_a_file_lies_in(tmp_path: Path) -> None:
    put(tmp_path, "rock/a.mp3", "jazz/b.mp3", "jazz/c.mp3")
    settings = PreprocessSettings(dataset="folders")
    before = read_clips(str(tmp_path), str(tmp_path), settings)
    shutil.move(tmp_path / "jazz" / "c.mp3", tmp_path / "rock" / "c.mp3")
    after = read_clips(str(tmp_path), str(tmp_path), settings)
    assert [clip.tags for clip in before] == [("jazz",), ("jazz",), ("rock",)]
    assert [clip.tags for clip in after] == [("jazz",), ("rock",), ("rock",)]
