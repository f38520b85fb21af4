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

from preprocessing.audio import Samples
from preprocessing.constants import (
    CLIP_SAMPLES,
    CLIP_SECONDS,
    CLIPPED_AT,
    HOP_LENGTH,
    MEL_FMAX,
    MEL_FMIN,
    N_FFT,
    N_FRAMES,
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
def _filterbank() -> scipy.sparse.csr_matrix:
    from librosa.filters import mel  # heavy: not before there is a clip

    dense = mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS, fmin=MEL_FMIN, fmax=MEL_FMAX)
    return scipy.sparse.csr_matrix(dense.astype(np.float32))


@functools.cache
def _window() -> Samples:
    window: Samples = scipy.signal.get_window("hann", N_FFT, fftbins=True).astype(np.float32)
    return window


def log_mel(samples: Samples) -> LogMel:
    """Log-mel power spectrogram of one clip.

    Args:
        samples: float32 [465600] in [-1, 1].

    Returns:
        float32 [128, 592] in dB: librosa.power_to_db with ref 1.0, amin 1e-10, top_db 80.

    Raises:
        ValueError: the samples have another shape.
    """
    if samples.shape != (CLIP_SAMPLES,):
        raise ValueError(f"log_mel takes one clip of {CLIP_SAMPLES} samples, got shape {samples.shape}")
    padded = np.pad(samples, N_FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_LENGTH][:N_FRAMES]
    spectrum = scipy.fft.rfft(frames * _window(), axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    mel = _filterbank() @ power.T
    decibels = 10.0 * np.log10(np.maximum(mel, np.float32(POWER_FLOOR)))
    clipped: LogMel = np.maximum(decibels, decibels.max() - np.float32(TOP_DB)).astype(np.float32)
    return clipped


def silence_share(samples: Samples) -> float:
    """Share, 0 to 1, of the 0.1 s stretches of float32 [n] that are silent; less than one stretch counts as one."""
    stretch = SAMPLE_RATE // 10
    whole = len(samples) // stretch * stretch
    if not whole:
        return float(not np.any(samples))
    mean_square = np.square(samples[:whole].reshape(-1, stretch)).mean(axis=1)
    return float(np.mean(mean_square < 10 ** (SILENCE_DB / 10)))


def health(clip: Samples, mel: LogMel, seconds: float) -> dict[str, float]:
    """Figures by which a broken delivery is seen, and from which Transform learns mean and deviation.

    Args:
        clip: float32 [465600], cut or padded.
        mel: float32 [128, 592], its log-mel.
        seconds: length of the whole file; what of the clip is padding counts neither as sound nor as silence.
    """
    double = clip.astype(np.float64)
    silence = silence_share(clip[: max(1, round(seconds * SAMPLE_RATE))])
    return {
        "seconds": seconds,
        "short": float(seconds < SHORT_SHARE * CLIP_SECONDS),
        "silent": float(silence > SILENT_SHARE),
        "peak": float(np.abs(clip).max()),
        "rms": float(np.sqrt(np.mean(np.square(double)))),
        "silence_share": silence,
        "clipped_share": float(np.mean(np.abs(clip) >= CLIPPED_AT)),
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
