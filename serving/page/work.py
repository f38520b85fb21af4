"""Work that takes long: in threads, little of it at a time, ended when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, TypeVar

import anyio.to_thread
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
    """Threads for one kind of work.

    Args:
        at_once: how many.
        most: requests that may be under way or wait.
    """

    def __init__(self, at_once: int, most: int) -> None:
        self._limiter = anyio.CapacityLimiter(at_once)
        self._most = most
        self._here = 0

    async def run(self, request: Request, work: Callable[[Check], Result]) -> Result:
        """Do work for a request.

        Raises:
            PageError: too many others wait.
            ClientDisconnect: whoever asked has gone; the work is told so.
            Exception: what the work raises.
        """
        if self._here >= self._most:
            raise PageError(503, f"{self._here} others wait: try again in {RETRY_SECONDS} seconds", RETRY_SECONDS)
        check = Check()
        self._here += 1
        try:
            task = asyncio.ensure_future(self._in_thread(work, check))
            try:
                while not task.done():
                    await asyncio.wait({task}, timeout=LOOK_SECONDS)
                    if not task.done() and await request.is_disconnected():
                        raise ClientDisconnect
                return task.result()
            finally:
                check.leave()
                if not task.done():
                    task.cancel()
        finally:
            self._here -= 1

    async def _in_thread(self, work: Callable[[Check], Result], check: Check) -> Result:
        return await anyio.to_thread.run_sync(work, check, abandon_on_cancel=True, limiter=self._limiter)
