"""Audio files of any format, rate and channel count to mono float32 at one rate (16 kHz unless asked): whole, one clip,
or block by block.

preprocessing.decoding decodes, preprocessing.channels mixes, soxr resamples (preprocessing.mono). The three ways are
one: a clip is the first block of what is needed, and a whole file one long block.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.constants import PCM_SCALE, RESAMPLING_MARGIN, SAMPLE_RATE
from preprocessing.decoding import AudioFile, Heard, Recording
from preprocessing.errors import ClipError
from preprocessing.excerpts import BEGINNING, Excerpt
from preprocessing.mono import MonoBlocks, Resampler
from preprocessing.stretches import Stretch

AUDIO_SUFFIXES: Final = frozenset(
    (
        ".mp3 .mp2 .mpga .wav .wave .bwf .rf64 .w64 .flac .ogg .oga .opus .spx .aiff .aif .aifc .au .snd .caf "
        ".m4a .m4b .m4r .aac .wma .wv .ape .mpc .tta .tak .ac3 .dsf .dff .mka .webm .weba"
    ).split()
)
"""What is taken of a folder: formats that libsndfile or ffmpeg decodes. Not .mp4, .mkv and the like: mostly films."""

BLOCK_SECONDS: Final = 10.0

Samples = npt.NDArray[np.float32]
Pcm = npt.NDArray[np.int16]


def load_audio(data: bytes, name: str = "", sample_rate: int = SAMPLE_RATE) -> Samples:
    """Decode a whole audio file held in memory, as far as it is there.

    Args:
        data: the file's bytes.
        name: what to call the file in messages.
        sample_rate: Hz, of what is returned.

    Returns:
        float32 [samples], mono (preprocessing.channels), nominally within [-1, 1].

    Raises:
        ClipError: ``empty`` (no bytes, or no audio in them), ``undecodable``, ``needs_ffmpeg`` (and there is none),
            ``not_finite`` (NaN or infinity), or ``beyond_full_scale``.
    """
    return _joined(MonoBlocks(AudioFile(data, name), sample_rate))


def _joined(blocks: Iterable[Samples]) -> Samples:
    pieces = list(blocks)
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


@dataclass(frozen=True)
class HeardClip:
    """A clip of a file.

    Attributes:
        samples: float32 [at most clip.samples], mono at the clip's rate.
        seconds: that the file, or the part that the excerpt is of, has from the clip's beginning on. Where the file
            ends before its header says, that is the length of what is there.
        heard: how much was heard of what the clip wanted of the file.
    """

    samples: Samples
    seconds: float
    heard: Heard


def load_clip(
    data: bytes, name: str = "", clip: ClipFormat = PAPER_CLIP, excerpt: Excerpt = BEGINNING
) -> tuple[Samples, float]:
    """Return samples and seconds of hear_clip; arguments and errors as there."""
    heard = hear_clip(data, name, clip, excerpt)
    return heard.samples, heard.seconds


def hear_clip(data: bytes, name: str = "", clip: ClipFormat = PAPER_CLIP, excerpt: Excerpt = BEGINNING) -> HeardClip:
    """Decode as much of an audio file as a clip holds: an album of hours costs little more than a clip.

    Args:
        data: the file's bytes.
        name: what to call the file in messages.
        clip: length and rate.
        excerpt: which part of the file.

    Raises:
        ClipError: as load_audio; ``no_excerpt`` where the file is too short to have this one.
    """
    file = AudioFile(data, name)
    return _hear_beginning(file, clip) if excerpt.is_beginning else _hear_excerpt(file, clip, excerpt)


def _hear_beginning(file: AudioFile, clip: ClipFormat) -> HeardClip:
    blocks = MonoBlocks(file, clip.sample_rate, needed=clip.seconds + RESAMPLING_MARGIN)
    samples, heard = _joined(blocks), blocks.heard
    if blocks.satisfied:
        frames, rate = _known_length(file, blocks) or _length(file)
        return HeardClip(samples[: clip.samples], frames / rate, Heard(clip.seconds, clip.seconds))
    if not heard.complete and heard.seconds >= clip.seconds:
        heard = Heard(clip.seconds, clip.seconds)
    return HeardClip(samples[: clip.samples], heard.seconds, heard)


def _hear_excerpt(file: AudioFile, clip: ClipFormat, excerpt: Excerpt) -> HeardClip:
    frames, rate = _length(file)
    starts, end = excerpt_starts(frames, rate, clip, excerpt)
    if not starts:
        raise ClipError("no_excerpt", f"the clip begins at {excerpt.start:g} s, the file ends at {frames / rate:.2f} s")
    if excerpt.index >= len(starts):
        raise ClipError("no_excerpt", f"number {excerpt.index + 1} of a track that is long enough for {len(starts)}")
    begin = starts[excerpt.index]
    seconds, end = (end - begin) / clip.sample_rate, min(end, begin + clip.samples)
    needed = end / clip.sample_rate + RESAMPLING_MARGIN
    with contextlib.closing(MonoBlocks(file, clip.sample_rate, BLOCK_SECONDS, needed)) as blocks:
        pieces = list(_between(blocks, clip.sample_rate, begin, end))
    samples = _joined(pieces) if pieces else np.zeros(0, np.float32)  # a header can promise more than is there
    return HeardClip(samples, seconds, _heard_of(file, clip, excerpt, begin, end))


def _between(blocks: MonoBlocks, sample_rate: int, begin: int, end: int) -> Generator[Samples, None, int]:
    """Yield what lies between two samples of a file; what lies before is passed over by seeking, else decoded too.

    Returns:
        Samples of the file up to where it was decoded.
    """
    place = blocks.seek(begin / sample_rate - RESAMPLING_MARGIN)
    for block in blocks:
        kept = block[max(0, begin - place) : max(0, end - place)]
        place += len(block)
        if len(kept):
            yield kept
    return place


def _heard_of(file: AudioFile, clip: ClipFormat, excerpt: Excerpt, begin: int, end: int) -> Heard:
    """How much of an excerpt's samples there are, where the file should have been long enough for more."""
    heard = (end - begin) / clip.sample_rate
    wanted = clip.seconds
    if excerpt.seconds is not None:
        wanted = min(wanted, excerpt.start + excerpt.seconds - begin / clip.sample_rate)
    with contextlib.closing(MonoBlocks(file, clip.sample_rate)) as blocks:
        claimed = blocks.claimed
    there = None if claimed is None else min(wanted, claimed - begin / clip.sample_rate)
    tolerance = max(part.tolerance for part in file.content.parts)
    if there is None:
        ends = all(part.ends for part in file.content.parts)
        return Heard(heard, None, ends or heard >= wanted)
    return Heard(heard, max(there, heard), heard >= there - tolerance)


