"""Every command under any locale, with streams that are closed, full or read by nobody: one line, no stack trace."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from serving_double import MadeUpModel, serving_double
from tones import write_audio

from pipeline.cli import COMMANDS
from preprocessing.examples import Example, read_records

ROOT: Final = Path(__file__).parents[2]
PROGRAM: Final = (sys.executable, "-c", "from pipeline.cli import main; main()")
LOCALES: Final[dict[str, dict[str, str]]] = {
    "C": {"LC_ALL": "C"},
    "C, and ASCII taken at its word": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "Turkish": {"LANG": "tr_TR", "LC_ALL": ""},
    "ASCII streams": {"PYTHONIOENCODING": "ascii"},
    "Latin-1 streams": {"PYTHONIOENCODING": "latin-1:strict"},
}
NAMES: Final = (
    "ideographic\u3000space.wav".encode(),
    "no\u00a0break.wav".encode(),
    "family \U0001f468\u200d\U0001f469\u200d\U0001f467.wav".encode(),
    b'two\nlines, "quoted".wav',
    b"carriage\rreturn.wav",
    b"caf\xe9 \xff\x1b[2J.wav",
)


def run(words: str, redirections: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command through bash, as a person does."""
    program = " ".join(f"'{word}'" for word in PROGRAM)
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {program} {words} {redirections}"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving_double({1: MadeUpModel()}) as double:
        yield double.grpc_address


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six songs whose names are trying."""
    folder = tmp_path_factory.mktemp("library")
    song = write_audio(folder / "song.wav", 1)
    for name in NAMES:
        shutil.copy(song, os.fsencode(folder) + b"/" + name)
    song.unlink()
    return folder


@pytest.mark.parametrize("name", list(LOCALES))
@pytest.mark.parametrize("form", ["--json", "--csv", ""])
def test_name_in_a_row_is_that_of_the_file_under_any_locale(library: Path, address: str, name: str, form: str) -> None:
    done = run(f"tag '{library}' --server {address} {form}", **LOCALES[name])
    assert (done.returncode, done.stderr) == (0, b"")
    if form == "--json":
        files = [json.loads(line)["file"] for line in done.stdout.decode().splitlines()]
    elif form == "--csv":
        text = done.stdout.decode("utf-8", "surrogateescape")
        files = [row["file"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    else:
        assert b"\x1b" not in done.stdout
        assert rb"caf\xe9 \xff\x1b[2J.wav" in done.stdout
        return
    assert sorted(os.path.basename(file).encode("utf-8", "surrogateescape") for file in files) == sorted(NAMES)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help_of_every_command_is_printed_to_a_stream_of_ascii(command: str) -> None:
    done = run(f"{command} --help", **LOCALES["C, and ASCII taken at its word"])
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()


LISTS: Final = ("networks", "networks --json", "pretrained", "pretrained --json", "run --show-config", "--help")


@pytest.mark.parametrize("words", LISTS)
def test_results_that_cannot_be_printed_are_said_in_one_line(words: str) -> None:
    for redirections, said in ((">&-", b"standard output is closed"), ("> /dev/full", b"No space left on device")):
        done = run(words, redirections)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.startswith(b"autotag: "), redirections
        assert said in done.stderr
        assert done.stderr.count(b"\n") == 1


def test_closed_output_is_said_where_the_locale_is_taken_at_its_word() -> None:
    done = run("networks", ">&-", **LOCALES["C, and ASCII taken at its word"])
    assert (done.returncode, b"standard output is closed" in done.stderr) == (1, True)


@pytest.mark.parametrize("words", LISTS)
def test_reader_that_has_gone_ends_a_command_without_a_word(words: str) -> None:
    done = run(words, "| true")
    assert done.returncode in (0, 1)
    assert done.stderr == b""


@pytest.mark.parametrize("redirections", ["2>&-", "2> /dev/full", "2> >(true)", "<&- 2>&-", ">&- 2>&- <&-"])
def test_what_cannot_be_said_is_left_unsaid_and_the_exit_code_tells(redirections: str, library: Path) -> None:
    assert run("tag none.mp3", redirections).returncode == (1 if ">&- 2" in redirections else 2)
    assert run("networks", redirections).returncode == (1 if ">&- 2" in redirections else 0)


def test_files_are_tagged_and_written_where_nobody_hears_of_it(library: Path, address: str, tmp_path: Path) -> None:
    out = tmp_path / "tags.jsonl"
    done = run(f"tag '{library}' none.mp3 --server {address} --json --out '{out}'", ">&- 2>&- <&-")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    assert len(out.read_text().splitlines()) == len(NAMES) + 1


def test_no_model_is_loaded_where_nothing_can_be_printed(library: Path) -> None:
    done = run(f"tag '{library}' --server localhost:1", ">&-")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"standard output is closed" in done.stderr


def test_summary_says_what_was_left_out_and_why(library: Path, address: str, tmp_path: Path) -> None:
    for name in ("cover.jpg", "back.jpg", "log"):
        (library / name).write_bytes(b"x")
    summary = tmp_path / "summary.json"
    done = run(f"tag '{library}' '{library}/none.mp3' --server {address} --json --summary '{summary}'")
    for name in ("cover.jpg", "back.jpg", "log"):
        (library / name).unlink()
    assert done.returncode == 1
    assert b"left out of the folders, going by their names: 2 .jpg, 1 without suffix\n" in done.stderr
    said = json.loads(summary.read_text())
    assert (said["files"], said["failed"]) == (len(NAMES) + 1, 1)
    assert said["failures"] == [
        {"file": f"{library}/none.mp3", "kind": "unreadable", "error": "no such file or folder"}
    ]
    assert said["left_out"] == {"by_suffix": {"": 1, ".jpg": 2}, "hidden": 0, "unreadable": {}}


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 songs in folders of their own, all files of one name, with trying folder names; a latin-1 file besides."""
    folder = tmp_path_factory.mktemp("stems")
    song = write_audio(folder / "song.flac", 1)
    lines = ["path,tags"]
    for number in range(24):
        artist = ("A\u3000B", "\u00a0leading", "A\nB", "Dr. C", "live-0-29", "\u2028D")[number % 6]
        path = f"{artist} - SONG {number}/mixture.flac"
        (folder / path).parent.mkdir()
        shutil.copy(song, folder / path)
        lines.append(f'"{path}",{("rock", "pop")[number % 2]}')
    shutil.copy(song, os.fsencode(folder) + b"/caf\xe9.flac")
    song.unlink()
    (folder / "songs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("environment", ["C, and ASCII taken at its word", "ASCII streams"])
def test_songs_of_one_file_name_are_tracks_by_folder_and_any_name_is_preprocessed(
    stems: Path, tmp_path: Path, environment: str
) -> None:
    done = run(
        f"preprocess '{stems}' '{stems}/songs.csv' '{tmp_path}/out' --dataset table --tags 2 --ratio 2:1:1",
        **LOCALES[environment],
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["examples"], summary["rejected"]) == (24, 0)
    (unlisted,) = summary["unlisted_audio"]["first"]
    assert os.fsencode(unlisted) == b"caf\xe9.flac"
    tracks, paths = set(), set()
    for shard in (tmp_path / "out").glob("*.tfrecord"):
        with shard.open("rb") as file:
            for record in read_records(file):
                feature = Example.FromString(record).features.feature
                tracks.add(feature["track"].bytes_list.value[0].decode())
                paths.add(feature["clip_id"].bytes_list.value[0].decode())
    assert len(tracks) == 24
    assert all((stems / path).is_file() for path in paths)
