"""How a song is cut into windows of one clip each: the rule that the model's graph, `autotag tag` and the client share.

A window begins every 465,600 samples (or every hop), and the last one ends where the song ends, so that no silence is
added. A rest of less than half a second gets no window of its own: it would cost as much as 29.1 s, and encoders leave
such a rest behind (MagnaTagATune's MP3s decode to 29.1 s and a little).
"""

from __future__ import annotations

from typing import Final

from preprocessing.constants import CLIP_SAMPLES, SAMPLE_RATE

LEAST_REST: Final = SAMPLE_RATE // 2
"""Samples."""


def window_count(samples: int) -> int:
    """Number of windows of so many samples at 16 kHz; one at least."""
    return max(1, (samples + CLIP_SAMPLES - LEAST_REST) // CLIP_SAMPLES)
