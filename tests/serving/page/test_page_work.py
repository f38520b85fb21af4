from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from page_server import Listener, listening_models, local_access, running_page
from starlette.requests import ClientDisconnect

from serving.page.answers import PageError
from serving.page.app import Settings
from serving.page.work import Check, GoneError, Workers


class Asker:
    """A request whose sender may go."""

    def __init__(self, gone: bool = False) -> None:
        self.gone = gone

    async def is_disconnected(self) -> bool:
        return self.gone


class Deaf:
    """Work that does not look whether somebody waits for it."""

    def __init__(self) -> None:
        self.begun = self.now = self.most = 0
        self.go = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, check: Check) -> str:
        with self._lock:
            self.begun += 1
            self.now += 1
            self.most = max(self.most, self.now)
        assert self.go.wait(20)
        with self._lock:
            self.now -= 1
        return "done"


def test_work_that_nobody_waits_for_keeps_its_thread_until_it_ends() -> None:
    async def ask() -> None:
        workers, deaf = Workers(2, 64), Deaf()
        gone: Any = Asker(gone=True)
        for _ in range(10):
            with pytest.raises(ClientDisconnect):
                await workers.run(gone, deaf)
        assert (deaf.begun, deaf.most) == (2, 2)
        here: Any = Asker()
        last = asyncio.ensure_future(workers.run(here, deaf))
        await asyncio.sleep(0.1)
        assert deaf.begun == 2
        deaf.go.set()
        assert await last == "done"
        assert deaf.begun == 3, "what nobody waited for was never begun"
        workers.close()

    asyncio.run(ask())


def test_work_that_goes_on_counts_among_what_is_under_way() -> None:
    async def ask() -> None:
        workers, deaf = Workers(1, 1), Deaf()
        gone, here = Asker(gone=True), Asker()
        with pytest.raises(ClientDisconnect):
            await workers.run(gone, deaf)  # type: ignore[arg-type]
        with pytest.raises(PageError, match="1 others wait"):
            await workers.run(here, deaf)  # type: ignore[arg-type]
        deaf.go.set()
        while deaf.now:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert await workers.run(here, lambda check: 1) == 1  # type: ignore[arg-type]
        workers.close()

    asyncio.run(ask())


class Endless:
    """Leaderboards that take long to read."""

    def __init__(self) -> None:
        self.reading, self.left = threading.Event(), threading.Event()

    def read(self, check: Check) -> dict[str, Any]:
        self.reading.set()
        latest = time.monotonic() + 20
        try:
            while time.monotonic() < latest:
                check()
                time.sleep(0.01)
        except GoneError:
            self.left.set()
            raise
        return {}

    def curve(self, board: str, data: str, row: str, tag: str, check: Check) -> dict[str, Any]:
        raise NotImplementedError


def test_what_is_read_ahead_ends_with_the_page(tmp_path: Path) -> None:
    boards = Endless()
    with running_page(Settings(listening_models(tmp_path, Listener()), local_access(), leaderboards=boards)):
        assert boards.reading.wait(10)
    assert boards.left.wait(5)
