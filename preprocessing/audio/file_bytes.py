"""A file's bytes, read where they are wanted: of a file on disk no more than a piece is in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, Protocol

PIECE: Final = 1 << 20
"""Bytes read at a time."""

MOST_PARTS: Final = 1_000
"""Recordings that are told apart in one file."""


class FileBytes(Protocol):
    """Bytes that can be read from any place."""

    size: int
    """Of the file when it was opened."""

    def at(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start`` on, fewer where the file ends before."""
        ...


class MemoryBytes:
    """A file that is held in memory."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data

    def at(self, start: int, length: int) -> bytes:
        """Return a copy of the bytes; all of them without one."""
        return self._data if start == 0 and length >= self.size else self._data[start : start + length]


class DescriptorBytes:
    """A file that is open; its position is left alone.

    Args:
        descriptor: of a regular file. Closing it is the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self.size = os.fstat(descriptor).st_size
        self._descriptor = descriptor

    def at(self, start: int, length: int) -> bytes:
        """Read the bytes.

        Raises:
            OSError: the system cannot read them.
        """
        pieces = []
        while length > 0:
            piece = os.pread(self._descriptor, length, start)
            if not piece:
                break
            pieces.append(piece)
            start, length = start + len(piece), length - len(piece)
        return b"".join(pieces)


def find(data: FileBytes, wanted: bytes, start: int = 0, end: int | None = None) -> int:
    """Return where ``wanted`` lies first from ``start`` on and before ``end``; -1 where it does not."""
    return next(find_all(data, wanted, start, end), -1)


def find_all(data: FileBytes, wanted: bytes, start: int = 0, end: int | None = None) -> Iterator[int]:
    """Yield each place of ``wanted`` from ``start`` on and before ``end``."""
    end = data.size if end is None else min(end, data.size)
    piece = max(PIECE, data.size) if isinstance(data, MemoryBytes) else PIECE
    while start < end:
        held = data.at(start, piece + len(wanted) - 1)
        place = held.find(wanted)
        while 0 <= place < min(piece, end - start):
            yield start + place
            place = held.find(wanted, place + 1)
        start += piece
