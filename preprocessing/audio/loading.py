"""Audio files of any format, rate and channel count to mono float32 at one rate (16 kHz unless asked): a whole one, or
a clip.

``decoding`` decodes, ``channels`` mixes, soxr resamples (``mono``). It is all one way: a clip is the first block of
what is needed, a whole file one long block, and ``streams`` gives all blocks.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from preprocessing.audio.audio_file import AudioFile
from preprocessing.audio.decoding import Heard, Recording
from preprocessing.audio.mono import MonoBlocks
from preprocessing.audio.samples import Samples
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.constants import RESAMPLING_MARGIN, SAMPLE_RATE
from preprocessing.errors import ClipError
from preprocessing.excerpts import BEGINNING, Excerpt

BLOCK_SECONDS: Final = 10.0


def load_audio(data: bytes, name: str = "", sample_rate: int = SAMPLE_RATE) -> Samples:
    """Decode a whole audio file held in memory, as far as it is there.

    Args:
        data: the file's bytes.
        name: what to call the file in messages.
        sample_rate: Hz, of what is returned.

    Returns:
        float32 [samples], mono (preprocessing.audio.channels), nominally within [-1, 1].

    Raises:
        ClipError: ``empty`` (no bytes, or no audio in them), ``undecodable``, ``needs_ffmpeg`` (and there is none),
            ``not_finite`` (NaN or infinity), or ``beyond_full_scale``.
    """
    return _joined(MonoBlocks(AudioFile(data, name), sample_rate))


def _joined(blocks: Iterable[Samples]) -> Samples:
    pieces = list(blocks)
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


@dataclass(frozen=True)
class DecodedClip:
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
    """Return samples and seconds of decode_clip; arguments and errors as there."""
    decoded = decode_clip(data, name, clip, excerpt)
    return decoded.samples, decoded.seconds


def decode_clip(
    data: bytes, name: str = "", clip: ClipFormat = PAPER_CLIP, excerpt: Excerpt = BEGINNING
) -> DecodedClip:
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
    return _decode_beginning(file, clip) if excerpt.is_beginning else _decode_excerpt(file, clip, excerpt)


def _decode_beginning(file: AudioFile, clip: ClipFormat) -> DecodedClip:
    blocks = MonoBlocks(file, clip.sample_rate, needed=clip.seconds + RESAMPLING_MARGIN)
    samples, heard = _joined(blocks), blocks.heard
    if blocks.satisfied:
        frames, rate = _known_length(file, blocks) or length_of(file)
        return DecodedClip(samples[: clip.samples], frames / rate, Heard(clip.seconds, clip.seconds))
    if not heard.complete and heard.seconds >= clip.seconds:
        heard = Heard(clip.seconds, clip.seconds)
    return DecodedClip(samples[: clip.samples], heard.seconds, heard)


def _decode_excerpt(file: AudioFile, clip: ClipFormat, excerpt: Excerpt) -> DecodedClip:
    frames, rate = length_of(file)
    starts, end = excerpt_starts(frames, rate, clip, excerpt)
    if not starts:
        raise ClipError("no_excerpt", f"the clip begins at {excerpt.start:g} s, the file ends at {frames / rate:.2f} s")
    if excerpt.index >= len(starts):
        raise ClipError("no_excerpt", f"number {excerpt.index + 1} of a track that is long enough for {len(starts)}")
    begin = starts[excerpt.index]
    seconds, end = (end - begin) / clip.sample_rate, min(end, begin + clip.samples)
    needed = end / clip.sample_rate + RESAMPLING_MARGIN
    with contextlib.closing(MonoBlocks(file, clip.sample_rate, BLOCK_SECONDS, needed)) as blocks:
        pieces = list(between(blocks, clip.sample_rate, begin, end))
    samples = _joined(pieces) if pieces else np.zeros(0, np.float32)  # a header can promise more than is there
    return DecodedClip(samples, seconds, _heard_of(file, clip, excerpt, begin, end))


def between(blocks: MonoBlocks, sample_rate: int, begin: int, end: int) -> Generator[Samples, None, int]:
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
    return length_of(AudioFile(data, name))


def length_of(file: AudioFile) -> tuple[int, int]:
    """Return frames and rate of a file, as audio_length."""
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
    """As length_of, where a look into the file told how much of it is there; it may be decoded by now."""
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