def audio_length(data: bytes, name: str = "") -> tuple[int, int]:
    """Return how many frames a file has, and its rate: as its header says where the last one is there, else counted.

    Raises:
        ClipError: as load_audio.
    """
    return _length(AudioFile(data, name))


def _length(file: AudioFile) -> tuple[int, int]:
    with contextlib.closing(MonoBlocks(file, SAMPLE_RATE)) as blocks:
        known = _known_length(file, blocks)
        if known is not None:
            return known
        recording, claimed = blocks.recording, blocks.claimed
        assert recording is not None
        if recording.fast is None or len(file.content.parts) > 1:
            if claimed is not None:
                return round(claimed * recording.rate), recording.rate
        elif _has_frame(recording, recording.fast.frames - 1):
            return recording.fast.frames, recording.rate
    counted = MonoBlocks(file, SAMPLE_RATE, BLOCK_SECONDS)
    for _ in counted:
        pass
    return round(counted.heard.seconds * counted.first.rate), counted.first.rate


def _known_length(file: AudioFile, blocks: MonoBlocks) -> tuple[int, int] | None:
    """As _length, where a look into the file told how much of it is there; it may be decoded by now."""
    first = blocks.first
    if len(file.content.parts) > 1 or first.part.there is None:
        return None
    if first.fast is None or math.isfinite(first.part.regular):
        return round(first.part.there * first.rate), first.rate
    whole = first.fast.frames <= first.part.there * first.rate
    return (first.fast.frames, first.rate) if whole else None


