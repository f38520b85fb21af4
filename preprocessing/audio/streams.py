"""Audio files on disk, or stretches of them, block by block: as ``loading``, in memory that does not grow."""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from preprocessing.audio.audio_file import AudioFile
from preprocessing.audio.decoding import Heard
from preprocessing.audio.loading import BLOCK_SECONDS, between, length_of
from preprocessing.audio.mono import MonoBlocks
from preprocessing.audio.samples import Samples
from preprocessing.audio.stretches import Stretch
from preprocessing.constants import RESAMPLING_MARGIN, SAMPLE_RATE
from preprocessing.errors import ClipError


class AudioStream:
    """A file, or a stretch of one, that is being decoded.

    Args:
        file: to be decoded.
        sample_rate: Hz, of the blocks.
        block_seconds: seconds of the file in one block.
        stretch: what is to be decoded of it; None for all.

    Attributes:
        blocks: float32 [samples], mono, none of them empty. Together they are what load_audio gives, or the stretch.
        begin: seconds of the file before the first sample.
        file_seconds: length of the file, where a stretch is decoded that it has to be known for; else None.

    Raises:
        ClipError: as load_audio; ``no_part`` where the stretch lies beyond the file's end.
    """

    def __init__(self, file: AudioFile, sample_rate: int, block_seconds: float, stretch: Stretch | None = None) -> None:
        self._file, self._rate, self._stretch = file, sample_rate, stretch
        self.begin, self.file_seconds, needed = 0.0, None, math.inf
        if stretch is not None:
            if stretch.needs_length:
                frames, rate = length_of(file)
                self.file_seconds = frames / rate
                self.begin = stretch.begin(self.file_seconds)
                if self.begin >= self.file_seconds:
                    raise self._beyond(self.file_seconds)
            needed = self.begin + stretch.seconds + RESAMPLING_MARGIN
        self._blocks = MonoBlocks(file, sample_rate, block_seconds, needed)
        self.blocks: Iterator[Samples] = iter(self._blocks) if stretch is None else self._of_stretch(stretch)

    def close(self) -> None:
        """Let go of the decoder."""
        self._blocks.close()

    @property
    def seconds(self) -> float | None:
        """Length of what is decoded as the file claims it, before all is decoded; None where nothing tells."""
        claimed = self._blocks.claimed if self.file_seconds is None else self.file_seconds
        if self._stretch is None:
            return claimed
        return self._stretch.seconds if claimed is None else min(self._stretch.seconds, claimed - self.begin)

    @property
    def heard(self) -> Heard:
        """How much was heard of the file, or of what the stretch should have, after the last block."""
        heard = self._blocks.heard
        return heard if self._stretch is None else self._heard_of_stretch(self._stretch, heard)

    def _of_stretch(self, stretch: Stretch) -> Iterator[Samples]:
        begin, end = round(self.begin * self._rate), round((self.begin + stretch.seconds) * self._rate)
        place = yield from between(self._blocks, self._rate, begin, end)
        if place <= begin:
            raise self._beyond(place / self._rate)

    def _beyond(self, seconds: float) -> ClipError:
        where = f"{self._file.name}: " if self._file.name else ""
        return ClipError("no_part", f"{where}the part begins at {self.begin:g} s, and the file ends at {seconds:.1f} s")

    def _heard_of_stretch(self, stretch: Stretch, heard: Heard) -> Heard:
        """A cut file has a part of the stretch; its middle and end are those of what is there, which is a shortfall."""
        parts, got = self._file.content.parts, min(heard.seconds - self.begin, stretch.seconds)
        tolerance = max(part.tolerance for part in parts)
        if isinstance(stretch.where, float) or self.file_seconds is None:
            claimed = None if heard.claimed is None else min(heard.claimed - self.begin, stretch.seconds)
            complete = heard.complete or got >= (stretch.seconds if claimed is None else claimed) - tolerance
            return Heard(got, got if complete else claimed, complete)
        claimed = self._blocks.claimed
        missing = 0.0 if claimed is None else claimed - self.file_seconds
        if heard.complete and all(part.ends for part in parts) and missing <= tolerance:
            return Heard(got, got)
        return Heard(self.file_seconds, claimed if missing > 0 else None, complete=False)


@contextlib.contextmanager
def open_audio(
    path: Path | str,
    block_seconds: float = BLOCK_SECONDS,
    sample_rate: int = SAMPLE_RATE,
    stretch: Stretch | None = None,
    name: str = "",
) -> Iterator[AudioStream]:
    """Decode a file of any length, or a stretch of it, block by block: memory does not grow with the file.

    Args:
        path: the file.
        block_seconds: seconds of the file in one block (fewer where rate times channels is very large).
        sample_rate: Hz, of the blocks.
        stretch: what is to be decoded of it; None for all. What lies before is passed over by seeking where
            libsndfile decodes, else decoded too.
        name: what to call the file in messages; its path unless given.

    Raises:
        ClipError: when the file is opened or, of a damaged one, when the damage is reached: ``unreadable`` (the
            system does not let it be read), else the kinds of load_audio; ``no_part`` where the stretch lies beyond
            the file's end. What was yielded before must not be used where load_audio would refuse the file.
        ValueError: ``block_seconds`` is not positive.
    """
    if not block_seconds > 0:
        raise ValueError(f"block_seconds must be positive, got {block_seconds}")
    with _descriptor(Path(path)) as descriptor:
        file = AudioFile((os.fspath(path), descriptor), name or str(path))
        with contextlib.closing(AudioStream(file, sample_rate, block_seconds, stretch)) as stream:
            yield stream


@contextlib.contextmanager
def _descriptor(path: Path) -> Iterator[int]:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ClipError("unreadable", f"{path} is no regular file")
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise ClipError("unreadable", f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
