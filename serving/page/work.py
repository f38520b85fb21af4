"""Work that takes long: in threads, little of it at a time, ended when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from starlette.requests import ClientDisconnect, Request

from preprocessing.errors import AutotagError
from serving.page.answers import PageError

LOOK_SECONDS: Final = 0.2
"""How often is looked whether somebody still waits."""
RETRY_SECONDS: Final = 10

Result = TypeVar("Result")


class GoneError(AutotagError):
    """Nobody waits for the answer any more."""


class Check:
    """Told to work, which asks it now and then."""

    def __init__(self) -> None:
        self._gone = threading.Event()

    def leave(self) -> None:
        """Say that nobody waits any more."""
        self._gone.set()

    @property
    def gone(self) -> bool:
        """Whether nobody waits any more."""
        return self._gone.is_set()

    def __call__(self) -> None:
        """Raise GoneError where nobody waits any more."""
        if self._gone.is_set():
            raise GoneError("nobody waits for this any more")


class Workers:
    """Threads for one kind of work. Work that nobody waits for any more keeps its thread until it has ended.

    Args:
        at_once: how many.
        most: requests that may be under way or wait.
    """

    def __init__(self, at_once: int, most: int) -> None:
        self._threads = ThreadPoolExecutor(at_once)
        self._most = most
        self._here = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Begin with nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, request: Request, work: Callable[[Check], Result]) -> Result:
        """Do work for a request.

        Raises:
            PageError: too many others wait.
            ClientDisconnect: whoever asked has gone; the work is told so.
            Exception: what the work raises.
        """
        with self._lock:
            if self._here >= self._most:
                raise PageError(503, f"{self._here} others wait: try again in {RETRY_SECONDS} seconds", RETRY_SECONDS)
            self._here += 1
        check = Check()
        working = self._threads.submit(work, check)
        working.add_done_callback(self._ended)
        answer = asyncio.wrap_future(working)
        try:
            while not answer.done():
                await asyncio.wait({answer}, timeout=LOOK_SECONDS)
                if not answer.done() and await request.is_disconnected():
                    raise ClientDisconnect
            return answer.result()
        finally:
            check.leave()
            answer.cancel()  # and with it the work, where that has not begun

    def _ended(self, working: Future[Any]) -> None:
        with self._lock:
            self._here -= 1