def _has_frame(recording: Recording, index: int) -> bool:
    """Whether a frame is there: the header of a cut MP3 (Xing) or FLAC still tells the whole file's length."""
    assert recording.fast is not None
    try:
        recording.fast.sound.seek(index)
        return len(recording.fast.sound.read(1)) == 1
    except (RuntimeError, ValueError, TypeError):
        return False


def excerpt_starts(frames: int, rate: int, clip: ClipFormat, excerpt: Excerpt) -> tuple[tuple[int, ...], int]:
    """Return where all excerpts of an excerpt's part of a file begin, and where the part ends.

    Args:
        frames: of the file.
        rate: of the file.
        clip: length and rate of an excerpt.
        excerpt: one of them.

    Returns:
        Samples at the clip's rate from the file's beginning; no starts where the file ends before the part begins.
    """
    begin, end = round(excerpt.start * clip.sample_rate), frames * clip.sample_rate // rate
    if excerpt.seconds is not None:
        end = min(end, begin + round(excerpt.seconds * clip.sample_rate))
    if end <= begin:
        return (), end
    return tuple(begin + start for start in excerpt.rule.starts(end - begin, clip)), end


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
                frames, rate = _length(file)
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
        place = yield from _between(self._blocks, self._rate, begin, end)
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


def stream_audio(
    path: Path | str, block_seconds: float = BLOCK_SECONDS, sample_rate: int = SAMPLE_RATE
) -> Iterator[Samples]:
    """Yield a file's blocks and close it after the last: open_audio where its length is of no interest.

    Arguments and errors as in open_audio.
    """
    with open_audio(path, block_seconds, sample_rate) as stream:
        yield from stream.blocks


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


def resample(samples: Samples, rate: int, sample_rate: int = SAMPLE_RATE) -> Samples:
    """Resample float32 [samples] from ``rate`` Hz to ``sample_rate`` Hz (soxr, high quality)."""
    return Resampler(rate, sample_rate).resample(samples, last=True)


def fit_clip(samples: Samples, clip: ClipFormat = PAPER_CLIP) -> Samples:
    """Cut float32 [n] to one clip's samples, or repeat it from its beginning until the clip is full.

    Not padded with zeros: to a network that learnt from whole clips, silence is a part of the music. Over 24 real
    excerpts, `musicnn-mtt` lost 53 of 67 tags and invented 42 where all but 3 s was zeros, and lost 20 and invented 22
    where the 3 s were repeated; of 25 s, 6 and 3 against 5 and 3. The paper's ensemble, 20 synthetic clips with 214
    tags: 135 and 92 against 25 and 26; of 25 s, 82 and 18 against 4 and 9. Where there is no sample at all, zeros.

    serving.graph.request_checks.pcm_to_waveform is the same in the graph.
    """
    if len(samples) >= clip.samples:
        return samples[: clip.samples]
    return np.resize(samples, clip.samples)


def to_pcm(samples: Samples) -> Pcm:
    """Quantise float32 in [-1, 1] to little-endian int16; what lies outside is clipped."""
    pcm: Pcm = np.clip(np.rint(samples * PCM_SCALE), -PCM_SCALE, PCM_SCALE - 1).astype("<i2")
    return pcm


def from_pcm(pcm: Pcm) -> Samples:
    """Return int16 PCM as float32 in [-1, 1)."""
    return pcm.astype(np.float32) / np.float32(PCM_SCALE)
