"""Notes: what each part plays in a passage, from the tempo, the key and the part's role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from datasets.synthesis import drums
from preprocessing.constants import CLIP_SECONDS

SCALES: Final[Mapping[str, tuple[int, ...]]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "raga": (0, 1, 4, 5, 7, 8, 11),
    "pentatonic": (0, 2, 4, 7, 9),
    "blues": (0, 3, 5, 6, 7, 10),
    "chromatic": tuple(range(12)),
}
PROGRESSIONS: Final = ((0, 3, 4, 0), (0, 4, 5, 3), (0, 5, 3, 4), (0, 0, 3, 4), (5, 3, 0, 4), (0, 1, 4, 0))


class Note(NamedTuple):
    """One note: start and length in seconds, MIDI pitch, velocity in 0..1, and the instrument's variant."""

    start: float
    seconds: float
    midi: float
    velocity: float = 1.0
    shade: int = 0


@dataclass(frozen=True)
class Passage:
    """What all parts of one clip share.

    Attributes:
        beat: seconds.
        root: MIDI pitch of the key's root, 48 to 59.
        scale: semitones above the root.
        chords: degree of the scale on which each bar's chord stands.
        density: 0..1, how many of the possible notes are played.
    """

    beat: float
    root: int
    scale: tuple[int, ...]
    chords: tuple[int, ...]
    density: float

    @property
    def bars(self) -> int:
        """Bars of four beats that start within the clip."""
        return int(np.ceil(CLIP_SECONDS / (4 * self.beat)))

    def pitch(self, degree: int) -> int:
        """MIDI pitch of a degree of the scale, which may lie octaves up or down."""
        octave, step = divmod(degree, len(self.scale))
        return self.root + 12 * octave + self.scale[step]

    def chord(self, bar: int) -> tuple[int, int, int]:
        """Degrees of a bar's triad."""
        base = self.chords[bar % len(self.chords)]
        return base, base + 2, base + 4


Role = Callable[[Passage, tuple[int, int], np.random.Generator], list[Note]]
"""(passage, lowest and highest MIDI pitch, generator) -> notes."""


def fold(midi: int, span: tuple[int, int]) -> int:
    """Move a pitch by octaves into a span of at least an octave."""
    while midi < span[0]:
        midi += 12
    while midi > span[1]:
        midi -= 12
    return midi


