"""A file that is to be decoded: its bytes, what is in it, and how libsndfile and ffmpeg get at a part of it."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Any, Final

import soundfile as sf

from preprocessing.audio.containers import Content, Part, look_into
from preprocessing.audio.file_bytes import PIECE, DescriptorBytes, FileBytes, MemoryBytes
from preprocessing.errors import ClipError


class AudioFile:
    """A file to be decoded, on disk or in memory.

    Args:
        source: its bytes, or the path and the descriptor of the open file.
        name: what to call it in messages.
    """

    def __init__(self, source: bytes | tuple[str, int], name: str) -> None:
        self.name = name
        self._source = source
        self.data: FileBytes = MemoryBytes(source) if isinstance(source, bytes) else DescriptorBytes(source[1])
        if not self.data.size:
            raise ClipError("empty", f"{name or 'the file'} has no bytes")
        try:
            self.content: Content = look_into(self.data)
        except OSError as error:
            raise ClipError("unreadable", f"{name}: {error.strerror or error}") from error

    @property
    def everything(self) -> Part:
        """All bytes."""
        return Part(0, self.data.size)

    def sound_file(self, part: Part) -> sf.SoundFile:
        """Open a part with libsndfile."""
        if part.start or part.end < self.data.size:
            return _SequentialFile(_Range(self.data, part.start, part.end))
        if isinstance(self._source, bytes):
            return _SequentialFile(io.BytesIO(self._source))
        os.lseek(self._source[1], 0, os.SEEK_SET)
        return _SequentialFile(self._source[1], closefd=False)

    @contextlib.contextmanager
    def on_disk(self, part: Part) -> Iterator[tuple[str, int]]:
        """Yield a path and the bytes in it before the part.

        What is in memory, ends before the file, or counts places from its own beginning, is copied.
        """
        movable = part.start == 0 or self.content.demuxer != "mov"
        if not isinstance(self._source, bytes) and part.end == self.data.size and movable:
            yield self._source[0], part.start
            return
        with tempfile.NamedTemporaryFile(prefix="autotag-") as copy:
            for start in range(part.start, part.end, PIECE):
                copy.write(self.data.at(start, min(PIECE, part.end - start)))
            copy.flush()
            yield copy.name, 0


_OPENING: Final = threading.Lock()
"""libsndfile keeps why a file cannot be opened in one place for all threads, and soundfile reads it from there."""


class _SequentialFile(sf.SoundFile):  # type: ignore[misc]
    """A file that is read from its beginning to its end.

    soundfile seeks to where it is after each read of a seekable file. An MP3 decoder then loses the bits that its next
    frames borrow from earlier ones, and each block would start with a glitch.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        with _OPENING:
            super().__init__(*arguments, **options)

    def seekable(self) -> bool:
        """Say no, so that nobody seeks."""
        return False


class _Range:
    """Some of a file's bytes as a file, for soundfile."""

    def __init__(self, data: FileBytes, start: int, end: int) -> None:
        self._data, self._start, self._size, self._place = data, start, end - start, 0

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + place)
        return self._place

    def tell(self) -> int:
        """Where it is."""
        return self._place

    def read(self, length: int = -1) -> bytes:
        """Read on."""
        left = max(0, self._size - self._place)
        piece = self._data.at(self._start + self._place, left if length < 0 else min(length, left))
        self._place += len(piece)
        return piece

    def readinto(self, buffer: Any) -> int:
        """Read on, into a buffer."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def write(self, data: bytes) -> int:
        """Nothing is written."""
        raise io.UnsupportedOperation("write")
