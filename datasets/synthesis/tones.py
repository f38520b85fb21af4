"""What notes are made of: band-limited wave tables, plucked strings, envelopes, resonances, and who plays.

Plucked strings are Karplus and Strong's (1983) with Jaffe and Smith's (1983) tuning and pick position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, lfilter, sosfilt

from preprocessing.constants import SAMPLE_RATE

Signal = npt.NDArray[np.float32]
"""Float32 [n]; sound is mono at 16 kHz."""

Shape = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""From frequencies in Hz to amplitudes: what a body or a mouth does to a string's or glottis' harmonics."""

TABLE_LENGTH: Final = 2048
HIGHEST_PARTIAL: Final = 7_400.0
"""Hz; at 32 kbit/s an MP3 keeps little above."""


@dataclass(frozen=True)
class Player:
    """How one track's player and instrument differ from another's.

    Attributes:
        brightness: dB an octave added to the instrument's own spectrum.
        vibrato: factor on the vibrato's depth.
        attack: factor on the attack's length.
        noise: white noise, float32, several seconds; the only randomness in a note.
    """

    brightness: float
    vibrato: float
    attack: float
    noise: Signal = field(repr=False)

    def noise_for(self, midi: float, samples: int) -> Signal:
        """Return a stretch of noise that is always the same for one pitch and length."""
        start = int(midi * 7919) % max(1, len(self.noise) - samples)
        return self.noise[start : start + samples]


def new_player(rng: np.random.Generator) -> Player:
    """Draw a player."""
    return Player(
        brightness=float(rng.uniform(-1.5, 1.5)),
        vibrato=float(rng.uniform(0.6, 1.4)),
        attack=float(rng.uniform(0.7, 1.4)),
        noise=rng.standard_normal(12 * SAMPLE_RATE, dtype=np.float32),
    )


def frequency(midi: float) -> float:
    """Hz of a MIDI pitch; 69 is 440 Hz."""
    return float(440.0 * 2.0 ** ((midi - 69.0) / 12.0))


def as_signal(samples: npt.ArrayLike) -> Signal:
    """Samples as float32."""
    return np.asarray(samples, dtype=np.float32)


