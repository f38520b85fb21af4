"""Front ends as plain settings: what turns a window's waveform into what a network reads.

Settings need no Keras, so that the registry and a configuration can be read at once; ``layer()`` makes the Keras layer
(models.front_ends.layers) that computes it. Two front ends are the same where their fingerprints are.

Every front end takes float32 [batch, samples] in [-1, 1] at its ``sample_rate`` and gives float32 [batch, bands,
frames], or [batch, n, bands, frames] where it is a stack of several.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from preprocessing import constants

if TYPE_CHECKING:
    import keras

Pad = Literal["constant", "reflect", "none"]
"""Round the window before it is cut into frames: half a frame of zeros or of the mirrored signal on each side, or
nothing, where the first frame begins at the first sample."""

Scale = Literal["power", "magnitude", "db", "log10_1p", "ln_1p"]
"""Of the values: as they are; their root; 10 log10(max(x, floor)); log10(1 + 10,000 x); ln(1 + 10,000 x)."""


@dataclass(frozen=True)
class FrontEnd(abc.ABC):
    """What all front ends have.

    Attributes:
        sample_rate: Hz, of the waveform that it takes.
    """

    sample_rate: int = constants.SAMPLE_RATE

    @abc.abstractmethod
    def shape(self, samples: int) -> tuple[int, ...]:
        """Shape of what comes of so many samples, without the batch."""

    def layer(self) -> keras.layers.Layer:
        """Make the Keras layer that computes it."""
        from models.front_ends import layers

        return layers.layer_for(self)

    @property
    def kind(self) -> str:
        """Name of the front end, by which ``front_end`` finds it again."""
        return type(self).__name__

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits, the same for the same computation."""
        text = json.dumps(self.significant(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @abc.abstractmethod
    def check_samples(self, samples: int) -> None:
        """Check that it can be computed of so many samples.

        Raises:
            ValueError: it cannot.
        """

    def significant(self) -> dict[str, Any]:
        """Return the settings with defaults spelt out and those left out that change nothing: the fingerprint's."""
        return self.to_json()

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON has them, for a model's card and a layer's configuration."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Spectrogram(FrontEnd):
    """What front ends of a short-time Fourier transform with a periodic Hann window have.

    Attributes:
        n_fft: samples in a frame.
        hop_length: samples from one frame to the next.
        pad: see Pad.
        scale: see Scale.
        floor: least power that a decibel is taken of.
        top_db: nothing lies more than this below the window's loudest value; None for no such limit.
    """

    n_fft: int = 512
    hop_length: int = 256
    pad: Pad = "reflect"
    scale: Scale = "power"
    floor: float = 1e-10
    top_db: float | None = None

    def frames(self, samples: int) -> int:
        """Number of frames of so many samples."""
        margin = 0 if self.pad == "none" else self.n_fft // 2
        return 1 + (samples + 2 * margin - self.n_fft) // self.hop_length

    def check_samples(self, samples: int) -> None:
        """See FrontEnd."""
        least = {"none": self.n_fft, "reflect": self.n_fft // 2 + 1, "constant": 1}[self.pad]
        if samples < least:
            raise ValueError(f"{self.kind} with frames of {self.n_fft} samples needs {least} samples, not {samples}")

    def significant(self) -> dict[str, Any]:
        """See FrontEnd."""
        values = super().significant()
        return values if self.scale == "db" else {**values, "floor": None, "top_db": None}


@dataclass(frozen=True)
class Stft(Spectrogram):
    """Short-time Fourier transform: [n_fft // 2 + 1, frames].

    Attributes:
        bands: of the lowest frequencies alone; None for all.
    """

    bands: int | None = None

    def shape(self, samples: int) -> tuple[int, ...]:
        """(frequencies, frames)."""
        return self.bands or 1 + self.n_fft // 2, self.frames(samples)

    def significant(self) -> dict[str, Any]:
        """See FrontEnd."""
        return {**super().significant(), "bands": self.bands or 1 + self.n_fft // 2}


@dataclass(frozen=True)
class LogMel(Spectrogram):
    """Mel spectrogram of the power spectrum, on a logarithmic scale: [n_mels, frames].

    Attributes:
        n_mels: bands.
        fmin: Hz, lower edge of the first band.
        fmax: Hz, upper edge of the last one; None for half the sample rate.
        htk: HTK's mel scale instead of Slaney's.
        area_norm: filters of equal area (librosa's ``norm="slaney"``) instead of equal height.
        exponent: to which the mel power is raised before the scale.
    """

    n_mels: int = 96
    fmin: float = 0.0
    fmax: float | None = None
    htk: bool = False
    area_norm: bool = True
    exponent: float = 1.0
    scale: Scale = "db"

    def shape(self, samples: int) -> tuple[int, ...]:
        """(mel bands, frames)."""
        return self.n_mels, self.frames(samples)

    @property
    def highest(self) -> float:
        """Hz, upper edge of the last band."""
        return self.sample_rate / 2 if self.fmax is None else self.fmax

    def significant(self) -> dict[str, Any]:
        """See FrontEnd."""
        values = {**super().significant(), "fmin": float(self.fmin), "fmax": float(self.highest)}
        return {**values, "exponent": float(self.exponent)}


@dataclass(frozen=True)
class Mfcc(LogMel):
    """Mel-frequency cepstral coefficients, orthonormal DCT-II of the log-mel as librosa has it.

    [n_mfcc * (1 + deltas), frames]: the coefficients, then their first differences over time, then their second.

    Attributes:
        n_mfcc: coefficients.
        deltas: 0, 1 or 2 orders of differences (Savitzky-Golay over ``delta_width`` frames, as librosa.feature.delta).
        delta_width: frames, odd.
    """

    n_mfcc: int = 30
    deltas: int = 2
    delta_width: int = 9

    def shape(self, samples: int) -> tuple[int, ...]:
        """(coefficients and differences, frames)."""
        return self.n_mfcc * (1 + self.deltas), self.frames(samples)

    def check_samples(self, samples: int) -> None:
        """See FrontEnd."""
        super().check_samples(samples)
        if self.deltas and self.frames(samples) < self.delta_width:
            raise ValueError(
                f"differences over {self.delta_width} frames cannot be taken of the {self.frames(samples)} frames of "
                f"{samples} samples"
            )

    def significant(self) -> dict[str, Any]:
        """See FrontEnd."""
        values = super().significant()
        return values if self.deltas else {**values, "delta_width": None}


@dataclass(frozen=True)
class Stack(FrontEnd):
    """Several front ends of one hop side by side: [n, bands, frames].

    Attributes:
        parts: which; all give the same shape.
    """

    parts: tuple[LogMel, ...] = ()

    def shape(self, samples: int) -> tuple[int, ...]:
        """(front ends, bands, frames)."""
        return len(self.parts), *self.parts[0].shape(samples)

    def check_samples(self, samples: int) -> None:
        """See FrontEnd."""
        for part in self.parts:
            part.check_samples(samples)

    def significant(self) -> dict[str, Any]:
        """See FrontEnd."""
        return {"kind": self.kind, "parts": [part.significant() for part in self.parts]}

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON has them."""
        return {"kind": self.kind, "sample_rate": self.sample_rate, "parts": [part.to_json() for part in self.parts]}


_KINDS: Final[dict[str, type[FrontEnd]]] = {kind.__name__: kind for kind in (Stft, LogMel, Mfcc, Stack)}


def front_end(settings: dict[str, Any]) -> FrontEnd:
    """Make a front end of what ``to_json`` gave.

    Raises:
        ValueError, TypeError, KeyError: it is no front end's.
    """
    values = dict(settings)
    kind = values.pop("kind")
    if kind not in _KINDS:
        raise ValueError(f"front end {kind!r}: expected one of {', '.join(_KINDS)}")
    if kind == "Stack":
        values["parts"] = tuple(front_end(part) for part in values["parts"])
    return _KINDS[kind](**values)


STORED_LOG_MEL: Final = LogMel(
    sample_rate=constants.SAMPLE_RATE,
    n_fft=constants.N_FFT,
    hop_length=constants.HOP_LENGTH,
    pad="constant",
    floor=constants.POWER_FLOOR,
    top_db=constants.TOP_DB,
    n_mels=constants.N_MELS,
    fmin=constants.MEL_FMIN,
    fmax=constants.MEL_FMAX,
)
"""The paper's, which stands in every example: 128 x 592 for a clip of 29.1 s. Networks whose front end it is train on
what is stored."""
