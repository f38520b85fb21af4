"""What ``autotag preprocess`` says while it works: progress bars for a person, or lines of a log for a machine."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from pipeline.console.terminal import error_stream

PROGRESS_SECONDS: Final = 10
"""Between two lines of progress in a log of JSON lines."""


class TerminalLog:
    """What is done, for a person: lines and progress bars on the error stream."""

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._console = Console(stderr=True, highlight=False)

    def say(self, text: str, **counts: int) -> None:
        """Print a line, which has the counts in it."""
        self._console.print(text, soft_wrap=True)

    @contextlib.contextmanager
    def checksums(self) -> Iterator[Callable[[int, int], None]]:
        """Show how many clips have their checksum."""
        with _progress(self._console) as progress:
            task = progress.add_task("checksums", total=None, visible=False)
            yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)

    @contextlib.contextmanager
    def clips(self, total: int) -> Iterator[Callable[[int], None]]:
        """Show how many clips are done, and nothing of what libraries write."""
        with (
            contextlib.nullcontext(self._console) if self._verbose else _libraries_silenced() as console,
            _progress(console) as progress,
        ):
            task = progress.add_task("clips", total=total, visible=False)
            yield lambda done: progress.update(task, completed=done, visible=True)


class JsonLog:
    """The same as lines of the log, progress at most every ten seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def say(self, text: str, **counts: int) -> None:
        """Log a line and the counts beside it."""
        logging.getLogger(__name__).info("%s", text, extra=counts)

    def _now_and_then(self, text: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS:
            self._last = now
            self.say(f"{text}: {done} of {total} clips", clips_done=done, clips=total)

    @contextlib.contextmanager
    def checksums(self) -> Iterator[Callable[[int, int], None]]:
        """Log how many clips have their checksum."""
        yield lambda done, total: self._now_and_then("checksums", done, total)

    @contextlib.contextmanager
    def clips(self, total: int) -> Iterator[Callable[[int], None]]:
        """Log how many clips are done."""
        yield lambda done: self._now_and_then("examples", done, total)


@contextlib.contextmanager
def _libraries_silenced() -> Iterator[Console]:
    """Drop what libraries write to the standard error of this process and of its workers; yield a console to the real.

    The MP3 decoder's notes on damaged files and Beam's log would tear the progress bar; rejected.jsonl and the error
    that ends the job say the same in fewer words.
    """
    with (
        contextlib.closing(error_stream(os.dup(2), sys.stderr.encoding or "utf-8")) as terminal,
        open(os.devnull, "wb") as nowhere,
    ):
        os.dup2(nowhere.fileno(), 2)
        try:
            yield Console(file=terminal, highlight=False)
        finally:
            os.dup2(terminal.fileno(), 2)
            os.close(terminal.fileno())


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    return Progress(*columns, console=console)


class _Rate(ProgressColumn):
    """Units done a second, so far as they are known."""

    def render(self, task: Task) -> Text:
        """Return the rate as text."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed else "")
