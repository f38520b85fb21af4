"""Log-mel spectrogram and health figures of one clip.

The mel spectrogram is librosa's (``feature.melspectrogram`` and ``power_to_db`` with their defaults but for the clip
contract's window, hop and bins), computed with scipy's float32 FFT and a sparse filterbank: the same values, and the
same bytes whatever the number of BLAS threads.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal
import scipy.sparse

from preprocessing.audio.samples import Samples
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.constants import (
    CLIPPED_AT,
    HOP_LENGTH,
    MEL_FMAX,
    MEL_FMIN,
    N_FFT,
    N_MELS,
    POWER_FLOOR,
    SAMPLE_RATE,
    SHORT_SHARE,
    SILENCE_DB,
    SILENT_SHARE,
    TOP_DB,
)

LogMel = npt.NDArray[np.float32]


@functools.cache
def _filterbank(sample_rate: int) -> scipy.sparse.csr_matrix:
    from librosa.filters import mel  # heavy: not before there is a clip

    fmax = MEL_FMAX * sample_rate / SAMPLE_RATE
    dense = mel(sr=sample_rate, n_fft=N_FFT, n_mels=N_MELS, fmin=MEL_FMIN, fmax=fmax)
    return scipy.sparse.csr_matrix(dense.astype(np.float32))


@functools.cache
def _window() -> Samples:
    window: Samples = scipy.signal.get_window("hann", N_FFT, fftbins=True).astype(np.float32)
    return window


def log_mel(samples: Samples, clip: ClipFormat = PAPER_CLIP) -> LogMel:
    """Log-mel power spectrogram of one clip.

    Args:
        samples: float32 [clip.samples] in [-1, 1].
        clip: length and rate. The bands reach up to half the rate.

    Returns:
        float32 [128, clip.frames] in dB: librosa.power_to_db with ref 1.0, amin 1e-10, top_db 80.

    Raises:
        ValueError: the samples have another shape.
    """
    if samples.shape != (clip.samples,):
        raise ValueError(f"log_mel takes one clip of {clip.samples} samples, got shape {samples.shape}")
    padded = np.pad(samples, N_FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_LENGTH][: clip.frames]
    spectrum = scipy.fft.rfft(frames * _window(), axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    mel = _filterbank(clip.sample_rate) @ power.T
    decibels = 10.0 * np.log10(np.maximum(mel, np.float32(POWER_FLOOR)))
    clipped: LogMel = np.maximum(decibels, decibels.max() - np.float32(TOP_DB)).astype(np.float32)
    return clipped


def silence_share(samples: Samples, sample_rate: int = SAMPLE_RATE) -> float:
    """Share, 0 to 1, of the 0.1 s stretches of float32 [n] that are silent; less than one stretch counts as one."""
    stretch = max(1, sample_rate // 10)
    whole = len(samples) // stretch * stretch
    if not whole:
        return float(not np.any(samples))
    mean_square = np.square(samples[:whole].reshape(-1, stretch)).mean(axis=1)
    return float(np.mean(mean_square < 10 ** (SILENCE_DB / 10)))


def health(waveform: Samples, mel: LogMel, seconds: float, clip: ClipFormat = PAPER_CLIP) -> dict[str, float]:
    """Figures by which a broken delivery is seen, and from which Transform learns mean and deviation.

    Args:
        waveform: float32 [clip.samples], cut or repeated.
        mel: float32 [128, clip.frames], its log-mel.
        seconds: length of the file from the clip's beginning on; what of the clip is repeated does not count as silence
            or sound once more.
        clip: length and rate.
    """
    double = waveform.astype(np.float64)
    silence = silence_share(waveform[: max(1, round(seconds * clip.sample_rate))], clip.sample_rate)
    return {
        "seconds": seconds,
        "short": float(seconds < SHORT_SHARE * clip.seconds),
        "silent": float(silence > SILENT_SHARE),
        "peak": float(np.abs(waveform).max()),
        "rms": float(np.sqrt(np.mean(np.square(double)))),
        "silence_share": silence,
        "clipped_share": float(np.mean(np.abs(waveform) >= CLIPPED_AT)),
        "waveform_mean": float(double.mean()),
        "waveform_mean_square": float(np.mean(np.square(double))),
        "log_mel_mean": float(mel.mean(dtype=np.float64)),
        "log_mel_mean_square": float(np.mean(np.square(mel, dtype=np.float64))),
    }


HEALTH_FEATURES = (
    "seconds",
    "short",
    "silent",
    "peak",
    "rms",
    "silence_share",
    "clipped_share",
    "waveform_mean",
    "waveform_mean_square",
    "log_mel_mean",
    "log_mel_mean_square",
)

INCOMPLETE = "incomplete"
"""1 where a file is cut or damaged so that the clip has less audio than it should; other examples have no such feature.
So those of whole files keep the bytes that they always had."""
