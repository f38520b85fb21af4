"""One file to float32 frames at its own rate, all that is in it, and the word where that is less than there should be.

libsndfile decodes, fast. What it gave is compared with what preprocessing.audio.containers found in the file; where
that is more, where libsndfile fails or cannot be trusted, and for what it does not know, ffmpeg decodes (again), if
there is one.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from preprocessing.audio.audio_file import AudioFile
from preprocessing.audio.containers import Part
from preprocessing.audio.ffmpeg import NEEDS_FFMPEG, FfmpegDecoder, find_ffmpeg
from preprocessing.audio.libsndfile import (
    DECODER_ERRORS,
    LONGEST_FRAMES,
    MOST_BLOCK_VALUES,
    LibsndfileDecoder,
    reason,
)
from preprocessing.audio.samples import Samples
from preprocessing.errors import ClipError

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
        self.fast: LibsndfileDecoder | None = None
        self._ffmpeg: FfmpegDecoder | None = None
        demuxer = file.content.demuxer
        if part.regular < needed and find_ffmpeg() is not None:
            with contextlib.suppress(ClipError):
                self._ffmpeg = self._open_ffmpeg()
        if self._ffmpeg is None:
            try:
                self.fast = LibsndfileDecoder(file, part)
                self._stack.callback(self.fast.close)
            except DECODER_ERRORS as error:
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
