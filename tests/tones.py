"""Tones, and files of them, for tests that need sound and no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from preprocessing.constants import SAMPLE_RATE


def tone(seconds: float, frequency: float = 440.0, rate: int = SAMPLE_RATE) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A tone with tremolo and noise, float32 [seconds * rate]."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(round(frequency)).normal(size=len(time))
    return (0.4 * np.sin(2 * np.pi * frequency * time) * (1 + np.sin(3 * time)) / 2 + 0.02 * noise).astype(np.float32)


def write_audio(
    path: Path, seconds: float, frequency: float = 440.0, rate: int = SAMPLE_RATE, channels: int = 1
) -> Path:
    samples = tone(seconds, frequency, rate)
    sf.write(path, np.repeat(samples[:, None], channels, axis=1), rate)
    return path
