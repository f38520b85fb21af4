"""The download of the data set as a person calls it, from a real server with the same layout, smaller."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from file_server import FileServer, serve
from folders import unpacked

from datasets import mtat, mtat_download
from datasets.mtat import ANNOTATIONS, BROKEN_CLIPS, CLIP_INFO, PARTS
from datasets.mtat_download import SIZES_FOUND, download_mtat, remote_files
from pipeline.commands.download import command
from preprocessing.download import Patience
from preprocessing.errors import AutotagError, BadInputError

QUICK = Patience(attempts=2, first_wait=0.001, longest_wait=0.002)
CLIPS = {
    str(100 + n): (f"{folder}/artist-album-{n:02d}-title-0-29.mp3", os.urandom(9_000))
    for n, folder in enumerate("0123456789abcdef")
}
CLIPS["35644"] = ("6/norine_braun-now_and_zen-08-gently-117-146.mp3", b"")
CLIPS["19588"] = ("d/tim_rayborn-chordae-04-sempr_alegria-784-813.mp3", os.urandom(500))
AUDIO = dict(CLIPS.values())


def annotations() -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
    rows.writerow(["clip_id", "guitar", "slow", "mp3_path"])
    rows.writerows([clip_id, "1", "0", path] for clip_id, (path, _) in CLIPS.items())
    return text.getvalue().encode()


def files() -> dict[str, bytes]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in "0123456789abcdef":
            archive.writestr(f"{folder}/", b"")
        for path, data in AUDIO.items():
            archive.writestr(path, data)
    joined = buffer.getvalue()
    parts = dict(zip(PARTS, (joined[:60_000], joined[60_000:120_000], joined[120_000:]), strict=True))
    return {ANNOTATIONS: annotations(), CLIP_INFO: b'"clip_id"\t"title"\n"100"\t"x"\n', **parts}


FILES = files()


class Printed(NamedTuple):
    out: str
    err: str


Autotag = Callable[[], Printed]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as told:
        told.files = dict(FILES)
        yield told


@pytest.fixture
def autotag(server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Autotag:
    """Call the command in this process and return what it printed."""

    def call() -> Printed:
        command.main(["mtat", str(tmp_path / "mtat"), "--base-url", server.url], standalone_mode=False)
        return Printed(*capsys.readouterr())

    return call


def start(server: FileServer, folder: Path) -> subprocess.Popen[str]:
    """Start the command as its own process."""
    code = "from pipeline.cli import main; main()"
    arguments = [sys.executable, "-c", code, "download", "mtat", str(folder), "--base-url", server.url]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def slow_down(server: FileServer) -> None:
    server.block, server.pause = 4096, 0.02


def test_five_files_come_from_the_publisher() -> None:
    published = [remote.url for remote in remote_files().values()]
    assert published[0] == "https://mirg.city.ac.uk/datasets/magnatagatune/annotations_final.csv"
    assert published[-1] == "https://mirg.city.ac.uk/datasets/magnatagatune/mp3.zip.003"
    assert set(remote_files()) == {ANNOTATIONS, CLIP_INFO, *PARTS} == set(SIZES_FOUND)


def test_call_downloads_unpacks_and_says_what_is_there_and_what_comes_next(autotag: Autotag, tmp_path: Path) -> None:
    result = autotag()
    folder = tmp_path / "mtat"
    assert unpacked(folder) == AUDIO
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    lines = result.out.splitlines()
    assert lines[0] == "clips: 18 of 18 annotated"
    assert "25,863" in lines[1]
    assert f"broken as published: clip 35644 (empty) {CLIPS['35644'][0]}" in lines
    assert f"broken as published: clip 19588 (cannot be decoded) {CLIPS['19588'][0]}" in lines
    assert lines[-1] == f"next: autotag preprocess {folder} {folder}/annotations_final.csv OUT"
    assert "mp3.zip.002: 60.0 kB" in result.err


def test_second_call_transfers_and_writes_nothing(server: FileServer, autotag: Autotag, tmp_path: Path) -> None:
    first = autotag()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "mtat").glob("?/*")}
    server.gets.clear()
    second = autotag()
    assert second.out == first.out
    assert server.gets == []
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_deleted_archive_is_not_fetched_again_while_all_clips_are_there(
    server: FileServer, autotag: Autotag, tmp_path: Path
) -> None:
    autotag()
    for name in PARTS:
        (tmp_path / "mtat" / name).unlink()
    server.gets.clear()
    autotag()
    assert server.gets == []
    (tmp_path / "mtat" / CLIPS["103"][0]).unlink()
    autotag()
    assert unpacked(tmp_path / "mtat") == AUDIO


def test_finished_download_needs_no_server(server: FileServer, autotag: Autotag, tmp_path: Path) -> None:
    autotag()
    summary = download_mtat(tmp_path / "mtat", "http://127.0.0.1:1/", QUICK)
    assert (summary.on_disk.found, summary.on_disk.missing) == (len(CLIPS), ())


def test_killed_call_is_finished_by_the_next(server: FileServer, tmp_path: Path) -> None:
    slow_down(server)
    part = tmp_path / "mp3.zip.002.part"
    process = start(server, tmp_path)
    wait_for(lambda: part.is_file() and part.stat().st_size > 20_000)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    begun = part.stat().st_size
    server.pause = 0
    server.gets.clear()
    process = start(server, tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "of it from an earlier call" in err
    assert server.gets == [("mp3.zip.002", f"bytes={begun}-", 206), ("mp3.zip.003", None, 200)]
    assert unpacked(tmp_path) == AUDIO
    assert "clips: 18 of 18" in out
    assert not list(tmp_path.glob("*.part*"))


def test_interrupted_call_says_so_and_a_second_one_at_once_is_refused(server: FileServer, tmp_path: Path) -> None:
    slow_down(server)
    part = tmp_path / "mp3.zip.001.part"
    process = start(server, tmp_path)
    wait_for(lambda: part.is_file() and part.stat().st_size > 0)
    with pytest.raises(AutotagError, match="another download into .* is running"):
        download_mtat(tmp_path, server.url, QUICK)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "goes on from there" in err
    server.pause = 0
    download_mtat(tmp_path, server.url, QUICK)
    assert unpacked(tmp_path) == AUDIO
    assert [range_ for range_, _ in server.asked("mp3.zip.001")][1].startswith("bytes=")


def test_damaged_part_is_named_and_fetched_again_once_deleted(server: FileServer, tmp_path: Path) -> None:
    damaged = bytearray(FILES[PARTS[1]])
    damaged[30_000:30_010] = bytes(10)
    server.files[PARTS[1]] = bytes(damaged)
    with pytest.raises(AutotagError, match=r"1 members .*\.mp3 \(.*Delete \S+/mp3\.zip\.002 and call again"):
        download_mtat(tmp_path, server.url, QUICK)
    assert len(unpacked(tmp_path)) == len(AUDIO) - 1
    server.files[PARTS[1]] = FILES[PARTS[1]]
    (tmp_path / PARTS[1]).unlink()
    server.gets.clear()
    download_mtat(tmp_path, server.url, QUICK)
    assert server.gets == [(PARTS[1], None, 200)]
    assert unpacked(tmp_path) == AUDIO


def test_file_of_another_size_than_the_servers_is_named(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / PARTS[0]).write_bytes(FILES[PARTS[0]][:100])
    with pytest.raises(AutotagError, match=r"mp3.zip.001 has 100 bytes, on the server it has 60000: delete it"):
        download_mtat(tmp_path, server.url, QUICK)


def test_annotations_that_are_none_are_named(server: FileServer, tmp_path: Path) -> None:
    server.files[ANNOTATIONS] = b"Sorry, moved."
    with pytest.raises(AutotagError, match=rf"no annotation table .*delete \S+{ANNOTATIONS}"):
        download_mtat(tmp_path, server.url, QUICK)


def test_annotated_clip_that_the_archive_lacks_is_reported(server: FileServer, autotag: Autotag) -> None:
    server.files[ANNOTATIONS] += b'"7"\t"0"\t"1"\t"0/not-there-01-x-0-29.mp3"\n'
    result = autotag()
    assert "clips: 18 of 19 annotated" in result.out
    assert "missing: 1 (0/not-there-01-x-0-29.mp3)" in result.out


def test_missing_file_on_the_server_ends_in_one_line(server: FileServer, tmp_path: Path) -> None:
    del server.files[PARTS[2]]
    process = start(server, tmp_path)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in err
    assert f"autotag: {server.url}/mp3.zip.003: the server answered 404" in err
    assert not server.asked(PARTS[0])


@pytest.mark.parametrize("address", ["ftp://host/x", "mirror.org/mtat", "", "http://", "file:///tmp"])
def test_address_that_is_none_is_wrong_usage(tmp_path: Path, address: str) -> None:
    with pytest.raises(BadInputError, match="--base-url"):
        download_mtat(tmp_path / "new", address)


def test_folder_that_cannot_be_one_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="is a file"):
        download_mtat(tmp_path / "file")
    with pytest.raises(BadInputError, match="cannot be made"):
        download_mtat(tmp_path / "file" / "below")
    with pytest.raises(BadInputError, match="on this machine"):
        download_mtat("gs://bucket/mtat")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_disk_too_small_is_said_before_the_archive_is_fetched(server: FileServer, small_disk: Path) -> None:
    with pytest.raises(AutotagError, match=r"kB are needed \(.* kB to download, .* kB to unpack\): free space"):
        download_mtat(small_disk, server.url, QUICK)
    assert not server.asked(PARTS[0])


def test_disk_that_fills_while_downloading_and_unpacking_is_said_and_the_next_call_goes_on(
    server: FileServer, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mtat_download, "check_space", lambda folder, needed: None)
    monkeypatch.setattr("preprocessing.unpack.check_space", lambda folder, needed: None)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(150_000))
    with pytest.raises(AutotagError, match=r"the disk of .* is full .*call again|goes on from there"):
        download_mtat(small_disk, server.url, QUICK)
    begun = (small_disk / "mp3.zip.002.part").stat().st_size
    assert 0 < begun < 60_000
    filler.unlink()
    with pytest.raises(AutotagError, match=r"the disk of .* is full"):  # the clips do not fit beside the parts
        download_mtat(small_disk, server.url, QUICK)
    assert server.asked("mp3.zip.002")[-1] == (f"bytes={begun}-", 206)
    there = unpacked(small_disk)
    assert 0 < len(there) < len(AUDIO)
    assert all(AUDIO[path] == data for path, data in there.items())
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run(["mount", "-o", "remount,size=2m", small_disk], check=True)
    download_mtat(small_disk, server.url, QUICK)
    assert unpacked(small_disk) == AUDIO


def test_broken_clips_are_those_of_the_real_index() -> None:
    index = Path(__file__).parents[3] / "shared" / "mtat" / "clips_index_25863.csv"
    if not index.is_file():
        pytest.skip(f"no {index}")
    with open(index, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == mtat.CARD.counts["clips"]
    assert {row["clip_id"] for row in rows if row["broken_audio"] == "1"} == set(BROKEN_CLIPS)
    assert all(mtat_download._CLIP_MEMBER.fullmatch(row["mp3_path"]) for row in rows)


def test_next_command_can_be_pasted_whatever_the_folder_is_called(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["mtat", str(tmp_path / "my [bold]music"), "--base-url", server.url], standalone_mode=False)
    last = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(last)[3:5] == [f"{tmp_path}/my [bold]music", f"{tmp_path}/my [bold]music/{ANNOTATIONS}"]


def test_archives_are_deleted_where_that_is_asked_for_and_not_fetched_again(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["mtat", str(tmp_path / "mtat"), "--base-url", server.url, "--delete-archives"]
    command.main(arguments, standalone_mode=False)
    assert unpacked(tmp_path / "mtat") == AUDIO
    assert not list((tmp_path / "mtat").glob("mp3.zip*"))
    assert "can be deleted" not in capsys.readouterr().out
    asked = len(server.gets)
    command.main(arguments, standalone_mode=False)
    assert len(server.gets) == asked


def test_help_shows_an_example() -> None:
    assert "autotag download mtat mtat" in CliRunner().invoke(command, ["--help"]).output
