"""``autotag tag``: a part of each file, audio from standard input, and lists of files."""

from __future__ import annotations

import csv
import io
import json
import os
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
from command_runner import separate_streams
from exported_model import write_audio
from hypothesis import given
from hypothesis import strategies as st
from serving_double import MadeUpModel, ServingDouble, serving_double

from preprocessing.errors import AutotagError, BadInputError
from serving.tagging.audio_files import find_audio
from serving.tagging.inputs import STDIN, read_list

RATE = 16_000


@pytest.fixture(scope="module")
def double() -> Iterator[ServingDouble]:
    with serving_double({1: MadeUpModel()}) as double:
        yield double


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    folder = tmp_path / "songs"
    (folder / "disc 2").mkdir(parents=True)
    write_audio(folder / "b.ogg", 4)
    write_audio(folder / "disc 2" / "a.mp3", 33, 700)
    write_audio(folder / "long.flac", 100, 500)
    return folder


def tag(double: ServingDouble, *arguments: object, stdin: bytes | None = None) -> Result:
    from pipeline.commands.tag import command

    call = [*map(str, arguments), "--server", double.grpc_address]
    return separate_streams().invoke(command, call, input=stdin)


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.stdout, result.stderr or result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]


# A part of each file


def test_part_is_said_in_every_form_and_is_no_shortfall(songs: Path, double: ServingDouble, tmp_path: Path) -> None:
    song = songs / "long.flac"
    result = tag(double, song, "--part", "middle:60", "--json")
    (line,) = lines(result)
    assert result.exit_code == 0, result.stderr
    assert (line["seconds"], line["windows"], line["complete"]) == (60.0, 3, True)
    assert line["part"] == {"start": 20.0, "end": 80.0, "file_seconds": 100.0}
    (row,) = csv.DictReader(io.StringIO(tag(double, song, "--part", "1:10:20", "--csv").stdout))
    assert (row["seconds"], row["part_start"], row["file_seconds"]) == ("20.000", "70.000", "100.000")
    assert (row["shortfall"], row["windows"]) == ("", "1")
    assert "60.0 s from 20.0 s on, of 100.0 s" in tag(double, song, "--part", "middle:60").stdout
    (line,) = lines(tag(double, song, "--part", "start:30", "--json"))
    assert line["part"] == {"start": 0.0, "end": 30.0, "file_seconds": None}


def test_part_has_the_tags_that_the_same_sound_has_as_a_file(
    songs: Path, double: ServingDouble, tmp_path: Path
) -> None:
    samples, rate = sf.read(songs / "long.flac", dtype="int16")
    sf.write(tmp_path / "cut.wav", samples[30 * rate : 90 * rate], rate)
    (part,), (cut,) = (
        lines(tag(double, *call, "--json"))
        for call in ([songs / "long.flac", "--part", "30:60"], [tmp_path / "cut.wav"])
    )
    heard = {entry["tag"]: entry["probability"] for entry in part["tags"]}
    assert heard == pytest.approx({entry["tag"]: entry["probability"] for entry in cut["tags"]}, abs=1e-3)


def test_part_beyond_a_files_end_is_said_and_the_others_go_on(songs: Path, double: ServingDouble) -> None:
    result = tag(double, songs, "--part", "50:30", "--json")
    assert result.exit_code == 1
    assert "b.ogg was left out: no_part: the part begins at 50 s, and the file ends at 4.0 s" in result.stderr
    assert [line.get("seconds") for line in lines(result) if "error" not in line] == [30.0]


def test_short_file_is_heard_whole_where_its_middle_is_asked_for(songs: Path, double: ServingDouble) -> None:
    result = tag(double, songs / "b.ogg", "--part", "middle:60", "--json")
    (line,) = lines(result)
    assert (result.exit_code, line["seconds"]) == (0, 4.0)
    assert line["part"] == {"start": 0.0, "end": 4.0, "file_seconds": 4.0}


def test_taggram_of_a_part_has_the_files_times(songs: Path, double: ServingDouble, tmp_path: Path) -> None:
    for suffix in ("json", "html", "png"):
        place = tmp_path / f"a.{suffix}"
        result = tag(double, songs / "long.flac", "--part", "30:60", "--hop", "10", "--taggram", place)
        assert result.exit_code == 0, result.stderr
    data = json.loads((tmp_path / "a.json").read_text())
    assert [(window["start"], window["end"]) for window in data["windows"]][:2] == [(30.0, 59.1), (40.0, 69.1)]
    assert data["windows"][-1]["end"] == 90.0
    assert (data["seconds"], data["part_start"], data["file_seconds"]) == (60.0, 30.0, 100.0)
    page = (tmp_path / "a.html").read_text()
    assert 'viewBox="30 0 60 1"' in page
    assert "0:30 to 1:30" in page
    assert '<span style="left:0.000%">0:30</span>' in page


