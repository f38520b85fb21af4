"""Downloads over a real server: cut, changed, failing, lying."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from file_server import FileServer, serve

from preprocessing import download
from preprocessing.download import Patience, RemoteFile, clear_disk_errors, fetch, locked, open_client
from preprocessing.errors import AutotagError

DATA = os.urandom(300_000)
QUICK = Patience(attempts=3, first_wait=0.001, longest_wait=0.002)
Get = Callable[..., Path]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as told:
        told.files["f.bin"] = DATA
        yield told


@pytest.fixture
def get(server: FileServer, tmp_path: Path) -> Get:
    def fetch_it(size: int | None = None, digest: str | None = None, patience: Patience = QUICK) -> Path:
        with open_client() as client:
            return fetch(client, RemoteFile("f.bin", f"{server.url}/f.bin", size, digest), tmp_path, patience)

    return fetch_it


def is_clean(path: Path) -> bool:
    return path.read_bytes() == DATA and sorted(p.name for p in path.parent.iterdir()) == ["f.bin"]


def test_whole_file_gets_its_name_and_nothing_else_is_left(server: FileServer, get: Get) -> None:
    assert is_clean(get(size=len(DATA), digest="sha256:" + hashlib.sha256(DATA).hexdigest()))
    assert server.asked("f.bin") == [(None, 200)]


def test_file_that_is_there_is_not_asked_for(server: FileServer, get: Get) -> None:
    get()
    get()
    assert len(server.gets) == 1


def test_cut_connection_goes_on_with_the_missing_range(server: FileServer, get: Get) -> None:
    server.cuts = [100_000, 50_000]
    assert is_clean(get())
    assert server.asked("f.bin") == [(None, 200), ("bytes=100000-", 206), ("bytes=150000-", 206)]


def test_cuts_that_bring_new_bytes_never_exhaust_patience(server: FileServer, get: Get) -> None:
    server.cuts = [20_000] * 10
    assert is_clean(get(patience=Patience(2, 0.001)))


def test_next_call_goes_on_where_a_failed_one_ended(server: FileServer, get: Get, tmp_path: Path) -> None:
    server.cuts, server.failures = [100_000], []
    server.cuts += [0, 0]
    with pytest.raises(AutotagError, match="call again to go on"):
        get()
    assert (tmp_path / "f.bin.part").read_bytes() == DATA[:100_000]
    assert not (tmp_path / "f.bin").exists()
    assert is_clean(get())
    assert server.asked("f.bin")[-1] == ("bytes=100000-", 206)


def test_server_without_ranges_starts_over(server: FileServer, get: Get) -> None:
    server.ranges, server.cuts = False, [100_000]
    assert is_clean(get())
    assert [status for _, status in server.asked("f.bin")] == [200, 200]


def test_server_without_ranges_that_always_cuts_is_given_up(server: FileServer, get: Get) -> None:
    server.ranges, server.cuts = False, [100_000] * 50
    with pytest.raises(AutotagError, match="gave up after 3 attempts"):
        get()


@pytest.mark.parametrize(
    "change", [DATA[::-1], DATA[:250_000], DATA + b"more", b"x"], ids=["altered", "cut", "longer", "tiny"]
)
def test_file_changed_on_the_server_starts_over(server: FileServer, get: Get, tmp_path: Path, change: bytes) -> None:
    server.cuts = [100_000, 0, 0]
    with pytest.raises(AutotagError):
        get()
    server.files["f.bin"] = change
    assert get().read_bytes() == change


@pytest.mark.parametrize("change", [DATA[::-1], DATA + b"more"], ids=["altered", "longer"])
def test_range_of_another_file_is_not_appended(server: FileServer, get: Get, change: bytes) -> None:
    server.if_range, server.cuts = False, [100_000, 0, 0]
    with pytest.raises(AutotagError):
        get()
    server.files["f.bin"] = change
    assert get().read_bytes() == change


def test_weak_etag_alone_starts_over(server: FileServer, get: Get) -> None:
    server.weak_etag, server.cuts = True, [100_000]
    assert is_clean(get())
    assert server.asked("f.bin") == [(None, 200), (None, 200)]


def test_part_longer_than_the_file_starts_over(server: FileServer, get: Get, tmp_path: Path) -> None:
    state = {"url": f"{server.url}/f.bin", "validator": server.etag(DATA), "total": len(DATA)}
    (tmp_path / "f.bin.part.json").write_text(json.dumps(state))
    (tmp_path / "f.bin.part").write_bytes(DATA + b"too much")
    assert is_clean(get())
    assert server.asked("f.bin") == [(f"bytes={len(DATA) + 8}-", 416), (None, 200)]


def test_part_that_was_whole_when_killed_is_only_renamed(server: FileServer, get: Get, tmp_path: Path) -> None:
    state = {"url": f"{server.url}/f.bin", "validator": server.etag(DATA), "total": len(DATA)}
    (tmp_path / "f.bin.part.json").write_text(json.dumps(state))
    (tmp_path / "f.bin.part").write_bytes(DATA)
    assert is_clean(get())
    assert server.gets == []


@pytest.mark.parametrize("state", ["", "{", "[]", '{"url": "elsewhere", "validator": "x", "total": 5}', '{"a": 1}'])
def test_part_of_unknown_origin_is_not_trusted(server: FileServer, get: Get, tmp_path: Path, state: str) -> None:
    (tmp_path / "f.bin.part.json").write_text(state)
    (tmp_path / "f.bin.part").write_bytes(b"whose is it")
    assert is_clean(get())


def test_busy_server_is_asked_again(server: FileServer, get: Get) -> None:
    server.failures = [503, 429]
    assert is_clean(get())


def test_server_that_stays_busy_is_given_up(server: FileServer, get: Get) -> None:
    server.failures = [503] * 50
    with pytest.raises(AutotagError, match="answered 503; gave up after 3 attempts"):
        get()
    assert len(server.gets) == 3


@pytest.mark.parametrize("status", [404, 403, 410])
def test_missing_file_is_said_at_once(server: FileServer, get: Get, status: int) -> None:
    server.failures = [status]
    with pytest.raises(AutotagError, match=rf"/f.bin: the server answered {status}"):
        get()
    assert len(server.gets) == 1


def test_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with open_client() as client, pytest.raises(AutotagError, match="127.0.0.1:1/f.bin: ConnectError"):
        fetch(client, RemoteFile("f.bin", "http://127.0.0.1:1/f.bin"), tmp_path, QUICK)


def test_published_size_that_differs_is_refused_before_the_transfer(server: FileServer, get: Get) -> None:
    with pytest.raises(AutotagError, match=f"{len(DATA)} bytes, published are 17"):
        get(size=17)


def test_published_size_holds_for_a_server_that_states_none(server: FileServer, get: Get, tmp_path: Path) -> None:
    server.chunked = True
    with pytest.raises(AutotagError, match="published are 17"):
        get(size=17)
    assert list(tmp_path.iterdir()) == []
    assert is_clean(get())


def test_wrong_checksum_throws_the_file_away(get: Get, tmp_path: Path) -> None:
    with pytest.raises(AutotagError, match="md5 is .*published is 00ff"):
        get(digest="md5:00ff")
    assert list(tmp_path.iterdir()) == []


def test_web_page_instead_of_a_file_is_refused(server: FileServer, get: Get) -> None:
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(AutotagError, match="web page instead of the file"):
        get()


def test_full_disk_keeps_what_fits_and_the_next_call_goes_on(
    server: FileServer, get: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, room = download._write, [120_000]

    def write(file: object, chunk: bytes) -> None:
        real(file, chunk[: room[0]])  # type: ignore[arg-type]
        room[0] -= len(chunk)
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_write", write)
    with pytest.raises(AutotagError, match=r"disk of .* is full .*call again"), clear_disk_errors(tmp_path):
        get()
    assert (tmp_path / "f.bin.part").read_bytes() == DATA[:120_000]
    monkeypatch.undo()
    assert is_clean(get())
    assert server.asked("f.bin")[-1] == ("bytes=120000-", 206)


def test_second_download_into_a_folder_is_refused(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(AutotagError, match="another download"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_waits_double_up_to_the_longest() -> None:
    assert [Patience(first_wait=1, longest_wait=6).wait(failures) for failures in (1, 2, 3, 4)] == [1, 2, 4, 6]
    assert Patience(longest_wait=6).wait(1, asked=5) == 5
