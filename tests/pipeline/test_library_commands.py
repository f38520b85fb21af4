"""``autotag index``, ``similar`` and ``search`` as a person or a script calls them."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
from command_runner import autotag, invoke
from pitch_model import PitchModel
from song_files import part, song

from pipeline.commands import index as index_command
from pipeline.commands import similar as similar_command
from preprocessing.errors import BadInputError
from serving.library.library import Match, Song
from serving.library.output import SongOutput
from serving.library.places import INDEX_NAME
from serving.tagging.output import ESCAPED


@pytest.fixture
def music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files of each of three pitches, indexed by a model that hears pitches; the working folder is above."""
    for module in (index_command, similar_command):
        monkeypatch.setattr(module, "load_model", lambda name, engine, say: PitchModel())
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "music"
    folder.mkdir()
    for number in range(3):
        sf.write(folder / f"{number}-0.wav", part(number)[:100_000], 44_100)
        sf.write(folder / f"{number}-1.wav", part(number)[50_000:150_000], 44_100)
    done = invoke("index", "music")
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        f"music/{INDEX_NAME}: 6 files by pitch (6 heard now, 0 unchanged, 0 known by their content, 0 gone)\n"
    )
    return folder


def test_search_prints_a_table_with_paths_from_here(music: Path) -> None:
    done = invoke("search", "low", "--index", "music")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["fit", "length", "tags", "file"]
    assert {line.split()[-1] for line in lines[1:]} == {"music/0-0.wav", "music/0-1.wav"}
    assert all("0:02" in line for line in lines[1:])


def test_search_prints_json_lines(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(music)
    rows = [json.loads(line) for line in invoke("search", "high or middle", "--json").stdout.splitlines()]
    assert [row["fit"] for row in rows] == sorted((row["fit"] for row in rows), reverse=True)
    assert {row["file"] for row in rows} == {"1-0.wav", "1-1.wav", "2-0.wav", "2-1.wav"}
    assert {tuple(row["above"]) for row in rows} == {("middle",), ("high",)}
    assert set(rows[0]) == {"file", "fit", "seconds", "bytes", "tags", "above"}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_json_has_any_name_whatever_the_streams_encoding(encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding, ESCAPED)
    found = Song("\u03b1\u00e9.wav", 1.0, 2, False, (("r\u00f6ck", 0.5),), ())
    SongOutput(stream, "json", Path.cwd(), "fit").matches([Match(found, 0.75)])
    row = json.loads(stream.buffer.getvalue().decode(encoding))  # type: ignore[attr-defined]
    assert (row["file"], row["tags"], row["fit"]) == (found.path, {"r\u00f6ck": 0.5}, 0.75)


def test_search_prints_paths_for_pipes(music: Path) -> None:
    done = invoke("search", "low", "--paths", "--index", "music")
    assert sorted(done.stdout.splitlines()) == ["music/0-0.wav", "music/0-1.wav"]
    done = invoke("search", "low", "--paths", "-0", "--index", "music")
    assert sorted(done.stdout.split("\0")) == ["", "music/0-0.wav", "music/0-1.wav"]


def test_search_says_how_many_more_fit_and_when_none_does(music: Path) -> None:
    done = invoke("search", "not low", "--top", "1", "--index", "music")
    assert "autotag: 1 of 4 songs that fit (--all shows every one)" in done.stderr
    done = invoke("search", "not low", "--all", "--paths", "--index", "music")
    assert len(done.stdout.splitlines()) == 4
    assert done.stderr == ""
    done = invoke("search", "low, high", "--index", "music")
    assert (done.exit_code, done.stderr) == (0, "autotag: no song fits\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("search", "hihg", "--index", "music"), "no tag 'hihg'; there is high"),
        (("search", "(low", "--index", "music"), "this parenthesis is not closed"),
        (("search", "low"), "no index at . or a folder above it: make one with `autotag index FOLDER`"),
        (("search", "low", "--index", "music/0-0.wav"), "is no index of autotag's"),
        (("similar", "music/0-0.wav", "--tags", "hihg"), "no tag 'hihg'; there is high"),
        (("similar", "music/0-0.wav", "--at", "9:00"), "has no second 540: it ends before"),
        (("index", "music", "--index", "no/x.sqlite"), "there is no folder"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(music: Path, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(BadInputError) as raised:
        invoke(*arguments, catch_exceptions=False)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("similar",), "Give either FILE or --duplicates"),
        (("similar", "music/0-0.wav", "--duplicates"), "Give either FILE or --duplicates"),
        (("similar", "--duplicates", "--m3u", "x.m3u8"), "go with FILE, not with --duplicates"),
        (("similar", "music/0-0.wav", "--at", "soon"), "'soon' is no place in a song"),
        (("similar", "music/0-0.wav", "--json", "--paths"), "choose one of --json and --paths"),
        (("search", "low", "-0"), "-0 (--null) goes with --paths"),
        (("search", "low", "--absolute"), "--absolute goes with --m3u"),
        (("search",), "Missing argument 'QUERY'"),
        (("index", "nowhere"), "'nowhere' does not exist"),
        (("index", "music", "--engine", "litert"), "'litert' is not one of"),
    ],
)
def test_options_that_do_not_go_together_are_refused(music: Path, arguments: tuple[str, ...], words: str) -> None:
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split())


