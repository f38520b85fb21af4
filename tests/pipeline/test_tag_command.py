"""``autotag tag``: which files, which tags, in which form, with what exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from click.testing import Result
from command_runner import invoke
from engine_model import EngineModel
from exported_model import TAGS, THRESHOLDS, Exported, write_audio
from serving_double import MadeUpModel, ServingDouble, serving_double

from preprocessing.constants import CLIP_SAMPLES, SAMPLE_RATE
from preprocessing.errors import AutotagError, BadInputError
from serving.tagging.audio_files import find_audio, plan_taggrams
from serving.tagging.file_tags import NO_TAGS, read_fields, read_file_tags
from serving.tagging.sources import LocalModel


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two songs, one of them deeper, a hidden one and a file that is no audio."""
    folder = tmp_path_factory.mktemp("album [live]")
    (folder / "disc 2").mkdir()
    (folder / ".trash").mkdir()
    write_audio(folder / "b.ogg", 4)
    write_audio(folder / "disc 2" / "a.MP3", 33, 700)
    (folder / ".trash" / "c.wav").write_bytes(b"")
    (folder / "._b.ogg").write_bytes(b"resource fork")
    (folder / "cover.txt").write_text("not audio")
    return folder


@pytest.fixture
def songs(album: Path, tmp_path: Path) -> Path:
    """A copy of the album that may be written to, with a FLAC and a WAV besides."""
    folder = Path(shutil.copytree(album, tmp_path / "songs"))
    write_audio(folder / "c.flac", 3, 900)
    write_audio(folder / "d.wav", 3, 500)
    return folder


@pytest.fixture(scope="module")
def running() -> Iterator[ServingDouble]:
    with serving_double({1: MadeUpModel(), 2: MadeUpModel(salt=2)}, {"stable": 1, "canary": 2}) as double:
        yield double


@pytest.fixture
def double(running: ServingDouble) -> ServingDouble:
    running.requests.clear()
    return running


def tag(*arguments: object) -> Result:
    return invoke("tag", *arguments)


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def names(result: Result) -> list[str]:
    return [Path(line["file"]).name for line in lines(result)]


# What is said of a file


def test_quiet_file_has_the_loud_ones_tags_where_windows_are_brought_to_one_level(
    tmp_path: Path, exported: Exported
) -> None:
    samples, rate = sf.read(write_audio(tmp_path / "loud.wav", 4))
    sf.write(tmp_path / "quiet.wav", 0.1 * samples, rate)

    def furthest(*options: object) -> float:
        result = tag(tmp_path / "loud.wav", tmp_path / "quiet.wav", "--model", exported.path, "--json", *options)
        loud, quiet = ({one["tag"]: one["probability"] for one in line["tags"]} for line in lines(result))
        return max(abs(loud[name] - quiet[name]) for name in TAGS)

    assert furthest("--level", "rms") < 0.02
    assert furthest() > 0.05


def test_table_shows_the_most_probable_tags_of_each_file(album: Path, exported: Exported) -> None:
    result = tag(album / "b.ogg", "--model", exported.path, "--top", 2)
    assert result.exit_code == 0, result.stderr
    shown = [name for name in TAGS if name in result.stdout]
    assert len(shown) == 2
    assert "b.ogg" in result.stdout
    assert "4.0 s" in result.stdout
    assert "█" in result.stdout