def test_tags_of_another_part_are_written_again(songs: Path, double: ServingDouble) -> None:
    for part, words in (("end:20", "1 of 1 files written"), ("end:20", "1 were already"), ("end:30", "1 of 1 files")):
        assert words in tag(double, songs / "long.flac", "--write", "--part", part).stderr


def test_part_that_is_none_is_refused_before_anything_is_read(songs: Path, double: ServingDouble) -> None:
    result = tag(double, songs, "--part", "halfway")
    assert result.exit_code == 2
    assert "'halfway' is no part of a file: expected WHERE:SECONDS" in result.stderr


# Audio from standard input


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_standard_input_has_the_tags_of_the_file(
    songs: Path, double: ServingDouble, tmp_path: Path, suffix: str
) -> None:
    song = write_audio(tmp_path / f"a.{suffix}", 5)
    expected = lines(tag(double, song, "--json"))[0]
    result = tag(double, "-", "--json", stdin=song.read_bytes())
    assert result.exit_code == 0, result.stderr
    assert lines(result) == [{**expected, "file": "<stdin>"}]


def test_standard_input_is_one_of_several_files_in_its_place(songs: Path, double: ServingDouble) -> None:
    data = (songs / "disc 2" / "a.mp3").read_bytes()
    result = tag(double, songs / "b.ogg", "-", songs / "long.flac", "--part", "start:30", "--json", stdin=data)
    assert [Path(line["file"]).name for line in lines(result)] == ["b.ogg", "<stdin>", "long.flac"]


@pytest.mark.parametrize(("data", "words"), [(b"", "empty: has no bytes"), (b"not audio at all" * 9, "undecodable: ")])
def test_standard_input_that_is_no_audio_is_said(double: ServingDouble, data: bytes, words: str) -> None:
    result = tag(double, "-", "--json", stdin=data)
    assert result.exit_code == 1
    assert f"<stdin> was left out: {words}" in result.stderr
    assert lines(result)[0]["file"] == "<stdin>"
    assert "/tmp" not in result.stderr + result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-", "--write"], "--write writes into files, and standard input (-) is none"),
        (["-", "--files-from", "-"], "standard input is the audio (-) or the list (--files-from -)"),
        (["a.mp3", "-0"], "-0 (--null) goes with --files-from"),
        ([], "Missing argument 'FILE|DIR|GLOB|-...', or --files-from LIST"),
    ],
)
def test_names_that_do_not_go_together_are_wrong_usage(double: ServingDouble, arguments: list[str], words: str) -> None:
    result = tag(double, *arguments, stdin=b"")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_standard_input_is_read_once(double: ServingDouble) -> None:
    result = tag(double, "-", "-", stdin=b"x")
    assert isinstance(result.exception, BadInputError)
    assert "give it once" in str(result.exception)