def test_similar_finds_the_song_of_the_same_pitch_by_the_nearest_index(music: Path) -> None:
    rows = [json.loads(line) for line in invoke("similar", "music/1-0.wav", "--json").stdout.splitlines()]
    assert rows[0]["file"] == "music/1-1.wav"
    assert len(rows) == 5
    assert "music/1-0.wav" not in [row["file"] for row in rows]
    assert [row["similarity"] for row in rows] == sorted((row["similarity"] for row in rows), reverse=True)


def test_similar_takes_a_file_that_is_not_in_the_index(music: Path, tmp_path: Path) -> None:
    sf.write(tmp_path / "other.wav", part(2)[60_000:140_000], 44_100)
    done = invoke("similar", "other.wav", "--index", "music", "--top", "2", "--paths")
    assert sorted(done.stdout.splitlines()) == ["music/2-0.wav", "music/2-1.wav"]


def test_song_that_is_a_link_is_not_like_itself(music: Path, tmp_path: Path) -> None:
    sf.write(tmp_path / "other.wav", part(2)[60_000:140_000], 44_100)
    (music / "link.wav").symlink_to(tmp_path / "other.wav")
    invoke("index", "music")
    found = invoke("similar", "music/link.wav", "--top", "2", "--paths").stdout.splitlines()
    assert sorted(found) == ["music/2-0.wav", "music/2-1.wav"]


def test_similar_takes_a_second_of_a_file(music: Path, tmp_path: Path) -> None:
    sf.write(tmp_path / "song.wav", song(), 44_100)
    for second, number in (("0:02", 0), ("14", 2)):
        done = invoke("similar", "song.wav", "--at", second, "--index", "music", "--top", "2", "--paths")
        assert {line[6] for line in done.stdout.splitlines()} == {str(number)}


def test_similar_songs_fit_the_tags_that_were_asked_for(music: Path) -> None:
    done = invoke("similar", "music/0-0.wav", "--tags", "not low, not middle", "--paths")
    assert sorted(done.stdout.splitlines()) == ["music/2-0.wav", "music/2-1.wav"]
    assert "no song" in invoke("similar", "music/0-0.wav", "--tags", "low, high").stderr


def test_duplicates_are_listed_in_groups(music: Path) -> None:
    sf.write(music / "long-0.wav", song(), 44_100)
    invoke("index", "music")
    assert invoke("similar", "--duplicates", "--index", "music").stderr == "autotag: no song is there more than once\n"
    shutil.copyfile(music / "long-0.wav", music / "long-1.wav")
    assert "1 known by their content" in invoke("index", "music").stdout
    done = invoke("similar", "--duplicates", "--index", "music", "--json")
    groups: dict[int, list[str]] = {}
    for line in done.stdout.splitlines():
        row = json.loads(line)
        groups.setdefault(row["group"], []).append(row["file"])
    assert groups == {1: ["music/long-0.wav", "music/long-1.wav"]}
    lines = invoke("similar", "--duplicates", "--index", "music").stdout.splitlines()
    assert lines[0].split() == ["group", "length,", "size", "tags", "file"]
    assert [line.split()[-1] for line in lines[1:]] == groups[1]


def test_playlists_are_relative_to_their_place_or_absolute(music: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    done = invoke("search", "low", "--index", "music", "--m3u", "lists/low.m3u8")
    assert "lists/low.m3u8: 2 songs" in done.stderr
    lines = (tmp_path / "lists" / "low.m3u8").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#EXTM3U"
    assert sorted(lines[2::2]) == ["../music/0-0.wav", "../music/0-1.wav"]
    invoke("similar", "music/2-0.wav", "--top", "1", "--m3u", "like.m3u8", "--absolute")
    assert (tmp_path / "like.m3u8").read_text().splitlines()[2] == str(music / "2-1.wav")


def test_odd_names_come_out_byte_for_byte(music: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    (music / "0-0.wav").rename(music / name)
    invoke("index", "music")
    rows = [json.loads(line) for line in invoke("search", "low", "--index", "music", "--json").stdout.splitlines()]
    assert os.fsencode(f"music/{name}") in [os.fsencode(row["file"]) for row in rows]


def test_index_reports_what_failed_as_json_and_by_its_exit_code(music: Path) -> None:
    (music / "broken.mp3").write_bytes(b"none of it is music" * 50)
    done = invoke("index", "music", "--json")
    summary = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (summary["files"], summary["indexed"], summary["unchanged"], summary["failed"]) == (7, 6, 6, 1)
    assert summary["failures"][0]["file"] == "broken.mp3"
    assert "broken.mp3 was left out: undecodable" in done.stderr
    assert "1 of 7 files failed" in done.stderr


def test_a_real_model_is_indexed_searched_and_found_again(model: Any, tmp_path: Path) -> None:
    folder = tmp_path / "songs"
    folder.mkdir()
    for number in range(2):
        sf.write(folder / f"{number}.wav", part(number), 44_100)
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = autotag("index", folder, "--model", model.path, "--jobs", 1, env=env)
    assert "2 files by" in done.stdout
    assert "2 heard now" in done.stdout
    again = autotag("index", folder, env=env)
    assert "2 unchanged" in again.stdout
    table = autotag("search", "piano or not piano", "--index", folder, "--json", env=env)
    assert len(table.stdout.splitlines()) == 2
    near = autotag("similar", folder / "0.wav", "--at", "0:03", "--json", env=env)
    assert json.loads(near.stdout)["file"] == str(folder / "1.wav")