def _walk(
    passage: Passage, span: tuple[int, int], rng: np.random.Generator, lengths: tuple[float, ...], rest: float
) -> list[Note]:
    """A random walk on the scale that returns to the chord on strong beats."""
    steps = (-2, -1, -1, 0, 1, 1, 2, 3)
    notes: list[Note] = []
    at, degree, end = 0.0, int(rng.integers(0, 7)), CLIP_SECONDS / passage.beat
    while at < end:
        length = float(rng.choice(lengths))
        if at % 2 == 0:
            degree = int(rng.choice(passage.chord(int(at // 4)))) + len(passage.scale) * int(rng.integers(0, 2))
        if rng.random() >= rest:
            shade = int(rng.integers(0, 5))
            pitch = fold(passage.pitch(degree), span)
            notes.append(Note(at * passage.beat, length * passage.beat, pitch, float(rng.uniform(0.7, 1.0)), shade))
        degree = int(np.clip(degree + int(rng.choice(steps)), -3, 14))
        at += length
    return notes


def melody(passage: Passage, span: tuple[int, int], rng: np.random.Generator) -> list[Note]:
    """A tune in quarters and eighths."""
    return _walk(passage, span, rng, (0.5, 0.5, 1.0, 1.0, 1.5, 2.0), 0.22 - 0.15 * passage.density)


def runs(passage: Passage, span: tuple[int, int], rng: np.random.Generator) -> list[Note]:
    """A lively line of eighths and sixteenths."""
    return _walk(passage, span, rng, (0.25, 0.25, 0.5, 0.5), 0.12 - 0.1 * passage.density)


def song(passage: Passage, span: tuple[int, int], rng: np.random.Generator) -> list[Note]:
    """A sung line in phrases of six beats, two of rest."""
    line = _walk(passage, span, rng, (0.5, 1.0, 1.0, 2.0), 0.05)
    return [note for note in line if (note.start / passage.beat) % 8 < 6.5]


def long_line(passage: Passage, span: tuple[int, int], rng: np.random.Generator) -> list[Note]:
    """A slow line of long notes."""
    return _walk(passage, span, rng, (2.0, 2.0, 3.0, 4.0), 0.08)


def chords(passage: Passage, span: tuple[int, int], rng: np.random.Generator) -> list[Note]:
    """Block chords, one or two a bar."""
    each = 4 if rng.random() < 0.5 else 2
    return [
        Note((4 * bar + beat) * passage.beat, each * passage.beat, fold(passage.pitch(degree), span), shade=bar % 2)
        for bar in range(passage.bars)
        for beat in range(0, 4, each)
        for degree in passage.chord(bar)
    ]


def pulse(passage: Passage, span: tuple[int, int], rng: np.random.Generator) -> list[Note]:
    """Chords on every beat or on the off-beats."""
    late = 0.5 if rng.random() < 0.4 else 0.0
    return [
        Note((4 * bar + beat + late) * passage.beat, 0.5 * passage.beat, fold(passage.pitch(degree), span), 0.8)
        for bar in range(passage.bars)
        for beat in range(4)
        for degree in passage.chord(bar)
    ]


def arpeggio(passage: Passage, span: tuple[int, int], rng: np.random.Generator) -> list[Note]:
    """Broken chords in eighths, or in sixteenths where the passage is dense, ringing on."""
    step = 0.25 if passage.density > 0.6 else 0.5
    order = rng.permutation([0, 2, 4, 7, 4, 2, 9, 7])
    notes = []
    for index in range(int(CLIP_SECONDS / (step * passage.beat)) + 1):
        at = index * step
        degree = passage.chord(int(at // 4))[0] + int(order[index % len(order)])
        if rng.random() < 0.95:
            pitch = fold(passage.pitch(degree), span)
            notes.append(Note(at * passage.beat, 1.5 * step * passage.beat, pitch, float(rng.uniform(0.75, 1.0))))
    return notes


def strum(passage: Passage, span: tuple[int, int], rng: np.random.Generator) -> list[Note]:
    """Strummed chords: down on the beats, up between some of them."""
    pattern = [0.0, 1.0, 1.5, 2.5, 3.0, 3.5] if passage.density > 0.5 else [0.0, 1.0, 2.0, 3.0, 3.5]
    notes = []
    for bar in range(passage.bars):
        pitches = sorted(fold(passage.pitch(degree), span) for degree in (*passage.chord(bar), passage.chord(bar)[0]))
        pitches[-1] = pitches[0] + 12
        for beat in pattern:
            up = beat % 1 > 0
            for string, pitch in enumerate(reversed(pitches) if up else pitches):
                start = (4 * bar + beat) * passage.beat + 0.012 * string
                notes.append(Note(start, passage.beat, pitch, 0.6 if up else 0.9))
    return notes


def power_chords(passage: Passage, span: tuple[int, int], rng: np.random.Generator) -> list[Note]:
    """Root, fifth and octave in eighths or sixteenths, partly palm-muted."""
    step = 0.25 if passage.density > 0.7 else 0.5
    muted = rng.random(8) < 0.55
    notes = []
    for index in range(int(CLIP_SECONDS / (step * passage.beat)) + 1):
        at = index * step
        root = fold(passage.pitch(passage.chord(int(at // 4))[0]), span)
        mute = bool(muted[index % 8])
        for pitch in (root, root + 7, root + 12):
            notes.append(Note(at * passage.beat, (1 if mute else 2) * step * passage.beat, pitch, 1.0, int(mute)))
    return notes


def bass_line(passage: Passage, span: tuple[int, int], rng: np.random.Generator) -> list[Note]:
    """Roots in eighths or quarters, with a fifth now and then."""
    step = 0.5 if passage.density > 0.5 else 1.0
    notes = []
    for index in range(int(CLIP_SECONDS / (step * passage.beat)) + 1):
        at = index * step
        base = passage.chord(int(at // 4))[0] + (4 if rng.random() < 0.15 else 0)
        notes.append(Note(at * passage.beat, 0.9 * step * passage.beat, fold(passage.pitch(base), span)))
    return notes


def drone(passage: Passage, span: tuple[int, int], rng: np.random.Generator) -> list[Note]:
    """Root and fifth over and over, one note a beat and a half."""
    cycle = (passage.root + 7, passage.root + 12, passage.root + 12, passage.root)
    length = 0.75
    return [
        Note(index * length, 2.5, fold(cycle[index % 4], span), 0.9, 1)
        for index in range(int(CLIP_SECONDS / length) + 1)
    ]


def glissando(passage: Passage, span: tuple[int, int], rng: np.random.Generator) -> list[Note]:
    """Broken chords with sweeps over the whole span every other bar."""
    notes = arpeggio(passage, span, rng)
    for bar in range(0, passage.bars, 2):
        degrees = range(-4, 12) if rng.random() < 0.5 else range(12, -4, -1)
        start = (4 * bar + 2) * passage.beat
        notes += [
            Note(start + 0.055 * index, 1.0, int(np.clip(passage.pitch(degree), *span)), 0.8)
            for index, degree in enumerate(degrees)
        ]
    return notes


def scatter(passage: Passage, span: tuple[int, int], rng: np.random.Generator) -> list[Note]:
    """Events at any time and any pitch: no beat, no key."""
    count = int(12 + 25 * passage.density)
    return [
        Note(
            float(rng.uniform(0, CLIP_SECONDS - 1)),
            float(rng.choice([0.3, 0.8, 1.5, 3.0])),
            float(rng.uniform(*span)),
            float(rng.uniform(0.3, 1.0)),
            int(rng.integers(0, 8)),
        )
        for _ in range(count)
    ]


GROOVES: Final[Mapping[str, tuple[tuple[int, str], ...]]] = {
    "rock_beat": ((drums.KICK, "x.......x.x....."), (drums.SNARE, "....x.......x..."), (drums.HAT, "x.x.x.x.x.x.x.x.")),
    "metal_beat": (
        (drums.KICK, "x.xxx.xxx.xxx.xx"),
        (drums.SNARE, "....x.......x..."),
        (drums.OPEN_HAT, "x...x...x...x..."),
    ),
    "pop_beat": ((drums.KICK, "x......xx......."), (drums.SNARE, "....x.......x..x"), (drums.HAT, "xxx.xxx.xxx.xxx.")),
    "four_on_the_floor": (
        (drums.KICK, "x...x...x...x..."),
        (drums.CLAP, "....x.......x..."),
        (drums.OPEN_HAT, "..x...x...x...x."),
        (drums.HAT, "x.xxx.xxx.xxx.xx"),
    ),
    "broken_beat": (
        (drums.KICK, "x..x..x...x..x.."),
        (drums.CLAP, "....x..x....x..."),
        (drums.HAT, "x.xxx.x.x.xxx.xx"),
    ),
    "train_beat": ((drums.KICK, "x.......x......."), (drums.SNARE, "..xx..xx..xx..xx")),
    "tintal": (
        (drums.DRONE_DRUM_HIGH, "x.xxx.x.x.xx..xx"),
        (drums.DRONE_DRUM_LOW, "x.....x...x....."),
    ),
}
"""Sixteen steps a bar for each drum."""


def groove(name: str) -> Role:
    """A role that plays one of the grooves, with fills and small omissions."""

    def play(passage: Passage, span: tuple[int, int], rng: np.random.Generator) -> list[Note]:
        step = passage.beat / 4
        notes = []
        for bar in range(passage.bars):
            for drum, pattern in GROOVES[name]:
                for at, mark in enumerate(pattern):
                    if (mark == "x") != (rng.random() < 0.03):
                        accent = 1.0 if at % 4 == 0 else float(rng.uniform(0.6, 0.85))
                        notes.append(Note((16 * bar + at) * step, step, drum, accent))
            if bar % 4 == 0 and name != "tintal":
                notes.append(Note(16 * bar * step, step, drums.CRASH, 0.8))
        return notes

    return play


ROLES: Final[Mapping[str, Role]] = {
    "arpeggio": arpeggio,
    "bass_line": bass_line,
    "chords": chords,
    "drone": drone,
    "glissando": glissando,
    "long_line": long_line,
    "melody": melody,
    "power_chords": power_chords,
    "pulse": pulse,
    "runs": runs,
    "scatter": scatter,
    "song": song,
    "strum": strum,
    **{name: groove(name) for name in GROOVES},
}
