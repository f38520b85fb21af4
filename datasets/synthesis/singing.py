"""Sung vowels: a glottis' harmonics shaped by formants, for low and high voices, alone and in choirs.

Formants after Peterson and Barney (1952), men's and women's; opera singers gather energy near 2.8 kHz (Sundberg, 1974).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.signal import lfilter

from datasets.synthesis.instruments import Instrument
from datasets.synthesis.tones import (
    Player,
    Shape,
    Signal,
    as_signal,
    envelope,
    frequency,
    read_table,
    resonances,
    seconds_axis,
    vibrato_cycles,
    wave_table,
)
from preprocessing.constants import SAMPLE_RATE

LOW_VOWELS: Final = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))
HIGH_VOWELS: Final = ((850, 1220, 2810), (610, 2330, 2990), (310, 2790, 3310), (590, 920, 2710), (370, 950, 2670))
"""Hz of the first three formants of ah, eh, ee, aw, oo."""


@dataclass(frozen=True)
class Voice:
    """A way of singing.

    Attributes:
        vowels: formants by vowel.
        slope: dB an octave by which the glottis' spectrum falls.
        ring: amplitude of the singer's formant.
        depth: vibrato, relative.
        delay: seconds before the vibrato starts.
        singers: how many sing each note.
        breath: amplitude of the breath noise.
        scoop: how far below its pitch a note starts, relative.
    """

    vowels: tuple[tuple[int, int, int], ...]
    slope: float
    ring: float
    depth: float
    delay: float
    singers: int = 1
    breath: float = 0.03
    scoop: float = 0.04

    def mouth(self, vowel: int) -> Shape:
        """The formants' curve of a vowel."""
        first, second, third = self.vowels[vowel % len(self.vowels)]
        peaks = [(first, 110, 1.0), (second, 140, 0.7), (third, 220, 0.4), (2850, 420, self.ring), (3900, 500, 0.12)]
        return resonances(
            *((float(hz), float(width), gain) for hz, width, gain in peaks), floor=0.012, slope=self.slope
        )

    def sing(self, midi: float, seconds: float, shade: int, player: Player) -> Signal:
        """One syllable that moves from vowel ``shade`` to the next, after a consonant's breath."""
        f0 = frequency(midi)
        t = seconds_axis(seconds + 0.1)
        start = wave_table(f0, self.mouth(shade), player.brightness)
        end = wave_table(f0, self.mouth(shade + 1 + shade % 2), player.brightness)
        move = np.clip((t / t[-1] - 0.5) * 3.0, 0.0, 1.0).astype(np.float32)
        tone = np.zeros(len(t), dtype=np.float32)
        for singer in range(self.singers):
            detune = 1.0 + 0.004 * (singer - (self.singers - 1) / 2)
            cycles = vibrato_cycles(t, f0 * detune, 5.2 + 0.35 * singer, self.depth * player.vibrato, self.delay)
            cycles -= np.cumsum(f0 * self.scoop * np.exp(-t / 0.05)) / SAMPLE_RATE - 0.31 * singer
            tone += (1.0 - move) * read_table(start, cycles) + move * read_table(end, cycles)
        breath = player.noise_for(midi, len(t)) * (self.breath + 0.25 * np.exp(-t / 0.025)).astype(np.float32)
        breath = np.asarray(lfilter([1.0, -0.9], [1.0], breath), dtype=np.float32)
        return as_signal(
            (tone + self.singers**0.5 * breath) * envelope(t, 0.05 * player.attack * self.singers**0.5, 0.1)
        )


VOICES: Final[Mapping[str, Voice]] = {
    "male": Voice(LOW_VOWELS, slope=7.0, ring=0.1, depth=0.006, delay=0.25),
    "female": Voice(HIGH_VOWELS, slope=7.5, ring=0.1, depth=0.008, delay=0.2, breath=0.05),
    "tenor": Voice(LOW_VOWELS, slope=5.5, ring=1.1, depth=0.022, delay=0.05, scoop=0.02),
    "soprano": Voice(HIGH_VOWELS, slope=6.0, ring=0.9, depth=0.026, delay=0.05, scoop=0.02),
    "shouter": Voice(LOW_VOWELS, slope=3.5, ring=0.6, depth=0.003, delay=0.5, breath=0.3, scoop=0.12),
    "men_choir": Voice(LOW_VOWELS, slope=7.5, ring=0.15, depth=0.008, delay=0.1, singers=4, scoop=0.01),
    "women_choir": Voice(HIGH_VOWELS, slope=8.0, ring=0.15, depth=0.009, delay=0.1, singers=4, breath=0.05, scoop=0.01),
}

SINGERS: Final[Mapping[str, Instrument]] = {name: voice.sing for name, voice in VOICES.items()}
