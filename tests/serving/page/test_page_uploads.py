from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_server import Listener, Page, listening_models, local_access, running_page, write_song
from waiting import wait_until

from preprocessing.folders import AUDIO_SUFFIXES
from serving.page.answers import PageError
from serving.page.app import Settings
from serving.page.audio import MEDIA_TYPES
from serving.page.uploads import PREFIX, Limits, Uploads

LIMITS = Limits(file_bytes=1_000_000, total_bytes=3_000_000, files=16, seconds=60)


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


@pytest.fixture
def page(tmp_path: Path, temporary: Path) -> Iterator[Page]:
    models = listening_models(tmp_path, Listener())
    with running_page(Settings(models, local_access(), limits=LIMITS, temporary=temporary)) as page:
        yield page
    assert list(temporary.iterdir()) == []


def kept(temporary: Path) -> list[Path]:
    return [path for path in temporary.glob(f"{PREFIX}*/*") if path.name != ".lock"]


def model_of(page: Page) -> str:
    return str(page.client.get("/api/models").json()[0]["name"])


def test_file_that_somebody_brings_is_tagged_and_played(page: Page, temporary: Path, tmp_path: Path) -> None:
    data = write_song(tmp_path / "a.flac").read_bytes()
    taken = page.upload(data, "Mein Lied.flac")
    assert taken.status_code == 201
    assert taken.json() == {
        "song": taken.json()["song"],
        "name": "Mein Lied.flac",
        "bytes": len(data),
        "expires_seconds": 60,
    }
    song = taken.json()["song"]
    lines = page.tag(song, model_of(page))
    assert [line["type"] for line in lines if line["type"] in ("song", "end")] == ["song", "end"]
    audio = page.client.get("/api/audio", params={"song": song})
    assert audio.content == data
    assert audio.headers["content-type"] == "audio/flac"
    assert page.client.get("/api/peaks", params={"song": song}).json()["seconds"] == 5


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Music\\a.mp3", "a.mp3"),
        ("", "recording"),
        ("/", "recording"),
        ("..", ".."),
        ("a\nb\x1b[31m.mp3", "a\\nb\\x1b[31m.mp3"),
        ("<img src=x onerror=alert(1)>.mp3", "<img src=x onerror=alert(1)>.mp3"),
        ("x" * 900 + ".mp3", "x" * 196 + ".mp3"),
    ],
    ids=range(8),
)
def test_name_of_an_upload_is_words_and_never_a_place(page: Page, temporary: Path, name: str, shown: str) -> None:
    before = {path.name for path in kept(temporary)}
    taken = page.upload(b"RIFF", name)
    assert taken.json()["name"] == shown
    (new,) = {path.name for path in kept(temporary)} - before
    assert taken.json()["song"] == f"upload:{new}"
    assert new.replace("-", "").replace("_", "").isalnum()


def test_upload_is_never_called_a_page(page: Page, temporary: Path) -> None:
    song = page.upload(b"<script>alert(1)</script>", "a.html").json()["song"]
    answer = page.client.get("/api/audio", params={"song": song})
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert set(MEDIA_TYPES) <= AUDIO_SUFFIXES
    assert all(kind.startswith("audio/") for kind in MEDIA_TYPES.values())


def test_broken_uploads_are_errors_in_words(page: Page, temporary: Path) -> None:
    rng = np.random.default_rng(0)
    heads = [b"RIFF\xff\xff\xff\xffWAVEfmt ", b"fLaC", b"OggS\0\2", b"ID3\4\0\0\x7f\x7f\x7f\x7f", b"\xff\xfb\x90\x44",
             b"FORM\0\0\0\0AIFF",
             b"\0\0\0\x18ftypM4A ", b"\x1aE\xdf\xa3", b"caff\0\1", b".snd\0\0\0\x18\xff\xff\xff\xff",
             b"<html>", b"PK\3\4"]  # fmt: skip
    for head in heads:
        song = page.upload(head + rng.bytes(3000), "broken.mp3").json()["song"]
        for answer in (page.client.get("/api/peaks", params={"song": song}),
                       page.client.get("/api/audio", params={"song": song, "decoded": 1})):  # fmt: skip
            assert answer.status_code in (200, 422), (head, answer.text)
            assert answer.status_code == 200 or "broken.mp3" in answer.json()["error"]
            assert "Traceback" not in answer.text
        lines = page.tag(song, model_of(page))
        assert lines[-1] == {"type": "end"}
        assert {line["type"] for line in lines} & {"error", "song"}


def test_empty_upload_is_refused_and_not_kept(page: Page, temporary: Path) -> None:
    before = len(kept(temporary))
    answer = page.upload(b"", "a.wav")
    assert (answer.status_code, answer.json()) == (422, {"error": "a.wav is empty"})
    assert len(kept(temporary)) == before


@pytest.mark.parametrize("told", [True, False])
def test_upload_that_is_too_large_is_refused_whether_it_says_so_or_not(page: Page, temporary: Path, told: bool) -> None:
    before = len(kept(temporary))
    chunks: Any = b"x" * 1_000_001 if told else iter([b"x" * 100_000] * 30)
    answer = page.upload(chunks)
    assert answer.status_code == 413
    assert "1 MB" in answer.json()["error"]
    assert wait_until(lambda: len(kept(temporary)) == before)


