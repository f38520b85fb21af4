"""What a clip is: so many samples at such a rate. A setting of the data, which a model carries in its card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from preprocessing import constants


@dataclass(frozen=True)
class ClipFormat:
    """A clip's length and rate.

    Attributes:
        sample_rate: Hz.
        samples: in a clip; a shorter one is padded, a longer one cut.

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
    def waveform_bytes(self) -> int:
        """Of a clip as int16."""
        return 2 * self.samples


PAPER_CLIP: Final = ClipFormat()
"""29.1 s at 16 kHz: Bengani et al. (2019), and MagnaTagATune's own clips."""