def wave_table(f0: float, shape: Shape, tilt: float = 0.0, stretch: Shape | None = None) -> Signal:
    """One period with harmonics of ``shape`` up to the highest partial, at an RMS of 1.

    Args:
        f0: fundamental in Hz.
        shape: amplitude at a frequency.
        tilt: dB an octave above the fundamental, on top of the shape.
        stretch: amplitude by the number of the harmonic, on top of the shape.
    """
    number = np.arange(1, max(2, min(64, int(HIGHEST_PARTIAL / f0) + 1)), dtype=np.float64)
    amplitude = shape(number * f0) * 10.0 ** (tilt * np.log2(number) / 20.0)
    if stretch is not None:
        amplitude = amplitude * stretch(number)
    spectrum = np.zeros(TABLE_LENGTH // 2 + 1, dtype=np.complex128)
    spectrum[1 : len(number) + 1] = amplitude * np.exp(1j * 2.4 * number**2)
    table = np.fft.irfft(spectrum, TABLE_LENGTH)
    return as_signal(table / (np.sqrt(np.mean(table**2)) + 1e-12))


def read_table(table: Signal, cycles: npt.NDArray[np.float64]) -> Signal:
    """Read a wave table at phases given in cycles."""
    return as_signal(table[(cycles * TABLE_LENGTH).astype(np.int64) & (TABLE_LENGTH - 1)])


def seconds_axis(seconds: float) -> npt.NDArray[np.float64]:
    """Times of the samples, from 0."""
    return np.arange(max(1, int(seconds * SAMPLE_RATE)), dtype=np.float64) / SAMPLE_RATE


def envelope(t: npt.NDArray[np.float64], attack: float, release: float) -> Signal:
    """Rise over ``attack`` seconds, hold, fall over ``release`` seconds at the end."""
    rise = np.minimum(t / max(attack, 1e-3), 1.0)
    fall = np.clip((t[-1] - t) / max(release, 1e-3), 0.0, 1.0)
    return as_signal(rise * fall)


def vibrato_cycles(
    t: npt.NDArray[np.float64], f0: float, rate: float, depth: float, delay: float
) -> npt.NDArray[np.float64]:
    """Phase in cycles of a tone whose pitch swings by ``depth`` (relative) after ``delay`` seconds."""
    swing = depth * np.clip((t - delay) / 0.3, 0.0, 1.0) * np.sin(2.0 * np.pi * rate * t)
    return np.asarray(np.cumsum(f0 * (1.0 + swing)) / SAMPLE_RATE)


def resonances(*peaks: tuple[float, float, float], floor: float = 0.02, slope: float = 0.0) -> Shape:
    """A body: resonances of (Hz, bandwidth in Hz, amplitude) over a floor.

    The whole falls by ``slope`` dB an octave from 100 Hz.
    """

    def shape(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        body = np.full_like(hz, floor)
        for centre, width, amplitude in peaks:
            body += amplitude / (1.0 + ((hz - centre) / (width / 2.0)) ** 2)
        return np.asarray(body * 10.0 ** (-slope * np.log2(np.maximum(hz, 50.0) / 100.0) / 20.0))

    return shape


def plain(slope: float) -> Shape:
    """A spectrum that falls by ``slope`` dB an octave."""
    return lambda hz: 10.0 ** (-slope * np.log2(hz / 100.0) / 20.0)


def band_passed(signal: Signal, low: float, high: float) -> Signal:
    """Leave what lies between two frequencies in Hz; 6 dB an octave."""
    nyquist = SAMPLE_RATE / 2
    sos = butter(1, [low / nyquist, min(high, 0.97 * nyquist) / nyquist], btype="band", output="sos")
    return np.asarray(sosfilt(sos, signal), dtype=np.float32)


def high_passed(signal: Signal, hz: float) -> Signal:
    """Leave what lies above a frequency in Hz; 6 dB an octave."""
    b, a = butter(1, hz / (SAMPLE_RATE / 2), btype="high")
    return np.asarray(lfilter(b, a, signal), dtype=np.float32)


def karplus_strong(
    f0: float, seconds: float, player: Player, *, ring: float, damping: float, softness: float, pick: float
) -> Signal:
    """A plucked string.

    Args:
        f0: Hz.
        seconds: length of the note with its ringing.
        player: whose noise plucks the string.
        ring: seconds to -60 dB of the fundamental.
        damping: 0 keeps the high partials, 0.5 damps them most.
        softness: 0 plucks with a quill, towards 1 with a fingertip.
        pick: where the string is plucked, as a share of its length.
    """
    samples = max(64, int(seconds * SAMPLE_RATE))
    period = SAMPLE_RATE / f0
    whole = max(2, int(period - damping - 0.1))
    fraction = period - damping - whole
    excitation = np.zeros(samples, dtype=np.float32)
    burst = min(samples, whole + 1)
    excitation[:burst] = player.noise_for(round(12 * np.log2(f0)), burst)
    excitation = np.asarray(lfilter([1.0 - softness], [1.0, -softness], excitation), dtype=np.float32)
    back = max(1, int(period * pick))
    excitation[back:] -= 0.9 * excitation[:-back]
    loss = 10.0 ** (-3.0 / (f0 * ring))
    loop = loss * np.convolve([1.0 - damping, damping], [1.0 - fraction, fraction])
    feedback = np.concatenate([[1.0], np.zeros(whole - 1), -loop])
    string = np.asarray(lfilter([1.0], feedback, excitation), dtype=np.float32)
    string *= envelope(np.arange(samples) / SAMPLE_RATE, 0.001, 0.03)
    return as_signal(string / (np.max(np.abs(string)) + 1e-9))
