"""Audio files of any format, rate and channel count to mono float32 at 16 kHz.

libsndfile decodes (MP3, WAV, FLAC, Ogg and what else it knows), soxr resamples.
"""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
import soundfile as sf

from preprocessing.constants import CLIP_SAMPLES, CLIP_SECONDS, PCM_SCALE, SAMPLE_RATE
from preprocessing.errors import ClipError

AUDIO_SUFFIXES = frozenset({".mp3", ".wav", ".flac", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au"})

Samples = npt.NDArray[np.float32]
Pcm = npt.NDArray[np.int16]

RESAMPLING_MARGIN = 1.0
"""Seconds decoded beyond a clip's end, so that the resampling filter sees what follows there."""


def load_audio(data: bytes, name: str = "") -> Samples:
    """Decode a whole audio file held in memory.

    Args:
        data: the file's bytes, in any format that libsndfile reads.
        name: what to call the file in messages.

    Returns:
        float32 [samples], mono (mean of the channels) at 16 kHz, nominally within [-1, 1].

    Raises:
        ClipError: ``empty`` (no bytes, or no audio in them), ``undecodable``, or ``not_finite`` (NaN or infinity).
    """
    return _decode(data, name)[0]


def load_clip(data: bytes, name: str = "") -> tuple[Samples, float]:
    """Decode as much of an audio file as a clip holds: an album of hours costs no more than a clip.

    Args:
        data: the file's bytes, in any format that libsndfile reads.
        name: what to call the file in messages.

    Returns:
        float32 [at most 465600], mono at 16 kHz, as load_audio gives it; and the whole file's length in seconds. Where
        the file ends before its header says (a cut MP3), the length is that of what is there.

    Raises:
        ClipError: as load_audio.
    """
    samples, seconds = _decode(data, name, CLIP_SECONDS + RESAMPLING_MARGIN)
    return samples[:CLIP_SAMPLES], seconds


def _decode(data: bytes, name: str, keep_seconds: float | None = None) -> tuple[Samples, float]:
    """Return mono samples at 16 kHz of the first ``keep_seconds`` or of all, and the file's length in seconds."""
    if not data:
        raise ClipError("empty", f"{name or 'the file'} has no bytes")
    where = f"{name}: " if name else ""
    try:
        with sf.SoundFile(io.BytesIO(data)) as file:
            where += "damaged after the header: "
            rate, frames = file.samplerate, file.frames
            wanted = -1 if keep_seconds is None else min(frames, math.ceil(keep_seconds * rate))
            samples = file.read(wanted, dtype="float32", always_2d=True)
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        # Not str(error): it holds the address of the buffer, another one in each run.
        reason = getattr(error, "error_string", None) or str(error)
        raise ClipError("undecodable", where + reason) from error
    if not len(samples):
        raise ClipError("empty", f"{name or 'the file'} has a header and no audio")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise ClipError("not_finite", f"{name or 'the file'} has NaN or infinite samples")
    resampled = resample(mono, rate)
    if not len(resampled):
        raise ClipError("empty", f"{name or 'the file'} has less audio than one sample at {SAMPLE_RATE} Hz")
    return resampled, (frames if len(samples) == wanted else len(samples)) / rate


def resample(samples: Samples, rate: int) -> Samples:
    """Resample float32 [samples] from ``rate`` Hz to 16 kHz (soxr, high quality)."""
    if rate == SAMPLE_RATE:
        return samples
    import soxr  # type: ignore[import-untyped]

    resampled: Samples = soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
    return resampled


def fit_clip(samples: Samples) -> Samples:
    """Cut float32 [n] to one clip's 465,600 samples, or pad it with zeros at the end."""
    if len(samples) >= CLIP_SAMPLES:
        return samples[:CLIP_SAMPLES]
    return np.pad(samples, (0, CLIP_SAMPLES - len(samples)))


def to_pcm(samples: Samples) -> Pcm:
    """Quantise float32 in [-1, 1] to little-endian int16; what lies outside is clipped."""
    pcm: Pcm = np.clip(np.rint(samples * PCM_SCALE), -PCM_SCALE, PCM_SCALE - 1).astype("<i2")
    return pcm


def from_pcm(pcm: Pcm) -> Samples:
    """Return int16 PCM as float32 in [-1, 1)."""
    return pcm.astype(np.float32) / np.float32(PCM_SCALE)
