"""Turns at computing: one computes at a time, and who has waited longest comes next."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from typing import Final

from serving.page.work import Check

LOOK_SECONDS: Final = 0.5
"""How often somebody in the queue looks whether anybody still waits for the answer."""


class Turns:
    """A queue for one place. A turn is short (some windows), so that nobody waits for a whole song of another's."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()

    @contextlib.contextmanager
    def turn(self, check: Check) -> Iterator[None]:
        """Wait for a turn, and have it while the block runs.

        Raises:
            GoneError: nobody waits any more.
        """
        me = object()
        with self._changed:
            self._queue.append(me)
        try:
            with self._changed:
                while self._queue[0] is not me:
                    self._changed.wait(LOOK_SECONDS)
                    check()
            check()
            yield
        finally:
            with self._changed:
                self._queue.remove(me)
                self._changed.notify_all()