def test_upload_that_is_broken_off_leaves_nothing(page: Page, temporary: Path) -> None:
    before = len(kept(temporary))
    with socket.create_connection(("127.0.0.1", page.port)) as connection:
        head = (
            f"POST /api/uploads?name=a.wav HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nOrigin: {page.base}\r\n"
            "Content-Type: application/octet-stream\r\nContent-Length: 900000\r\n\r\n"
        )
        connection.sendall(head.encode() + b"x" * 300_000)
        assert wait_until(lambda: len(kept(temporary)) == before + 1)
    assert wait_until(lambda: len(kept(temporary)) == before)


def test_upload_of_another_kind_or_without_a_name_is_refused(page: Page, temporary: Path) -> None:
    for kind in ("application/json", "multipart/form-data; boundary=x", "text/plain", ""):
        answer = page.client.post("/api/uploads?name=a", content=b"x", headers={"content-type": kind})
        assert answer.status_code == 415
    assert page.client.put("/api/uploads?name=a", content=b"x").status_code == 405


async def _of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def test_room_is_bounded_and_what_is_idle_makes_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = Uploads(Limits(file_bytes=50, total_bytes=100, files=3, seconds=60), tmp_path)

    async def fill() -> None:
        first, _ = await uploads.take("a", _of(b"x" * 40), 40)
        second, _ = await uploads.take("b", _of(b"x" * 40), None)
        with pytest.raises(PageError, match="no more room") as full:
            await uploads.take("c", _of(b"x" * 40), 40)
        assert (full.value.status, full.value.retry_after) == (507, 300)
        with pytest.raises(PageError, match="no more room"):
            await uploads.take("c", _of(b"x" * 15, b"x" * 15), None)
        monkeypatch.setattr("serving.page.uploads.IDLE_SECONDS", -1.0)
        uploads.find(first)
        third, _ = await uploads.take("c", _of(b"x" * 40), 40)
        assert uploads.find(first).size == uploads.find(third).size == 40
        with pytest.raises(PageError, match="no longer here"):
            uploads.find(second)
        assert len(list(uploads.folder.iterdir())) == 3

    asyncio.run(fill())
    uploads.close()
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_uses_is_swept(tmp_path: Path) -> None:
    uploads = Uploads(Limits(seconds=0.05), tmp_path)
    key, upload = asyncio.run(uploads.take("a", _of(b"x"), 1))
    uploads.sweep()
    assert upload.path.exists()
    time.sleep(0.1)
    uploads.sweep()
    assert not upload.path.exists()
    with pytest.raises(PageError):
        uploads.find(key)
    uploads.close()


def test_upload_that_comes_while_the_page_ends_is_broken_off_without_a_fault(tmp_path: Path) -> None:
    async def take() -> None:
        uploads = Uploads(Limits(), tmp_path)

        async def chunks() -> AsyncIterator[bytes]:
            yield b"begin"
            uploads.close()
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await uploads.take("a.wav", chunks(), None)

    asyncio.run(take())
    assert not list(tmp_path.iterdir())


def test_full_disk_is_said_before_and_while_a_file_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = Uploads(Limits(), tmp_path)
    monkeypatch.setattr("serving.page.uploads.KEPT_FREE_BYTES", 1 << 62)
    with pytest.raises(PageError, match="nearly full") as full:
        asyncio.run(uploads.take("a", _of(b"x"), 1))
    assert full.value.status == 507
    uploads.close()


def test_slow_upload_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.page.uploads.CHUNK_SECONDS", 0.05)

    async def never() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(10)

    uploads = Uploads(Limits(), tmp_path)
    with pytest.raises(PageError, match="no more of a came") as slow:
        asyncio.run(uploads.take("a", never(), None))
    assert slow.value.status == 408
    assert len(list(uploads.folder.iterdir())) == 1
    uploads.close()


def test_what_killed_processes_left_is_swept_and_what_lives_is_not(tmp_path: Path) -> None:
    dead = tmp_path / f"{PREFIX}dead"
    dead.mkdir()
    (dead / ".lock").touch()
    (dead / "song").write_bytes(b"x")
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path)
    living = Uploads(Limits(), tmp_path)
    other = Uploads(Limits(), tmp_path)
    assert not dead.exists()
    assert living.folder.is_dir()
    assert living.folder.stat().st_mode & 0o077 == 0
    living.close()
    other.close()


def test_many_uploads_at_once_stay_within_bounds(page: Page, temporary: Path) -> None:
    statuses: list[int] = []

    def bring() -> None:
        statuses.append(page.upload(iter([b"x" * 50_000] * 10), "a.wav").status_code)

    threads = [threading.Thread(target=bring) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {201, 507}
    assert sum(path.stat().st_size for path in kept(temporary)) <= LIMITS.total_bytes
    assert len(kept(temporary)) <= LIMITS.files
