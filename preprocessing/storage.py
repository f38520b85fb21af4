"""Files on any file system that Beam knows, appearing under their final name only when whole."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

TEMPORARY_MARK = ".tmp-"
"""Part of every temporary name: what a killed writer leaves is known by it."""


def is_local(path: str) -> bool:
    """Whether the path lies on this machine's own file system."""
    return "://" not in path


def join(*parts: str) -> str:
    """Join path parts in the way of the first part's file system."""
    joined: str = FileSystems.join(*parts)
    return joined


def read_bytes(path: str) -> bytes:
    """Read a whole file.

    Raises:
        OSError: it cannot be read.
    """
    if is_local(path):
        with open(path, "rb") as file:
            return file.read()
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        data: bytes = file.read()
        return data


def exists(path: str) -> bool:
    """Whether the file or folder is there."""
    return bool(FileSystems.exists(path))


def size(path: str) -> int | None:
    """Size of a file in bytes, None where it is not there."""
    if is_local(path):
        try:
            return os.stat(path).st_size
        except OSError:
            return None
    found = FileSystems.match([path])[0].metadata_list
    return found[0].size_in_bytes if found else None


def make_folder(path: str) -> None:
    """Make a folder and those above it, unless it is there."""
    if is_local(path):
        os.makedirs(path, exist_ok=True)
    elif not exists(path):
        FileSystems.mkdirs(path)


def list_files(folder: str) -> list[str]:
    """Return the names of the files that lie directly in a folder, in order; [] where there is none."""
    if is_local(folder):
        try:
            return sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
        except FileNotFoundError:
            return []
    found = FileSystems.match([join(folder, "*")])[0].metadata_list
    return sorted(metadata.path.rsplit("/", 1)[-1] for metadata in found)


def delete(paths: list[str]) -> None:
    """Delete files; one that is gone already is no error."""
    for path in paths:
        with contextlib.suppress(OSError):
            FileSystems.delete([path])


@contextlib.contextmanager
def open_whole(path: str) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under ``path`` only when the block ends without an error.

    Two writers at once use different temporary names; the last one to finish wins, and a reader sees one or the other.
    """
    folder, _, name = path.rpartition("/")
    temporary = f"{folder or '.'}/.{name}{TEMPORARY_MARK}{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
    try:
        if is_local(path):
            with open(temporary, "wb", buffering=1 << 20) as file:
                yield file
            os.replace(temporary, path)
        else:
            with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as file:
                yield file
            FileSystems.rename([temporary], [path])
    except BaseException:
        delete([temporary])
        raise


def write_whole(path: str, data: bytes | str) -> None:
    """Write a small file in one go, whole or not at all."""
    with open_whole(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)
