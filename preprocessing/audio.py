"""Audio files of any format, rate and channel count to mono float32 at one rate (16 kHz unless asked): whole, one clip,
or block by block.

libsndfile decodes (MP3, WAV, FLAC, Ogg and what else it knows), soxr resamples. What libsndfile cannot read and music
libraries hold all the same (AAC in M4A, WMA) is decoded by an ``ffmpeg`` on PATH, and only block by block.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import soundfile as sf

from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.constants import PCM_SCALE, RESAMPLING_MARGIN, SAMPLE_RATE
from preprocessing.errors import ClipError
from preprocessing.excerpts import BEGINNING, Excerpt

AUDIO_SUFFIXES: Final = frozenset(
    (
        ".mp3 .mp2 .mpga .wav .wave .bwf .rf64 .w64 .flac .ogg .oga .opus .spx .aiff .aif .aifc .au .snd .caf "
        ".m4a .m4b .m4r .aac .wma .wv .ape .mpc .tta .tak .ac3 .dsf .dff .mka .webm .weba"
    ).split()
)
"""What is taken of a folder: formats that libsndfile or ffmpeg decodes. Not .mp4, .mkv and the like: mostly films."""

FFMPEG_DEMUXERS: Final = {
    ".m4a": "mov", ".m4b": "mov", ".m4r": "mov", ".mp4": "mov", ".aac": "aac", ".wma": "asf", ".wv": "wv",
    ".ape": "ape", ".mpc": "mpc8", ".tta": "tta", ".tak": "tak", ".ac3": "ac3", ".dsf": "dsf", ".dff": "iff",
    ".mka": "matroska", ".webm": "matroska", ".weba": "matroska", ".caf": "caf", ".mp2": "mp3", ".spx": "ogg",
}  # fmt: skip
"""Suffixes that ffmpeg decodes, and as what: it is never left to guess, because some of the formats that it would guess
(play lists) make it open other files and addresses."""

BLOCK_SECONDS: Final = 10.0
MOST_BLOCK_VALUES: Final = 2**22
"""Most samples times channels decoded at once, whatever a header claims: 16 MiB as float32."""

Samples = npt.NDArray[np.float32]
Pcm = npt.NDArray[np.int16]


def load_audio(data: bytes, name: str = "", sample_rate: int = SAMPLE_RATE) -> Samples:
    """Decode a whole audio file held in memory.

    Args:
        data: the file's bytes, in any format that libsndfile reads.
        name: what to call the file in messages.
        sample_rate: Hz, of what is returned.

    Returns:
        float32 [samples], mono (mean of the channels), nominally within [-1, 1].

    Raises:
        ClipError: ``empty`` (no bytes, or no audio in them), ``undecodable``, or ``not_finite`` (NaN or infinity).
    """
    return _decode(data, name, sample_rate)[0]


def load_clip(
    data: bytes, name: str = "", clip: ClipFormat = PAPER_CLIP, excerpt: Excerpt = BEGINNING
) -> tuple[Samples, float]:
    """Decode as much of an audio file as a clip holds: an album of hours costs little more than a clip.

    Args:
        data: the file's bytes, in any format that libsndfile reads.
        name: what to call the file in messages.
        clip: length and rate.
        excerpt: which part of the file.

    Returns:
        float32 [at most clip.samples], mono at the clip's rate, as load_audio gives it; and how many seconds the file,
        or the part that the excerpt is of, has from the clip's beginning on. Where the file ends before its header
        says (a cut MP3), that is the length of what is there.

    Raises:
        ClipError: as load_audio; ``no_excerpt`` where the file is too short to have this one.
    """
    if excerpt.is_beginning:
        samples, seconds = _decode(data, name, clip.sample_rate, clip.seconds + RESAMPLING_MARGIN)
        return samples[: clip.samples], seconds
    return _decode_excerpt(data, name, clip, excerpt)


def _decode(data: bytes, name: str, sample_rate: int, keep_seconds: float | None = None) -> tuple[Samples, float]:
    """Return mono samples of the first ``keep_seconds`` or of all, and the file's length in seconds."""
    with _opened(data, name) as (file, rate, frames):
        wanted = -1 if keep_seconds is None else min(frames, math.ceil(keep_seconds * rate))
        samples = file.read(wanted, dtype="float32", always_2d=True)
        if len(samples) == wanted < frames:
            frames = frames if _has_frame(file, frames - 1) else _count_frames(data)
    resampled = _mono(samples, name, rate, sample_rate)
    return resampled, (frames if len(samples) == wanted else len(samples)) / rate


