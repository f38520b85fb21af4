"""What music suffers on its way to a tagger: pure functions of a clip, by name and strength.

Time stretch, pitch shift, dynamic range compression and white noise are those of the robustness tests of Won, Ferraro,
Bogdanov and Serra (2020, arXiv 2006.00751), with their strengths: ``stretch_-0.5``, ``stretch_0.5``, ``pitch_-1``,
``pitch_+1``, ``drc_music_standard``, ``drc_speech``, ``noise_0.1``, ``noise_0.4``. Compression is SoX's ``compand``
(preprocessing.companding). What files suffer besides: MP3, low sample rates, gain, clipping.

All of them take and give float32 [samples] of one length. The same clip, seed and name give the same samples.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from preprocessing.audio.mp3 import mp3_rate, recoded
from preprocessing.audio.samples import Samples, resample
from preprocessing.companding import COMPANDERS, companded
from preprocessing.errors import BadInputError

PROTOCOL: Final = (
    "stretch_-0.5",
    "stretch_0.5",
    "pitch_-1",
    "pitch_+1",
    "drc_music_standard",
    "drc_speech",
    "noise_0.1",
    "noise_0.4",
)
"""Deformations and strengths of the 2020 comparison."""


FFT: Final = 2048
"""librosa's frame, below which stretch and shift mean nothing: shorter sound is padded."""

_MPEG: Final = ((32_000, (32, 320)), (16_000, (8, 160)), (0, (8, 64)))
"""From which sample rate on -> lowest and highest kbit/s of MPEG 1, 2 and 2.5, of libsndfile's scale."""
_BIT_RATES: Final = {
    320: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    160: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    64: (8, 16, 24, 32, 40, 48, 56, 64),
}


@dataclass(frozen=True)
class Deformation:
    """One deformation at one strength.

    Attributes:
        kind: name of KINDS.
        strength: number, or name of a preset.
    """

    kind: str
    strength: float | str

    @property
    def name(self) -> str:
        """As it is written: ``noise_0.1``, ``pitch_+1``, ``drc_music_standard``."""
        if isinstance(self.strength, str):
            return f"{self.kind}_{self.strength}"
        return f"{self.kind}_{self.strength:{'+' if self.kind == 'pitch' else ''}.12g}"

    @property
    def split(self) -> str:
        """Of the examples: letters, digits, ``-`` and ``_``, as TFX asks of a split's name."""
        return self.name.replace(".", "_").replace("+", "")

    def check(self, sample_rate: int) -> None:
        """Check that it can be done to clips of this rate, in Hz.

        Raises:
            BadInputError: it cannot.
        """
        if self.kind == "rate" and float(self.strength) >= sample_rate:
            raise BadInputError(f"{self.name}: expected less than the clips' own {sample_rate} Hz")
        if self.kind == "mp3":
            known = _BIT_RATES[_bit_rate_range(mp3_rate(sample_rate))[1]]
            if self.strength not in known:
                raise BadInputError(
                    f"{self.name}: MP3 at {mp3_rate(sample_rate)} Hz has {', '.join(map(str, known))} kbit/s"
                )

    def apply(self, samples: Samples, sample_rate: int, clip_id: str = "", seed: int = 0) -> Samples:
        """Deform a clip.

        Args:
            samples: float32 [samples], finite; full scale is 1.
            sample_rate: Hz.
            clip_id: of the clip; another one has other noise.
            seed: likewise.

        Returns:
            float32 [samples], finite, another array.

        Raises:
            ValueError: the samples are none of one channel, or not finite.
            BadInputError: it cannot be done at this rate.
        """
        self.check(sample_rate)
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise ValueError(f"expected finite samples of one channel, got shape {samples.shape}")
        if not len(samples):
            return samples.astype(np.float32)
        digest = hashlib.sha256(f"{seed}/{self.name}/{clip_id}".encode(errors="surrogateescape")).digest()
        random = np.random.default_rng(np.frombuffer(digest, "<u4"))
        deformed = KINDS[self.kind].function(samples.astype(np.float32), sample_rate, self.strength, random)
        return _fit(np.asarray(deformed, np.float32), len(samples))


def parse_deformation(name: str) -> Deformation:
    """Read a deformation's name.

    Raises:
        BadInputError: there is no such deformation, or not at this strength.
    """
    kind, _, text = name.partition("_")
    if kind not in KINDS:
        raise BadInputError(f"{name!r}: there is no such deformation; there are {', '.join(KINDS)}, as in {EXAMPLES}")
    known = KINDS[kind]
    if known.presets:
        if text not in known.presets:
            raise BadInputError(f"{name!r}: expected {kind}_ and one of {', '.join(known.presets)}")
        return Deformation(kind, text)
    number = float(text) if re.fullmatch(r"[+-]?[0-9]{1,9}(\.[0-9]{1,9})?", text) else math.nan
    if not known.low <= number <= known.high or number == 0 or (known.whole and number % 1):
        raise BadInputError(
            f"{name!r}: expected {kind}_ and {'a whole number' if known.whole else 'a number'} from {known.low:g} to "
            f"{known.high:g}{' and not 0' if known.low <= 0 else ''}, {known.unit}"
        )
    return Deformation(kind, number)


