"""What a clip is: so many samples at such a rate. A setting of the data, which a model carries in its card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from preprocessing import constants
from preprocessing.errors import BadInputError


@dataclass(frozen=True)
class ClipFormat:
    """A clip's length and rate.

    Attributes:
        sample_rate: Hz.
        samples: in a clip; a shorter one is repeated, a longer one cut.

    Raises:
        ValueError: no clip can be like that.
    """

    sample_rate: int = constants.SAMPLE_RATE
    samples: int = constants.CLIP_SAMPLES

    def __post_init__(self) -> None:
        if self.sample_rate < 1 or self.samples < 1:
            raise ValueError(f"a clip of {self.samples} samples at {self.sample_rate} Hz: expected positive numbers")

    @property
    def seconds(self) -> float:
        """Length."""
        return self.samples / self.sample_rate

    @property
    def frames(self) -> int:
        """Frames of the log-mel that is stored with a clip: centred ones, every ``HOP_LENGTH`` samples."""
        return 1 + self.samples // constants.HOP_LENGTH

    @property
    def waveform_bytes(self) -> int:
        """Of a clip as int16."""
        return 2 * self.samples

    @property
    def log_mel_bytes(self) -> int:
        """Of a clip's stored log-mel as float16."""
        return 2 * constants.N_MELS * self.frames


def clip_of_seconds(seconds: float, sample_rate: int = constants.SAMPLE_RATE) -> ClipFormat:
    """Return the format of clips of so many seconds at such a rate.

    Raises:
        BadInputError: no clip can be like that.
    """
    samples = seconds * sample_rate
    if not (seconds > 0 and sample_rate > 0 and 0.5 < samples < float("inf")):
        raise BadInputError(f"clips of {seconds:g} s at {sample_rate} Hz: expected positive numbers")
    return ClipFormat(sample_rate, round(samples))


PAPER_CLIP: Final = ClipFormat()
"""29.1 s at 16 kHz: Bengani et al. (2019), and MagnaTagATune's own clips."""
