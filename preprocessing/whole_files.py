"""Files on this machine that are there whole or not at all: written under a temporary name, then renamed.

The temporary name is in the same folder, so that the rename is atomic (POSIX, rename), and says who writes, so that
``preprocessing.storage.sweep`` and ``sweep_dead`` find what a killed writer leaves. ``preprocessing.storage`` writes
files elsewhere, too.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from typing import BinaryIO, Final

TEMPORARY_MARK: Final = ".tmp-"
"""Part of every temporary name: what a killed writer leaves is known by it."""

LONGEST_NAME: Final = 255
"""Bytes that a file's name may have on the usual file systems."""


def temporary_name(path: str) -> str:
    """Return a name beside ``path`` that no other writer uses and that says who writes."""
    folder, name = os.path.split(path)
    writer = f"{TEMPORARY_MARK}{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
    begin = os.fsencode(name)[: LONGEST_NAME - len(f".{writer}")].decode(errors="ignore")
    return os.path.join(folder, f".{begin}{writer}")


@contextlib.contextmanager
def open_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a local file for writing that appears under ``path`` only when the block ends without an error.

    Two writers at once do not meet: the last one to finish wins, and a reader sees one or the other, whole. The file's
    permissions are a new file's (0666 less the umask), whatever was there before. A symbolic link is replaced.

    Raises:
        OSError: it cannot be written; what was there is as it was, and no temporary file is left.
    """
    temporary = temporary_name(os.fspath(path))
    file = open(temporary, "xb", buffering=1 << 20)  # noqa: SIM115 closed before the rename
    try:
        with file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def write_whole(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a local file in one go, whole or not at all; text as UTF-8.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    with open_whole(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)
