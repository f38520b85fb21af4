"""Audio files of any format, rate and channel count to mono float32 at 16 kHz.

libsndfile decodes (MP3, WAV, FLAC, Ogg and what else it knows), soxr resamples.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import soundfile as sf

from preprocessing.constants import CLIP_SAMPLES, PCM_SCALE, SAMPLE_RATE
from preprocessing.errors import ClipError

AUDIO_SUFFIXES = frozenset({".mp3", ".wav", ".flac", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au"})

Samples = npt.NDArray[np.float32]
Pcm = npt.NDArray[np.int16]


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
    if not data:
        raise ClipError("empty", f"{name or 'the file'} has no bytes")
    try:
        with sf.SoundFile(io.BytesIO(data)) as file:
            rate = file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
    except (sf.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        raise ClipError(
            "undecodable", f"{name}: {error}".replace("<_io.BytesIO object at ", "<").strip(": ")
        ) from error
    if not len(samples):
        raise ClipError("empty", f"{name or 'the file'} has a header and no audio")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise ClipError("not_finite", f"{name or 'the file'} has NaN or infinite samples")
    return resample(mono, rate)


def resample(samples: Samples, rate: int) -> Samples:
    """Resample float32 [samples] from ``rate`` Hz to 16 kHz (soxr, high quality)."""
    if rate == SAMPLE_RATE:
        return samples
    import soxr

    resampled: Samples = soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
    return resampled


def fit_clip(samples: Samples) -> Samples:
    """Cut float32 [n] to one clip's 465,600 samples, or pad it with zeros at the end."""
    if len(samples) >= CLIP_SAMPLES:
        return samples[:CLIP_SAMPLES]
    return np.pad(samples, (0, CLIP_SAMPLES - len(samples)))


def to_pcm(samples: Samples) -> Pcm:
    """Quantise float32 in [-1, 1] to little-endian int16; what lies outside is clipped."""
    return np.clip(np.rint(samples * PCM_SCALE), -PCM_SCALE, PCM_SCALE - 1).astype("<i2")


def from_pcm(pcm: Pcm) -> Samples:
    """Return int16 PCM as float32 in [-1, 1)."""
    return pcm.astype(np.float32) / np.float32(PCM_SCALE)
