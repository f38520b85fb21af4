"""One file to float32 frames at its own rate, all that is in it, and the word where that is less than there should be.

libsndfile decodes, fast. What it gave is compared with what preprocessing.containers found in the file; where that is
more, where libsndfile fails or cannot be trusted, and for what it does not know, ffmpeg decodes (again), if there is
one.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import soundfile as sf

from preprocessing.containers import Content, Part, look_into
from preprocessing.errors import ClipError
from preprocessing.ffmpeg_audio import NEEDS_FFMPEG, FfmpegDecoder, find_ffmpeg
from preprocessing.file_bytes import PIECE, DescriptorBytes, FileBytes, MemoryBytes

Samples = npt.NDArray[np.float32]

MOST_BLOCK_VALUES: Final = 2**22
"""Most samples times channels decoded at once where a header may claim anything: 16 MiB as float32."""

SMALL_BLOCK: Final = 1024
"""Frames read at once of a damaged file: of the block with the damage nothing is had."""

LONGEST_FRAMES: Final = 2**62
"""From here on a length in frames means that there is none."""

_LOSSY: Final = ("MPEG", "VORBIS", "OPUS")
_LOSSLESS_DEMUXERS: Final = frozenset({"wav", "aiff", "au", "caf", "w64", "flac"})
_FFMPEG_TOLERANCE: Final = 0.5
"""Seconds; containers' lengths are rounded, and count what players leave out."""


@dataclass(frozen=True)
class Heard:
    """How much of a file was heard.

    Attributes:
        seconds: that were decoded.
        claimed: that there should be, by the file's header or by what is in it; None where nothing tells.
        complete: nothing is known to be missing.
    """

    seconds: float
    claimed: float | None = None
    complete: bool = True

    @property
    def shortfall(self) -> str:
        """Such as ``43.8 of 87.6 s``; empty where nothing is missing."""
        if self.complete:
            return ""
        if self.claimed is None:
            return f"{self.seconds:.1f} s of an unknown length: the file is cut or damaged"
        return f"{self.seconds:.1f} of {self.claimed:.1f} s"


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


