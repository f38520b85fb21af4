"""The program's streams, whatever they are, and what is on the terminal while a long command works.

A stream may be closed (``>&-``), a pipe whose reader has gone, a full disk, or in an encoding that lacks what is to be
printed. Nobody sees a stack trace for that: a character that an encoding lacks is escaped; what cannot be said on the
error stream is left unsaid; results that cannot be printed end the command with one line and exit code 1.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import click

from preprocessing.errors import AutotagError
from preprocessing.names import escaped, is_utf8, to_json

CLOSED: Final = "standard output is closed: send it to a file or to /dev/null"


class _UnheardFile(io.FileIO):
    """A stream for what a person is told: nobody may be there to hear it."""

    def write(self, data: Any, /) -> int:
        """Write, and take what cannot be written for written."""
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)


class _ClosedFile(io.RawIOBase):
    """What stands for a standard output that the caller has closed."""

    def writable(self) -> bool:
        """Say yes, so that a text stream is made of it."""
        return True

    def write(self, data: Any, /) -> int:
        """Raise AutotagError: what was to be printed would be lost."""
        raise AutotagError(CLOSED)


def error_stream(descriptor: int, encoding: str) -> TextIO:
    """Return a text stream on a file descriptor, which stays open, that escapes what it lacks and raises nothing."""
    file = io.BufferedWriter(_UnheardFile(descriptor, "w", closefd=False))
    return io.TextIOWrapper(file, encoding, errors="backslashreplace", line_buffering=True)


def own_streams() -> None:
    """Make the three standard streams such that writing to them never fails for what they are, but for a lost result.

    A closed one is put on /dev/null first: the next file that is opened would otherwise take its number, and get what
    libraries write to it.
    """
    closed = [number for number in range(3) if not _open(number)]
    for number in closed:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
        os.set_inheritable(number, True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stdout is None or 1 in closed:
        sys.stdout = io.TextIOWrapper(_ClosedFile(), "utf-8", write_through=True)  # type: ignore[type-var]
    sys.stderr = error_stream(2, getattr(sys.stderr, "encoding", None) or "utf-8")


def begin_in_utf8() -> None:
    """Begin anew in Python's UTF-8 mode where a locale says that files' names are in another encoding.

    A name in a table of annotations could not be opened there (ASCII), or would be another's (ISO-8859-9). In the C
    locale Python does so by itself; it is told not to by PYTHONUTF8=0, and does not in other locales.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def leave_output(code: int) -> int:
    """Write what is still held back of the results; returns the exit code, ``code`` if that went well.

    A reader that has gone (``| head``) is told nothing, and the exit code is 1.
    """
    try:
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        pass
    except (OSError, ValueError) as error:
        say(f"standard output: {getattr(error, 'strerror', None) or error}")
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
    return code or 1


def check_output() -> None:
    """Look, before any work, whether results can be printed at all.

    Raises:
        AutotagError: standard output is closed.
    """
    if isinstance(getattr(sys.stdout, "buffer", None), _ClosedFile):
        raise AutotagError(CLOSED)


def say(line: str) -> None:
    """Tell the person at the terminal, whatever the output goes to, in one line."""
    click.echo(f"autotag: {escaped(line)}", err=True)


def say_error(error: Exception) -> None:
    """Tell what went wrong, in the lines that the message has."""
    click.echo("autotag: " + "\n".join(map(escaped, str(error).split("\n"))), err=True)


def print_json(value: Any) -> None:
    """Print JSON: UTF-8 as it is, everything beyond ASCII escaped where the stream is in another encoding."""
    click.echo(to_json(value, indent=1, ascii_only=not is_utf8(sys.stdout)))


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
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        sys.stderr = error_stream(terminal, kept.encoding)
        yield
    finally:
        sys.stderr = kept
        os.dup2(terminal, 2)
        os.close(terminal)


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
