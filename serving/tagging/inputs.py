"""What is to be tagged where it is not named on the command line: lists of files, and audio from standard input.

A list has a name a line, or names that end with NUL (``find -print0``). Names are bytes, whatever they are: a name is
taken as it stands, with its blanks, a ``#`` or a ``*``; there are no comments and no patterns. Empty lines are passed
over. A line end of Windows and a byte order mark belong to no name, unless a file is there that is called so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from preprocessing.errors import AutotagError, BadInputError
from preprocessing.names import escaped

STDIN_ARGUMENT: Final = "-"
STDIN: Final = Path("<stdin>")
"""What audio from standard input is called in what is written."""

_MARK: Final = b"\xef\xbb\xbf"
_WIDE_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_READ_AT_ONCE: Final = 1 << 16
LONGEST_NAME: Final = 1 << 16
"""Bytes; what is longer is no list (Linux opens no path of more than 4,096)."""


def read_list(stream: BinaryIO, null: bool, name: str) -> Iterator[str]:
    """Yield the names in a list, holding one of them at a time.

    Args:
        stream: the list.
        null: whether names end with NUL, else with the line.
        name: what to call the list in messages.

    Raises:
        BadInputError: it is no such list, or cannot be read.
    """
    entries = _entries(stream, b"\0" if null else b"\n", name)
    for number, entry in enumerate(entries, 1):
        if null:
            if b"\n" in entry and number == 1 and next(entries, None) is None:
                raise BadInputError(f"{name} has lines and one NUL at most: leave -0 (--null) out")
        else:
            if number == 1 and entry.startswith(_WIDE_MARKS):
                raise BadInputError(f"{name} is UTF-16 text, as PowerShell writes: save it as UTF-8")
            if b"\0" in entry:
                raise BadInputError(f"{name} line {number} has a NUL byte: give -0 (--null) where names end with NUL")
            entry = _bare(entry, first=number == 1)
        if entry:
            yield os.fsdecode(entry)


def _entries(stream: BinaryIO, end: bytes, name: str) -> Iterator[bytes]:
    rest = b""
    try:
        while piece := stream.read(_READ_AT_ONCE):
            *whole, rest = (rest + piece).split(end)
            yield from whole
            if len(rest) > LONGEST_NAME:
                raise BadInputError(f"{name} has {len(rest):,} bytes without an end of a name: it is no list of files")
    except OSError as error:
        raise BadInputError(f"{name} cannot be read: {error.strerror or error}") from None
    if rest:
        yield rest


def _bare(line: bytes, first: bool) -> bytes:
    """Take off what editors add to a line, as far as there is no file whose name it is a part of."""
    if first and line.startswith(_MARK) and not os.path.lexists(line):
        line = line.removeprefix(_MARK)
    if line.endswith(b"\r") and not os.path.lexists(line):
        line = line.removesuffix(b"\r")
    return line


@contextlib.contextmanager
def open_list(path: str, stdin: BinaryIO) -> Iterator[BinaryIO]:
    """Open a list of files; ``-`` is standard input.

    Raises:
        BadInputError: it cannot be opened.
    """
    if path == STDIN_ARGUMENT:
        yield stdin
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 closed below
    except OSError as error:
        raise BadInputError(f"--files-from {escaped(path)}: {error.strerror or error}") from None
    with file:
        yield file


@contextlib.contextmanager
def spooled(stdin: BinaryIO) -> Iterator[Path]:
    """Copy audio from standard input into a temporary file, which is there while the block runs.

    Decoders look into a file and go back in it, and a pipe cannot; memory does not grow with what comes.

    Raises:
        BadInputError: standard input is a terminal.
        AutotagError: it cannot be read, or the copy cannot be written.
    """
    if stdin.isatty():
        raise BadInputError("- is audio from standard input, and that is a terminal: pipe a file into it")
    with contextlib.ExitStack() as stack:
        try:
            copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="autotag-"))
            shutil.copyfileobj(stdin, copy, _READ_AT_ONCE)
            copy.flush()
        except OSError as error:
            raise AutotagError(
                f"standard input cannot be copied to {tempfile.gettempdir()}: {error.strerror or error}; TMPDIR names "
                "another folder"
            ) from error
        yield Path(copy.name)
