"""Where fields stand in files, as other programs see them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest
import soundfile as sf
from dressed_songs import FORMATS, M4A, audio_bytes, song
from mutagen.id3 import COMM, GRP1, ID3, TCON, TIT1, TMOO, TXXX
from tones import write_audio

from serving.tagging.file_tags import read_fields, write_fields
from serving.tagging.tag_fields import genre_names

VALUES = {
    "genre": ("Rock", "Hip-Hop"),
    "mood": ("Fröhlich",),
    "grouping": ("Set 1",),
    "comment": ("heard by a machine",),
    "MINE": ("a", "b"),
}
ID3_KEYS = {"genre": "TCON", "mood": "TMOO", "grouping": "TIT1", "comment": "COMM::eng", "MINE": "TXXX:MINE"}
MP4_KEYS = {
    "genre": "\xa9gen",
    "mood": "----:com.apple.iTunes:MOOD",
    "grouping": "\xa9grp",
    "comment": "\xa9cmt",
    "MINE": "----:com.apple.iTunes:MINE",
}


def plain(path: Path) -> Path:
    """A file without tags."""
    if path.suffix == ".m4a":
        shutil.copy(M4A / "moov_last.m4a", path)
    elif path.suffix == ".opus":
        sf.write(path, np.sin(np.arange(9_600) / 20) / 3, 48_000, format="OGG", subtype="OPUS")
    else:
        write_audio(path, 0.3)
    return path


def values_elsewhere(path: Path, field: str) -> list[str]:
    """A field's values, as mutagen has them under the name that the format gives them."""
    file: Any = mutagen.File(path)
    if isinstance(file.tags, ID3):
        return [str(value) for value in file.tags[ID3_KEYS[field]].text]
    if path.suffix == ".m4a":
        return [bytes(value).decode() if isinstance(value, bytes) else value for value in file.tags[MP4_KEYS[field]]]
    return list(file.tags[field.upper()])


@pytest.mark.parametrize("name", ["mp3", "flac", "ogg", "opus", "wav", "aiff", "m4a"])
def test_each_field_stands_where_players_look_for_it_and_the_audio_is_untouched(tmp_path: Path, name: str) -> None:
    path = plain(tmp_path / f"a.{name}")
    audio = audio_bytes(path)
    write_fields(path, VALUES)
    assert {field: tuple(values_elsewhere(path, field)) for field in VALUES} == VALUES
    assert {field: held.values for field, held in read_fields(path, list(VALUES)).items()} == VALUES
    assert audio_bytes(path) == audio
    write_fields(path, dict.fromkeys(VALUES, ()))
    assert not any(held.values for held in read_fields(path, list(VALUES)).values())
    assert audio_bytes(path) == audio


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="there is no ffprobe on PATH")
@pytest.mark.parametrize("name", ["mp3", "flac", "ogg", "opus", "wav", "aiff", "m4a"])
def test_ffmpeg_reads_genre_mood_grouping_and_comment(tmp_path: Path, name: str) -> None:
    path = plain(tmp_path / f"a.{name}")
    write_fields(path, {"genre": ("Rock",), "mood": ("Sad",), "grouping": ("Set 1",), "comment": ("words",)})
    call = ["ffprobe", "-v", "error", "-show_entries", "format_tags:stream_tags", "-of", "json", str(path)]
    said = json.loads(subprocess.run(call, capture_output=True, check=True, timeout=60).stdout)
    sets = [said.get("format", {}).get("tags", {}), *(stream.get("tags", {}) for stream in said.get("streams", []))]
    tags = {key.lower(): value for found in sets for key, value in found.items()}
    assert tags["genre"] == "Rock"
    assert "Sad" in (tags.get("mood"), tags.get("tmoo"))
    assert "Set 1" in (tags.get("grouping"), tags.get("tit1"))
    assert tags["comment"] == "words"


def tagged(path: Path, *frames: Any, version: int = 4) -> Path:
    write_audio(path, 0.3)
    tags = ID3()
    for frame in frames:
        tags.add(frame)
    tags.save(path, v2_version=version)
    return path


def test_mood_and_grouping_stay_in_the_place_where_a_file_has_them(tmp_path: Path) -> None:
    path = tagged(tmp_path / "a.mp3", TXXX(3, "Mood", ["Sad"]), GRP1(3, ["Old"]), TIT1(3, ["Work"]))
    held = read_fields(path, ["mood", "grouping"])
    assert (held["mood"].values, held["grouping"].values) == (("Sad",), ("Old",))
    write_fields(path, {"mood": ("Happy",), "grouping": ("New",)})
    tags = ID3(path)
    assert tags["TXXX:Mood"].text == ["Happy"]
    assert tags["GRP1"].text == ["New"]
    assert tags["TIT1"].text == ["Work"]
    assert "TMOO" not in tags


def test_players_mood_counts_where_both_places_have_one(tmp_path: Path) -> None:
    path = tagged(tmp_path / "a.mp3", TXXX(3, "MOOD", ["Old"]), TMOO(3, ["Sad"]))
    assert read_fields(path, ["mood"])["mood"].values == ("Sad",)


def test_comment_keeps_its_language_and_other_comments_stay(tmp_path: Path) -> None:
    path = tagged(tmp_path / "a.mp3", COMM(3, "deu", "", ["Worte"]), COMM(3, "eng", "iTunNORM", [" 0000"]))
    assert read_fields(path, ["comment"])["comment"].values == ("Worte",)
    write_fields(path, {"comment": ("neue",)})
    tags = ID3(path)
    assert {key: tags[key].text for key in tags} == {"COMM::deu": ["neue"], "COMM:iTunNORM:eng": [" 0000"]}


def test_id3v23_has_one_value_in_players_fields_unless_a_file_has_several_there(tmp_path: Path) -> None:
    path = tagged(tmp_path / "a.mp3", TCON(3, ["Rock"]), version=3)
    held = read_fields(path, ["genre", "mood", "MINE"])
    assert [held[name].several for name in ("genre", "mood", "MINE")] == [False, False, True]
    old: Any = ID3(path)
    old["TCON"].text = ["Rock", "Pop"]
    old.save(path, v2_version=3, v23_sep=None)
    assert read_fields(path, ["genre"])["genre"].several


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "id3v23.mp3"])
def test_all_fields_but_comments_take_several_values(tmp_path: Path, name: str) -> None:
    held = read_fields(song(tmp_path / f"a.{name}", 0.2), list(VALUES))
    assert {field for field in VALUES if not held[field].several} == {"comment"}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["(17)", "4"], ("Rock", "Disco")),
        (["(51)(39)", "Free Jazz"], ("Techno-Industrial", "Noise", "Free Jazz")),
        (["Drum & Bass"], ("Drum & Bass",)),
        (["1999"], ("1999",)),
        ([], ()),
    ],
)
def test_old_numbers_of_genres_are_names(values: list[str], names: tuple[str, ...]) -> None:
    assert genre_names(values) == names