def _decode_excerpt(data: bytes, name: str, clip: ClipFormat, excerpt: Excerpt) -> tuple[Samples, float]:
    """Find out how long the file is, seek to a little before the excerpt, and decode from there to a little behind."""
    frames, rate = audio_length(data, name)
    starts, end = excerpt_starts(frames, rate, clip, excerpt)
    if not starts:
        raise ClipError("no_excerpt", f"the clip begins at {excerpt.start:g} s, the file ends at {frames / rate:.2f} s")
    if excerpt.index >= len(starts):
        raise ClipError("no_excerpt", f"number {excerpt.index + 1} of a track that is long enough for {len(starts)}")
    begin = starts[excerpt.index]
    end, seconds = min(end, begin + clip.samples), (end - begin) / clip.sample_rate
    margin = math.ceil(RESAMPLING_MARGIN * rate)
    step = rate // math.gcd(rate, clip.sample_rate)  # frames after which both rates have a sample at one time
    first = max(0, begin * rate // clip.sample_rate - margin) // step * step
    last = min(frames, math.ceil(end * rate / clip.sample_rate) + margin)
    with _opened(data, name) as (file, _, _):
        file.seek(first)
        samples = file.read(last - first, dtype="float32", always_2d=True)
    offset = begin - first * clip.sample_rate // rate
    return _mono(samples, name, rate, clip.sample_rate)[offset : offset + end - begin], seconds


def audio_length(data: bytes, name: str = "") -> tuple[int, int]:
    """Return how many frames a file has, and its rate: as its header says where the last one is there, else counted.

    Raises:
        ClipError: as load_audio.
    """
    with _opened(data, name) as (file, rate, frames):
        return (frames if _has_frame(file, frames - 1) else _count_frames(data)), rate


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


@contextlib.contextmanager
def _opened(data: bytes, name: str) -> Iterator[tuple[sf.SoundFile, int, int]]:
    """Open a file held in memory; yields it, its rate and the frames that its header claims.

    Raises:
        ClipError: ``empty`` (no bytes) or ``undecodable``, also for what libsndfile raises in the block.
    """
    if not data:
        raise ClipError("empty", f"{name or 'the file'} has no bytes")
    where = f"{name}: " if name else ""
    try:
        with sf.SoundFile(io.BytesIO(data)) as file:
            where += "damaged after the header: "
            yield file, file.samplerate, file.frames
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise ClipError("undecodable", where + _reason(error)) from error


def _mono(samples: Samples, name: str, rate: int, sample_rate: int) -> Samples:
    """Mean of the channels of float32 [frames, channels] at ``rate``, resampled to ``sample_rate``.

    Raises:
        ClipError: ``empty`` or ``not_finite``.
    """
    if not len(samples):
        raise ClipError("empty", f"{name or 'the file'} has a header and no audio")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise ClipError("not_finite", f"{name or 'the file'} has NaN or infinite samples")
    resampled = resample(mono, rate, sample_rate)
    if not len(resampled):
        raise ClipError("empty", f"{name or 'the file'} has less audio than one sample at {sample_rate} Hz")
    return resampled


def _has_frame(file: sf.SoundFile, index: int) -> bool:
    """Whether a frame is there: the header of a cut MP3 (Xing) or FLAC still tells the whole file's length."""
    try:
        file.seek(index)
        return len(file.read(1)) == 1
    except (RuntimeError, ValueError, TypeError):
        return False


def _count_frames(data: bytes) -> int:
    """Decode a cut file in blocks of 0.1 s and count its frames up to the block with the damage."""
    frames = 0
    with contextlib.suppress(RuntimeError, ValueError, TypeError), _SequentialFile(io.BytesIO(data)) as file:
        length = max(1, int(min(file.samplerate / 10, MOST_BLOCK_VALUES / file.channels)))
        block = np.empty((length, file.channels), np.float32)
        while count := len(file.read(out=block)):
            frames += count
    return frames


_NOT_REGULAR = 7
"""libsndfile's code where an MP3 ends before its first frame does; its words are of a file that is not there."""


def _reason(error: Exception) -> str:
    """What libsndfile says. Not str(error): it holds the address of the buffer, another one in each run."""
    if getattr(error, "code", None) == _NOT_REGULAR:
        return "Begins as an MP3 and has no whole frame of audio."
    return getattr(error, "error_string", None) or str(error)


@dataclass(frozen=True)
class AudioStream:
    """A file that is being decoded.

    Attributes:
        seconds: length as the header claims it (a cut MP3 has less); None where the header does not say.
        blocks: float32 [samples], mono, none of them empty. Together they are what load_audio gives.
    """

    seconds: float | None
    blocks: Iterator[Samples]


@contextlib.contextmanager
def open_audio(
    path: Path | str, block_seconds: float = BLOCK_SECONDS, sample_rate: int = SAMPLE_RATE
) -> Iterator[AudioStream]:
    """Decode a file of any length block by block: memory does not grow with the file.

    Formats are told by content, as load_audio does. Files with a suffix of FFMPEG_DEMUXERS that libsndfile does not
    know go through the ``ffmpeg`` on PATH.

    Args:
        path: the file.
        block_seconds: seconds of the file in one block (fewer where rate times channels is very large).
        sample_rate: Hz, of the blocks.

    Raises:
        ClipError: when the file is opened or, of a damaged one, when the damage is reached: ``unreadable`` (the
            system does not let it be read), ``needs_ffmpeg`` (there is none), else the kinds of load_audio. What was
            yielded before the damage must not be used where load_audio would refuse the file.
        ValueError: ``block_seconds`` is not positive.
    """
    if not block_seconds > 0:
        raise ValueError(f"block_seconds must be positive, got {block_seconds}")
    with contextlib.ExitStack() as stack:
        source = _open_source(Path(path), stack)
        frames = max(1, int(min(block_seconds * source.rate, MOST_BLOCK_VALUES / source.channels)))
        yield AudioStream(source.seconds, _mono_blocks(source, frames, str(path), sample_rate))


def stream_audio(
    path: Path | str, block_seconds: float = BLOCK_SECONDS, sample_rate: int = SAMPLE_RATE
) -> Iterator[Samples]:
    """Yield a file's blocks and close it after the last: open_audio where the claimed length is of no interest.

    Arguments and errors as in open_audio.
    """
    with open_audio(path, block_seconds, sample_rate) as stream:
        yield from stream.blocks


@dataclass(frozen=True)
class _Source:
    """An opened decoder. ``read(frames)`` gives float32 [at most frames, channels]; fewer only at the end."""

    rate: int
    channels: int
    seconds: float | None
    read: Any


class _SequentialFile(sf.SoundFile):  # type: ignore[misc]
    """A file that is read from its beginning to its end.

    soundfile seeks to where it is after each read of a seekable file. An MP3 decoder then loses the bits that its next
    frames borrow from earlier ones, and each block would start with a glitch.
    """

    def seekable(self) -> bool:
        """Say no, so that nobody seeks."""
        return False


def _open_source(path: Path, stack: contextlib.ExitStack) -> _Source:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ClipError("unreadable", f"{path} is no regular file")
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise ClipError("unreadable", f"{path}: {getattr(error, 'strerror', None) or error}") from error
    stack.callback(os.close, descriptor)
    try:
        if os.fstat(descriptor).st_size == 0:
            raise ClipError("empty", f"{path} has no bytes")
        file = stack.enter_context(_SequentialFile(descriptor, closefd=False))
    except (RuntimeError, ValueError, TypeError) as error:
        if path.suffix.lower() in FFMPEG_DEMUXERS:
            return _open_ffmpeg(path, stack)
        raise ClipError("undecodable", f"{path}: {_reason(error)}") from error

    def read(frames: int) -> Samples:
        try:
            block: Samples = file.read(frames, dtype="float32", always_2d=True)
        except (RuntimeError, ValueError, TypeError, MemoryError) as error:
            raise ClipError("undecodable", f"{path}: damaged after the header: {_reason(error)}") from error
        return block

    seconds = file.frames / file.samplerate if file.frames < 2**62 else None
    return _Source(file.samplerate, file.channels, seconds, read)


def _open_ffmpeg(path: Path, stack: contextlib.ExitStack) -> _Source:
    """Start ffmpeg, whose output is Sun AU: a header of 24 bytes and more with rate and channels, then float32."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise ClipError(
            "needs_ffmpeg", f"{path}: {path.suffix} files are decoded by ffmpeg, and there is none on PATH: install it"
        )
    messages = tempfile.TemporaryFile()  # noqa: SIM115 (the stack closes it)
    stack.enter_context(messages)
    call = [ffmpeg, "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe"]
    call += ["-f", FFMPEG_DEMUXERS[path.suffix.lower()], "-i", f"file:{path}"]
    call += ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    process = subprocess.Popen(call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages)
    stack.callback(process.wait)
    stack.callback(process.kill)
    output = stack.enter_context(process.stdout)  # type: ignore[arg-type]

    def check_end() -> None:
        if process.wait():
            messages.seek(0)
            lines = messages.read().decode("utf-8", "replace").strip().splitlines() or ["it gave no reason"]
            raise ClipError("undecodable", f"{path}: ffmpeg: {re.sub(r' @ 0x[0-9a-f]+', '', lines[0])}")

    header = output.read(24)
    if len(header) < 24:
        check_end()
        raise ClipError("empty", f"{path} has a header and no audio")
    _, start, _, _, rate, channels = struct.unpack(">4s5I", header)
    output.read(start - len(header))

    def read(frames: int) -> Samples:
        data = output.read(4 * channels * frames)
        if len(data) < 4 * channels * frames:
            check_end()
        whole = len(data) // (4 * channels)
        return np.frombuffer(data, ">f4", count=whole * channels).reshape(whole, channels).astype(np.float32)

    return _Source(rate, channels, None, read)


def _mono_blocks(source: _Source, frames: int, name: str, sample_rate: int) -> Iterator[Samples]:
    resampler = _Resampler(source.rate, sample_rate)
    decoded = given = 0
    last = False
    while not last:
        block = source.read(frames)
        last = len(block) < frames
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
        if not np.isfinite(mono).all():
            raise ClipError("not_finite", f"{name} has NaN or infinite samples")
        samples = resampler.resample(mono, last)
        decoded += len(block)
        given += len(samples)
        if len(samples):
            yield samples
    if not decoded:
        raise ClipError("empty", f"{name} has a header and no audio")
    if not given:
        raise ClipError("empty", f"{name} has less audio than one sample at {sample_rate} Hz")


class _Resampler:
    """The resampler of resample(), fed block by block."""

    def __init__(self, rate: int, sample_rate: int) -> None:
        self._stream = None
        if rate != sample_rate:
            import soxr  # type: ignore[import-untyped]

            self._stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")

    def resample(self, samples: Samples, last: bool) -> Samples:
        """Float32 [samples] -> float32 [what the filter can already give]; with ``last``, all that is left."""
        if self._stream is None:
            return samples
        resampled: Samples = self._stream.resample_chunk(samples, last)
        return resampled


def resample(samples: Samples, rate: int, sample_rate: int = SAMPLE_RATE) -> Samples:
    """Resample float32 [samples] from ``rate`` Hz to ``sample_rate`` Hz (soxr, high quality)."""
    if rate == sample_rate:
        return samples
    import soxr  # type: ignore[import-untyped]

    resampled: Samples = soxr.resample(samples, rate, sample_rate, quality="HQ")
    return resampled


def fit_clip(samples: Samples, clip: ClipFormat = PAPER_CLIP) -> Samples:
    """Cut float32 [n] to one clip's samples, or pad it with zeros at the end."""
    if len(samples) >= clip.samples:
        return samples[: clip.samples]
    return np.pad(samples, (0, clip.samples - len(samples)))


def to_pcm(samples: Samples) -> Pcm:
    """Quantise float32 in [-1, 1] to little-endian int16; what lies outside is clipped."""
    pcm: Pcm = np.clip(np.rint(samples * PCM_SCALE), -PCM_SCALE, PCM_SCALE - 1).astype("<i2")
    return pcm


def from_pcm(pcm: Pcm) -> Samples:
    """Return int16 PCM as float32 in [-1, 1)."""
    return pcm.astype(np.float32) / np.float32(PCM_SCALE)