class _FastDecoder:
    """libsndfile. What it cannot read is the end, and ``failed`` says so."""

    def __init__(self, file: AudioFile, part: Part) -> None:
        self._file = file
        self._part, self.sound = self._open(part)
        self.rate, self.channels, self.frames = self.sound.samplerate, self.sound.channels, self.sound.frames
        self.lossy = self.sound.subtype.startswith(_LOSSY)
        self.failed: Exception | None = None
        self._given = 0

    def _open(self, part: Part) -> tuple[Part, sf.SoundFile]:
        """Tags and all where libsndfile can read over them, else from where the sound begins."""
        if len(self._file.content.parts) == 1 and not part.alone:
            with contextlib.suppress(*_DECODER_ERRORS):
                return self._file.everything, self._file.sound_file(self._file.everything)
        return part, self._file.sound_file(part)

    def close(self) -> None:
        self.sound.close()

    def seek(self, frame: int) -> bool:
        """Go to a frame, before anything is read; False where that cannot be, and all is read from the beginning."""
        try:
            self.sound.seek(frame)
        except _DECODER_ERRORS:
            self._begin_again()
            return False
        self._given = frame
        return True

    def read(self, frames: int) -> Samples:
        block = self._read(frames) if self.failed is None else self._read_to_the_damage(frames)
        self._given += len(block)
        return block

    def _read(self, frames: int) -> Samples:
        if 0 < self.frames < LONGEST_FRAMES:
            frames = min(frames, self.frames - self._given)
        try:
            block: Samples = self.sound.read(frames, dtype="float32", always_2d=True)
            return block
        except _DECODER_ERRORS as error:
            self.failed = error
        try:
            self._begin_again()
        except _DECODER_ERRORS:
            return np.zeros((0, self.channels), np.float32)
        return self._read_to_the_damage(frames)

    def _begin_again(self) -> None:
        self.sound.close()
        self.sound = self._file.sound_file(self._part)
        left = self._given
        while left > 0:
            left -= len(self.sound.read(min(left, MOST_BLOCK_VALUES // self.channels), dtype="float32"))

    def _read_to_the_damage(self, frames: int) -> Samples:
        """In blocks that begin at multiples of their length, whatever was asked for before."""
        pieces, place = [], self._given
        with contextlib.suppress(*_DECODER_ERRORS):
            while frames > 0:
                wanted = min(SMALL_BLOCK - place % SMALL_BLOCK, frames)
                piece = self.sound.read(wanted, dtype="float32", always_2d=True)
                pieces.append(piece)
                frames, place = frames - len(piece), place + len(piece)
                if not len(piece):
                    break
        return np.concatenate(pieces) if pieces else np.zeros((0, self.channels), np.float32)


_DECODER_ERRORS: Final = (RuntimeError, ValueError, TypeError, MemoryError)

_NOT_REGULAR = 7
"""libsndfile's code where an MP3 ends before its first frame does; its words are of a file that is not there."""


def reason(error: Exception) -> str:
    """What libsndfile says. Not str(error): it holds the address of the buffer, another one in each run."""
    if getattr(error, "code", None) == _NOT_REGULAR:
        return "Begins as an MP3 and has no whole frame of audio."
    return getattr(error, "error_string", None) or str(error)


class Recording:
    """A part of a file that is being decoded, to float32 at its own rate.

    Args:
        file: of which it is a part.
        part: which.
        needed: seconds that will be read; infinite for all.

    Raises:
        ClipError: ``undecodable``, ``empty``, or ``needs_ffmpeg``.
    """

    def __init__(self, file: AudioFile, part: Part, needed: float) -> None:
        self._file, self.part = file, part
        self._stack = contextlib.ExitStack()
        self._given = 0
        self._at_end = False
        self.fast: _FastDecoder | None = None
        self._ffmpeg: FfmpegDecoder | None = None
        demuxer = file.content.demuxer
        if part.regular < needed and find_ffmpeg() is not None:
            with contextlib.suppress(ClipError):
                self._ffmpeg = self._open_ffmpeg()
        if self._ffmpeg is None:
            try:
                self.fast = _FastDecoder(file, part)
                self._stack.callback(self.fast.close)
            except _DECODER_ERRORS as error:
                said = reason(error)
                if demuxer is None:
                    raise ClipError("undecodable", f"{file.name}: {said}" if file.name else said) from error
                if find_ffmpeg() is None:
                    raise ClipError(
                        NEEDS_FFMPEG,
                        f"{file.name or 'the file'}: this kind of file ({demuxer}) is decoded by ffmpeg, and there is "
                        f"none on PATH: install it (libsndfile: {said})",
                    ) from error
                self._ffmpeg = self._open_ffmpeg()
        decoder = self.fast or self._ffmpeg
        assert decoder is not None
        self.rate, self.channels = decoder.rate, decoder.channels
        self.lossy = self.fast.lossy if self.fast is not None else demuxer not in _LOSSLESS_DEMUXERS

    def close(self) -> None:
        """Let go of the decoder."""
        self._stack.close()

    @property
    def claimed(self) -> float | None:
        """Seconds that there should be, as far as that is known."""
        if not self.part.ends:
            return None
        if self.part.seconds is not None:
            return self.part.seconds
        if self.fast is not None:
            return self.fast.frames / self.rate if 0 < self.fast.frames < LONGEST_FRAMES else None
        assert self._ffmpeg is not None
        return self._ffmpeg.claimed

    def seek(self, frame: int) -> bool:
        """Go to a frame, before anything is read: what lies before counts as given.

        Returns:
            False where the decoder cannot, and all is read from the beginning.
        """
        if self.fast is None or not self.fast.seek(frame):
            return False
        self._given = frame
        return True

    def read(self, frames: int) -> Samples:
        """Return float32 [at most frames, channels]; fewer only at the end.

        Raises:
            ClipError: ``undecodable``, of a file that only ffmpeg knows.
        """
        decoder: Any = self._ffmpeg or self.fast
        block: Samples = decoder.read(frames)
        self._given += len(block)
        if len(block) < frames and self._ffmpeg is None and self._misses_some():
            with contextlib.suppress(ClipError):
                more = self._decode_again(frames - len(block))
                self._given += len(more)
                block = np.concatenate([block, more])
        self._at_end = len(block) < frames
        return block

    def check_decoded(self) -> None:
        """Say why, where nothing could be decoded.

        Raises:
            ClipError: ``undecodable``.
        """
        if self.fast is not None and self.fast.failed is not None:
            where = f"{self._file.name}: " if self._file.name else ""
            said = f"{where}damaged after the header: {reason(self.fast.failed)}"
            raise ClipError("undecodable", said) from self.fast.failed

    def heard(self, wanted: float) -> Heard:
        """Say how much was heard of the seconds that were wanted."""
        seconds, claimed = self._given / self.rate, self.claimed
        tolerance = self.part.tolerance if self.fast is not None or self.part.seconds is not None else _FFMPEG_TOLERANCE
        if seconds >= wanted:
            return Heard(seconds, claimed)
        if claimed is not None:
            complete = seconds >= min(claimed, wanted) - tolerance
            return Heard(seconds, max(claimed, seconds) if not complete else claimed, complete)
        failed = (self.fast is not None and self.fast.failed is not None) or self._faulty()
        return Heard(seconds, None, self.part.ends and not failed)

    def _faulty(self) -> bool:
        return self._ffmpeg is not None and self.part.seconds is None and self._ffmpeg.faults

    def _misses_some(self) -> bool:
        assert self.fast is not None
        there = self.part.there if self.part.there is not None else self.claimed
        short = there is not None and self._given / self.rate < there - self.part.tolerance
        return self.fast.failed is not None or short

    def _decode_again(self, frames: int) -> Samples:
        """Let ffmpeg decode, and go on where libsndfile stopped."""
        if self._file.content.demuxer is None or find_ffmpeg() is None:
            return np.zeros((0, self.channels), np.float32)
        ffmpeg = self._open_ffmpeg(self.rate, self.channels)
        left = self._given
        while left > 0:
            passed = len(ffmpeg.read(min(left, MOST_BLOCK_VALUES // self.channels)))
            left -= passed
            if not passed:
                return np.zeros((0, self.channels), np.float32)
        self._ffmpeg = ffmpeg
        return ffmpeg.read(frames)

    def _open_ffmpeg(self, rate: int | None = None, channels: int | None = None) -> FfmpegDecoder:
        demuxer = self._file.content.demuxer
        assert demuxer is not None
        name = self._file.name or "the file"
        try:
            path, start = self._stack.enter_context(self._file.on_disk(self.part))
        except OSError as error:
            raise ClipError("unreadable", f"{name}: no copy for ffmpeg: {error.strerror or error}") from error
        ffmpeg = FfmpegDecoder(path, demuxer, name, start, rate, channels)
        self._stack.callback(ffmpeg.close)
        return ffmpeg