def time_stretched(samples: Samples, rate: float) -> Samples:
    """Play faster (rate above 1) or slower at the same pitch: librosa's phase vocoder; float32 [about n / rate]."""
    from librosa.effects import time_stretch

    padded = np.pad(samples, (0, max(0, FFT - len(samples))))
    stretched: Samples = time_stretch(padded, rate=rate)
    return stretched[: max(1, round(len(samples) / rate))]


def pitch_shifted(samples: Samples, sample_rate: int, semitones: float) -> Samples:
    """Move the pitch at the same speed, by librosa: stretched, then resampled; float32 [n]."""
    from librosa.effects import pitch_shift

    padded = np.pad(samples, (0, max(0, FFT - len(samples))))
    shifted: Samples = pitch_shift(padded, sr=sample_rate, n_steps=semitones)
    return shifted[: len(samples)]


def noisy(samples: Samples, share: float, random: np.random.Generator) -> Samples:
    """Mix with white noise whose peak is the clip's highest sample, in the given share; float32 [n]."""
    noise = random.standard_normal(len(samples))
    noise *= samples.max() / np.abs(noise).max()
    return np.asarray((1 - share) * samples + share * noise, np.float32)


def through_mp3(samples: Samples, sample_rate: int, kbit: float) -> Samples:
    """Write as MP3 of a constant rate in kbit/s and read again; float32 [n], cut at full scale before it is encoded.

    Clips of a rate that MP3 does not have go through the next higher one that it has.
    """
    rate = mp3_rate(sample_rate)
    lowest, highest = _bit_rate_range(rate)
    level = min((highest - kbit) / (highest - lowest), 0.9999)  # libsndfile refuses 1
    return resample(recoded(resample(samples, sample_rate, rate), rate, level, "CONSTANT"), rate, sample_rate)


def _bit_rate_range(sample_rate: int) -> tuple[int, int]:
    return next(range_ for least, range_ in _MPEG if sample_rate >= least)


def through_rate(samples: Samples, sample_rate: int, lower: int) -> Samples:
    """Resample to a lower rate and back: nothing is left above half of it; float32 [about n]."""
    return resample(resample(samples, sample_rate, lower), lower, sample_rate)


def amplified(samples: Samples, decibels: float) -> Samples:
    """Amplify, cut at full scale; float32 [n]."""
    return np.clip(samples * np.float32(10 ** (decibels / 20)), -1, 1)


def clipped(samples: Samples, decibels: float) -> Samples:
    """Amplify until the peak lies this far above full scale, and cut there; float32 [n]."""
    peak = float(np.abs(samples).max())
    if not peak:
        return samples
    return np.clip(samples.astype(np.float64) / peak * 10 ** (decibels / 20), -1, 1).astype(np.float32)


def _fit(samples: Samples, length: int) -> Samples:
    """Cut, or pad with zeros."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


Function = Callable[[Samples, int, Any, np.random.Generator], Samples]


@dataclass(frozen=True)
class Kind:
    """One kind of deformation.

    Attributes:
        what: for people.
        unit: of the strength.
        low: lowest strength.
        high: highest.
        whole: whether the strength is a whole number.
        presets: names that stand in place of a strength.
        function: samples, Hz, strength, random numbers -> samples.
    """

    what: str
    unit: str
    low: float
    high: float
    function: Function
    whole: bool = False
    presets: tuple[str, ...] = ()


KINDS: Final[Mapping[str, Kind]] = {
    "stretch": Kind(
        "played faster (above 0) or slower at the same pitch, then cut, or repeated from its beginning",
        "log2 of the rate",
        -2,
        2,
        lambda samples, _, strength, __: np.resize(time_stretched(samples, 2**strength), len(samples)),
    ),
    "pitch": Kind(
        "higher or lower at the same speed",
        "semitones",
        -24,
        24,
        lambda samples, rate, strength, _: pitch_shifted(samples, rate, strength),
    ),
    "drc": Kind(
        "compressed by SoX's compand",
        "preset",
        0,
        0,
        lambda samples, rate, strength, _: companded(samples, rate, COMPANDERS[strength]),
        presets=tuple(COMPANDERS),
    ),
    "noise": Kind(
        "mixed with white noise of the same peak",
        "share of the noise in the mix",
        0,
        1,
        lambda samples, _, strength, random: noisy(samples, strength, random),
    ),
    "mp3": Kind(
        "written as MP3 and read again",
        "kbit/s",
        8,
        320,
        lambda samples, rate, strength, _: through_mp3(samples, rate, strength),
        whole=True,
    ),
    "rate": Kind(
        "resampled to a lower rate and back",
        "Hz",
        1000,
        96_000,
        lambda samples, rate, strength, _: through_rate(samples, rate, int(strength)),
        whole=True,
    ),
    "gain": Kind(
        "amplified, and cut at full scale",
        "dB",
        -100,
        60,
        lambda samples, _, strength, __: amplified(samples, strength),
    ),
    "clip": Kind(
        "amplified until the peak is so far above full scale, and cut there",
        "dB",
        0,
        60,
        lambda samples, _, strength, __: clipped(samples, strength),
    ),
}
"""Name -> kind."""
EXAMPLES: Final = "noise_0.1, pitch_+1, stretch_0.5, drc_radio, mp3_32, rate_8000, gain_-20, clip_6"