def test_json_is_one_object_a_line_sorted_by_probability(album: Path, exported: Exported) -> None:
    result = tag(album, "--model", exported.path.parent, "--json", "--top", 3)
    assert result.exit_code == 0, result.stderr
    assert names(result) == ["b.ogg", "a.MP3"]
    assert [line["windows"] for line in lines(result)] == [1, 2]
    for line in lines(result):
        probabilities = [entry["probability"] for entry in line["tags"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert len(probabilities) == 3
        assert {entry["tag"] for entry in line["tags"]} <= set(TAGS)
        for entry in line["tags"]:
            assert entry["threshold"] == pytest.approx(THRESHOLDS[TAGS.index(entry["tag"])])
            assert entry["above_threshold"] == (entry["probability"] >= entry["threshold"])


def test_csv_is_a_row_a_file_with_a_column_for_each_tag(album: Path, double: ServingDouble, tmp_path: Path) -> None:
    result = tag(tmp_path / "none.mp3", album, "--server", double.grpc_address, "--csv", "--threshold", "0.5")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert result.exit_code == 1
    assert list(rows[0]) == ["file", "seconds", "windows", "tags", "error", "shortfall", "silent_windows", *TAGS]
    assert [Path(row["file"]).name for row in rows] == ["none.mp3", "b.ogg", "a.MP3"]
    assert rows[0]["error"] == "unreadable: no such file or folder"
    assert rows[0]["guitar"] == ""
    for row in rows[1:]:
        above = {name for name in TAGS if float(row[name]) >= 0.5}
        assert set(row["tags"].split("; ")) - {""} == above
        assert row["error"] == ""


def test_csv_where_nothing_can_be_tagged_has_its_header_all_the_same(tmp_path: Path, double: ServingDouble) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    result = tag(tmp_path / "a.wav", "--server", double.grpc_address, "--csv")
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert row["error"] == "empty: has no bytes"
    assert result.exit_code == 1


def test_threshold_of_the_model_chooses_tags_and_says_where_there_is_none(songs: Path) -> None:
    def told(thresholds: tuple[float, ...], *options: object) -> Result:
        with serving_double({1: MadeUpModel(thresholds=thresholds)}) as double:
            return tag(songs / "d.wav", "--server", double.grpc_address, *options)

    (line,) = lines(told(THRESHOLDS, "--json"))
    probabilities = {entry["tag"]: entry["probability"] for entry in line["tags"]}
    assert len(probabilities) == len(TAGS), "all, without --threshold"
    third = sorted(probabilities.values(), reverse=True)[2]
    (line,) = lines(told((third - 0.001,) * len(TAGS), "--json", "--threshold", "auto"))
    assert [entry["tag"] for entry in line["tags"]] == list(probabilities)[:3]
    assert line["no_tag"] is False
    (line,) = lines(told((1.0,) * len(TAGS), "--json", "--threshold", "auto"))
    assert (line["tags"], line["no_tag"]) == ([], True)
    assert "no tag reaches its threshold" in told((1.0,) * len(TAGS), "--threshold", "auto").stdout
    assert "no tag reaches 1.0" in told(THRESHOLDS, "--threshold", "1").stdout


def test_hop_gives_more_windows(album: Path, double: ServingDouble) -> None:
    (line,) = lines(tag(album / "disc 2", "--server", double.grpc_address, "--hop", "1", "--json"))
    assert line["windows"] == 5
    assert line["seconds"] == pytest.approx(33, abs=0.1)


# Which files


def test_folder_is_searched_below_and_in_order_and_a_named_file_is_taken_as_it_is(album: Path) -> None:
    found, missing, left_out = find_audio([str(album), str(album / "cover.txt")])
    assert found == [album / "b.ogg", album / "disc 2" / "a.MP3", album / "cover.txt"]
    assert missing == []
    assert left_out.to_json() == {"by_suffix": {".txt": 1}, "hidden": 2, "unreadable": {}}


def test_quoted_patterns_are_expanded_and_take_audio_alone(songs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(songs)
    assert find_audio(["*.[fw]*"])[0] == [Path("c.flac"), Path("d.wav")]
    assert find_audio(["**/*.MP3"])[0] == [Path("disc 2/a.MP3")]
    assert find_audio(["*"])[0] == [Path("b.ogg"), Path("c.flac"), Path("d.wav"), Path("disc 2/a.MP3")]


def test_file_given_twice_is_tagged_once(songs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(songs)
    (songs / "link.ogg").symlink_to("b.ogg")
    found, _, _ = find_audio(["b.ogg", "./b.ogg", "link.ogg", str(songs), "disc 2/../b.ogg"])
    assert [path.name for path in found] == ["b.ogg", "c.flac", "d.wav", "a.MP3"]


def test_nothing_that_is_there_stops_all(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="has no audio files"):
        find_audio([str(tmp_path)])
    with pytest.raises(BadInputError, match=r"none\.mp3: no such file or folder; .*\*\.mp3: no audio file matches"):
        find_audio([str(tmp_path / "none.mp3"), str(tmp_path / "*.mp3")])


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_broken_and_missing_files_are_reported_and_the_others_go_on_with_exit_code_1(
    songs: Path, double: ServingDouble, form: str | None
) -> None:
    (songs / "broken.mp3").write_bytes(b"\0" * 100)
    (songs / "c.flac").write_bytes((songs / "c.flac").read_bytes()[:9_000])
    result = tag(songs, songs / "none.mp3", "--server", double.grpc_address, *([form] if form else []))
    assert result.exit_code == 1
    for words in ("broken.mp3 was left out: undecodable", "c.flac was not heard whole: ",
                  "none.mp3 was left out: unreadable: no such file", "2 of 6 files failed",
                  "1 of 6 files were not heard whole"):  # fmt: skip
        assert words in result.stderr
    for name in ("b.ogg", "a.MP3", "d.wav", "c.flac"):
        assert name in result.stdout
    if form == "--json":
        errors = {Path(line["file"]).name: line["kind"] for line in lines(result) if "error" in line}
        assert errors == {"broken.mp3": "undecodable", "none.mp3": "unreadable"}
        short = {Path(line["file"]).name: line["shortfall"] for line in lines(result) if line.get("complete") is False}
        assert list(short) == ["c.flac"]
        assert re.fullmatch(r"\d+\.\d of \d+\.\d s", short["c.flac"])


def test_name_that_is_no_text_is_tagged_and_printed(tmp_path: Path, double: ServingDouble) -> None:
    strange = os.fsdecode(b"caf\xe9\n\x1b[2J [bold].wav")
    shutil.copy(write_audio(tmp_path / "a.wav", 1), tmp_path / strange)
    (tmp_path / "a.wav").unlink()
    call = (tmp_path, "--server", double.grpc_address)
    shown, as_json, as_csv = tag(*call), tag(*call, "--json"), tag(*call, "--csv")
    assert r"caf\xe9\n\x1b[2J [bold].wav" in shown.stdout
    assert Path(lines(as_json)[0]["file"]) == tmp_path / strange
    (row,) = csv.DictReader(io.StringIO(as_csv.stdout_bytes.decode("utf-8", "surrogateescape"), newline=""))
    assert Path(row["file"]) == tmp_path / strange


# Where it goes


def test_out_is_written_whole_and_nothing_is_printed(album: Path, double: ServingDouble, tmp_path: Path) -> None:
    out = tmp_path / "tags.jsonl"
    out.write_text("old")
    result = tag(album, "--server", double.grpc_address, "--json", "--out", out)
    assert (result.exit_code, result.stdout) == (0, "")
    assert [json.loads(line)["windows"] for line in out.read_text("utf-8").splitlines()] == [1, 2]
    assert list(tmp_path.iterdir()) == [out]


def test_out_may_be_a_pipe(album: Path, double: ServingDouble) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe:
        result = tag(album, "--server", double.grpc_address, "--json", "--out", f"/dev/fd/{writing}")
        os.close(writing)
        assert result.exit_code == 0, result.stderr
        assert [json.loads(line)["windows"] for line in pipe.read().splitlines()] == [1, 2]


def test_out_stays_as_it_was_where_the_server_goes_away(album: Path, double: ServingDouble, tmp_path: Path) -> None:
    out = tmp_path / "tags.jsonl"
    out.write_text("old")
    double.fail_next("internal", times=5)
    result = tag(album, "--server", double.grpc_address, "--json", "--out", out)
    double._faults.clear()
    assert isinstance(result.exception, AutotagError)
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_out_in_a_folder_that_is_not_there_stops_all(album: Path, double: ServingDouble, tmp_path: Path) -> None:
    result = tag(album, "--server", double.grpc_address, "--out", tmp_path / "none" / "tags.txt")
    assert isinstance(result.exception, BadInputError)
    assert "No such file or directory" in str(result.exception)
    assert double.requests == []


# The server


@pytest.mark.parametrize("way", ["grpc", "rest", "url"])
def test_server_gives_what_its_model_says(songs: Path, double: ServingDouble, way: str) -> None:
    address = {"grpc": double.grpc_address, "rest": double.rest_address, "url": f"http://{double.rest_address}"}[way]
    result = tag(songs / "d.wav", "--server", address, *(["--rest"] if way == "rest" else []), "--json")
    assert result.exit_code == 0, result.stderr
    samples = sf.read(songs / "d.wav", dtype="int16")[0]
    window = np.resize(samples, CLIP_SAMPLES).astype("<i2")
    expected = MadeUpModel(salt=2)("pcm", np.array([window.tobytes()], object))["predictions"][0]
    got = {entry["tag"]: entry["probability"] for entry in lines(result)[0]["tags"]}
    assert got == pytest.approx(dict(zip(TAGS, expected, strict=True)), abs=1e-4)


@pytest.mark.parametrize("way", [[], ["--rest"]])
def test_encrypted_server_is_asked_with_its_authority(
    songs: Path, certificate: tuple[Path, Path], way: list[str]
) -> None:
    with serving_double({2: MadeUpModel(salt=2)}, certificate=certificate) as double:
        address = double.rest_address if way else double.grpc_address
        result = tag(songs / "d.wav", "--server", address, *way, "--root-certificates", certificate[1], "--json")
        assert result.exit_code == 0, result.stderr
        assert len(lines(result)[0]["tags"]) > 0


def test_label_chooses_the_version(songs: Path, double: ServingDouble) -> None:
    stable, canary, newest = (
        lines(tag(songs / "d.wav", "--server", double.grpc_address, "--json", *options))
        for options in (["--label", "stable"], ["--label", "canary"], [])
    )
    assert stable != canary == newest


def test_jobs_are_so_many_requests_at_a_time_in_the_order_of_the_files(tmp_path: Path) -> None:
    for number in range(12):
        write_audio(tmp_path / f"{number:02d}.wav", 1 + number / 4)
    with serving_double() as double:
        double.fail_next("slow", times=2)
        result = tag(tmp_path, "--server", double.grpc_address, "--jobs", 3, "--json")
        assert 2 <= double.most_at_once <= 3
    assert names(result) == [f"{number:02d}.wav" for number in range(12)]
    assert [line["seconds"] for line in lines(result)] == [1 + number / 4 for number in range(12)]


def test_server_that_is_not_there_is_an_error_of_its_own(songs: Path) -> None:
    result = tag(songs / "d.wav", "--server", "ftp://x", "--json")
    assert isinstance(result.exception, BadInputError)
    assert "HOST:PORT" in str(result.exception)


# Options that do not go together


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--json", "--csv"], "choose one of --json and --csv"),
        (["--rest"], "go with --server"),
        (["--label", "stable"], "go with --server"),
        (["--tls"], "go with --server"),
        (["--server", "a:1", "--model", "b"], "takes the place"),
        (["--server", "a:1", "--engine", "litert"], "takes the place"),
        (["--dry-run"], "go with --write or --undo"),
        (["--preview"], "go with --write or --undo"),
        (["--force"], "goes with --write"),
        (["--fields", "default"], "goes with --write"),
        (["--all-runs"], "goes with --undo"),
        (["--undo", "--write"], "--write does not go with --undo"),
        (["--undo", "--top", "2"], "--top does not go with --undo"),
        (["--field", "MINE"], "goes with --write"),
        (["--threshold", "2"], "neither auto nor a number"),
        (["--threshold", "nan"], "neither auto nor a number"),
        (["--hop", "0.05"], "x>=0.1"),
        (["--jobs", "0"], "x>=1"),
        (["--engine", "abacus"], "abacus"),
    ],
)
def test_wrong_usage_is_said_and_has_exit_code_2(songs: Path, options: list[str], words: str) -> None:
    result = tag(songs, *options)
    assert result.exit_code == 2
    assert words in result.stderr


# Tags in the files


def test_write_puts_tags_above_their_thresholds_into_the_files_and_skips_what_is_done(
    songs: Path, double: ServingDouble
) -> None:
    first = tag(songs, "--server", double.grpc_address, "--write", "--json")
    assert first.exit_code == 0, first.stderr
    assert "4 of 4 files written, 0 were already done" in first.stderr
    for line in lines(first):
        held = read_file_tags(Path(line["file"]))
        assert line["written"] is True
        assert line["old"] == []
        assert list(held.tags) == line["new"] == [entry["tag"] for entry in line["tags"]]
        assert all(entry["above_threshold"] for entry in line["tags"])
        assert held.model.endswith("version 2 hop=29.1 threshold=auto")
    assert any(line["tags"] for line in lines(first))

    double.requests.clear()
    again = tag(songs, "--server", double.grpc_address, "--write", "--json")
    assert "0 of 4 files written, 4 were already done" in again.stderr
    assert [line["skipped"] for line in lines(again)] == ["already done"] * 4
    assert [line["old"] for line in lines(again)] == [line["new"] for line in lines(first)]
    assert double.requests == []


@pytest.mark.parametrize("change", [["--force"], ["--top", "2"], ["--hop", "10"], ["--label", "stable"]])
def test_other_settings_another_model_or_force_write_again(
    songs: Path, double: ServingDouble, change: list[str]
) -> None:
    tag(songs / "c.flac", "--server", double.grpc_address, "--write")
    result = tag(songs / "c.flac", "--server", double.grpc_address, "--write", *change)
    assert "1 of 1 files written, 0 were already done" in result.stderr


def test_new_file_is_tagged_and_those_done_are_named_in_their_places(songs: Path, double: ServingDouble) -> None:
    tag(songs / "b.ogg", songs / "d.wav", "--server", double.grpc_address, "--write")
    result = tag(songs, "--server", double.grpc_address, "--write", "--json")
    assert names(result) == ["b.ogg", "c.flac", "d.wav", "a.MP3"]
    assert ["skipped" in line for line in lines(result)] == [True, False, True, False]


def test_dry_run_shows_what_goes_and_comes_and_writes_nothing(songs: Path, double: ServingDouble) -> None:
    tag(songs / "c.flac", "--server", double.grpc_address, "--write", "--top", 3)
    held = read_file_tags(songs / "c.flac")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in songs.rglob("*") if path.is_file()}

    options = ["--server", double.grpc_address, "--label", "stable", "--write", "--top", 2, "--dry-run"]
    line = next(line for line in lines(tag(songs, *options, "--json")) if line["file"].endswith("c.flac"))
    assert line["old"] == list(held.tags)
    assert line["written"] is False
    table = tag(songs / "c.flac", *options).stdout
    for name in TAGS:
        if name in line["old"] or name in line["new"]:
            sign = " " if name in line["old"] and name in line["new"] else "-" if name in line["old"] else "+"
            assert f"  {sign} {name}\n" in table
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before


@pytest.mark.parametrize(("dry_run", "said"), [((), "was not"), (("--dry-run",), "would not be")])
def test_file_that_cannot_be_written_is_reported_and_the_others_are_written(
    songs: Path, double: ServingDouble, dry_run: tuple[str, ...], said: str
) -> None:
    (songs / "c.flac").chmod(0o444)
    sf.write(songs / "e.au", np.zeros(16_000), SAMPLE_RATE)
    result = tag(songs, "--server", double.grpc_address, "--write", "--json", *dry_run)
    assert result.exit_code == 1
    assert f"c.flac {said} written: unwritable: is read-only" in result.stderr
    assert f"e.au {said} written: untaggable: only MP3, FLAC" in result.stderr
    assert f"3 of 5 files {'would be ' if dry_run else ''}written" in result.stderr
    failed = {Path(line["file"]).name: line["error"] for line in lines(result) if "error" in line}
    assert set(failed) == {"c.flac", "e.au"}
    assert read_file_tags(songs / "c.flac") == NO_TAGS
    assert (read_file_tags(songs / "b.ogg") == NO_TAGS) is bool(dry_run)


def test_own_field_is_used_and_a_players_one_refused(songs: Path, double: ServingDouble) -> None:
    tag(songs / "c.flac", "--server", double.grpc_address, "--write", "--field", "HEARD", "--top", 1)
    assert len(read_file_tags(songs / "c.flac", "HEARD").tags) == 1
    assert read_file_tags(songs / "c.flac") == NO_TAGS
    result = tag(songs, "--server", double.grpc_address, "--write", "--field", "GENRE")
    assert isinstance(result.exception, BadInputError)


def mapping_file(folder: Path, text: str) -> Path:
    (folder / "mine.yaml").write_text(text)
    return folder / "mine.yaml"


def test_fields_are_previewed_written_skipped_and_taken_back(
    songs: Path, double: ServingDouble, tmp_path: Path
) -> None:
    mapping = mapping_file(tmp_path, f"genre: {{tags: [{TAGS[0]}, {TAGS[1]}], casing: title}}\nmood: {{most: 1}}\n")
    options = ["--server", double.grpc_address, "--threshold", 0, "--write", "--fields", mapping]
    before = {path: path.read_bytes() for path in songs.rglob("*") if path.is_file()}

    table = tag(songs / "c.flac", *options, "--preview")
    assert table.exit_code == 0, table.stderr
    genre = next(line for line in table.stdout.splitlines() if line.startswith("  genre"))
    assert {TAGS[0].title(), TAGS[1].title()} == set(genre.split(maxsplit=3)[3].split("; "))
    assert genre.split()[1:3] == ["-", "→"]
    rows = list(csv.DictReader(io.StringIO(tag(songs, *options, "--preview", "--csv").stdout)))
    assert {(row["genre (before)"], row["mood (before)"]) for row in rows} == {("", "")}
    assert all(row["genre (after)"] and row["mood (after)"] for row in rows)
    assert {path: path.read_bytes() for path in before} == before
    assert set(path for path in songs.rglob("*") if path.is_file()) == set(before)

    first = tag(songs, *options, "--json")
    assert first.exit_code == 0, first.stderr
    for line in lines(first):
        held = read_fields(Path(line["file"]), ["genre", "mood"])
        assert {name: list(one.values) for name, one in held.items()} == {
            name: change["after"] for name, change in line["fields"].items()
        }
        assert len(held["mood"].values) == 1
    assert "4 were already done" in tag(songs, *options).stderr
    assert "4 of 4 files written" in tag(songs, *options[:-2]).stderr, "without the mapping"

    undone = tag(songs, "--undo", "--all-runs", "--json")
    assert undone.exit_code == 0, undone.stderr
    assert "8 of 8 changes undone" in undone.stderr
    for line in lines(first):
        held = read_fields(Path(line["file"]), ["genre", "mood", "AUTOTAG_MODEL"])
        assert not any(one.values for one in held.values())


def test_mapping_for_another_models_tags_is_refused(songs: Path, double: ServingDouble, tmp_path: Path) -> None:
    mapping = mapping_file(tmp_path, "genre: {tags: [no such tag]}")
    result = tag(songs, "--server", double.grpc_address, "--write", "--fields", mapping)
    assert isinstance(result.exception, BadInputError)
    assert f"{mapping}: no field takes any of the model's" in str(result.exception)
    assert read_file_tags(songs / "c.flac") == NO_TAGS


def test_nothing_to_undo_is_said(songs: Path) -> None:
    result = tag(songs, "--undo")
    assert isinstance(result.exception, BadInputError)
    assert "no journal" in str(result.exception)


def test_local_models_tags_are_done_until_the_model_changes(songs: Path, exported: Exported) -> None:
    tag(songs / "d.wav", "--model", exported.path, "--write")
    assert read_file_tags(songs / "d.wav").model.startswith(LocalModel(exported.path).identity())
    assert "1 were already done" in tag(songs / "d.wav", "--model", exported.path.parent, "--write").stderr


# Taggrams


def test_taggram_of_one_file(songs: Path, double: ServingDouble, tmp_path: Path) -> None:
    result = tag(
        songs / "disc 2", "--server", double.grpc_address, "--hop", 2, "--taggram", tmp_path / "new" / "a.json"
    )
    assert result.exit_code == 0, result.stderr
    data = json.loads((tmp_path / "new" / "a.json").read_text("utf-8"))
    assert [window["start"] for window in data["windows"]][:2] == [0, 2]
    assert data["model"].endswith("version 2")


def test_taggrams_of_several_files_need_a_place_each(songs: Path, double: ServingDouble, tmp_path: Path) -> None:
    one = tag(songs, "--server", double.grpc_address, "--taggram", tmp_path / "a.png")
    assert isinstance(one.exception, BadInputError)
    assert "would both be drawn to" in str(one.exception)
    assert "{name}" in str(one.exception)
    assert double.requests == []
    several = tag(songs, "--server", double.grpc_address, "--taggram", tmp_path / "{folder}" / "{name}.json")
    assert several.exit_code == 0, several.stderr
    drawn = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json"))
    assert drawn == ["disc 2/a.json", "songs/b.json", "songs/c.json", "songs/d.json"]


def test_taggrams_of_files_of_the_same_name_are_told_apart_by_folder() -> None:
    files = [Path("x/1.mp3"), Path("y/1.mp3")]
    with pytest.raises(BadInputError, match=r"x/1\.mp3 and y/1\.mp3"):
        plan_taggrams("{name}.png", files)
    assert list(plan_taggrams("{folder} {name}.png", files).values()) == [Path("x 1.png"), Path("y 1.png")]
    with pytest.raises(BadInputError, match=r"\.png, \.html, \.json"):
        plan_taggrams("a.gif", files)


# The whole program


def command_line(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from pipeline.cli import main; main()", "tag", *map(str, arguments)]


def surroundings() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return {**environment, "PYTHONPATH": str(Path(__file__).parents[2])}


def autotag(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    call = command_line(*arguments)
    return subprocess.run(call, capture_output=True, text=True, timeout=120, cwd=cwd, env=surroundings())


def test_newest_push_is_the_default_and_nothing_noisy_is_printed_by_decoders(
    album: Path, exported: Exported, tmp_path: Path
) -> None:
    (tmp_path / "demo-run").mkdir()
    (tmp_path / "demo-run" / "pushed").symlink_to(exported.path.parent)
    cut = tmp_path / "cut.mp3"
    data = (album / "disc 2" / "a.MP3").read_bytes()
    cut.write_bytes(data[:40_000] + bytes(range(256)) * 4 + data[41_024:60_000])
    done = autotag(album / "b.ogg", cut, cwd=tmp_path)
    assert done.returncode == 1
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == ["autotag", "autotag"]
    assert f"{cut} was not heard whole: " in done.stderr
    assert "b.ogg" in done.stdout
    assert "cut.mp3" in done.stdout


def test_model_that_is_none_is_one_line_and_exit_code_2(album: Path, tmp_path: Path) -> None:
    done = autotag(album / "b.ogg", "--model", "demo-run/pushed", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("autotag: no model at demo-run/pushed")
    assert len(done.stderr.splitlines()) == 1


def test_without_a_model_of_ones_own_the_listed_one_is_taken_and_computes_without_tensorflow(
    album: Path, model: EngineModel, tmp_path: Path
) -> None:
    cached = tmp_path / "cache" / "models" / "musicnn-mtt"
    cached.mkdir(parents=True)
    (cached / "1").symlink_to(model.path)
    program = (
        "import sys; from pipeline.commands.tag import command; "
        f"command([{str(album / 'b.ogg')!r}, '--json'], standalone_mode=False); "
        "print([name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'tfx', 'keras', 'apache_beam')])"
    )
    environment = {**surroundings(), "AUTOTAG_CACHE": str(tmp_path / "cache")}
    call = [sys.executable, "-c", program]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path)
    line, modules = done.stdout.splitlines()
    assert json.loads(line)["model"] == "musicnn-mtt"
    assert json.loads(line)["identity"].endswith("litert-int8")
    assert (modules, done.stderr) == ("[]", "")


def test_fresh_machine_without_a_connection_is_told_in_one_line_what_to_do(album: Path, tmp_path: Path) -> None:
    """The package index's client is one of the test's own, which fails."""
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text("raise SystemExit('ERROR: no connection')")
    environment = {"AUTOTAG_CACHE": str(tmp_path / "cache"), "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    call = command_line(album / "b.ogg")
    done = subprocess.run(
        call, capture_output=True, text=True, timeout=60, env={**surroundings(), **environment}, cwd=tmp_path
    )
    assert done.returncode == 1
    said, failed = done.stderr.splitlines()
    assert said.startswith("autotag: fetching musicnn-mtt (musicnn trained on MTAT) from the package index")
    assert "29.3 MB; licence ISC" in said
    assert "cannot be fetched from the package index (musicnn==0.1.0): ERROR: no connection" in failed
    assert str(tmp_path / "cache") in failed


def test_several_models_give_several_sets_of_tags(album: Path, exported: Exported, tmp_path: Path) -> None:
    other = Path(shutil.copytree(exported.path, tmp_path / "other"))
    result = tag(album / "b.ogg", "--model", exported.path, "--model", other, "--json", "--engine", "tensorflow")
    assert result.exit_code == 0, result.stderr
    assert [line["model"] for line in lines(result)] == [str(exported.path), str(other)]
    assert lines(result)[0]["tags"] == lines(result)[1]["tags"]


def test_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    done = autotag("none.mp3", cwd=tmp_path)
    assert done.returncode == 2
    assert "none.mp3" in done.stderr
    assert "Traceback" not in done.stderr


def test_asking_a_server_imports_no_tensorflow(songs: Path, double: ServingDouble) -> None:
    program = (
        "import sys; from pipeline.commands.tag import command; "
        f"command([{str(songs)!r}, '--server', {double.grpc_address!r}, '--write'], standalone_mode=False); "
        "print([name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'tfx', 'keras', 'apache_beam')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=surroundings()
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_interrupt_leaves_no_half_written_output(tmp_path: Path, songs: Path) -> None:
    sf.write(tmp_path / "long.wav", np.tile(np.int16([256, -256]), 50 * CLIP_SAMPLES), SAMPLE_RATE)
    before = {path: path.read_bytes() for path in songs.rglob("*") if path.is_file()}
    with serving_double() as double:
        double.fail_next("slow", times=100)
        call = command_line(
            tmp_path / "long.wav", songs, "--server", double.grpc_address, "--json", "--out", tmp_path / "o", "--write"
        )
        process = subprocess.Popen(call, stderr=subprocess.PIPE, text=True, env=surroundings())
        for _ in range(300):
            if double.requests:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.wav", "songs"]
    assert {path: path.read_bytes() for path in before} == before
    assert not list(songs.rglob("*.tmp-*"))


def test_full_disk_is_said_and_out_is_not_there(tmp_path: Path, songs: Path, double: ServingDouble) -> None:
    resource_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource_limit[1]))
    try:
        result = tag(songs, "--server", double.grpc_address, "--json", "--out", tmp_path / "o")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, resource_limit)
    assert isinstance(result.exception, AutotagError)
    assert "o cannot be written: File too large" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["songs"]


def test_progress_is_on_a_terminal_alone_and_never_in_what_is_piped(songs: Path, double: ServingDouble) -> None:
    for number in range(5):
        shutil.copy(songs / "d.wav", songs / f"e{number}.wav")
    call = command_line(songs, "--server", double.grpc_address, "--json")
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=other_end, env={**surroundings(), "TERM": "xterm"})
    os.close(other_end)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert process.stdout is not None
    printed = process.stdout.read()
    assert process.wait(timeout=30) == 0
    os.close(terminal)
    assert b"%" in shown
    assert len([json.loads(line) for line in printed.splitlines()]) == 9
    quiet = autotag(songs, "--server", double.grpc_address, "--json", cwd=songs)
    assert quiet.stderr == "autotag: left out of the folders, going by their names: 1 .txt, 2 hidden\n"
