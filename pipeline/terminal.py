"""What is on the terminal while a long command works: a progress bar, and no notes of the decoders."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click


def say(line: str) -> None:
    """Tell the person at the terminal, whatever the output goes to."""
    click.echo(f"autotag: {line}", err=True)


def quieten_tensorflow() -> None:
    """Keep TensorFlow's start-up lines off the terminal, unless --verbose was given; before it is imported."""
    if not logging.getLogger().isEnabledFor(logging.INFO):
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


FEW_FILES: Final = 3
FEW_BYTES: Final = 20_000_000
"""More than either are worth a progress bar."""


@contextlib.contextmanager
def decoders_notes_hidden() -> Iterator[None]:
    """Keep the lines off the terminal that the MP3 decoder writes of damaged files, unless --verbose was given.

    It writes them to the process's error stream itself, into the progress bar too. What this program says goes on to
    where that stream led.
    """
    try:
        own = sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):  # replaced, as in tests
        own = -1
    if own != 2 or logging.getLogger().isEnabledFor(logging.INFO):
        yield
        return
    terminal = os.dup(2)
    kept = sys.stderr
    with open(terminal, "w", encoding=kept.encoding, errors="backslashreplace", buffering=1) as stream:
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            sys.stderr = stream
            yield
        finally:
            sys.stderr = kept
            os.dup2(terminal, 2)


class ProgressBar:
    """How far the files are, each counting alike; without a display nothing is shown.

    Args:
        display: rich's, and None for nothing.
        total: number of files.
    """

    def __init__(self, display: Any, total: int) -> None:
        self._display = display
        self._shares: dict[Path, float] = {}
        self._lock = threading.Lock()
        self._task = None if display is None else display.add_task("", total=total, name="")

    def advance(self, path: Path, seconds: float, claimed: float | None) -> None:
        """Say how many seconds of a file are done, of how many that its header claims; from any thread."""
        self._set(path, min(1.0, seconds / claimed) if claimed else 0.5)

    def finish(self, path: Path) -> None:
        """Say that nothing more is to be done with a file."""
        self._set(path, 1.0)

    def _set(self, path: Path, share: float) -> None:
        if self._display is None:
            return
        with self._lock:
            self._shares[path] = share
            done = sum(self._shares.values())
        self._display.update(self._task, completed=done, name=path.name)


@contextlib.contextmanager
def progress_bar(files: Sequence[Path]) -> Iterator[ProgressBar]:
    """A bar on the error stream, where that is a terminal and there is more to do than a few short files."""
    if not sys.stderr.isatty() or (len(files) <= FEW_FILES and _size(files) <= FEW_BYTES):
        yield ProgressBar(None, len(files))
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    share, name = TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[name]}", markup=False)
    columns = (BarColumn(), share, TimeRemainingColumn(), name)
    # What goes down a pipe must not be taken for something to be printed above the bar.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()
    ) as display:
        yield ProgressBar(display, len(files))


def _size(files: Sequence[Path]) -> int:
    size = 0
    for file in files:
        with contextlib.suppress(OSError):
            size += file.stat().st_size
    return size
