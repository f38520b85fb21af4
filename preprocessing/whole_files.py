"""Files and folders on this machine that are there whole or not at all: written under a temporary name, then renamed.

The temporary name is in the same folder, so that the rename is atomic (POSIX, rename), and says who writes, so that
``preprocessing.storage.sweep`` and ``sweep_dead`` find what a killed writer leaves. ``preprocessing.storage`` writes
files elsewhere, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from preprocessing.digits import is_number

TEMPORARY_MARK: Final = ".tmp-"
"""Part of every temporary name: what a killed writer leaves is known by it."""

LONGEST_NAME: Final = 255
"""Bytes that a file's name may have on the usual file systems."""


def temporary_name(path: str, suffix: str = "") -> str:
    """Return a hidden name beside ``path`` that no other writer uses and that says who writes; it ends with suffix."""
    folder, name = os.path.split(path)
    writer = f"{TEMPORARY_MARK}{socket.gethostname()}-{os.getpid()}-{time.time_ns()}{suffix}"
    begin = os.fsencode(name)[: LONGEST_NAME - len(os.fsencode(f".{writer}"))].decode(errors="ignore")
    return os.path.join(folder, f".{begin}{writer}")


def writer_is_dead(name: str) -> bool | None:
    """Whether the process that a temporary name names is no more; None of other names and of other machines."""
    host = f"{socket.gethostname()}-"
    _, _, writer = name.partition(TEMPORARY_MARK)
    pid = writer.removeprefix(host).partition("-")[0]
    if not writer.startswith(host) or not is_number(pid):
        return None
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


@contextlib.contextmanager
def replacement(path: str | os.PathLike[str], mode: int = 0o666, suffix: str = "") -> Iterator[Path]:
    """Make an empty local file for a library to write to, which takes the place of ``path`` when the block ends.

    Two writers at once do not meet: the last one to finish wins, and a reader sees one or the other, whole. A symbolic
    link is replaced.

    Args:
        path: of the file that is there when the block has ended without an error.
        mode: permissions of the new file, less the umask, whatever was there before.
        suffix: of the temporary name, for a library that goes by it.

    Raises:
        OSError: it cannot be written; what was there is as it was, and no temporary file is left.
    """
    temporary = temporary_name(os.fspath(path), suffix)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield Path(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


@contextlib.contextmanager
def open_whole(path: str | os.PathLike[str], mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a local file for writing that appears under ``path`` only when the block ends without an error.

    As ``replacement``, whose arguments and errors it has.
    """
    with replacement(path, mode) as temporary, open(temporary, "wb", buffering=1 << 20) as file:
        yield file


def write_whole(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a local file in one go, whole or not at all; text as UTF-8.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    with open_whole(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def temporary_folder(parent: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a folder in ``parent``, which is made too, to be filled and then renamed to its final name there.

    It is on the same file system, so that the rename is atomic, and has a new folder's permissions. What has not been
    renamed when the block ends is removed.

    Raises:
        OSError: it cannot be made.
    """
    os.makedirs(parent, exist_ok=True)
    folder = Path(temporary_name(os.path.join(parent, "folder")))
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
