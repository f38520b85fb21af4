"""Windows: how a song is cut into clips, and a clip into what a network hears. One rule for numpy, graph, client.

A song: a window begins every clip's length (or every hop), and the last one ends where the song ends, so that no
silence is added. A rest of less than half a second gets no window of its own: it would cost as much as a whole clip,
and encoders leave such a rest behind (MagnaTagATune's MP3s decode to 29.1 s and a little).

A clip: ``WindowRule`` says where the windows of a network that hears less than a clip begin.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

from preprocessing.clip_format import PAPER_CLIP, ClipFormat

LEAST_REST_SECONDS: Final = 0.5


def least_rest(clip: ClipFormat) -> int:
    """Samples after the last whole clip that get a window of their own."""
    return round(LEAST_REST_SECONDS * clip.sample_rate)


def window_count(samples: int, clip: ClipFormat = PAPER_CLIP) -> int:
    """Number of clips of so many samples at the clip's rate; one at least."""
    return max(1, (samples + clip.samples - least_rest(clip)) // clip.samples)


@dataclass(frozen=True)
class WindowRule:
    """Which windows of a clip a network is asked about; its answer for the clip is their mean.

    Either ``count`` windows evenly spaced as the comparison of 2020 has them (Won et al., eval.py: window i begins at
    i * ((clip - window) // count), so that the clip's last samples are heard by none), or, where ``hop`` is given, one
    every ``hop`` samples, the first ``lead`` samples before the clip's beginning, where there are zeros, for as long as
    they end within the clip and as many zeros behind it.

    Attributes:
        count: of evenly spaced windows. Where the window is nearly the whole clip (at least 0.9 of it), one is taken:
            they would coincide.
        hop: samples at the network's rate, from one window to the next.
        lead: samples at the network's rate, by which the first one begins before the clip.
    """

    count: int = 16
    hop: int | None = None
    lead: int = 0

    def starts(self, clip_samples: int, window_samples: int) -> tuple[int, ...]:
        """Where the windows of a clip begin; ``-lead`` at least.

        Args:
            clip_samples: of the clip, at the network's rate or at the clip's, as the rule's own samples are.
            window_samples: of a window, at the same rate.
        """
        if self.hop is not None:
            last = clip_samples + self.lead - window_samples
            return tuple(range(-self.lead, last + 1, self.hop)) or (0,)
        if self.count == 1 or window_samples >= NEARLY_ALL * clip_samples:
            return (0,)
        step = (clip_samples - window_samples) // self.count
        return tuple(number * step for number in range(self.count))

    def at_rate(self, sample_rate: int, network_rate: int) -> WindowRule:
        """Return the rule in samples at another rate than the network's; what is begun counts as a whole sample.

        Args:
            sample_rate: Hz, for instance the clip's.
            network_rate: Hz, the network's.
        """
        hop = None if self.hop is None else -(-self.hop * sample_rate // network_rate)
        return dataclasses.replace(self, hop=hop, lead=-(-self.lead * sample_rate // network_rate))

    def to_json(self) -> dict[str, Any]:
        """Return the rule as JSON has it, for a model's card."""
        return {"count": self.count, "hop": self.hop, "lead": self.lead}


NEARLY_ALL: Final = 0.9
"""Share of the clip from which on a window counts as the whole of it."""
