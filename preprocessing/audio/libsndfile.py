"""Audio decoded by libsndfile, up to the end or to the first damage."""

from __future__ import annotations

import contextlib
from typing import Final

import numpy as np
import soundfile as sf

from preprocessing.audio.audio_file import AudioFile
from preprocessing.audio.containers import Part
from preprocessing.audio.samples import Samples

MOST_BLOCK_VALUES: Final = 2**22
"""Most samples times channels decoded at once where a header may claim anything: 16 MiB as float32."""

SMALL_BLOCK: Final = 1024
"""Frames read at once of a damaged file: of the block with the damage nothing is had."""

LONGEST_FRAMES: Final = 2**62
"""From here on a length in frames means that there is none."""

_LOSSY: Final = ("MPEG", "VORBIS", "OPUS")


class LibsndfileDecoder:
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
            with contextlib.suppress(*DECODER_ERRORS):
                return self._file.everything, self._file.sound_file(self._file.everything)
        return part, self._file.sound_file(part)

    def close(self) -> None:
        """Close the file."""
        self.sound.close()

    def seek(self, frame: int) -> bool:
        """Go to a frame, before anything is read; False where that cannot be, and all is read from the beginning."""
        try:
            self.sound.seek(frame)
        except DECODER_ERRORS:
            self._begin_again()
            return False
        self._given = frame
        return True

    def read(self, frames: int) -> Samples:
        """Return float32 [at most frames, channels]; fewer only at the end."""
        block = self._read(frames) if self.failed is None else self._read_to_the_damage(frames)
        self._given += len(block)
        return block

    def _read(self, frames: int) -> Samples:
        if 0 < self.frames < LONGEST_FRAMES:
            frames = min(frames, self.frames - self._given)
        try:
            block: Samples = self.sound.read(frames, dtype="float32", always_2d=True)
            return block
        except DECODER_ERRORS as error:
            self.failed = error
        try:
            self._begin_again()
        except DECODER_ERRORS:
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
        with contextlib.suppress(*DECODER_ERRORS):
            while frames > 0:
                wanted = min(SMALL_BLOCK - place % SMALL_BLOCK, frames)
                piece = self.sound.read(wanted, dtype="float32", always_2d=True)
                pieces.append(piece)
                frames, place = frames - len(piece), place + len(piece)
                if not len(piece):
                    break
        return np.concatenate(pieces) if pieces else np.zeros((0, self.channels), np.float32)


DECODER_ERRORS: Final = (RuntimeError, ValueError, TypeError, MemoryError)
"""What soundfile raises of a file that cannot be decoded."""

_NOT_REGULAR = 7
"""libsndfile's code where an MP3 ends before its first frame does; its words are of a file that is not there."""


def reason(error: Exception) -> str:
    """What libsndfile says. Not str(error): it holds the address of the buffer, another one in each run."""
    if getattr(error, "code", None) == _NOT_REGULAR:
        return "Begins as an MP3 and has no whole frame of audio."
    return getattr(error, "error_string", None) or str(error)