def test_file_that_is_called_like_standard_input_has_its_whole_path(
    songs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(songs)
    shutil.copy("b.ogg", "-")
    shutil.copy("b.ogg", "<stdin>")
    assert find_audio(["./-", "-", "<stdin>"])[0] == [Path("-"), STDIN, songs / "<stdin>"]


def test_piped_program_is_heard_with_flat_memory(double: ServingDouble, tmp_path: Path) -> None:
    """20 minutes of a WAV whose sizes a pipe cannot fill in."""
    minute = np.tile(np.int16([2560, -2560]), 30 * RATE).tobytes()
    header = b"RIFF\xff\xff\xff\xffWAVEfmt " + b"\x10\0\0\0\1\0\1\0" + (RATE).to_bytes(4, "little")
    header += (2 * RATE).to_bytes(4, "little") + b"\2\0\x10\0data\xff\xff\xff\xff"
    program = (
        "import resource, sys; from pipeline.commands.tag import command\n"
        f"command(['-', '--server', {double.grpc_address!r}, '--json', '--part', 'end:30'], standalone_mode=False)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def peak(minutes: int) -> int:
        process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        said, _ = process.communicate(header + minutes * minute, timeout=120)
        line, kilobytes = said.splitlines()
        assert json.loads(line)["part"]["start"] == 60 * minutes - 30
        return int(kilobytes)

    assert peak(40) - peak(1) < 30_000


def test_full_temporary_folder_is_said(double: ServingDouble) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        result = tag(double, "-", stdin=bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert isinstance(result.exception, AutotagError)
    assert "standard input cannot be copied to" in str(result.exception)
    assert "TMPDIR" in str(result.exception)


# Lists of files


def names_in(data: bytes, null: bool = False) -> list[bytes]:
    return [os.fsencode(name) for name in read_list(io.BytesIO(data), null, "LIST")]


NAMES = st.lists(st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name and b"\n" not in name))


@given(NAMES)
def test_names_of_any_bytes_come_back(names: list[bytes]) -> None:
    assert names_in(b"".join(name + b"\0" for name in names), null=True) == names
    plain = [name for name in names if not name.endswith(b"\r") and name[:2] not in (b"\xff\xfe", b"\xfe\xff")]
    plain = [name for name in plain if not name.startswith(b"\xef\xbb\xbf")]
    assert names_in(b"\n".join(plain)) == names_in(b"\r\n".join(plain) + b"\r\n") == plain
    assert names_in(b"\xef\xbb\xbf" + b"\n\n".join(plain) + b"\n") == plain


def test_blanks_and_signs_are_a_names_own() -> None:
    data = b"# no comment.mp3\n  two blanks \n*.mp3\n[x]\n-\n\nlast without an end"
    assert names_in(data) == [b"# no comment.mp3", b"  two blanks ", b"*.mp3", b"[x]", b"-", b"last without an end"]
    assert names_in(b"two\nlines.mp3\0\0b\0", null=True) == [b"two\nlines.mp3", b"b"]


def test_carriage_return_is_the_names_own_where_a_file_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd\r").touch()
    assert names_in(b"odd\r\neven\r\n") == [b"odd\r", b"even"]


@pytest.mark.parametrize(
    ("data", "null", "words"),
    [
        ("a.mp3\n".encode("utf-16"), False, "UTF-16 text"),
        (b"a.mp3\0b.mp3\0", False, "line 1 has a NUL byte: give -0"),
        (b"a.mp3\nb.mp3\n", True, "leave -0 .* out"),
        (b"x" * 200_000, False, "no list of files"),
    ],
)
def test_what_is_no_such_list_is_refused_with_what_to_do(data: bytes, null: bool, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        names_in(data, null)


@pytest.mark.parametrize("way", ["file", "stdin", "null"])
def test_listed_files_are_tagged_in_their_order(
    songs: Path, double: ServingDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.chdir(songs)
    strange = os.fsdecode(b"caf\xe9 [1] #.ogg")
    shutil.copy("b.ogg", strange)
    end = b"\0" if way == "null" else b"\n"
    data = end.join([os.fsencode(strange), b"disc 2/a.mp3", b"none.mp3", b"b.ogg"]) + end
    (tmp_path / "list").write_bytes(data)
    call = {"file": [tmp_path / "list"], "stdin": ["-"], "null": ["-", "-0"]}[way]
    result = tag(double, "--files-from", *call, "--json", "--summary", tmp_path / "s.json", stdin=data)
    assert result.exit_code == 1
    assert "none.mp3 was left out: unreadable: no such file or folder" in result.stderr
    assert [line["file"] for line in lines(result)] == ["none.mp3", strange, "disc 2/a.mp3", "b.ogg"]
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["files"], summary["failed"], summary["failures"][0]["file"]) == (4, 1, "none.mp3")


def test_list_goes_with_files_and_folders_and_each_is_tagged_once(
    songs: Path, double: ServingDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(songs)
    result = tag(double, "b.ogg", "--files-from", "-", "--json", "--part", "start:1", stdin=b"./b.ogg\r\ndisc 2\r\n")
    assert [line["file"] for line in lines(result)] == ["b.ogg", "disc 2/a.mp3"]


def test_list_of_which_nothing_is_there_names_the_first_ones(double: ServingDouble) -> None:
    result = tag(double, "--files-from", "-", stdin=b"".join(b"%d.mp3\n" % number for number in range(100)))
    assert isinstance(result.exception, BadInputError)
    assert str(result.exception).endswith("4.mp3: no such file or folder; and 95 more")
    empty = tag(double, "--files-from", "-", stdin=b"\n\n")
    assert isinstance(empty.exception, BadInputError)
    assert "the list names no file" in str(empty.exception)
    missing = tag(double, "--files-from", "none.txt")
    assert isinstance(missing.exception, BadInputError)
    assert "--files-from none.txt: No such file or directory" in str(missing.exception)


# Rows as files are done, and outputs that are continued


def started(double: ServingDouble, *arguments: object, **streams: Any) -> subprocess.Popen[bytes]:
    call = [sys.executable, "-c", "from pipeline.cli import main; main()", "tag", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([*call, "--server", double.grpc_address, "--jobs", "1"], env=environment, **streams)


@pytest.mark.parametrize("form", ["--json", "--csv", "table"])
def test_rows_come_as_files_are_done(songs: Path, form: str) -> None:
    for number in range(4):
        shutil.copy(songs / "b.ogg", songs / f"c{number}.ogg")
    with serving_double({1: MadeUpModel()}) as double:
        double.fail_next("slow", times=50)
        process = started(double, songs, *([] if form == "table" else [form]), stdout=subprocess.PIPE)
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(2 if form == "--csv" else 1)]
        still_at_work = process.poll() is None
        process.kill()
        process.communicate()
    assert still_at_work
    assert b"b.ogg" in said[-1]


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_killed_call_goes_on_and_ends_as_an_undisturbed_one(songs: Path, tmp_path: Path, form: str) -> None:
    for number in range(8):
        write_audio(songs / f"c{number}.ogg", 1 + number / 4)
    out, part = tmp_path / "tags", tmp_path / "tags.part"
    with serving_double({1: MadeUpModel()}) as double:
        double.fail_next("slow", times=100)
        process = started(double, songs, form, "--out", out, "--resume")
        for _ in range(600):
            if part.exists() and part.read_bytes().count(b"\n") >= 3:
                break
            time.sleep(0.05)
        process.kill()
        process.wait()
        assert not out.exists()
        there = part.read_bytes().count(b"\n")
        assert there >= 3
        with part.open("ab") as file:
            file.write(part.read_bytes()[-40:-1])
        double._faults.clear()
        double.requests.clear()
        resumed = tag(double, songs, form, "--out", out, "--resume", "--summary", tmp_path / "s.json")
        assert resumed.exit_code == 0, resumed.stderr
        done = there - (form == "--csv")
        assert f"{done} of 11 files were done already" in resumed.stderr
        assert json.loads((tmp_path / "s.json").read_text())["already_done"] == done
        whole = tag(double, songs, form, "--out", tmp_path / "whole", "--resume")
    assert whole.exit_code == 0
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()
    assert not part.exists()


def test_interrupt_keeps_the_rows(songs: Path, tmp_path: Path) -> None:
    out, part = tmp_path / "tags", tmp_path / "tags.part"
    with serving_double({1: MadeUpModel()}) as double:
        double.fail_next("slow", times=100)
        process = started(double, songs, "--json", "--out", out, "--resume", stderr=subprocess.PIPE)
        for _ in range(600):
            if part.exists() and part.read_bytes().count(b"\n") >= 1:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"Traceback" not in words
    assert all(json.loads(line)["file"] for line in part.read_bytes().splitlines())


def test_full_disk_is_said_the_rows_are_kept_and_the_same_call_goes_on(
    songs: Path, double: ServingDouble, tmp_path: Path
) -> None:
    out, limit = tmp_path / "tags", resource.getrlimit(resource.RLIMIT_FSIZE)
    whole = tag(double, songs, "--json", "--out", tmp_path / "whole", "--resume")
    assert whole.exit_code == 0
    size = (tmp_path / "whole").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limit[1]))
    try:
        result = tag(double, songs, "--json", "--out", out, "--resume")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert isinstance(result.exception, AutotagError)
    assert "tags.part cannot be written: File too large; the rows so far are there" in str(result.exception)
    assert not out.exists()
    assert tag(double, songs, "--json", "--out", out, "--resume").exit_code == 0
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json"], "--resume goes with --out and --json or --csv"),
        (["--out", "x"], "--resume goes with --out and --json or --csv"),
        (["--out", "x", "--json", "--write"], "passes over files that are done by itself"),
        (["--out", "x", "--json", "-"], "standard input (-) cannot be resumed"),
    ],
)
def test_what_cannot_be_resumed_is_wrong_usage(
    songs: Path, double: ServingDouble, arguments: list[str], words: str
) -> None:
    result = tag(double, songs, "--resume", *arguments, stdin=b"")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_output_that_is_no_file_cannot_be_resumed(songs: Path, double: ServingDouble) -> None:
    result = tag(double, songs, "--json", "--resume", "--out", "/dev/null")
    assert isinstance(result.exception, BadInputError)
    assert "/dev/null is no file" in str(result.exception)
