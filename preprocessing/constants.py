"""The clip contract: every constant of audio and features, defined once and the rest derived.

Sources: Bengani, Vadivel and Jothi (2019), 'Material' and 'Acquiring Mel Spectrogram' (16 kHz, 29.1 s, 128 x 592), and
the MagnaTagATune data set itself (16 kHz mono MP3 clips of 29.1 s).
"""

from __future__ import annotations

from typing import Final

SAMPLE_RATE: Final = 16_000
"""Hz. The paper's rate and MagnaTagATune's own."""

CLIP_SECONDS: Final = 29.1
CLIP_SAMPLES: Final = round(CLIP_SECONDS * SAMPLE_RATE)
"""465,600 samples; shorter clips are repeated, longer ones cut."""

N_FFT: Final = 2048
HOP_LENGTH: Final = 787
"""Samples between frames: with centred frames 465,600 samples give exactly 592 frames, about 20 a second."""

N_FRAMES: Final = 1 + CLIP_SAMPLES // HOP_LENGTH
N_MELS: Final = 128
MEL_FMIN: Final = 0.0
MEL_FMAX: Final = SAMPLE_RATE / 2

POWER_FLOOR: Final = 1e-10
"""``amin`` of librosa.power_to_db: powers below it count as -100 dB."""

TOP_DB: Final = 80.0
"""``top_db`` of librosa.power_to_db: nothing lies more than this below the clip's loudest bin."""

PCM_SCALE: Final = 32_768.0
"""int16 PCM value of full scale: a float sample in [-1, 1) is the integer divided by this."""

RESAMPLING_MARGIN: Final = 1.0
"""Seconds decoded beyond a clip's ends, so that the resampling filter sees what follows there."""

SILENCE_DB: Final = -60.0
"""A stretch of 0.1 s whose RMS lies below this (dB re full scale) counts as silence."""

SHORT_SHARE: Final = 0.8
"""A file shorter than this share of a clip is marked ``short``."""

SILENT_SHARE: Final = 0.95
"""A clip of which more than this share is silence is marked ``silent``."""

CLIPPED_AT: Final = 0.999
"""Samples of this size or more count as clipped."""

N_TAGS: Final = 50
"""Size of the tag vocabulary in the paper and in nearly all work on MagnaTagATune."""

SPLITS: Final = ("train", "valid", "test")

assert (CLIP_SAMPLES, N_FRAMES) == (465_600, 592)
