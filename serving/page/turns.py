"""Turns at computing: one computes at a time, and who has waited longest comes next."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from preprocessing.audio.samples import Samples
from preprocessing.clip_format import ClipFormat
from serving.page.work import Check
from serving.tagging.sources import Answers, TagSource

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


class InTurns:
    """A model that is asked in turns with others; keeps count of what it computed with.

    Args:
        source: the model.
        turns: at computing.
        check: told when nobody waits for the answers any more.

    Attributes:
        decoder: native id of the thread that decodes the song; None before it is known.
        cpu_seconds: of this process while it answered; without what this song's own decoding took meanwhile.
    """

    calls_at_once = 1

    def __init__(self, source: TagSource, turns: Turns, check: Check) -> None:
        self.name, self.tags = source.name, source.tags
        self.decoder: int | None = None
        self.cpu_seconds = 0.0
        self._source, self._turns, self._check = source, turns, check

    @property
    def clip(self) -> ClipFormat:
        """See TagSource."""
        return self._source.clip

    def identity(self) -> str:
        """See TagSource."""
        return self._source.identity()

    def answer(self, windows: Samples) -> Answers:
        """See TagSource.

        Raises:
            GoneError: nobody waits any more.
        """
        with self._turns.turn(self._check):
            begin = time.process_time() - self._decoding()
            try:
                return self._source.answer(windows)
            finally:
                self.cpu_seconds += max(0.0, time.process_time() - self._decoding() - begin)

    def _decoding(self) -> float:
        return 0.0 if self.decoder is None else thread_seconds(self.decoder)


def thread_seconds(thread: int) -> float:
    """CPU seconds of a thread of this process, by its native id; 0 where it has ended, or the system does not tell.

    A thread's clock on Linux is known by its id (clock_getcpuclockid(3), include/linux/posix-timers.h); unlike
    pthread_getcpuclockid(3) that may be asked of one that has ended.
    """
    if sys.platform != "linux":
        return 0.0
    try:
        return time.clock_gettime((~thread << 3) | 6)
    except OSError:
        return 0.0
