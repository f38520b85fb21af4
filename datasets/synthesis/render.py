"""From notes to a clip's samples: parts, mix, room and mastering."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy import fft
from scipy.signal import butter, lfilter

from datasets.synthesis.drums import KITS
from datasets.synthesis.instruments import INSTRUMENTS, Instrument
from datasets.synthesis.plan import PlannedClip, Track, passage_generator, playing_generator
from datasets.synthesis.score import PROGRESSIONS, ROLES, SCALES, Note, Passage
from datasets.synthesis.singing import SINGERS
from datasets.synthesis.styles import SPANS, Part
from datasets.synthesis.tones import Player, Signal, as_signal, new_player
from preprocessing.constants import CLIP_SAMPLES, SAMPLE_RATE

SOURCES: Final[Mapping[str, Instrument]] = {**INSTRUMENTS, **SINGERS, **KITS}
BLOCK: Final = 800
"""Samples (50 ms) over which loudness is measured."""
CEILING: Final = 0.97


@dataclass
class Studio:
    """One track's players, key, room and console, and the notes that have been sounded already.

    Attributes:
        track: what is recorded.
        seed: the corpus' seed.
    """

    track: Track
    seed: int
    _notes: dict[tuple[str, float, int, int], Signal] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        rng = playing_generator(self.seed, self.track.index)
        style = self.track.style
        self.players: dict[str, Player] = {
            name: new_player(rng) for name in dict.fromkeys(part.instrument for part in style.parts)
        }
        self.root = int(rng.integers(48, 60))
        self.scale = SCALES[str(rng.choice(list(style.scales)))]
        self.chords = PROGRESSIONS[int(rng.integers(len(PROGRESSIONS)))]
        # A fast piece sounds fast by its notes, not by its beat alone.
        self.density = float(0.6 * rng.uniform(0.2, 1.0) + 0.4 * np.clip((self.track.tempo - 60) / 90, 0, 1))
        self.faders = {part: part.level + float(rng.uniform(-2.5, 2.5)) for part in style.parts}
        self.drive = float(rng.uniform(6.0, 25.0))
        self.room = room_response(float(rng.uniform(*style.room)), rng)
        self.wet = float(rng.uniform(0.15, 0.4)) * min(1.6, 0.6 + 0.3 * style.room[1])
        self.tilt = float(rng.uniform(-0.35, 0.35))
        self.squeeze = float(rng.uniform(0.0, 0.5))
        self.hiss = 10.0 ** (float(rng.uniform(-62.0, -44.0)) / 20.0)

    def record(self, clip: PlannedClip) -> Signal:
        """Play, mix and master one clip.

        Returns:
            float32 [465,600], within -1..1.
        """
        rng = passage_generator(self.seed, self.track.index, clip.segment).spawn(1)[0]
        turn = int(rng.integers(len(self.chords)))
        chords = self.chords[turn:] + self.chords[:turn]
        density = float(np.clip(self.density + rng.uniform(-0.2, 0.2), 0.0, 1.0))
        passage = Passage(60.0 / self.track.tempo, self.root, self.scale, chords, density)
        mix = np.zeros(CLIP_SAMPLES, dtype=np.float32)
        for part in clip.parts:
            sound = self._effects(part, self._play(part, passage, rng))
            mix += sound * np.float32(10.0 ** (self.faders[part] / 20.0) / (loudness(sound) + 1e-6))
        return self._master(self._reverberate(mix), rng)

    def _play(self, part: Part, passage: Passage, rng: np.random.Generator) -> Signal:
        sound = np.zeros(CLIP_SAMPLES, dtype=np.float32)
        for note in ROLES[part.role](passage, SPANS.get(part.instrument, (0, 127)), rng):
            at = max(0, int((note.start + rng.normal(0.0, 0.004)) * SAMPLE_RATE))
            samples = self._sound(part.instrument, note)[: max(0, CLIP_SAMPLES - at)]
            sound[at : at + len(samples)] += np.float32(note.velocity) * samples
        return sound

    def _sound(self, instrument: str, note: Note) -> Signal:
        key = (instrument, note.midi, round(note.seconds * SAMPLE_RATE), note.shade)
        if key not in self._notes:
            samples = SOURCES[instrument](note.midi, note.seconds, note.shade, self.players[instrument])
            self._notes[key] = samples.astype(np.float32)
        return self._notes[key]

    def _effects(self, part: Part, sound: Signal) -> Signal:
        effect = EFFECTS.get(part.instrument)
        return effect(sound, self.drive) if effect else sound

    def _reverberate(self, mix: Signal) -> Signal:
        length = fft.next_fast_len(len(mix) + len(self.room), real=True)
        wet = fft.irfft(fft.rfft(mix, length) * fft.rfft(self.room, length), length)[: len(mix)]
        return np.asarray(mix + np.float32(self.wet * loudness(mix) / (loudness(wet) + 1e-6)) * wet, dtype=np.float32)

    def _master(self, mix: Signal, rng: np.random.Generator) -> Signal:
        """Tilt, compress, bring to the track's level, add the medium's hiss and clip softly."""
        mix = np.asarray(lfilter([1.0, -self.tilt], [1.0], mix), dtype=np.float32)
        mix = compress(mix, self.squeeze)
        level = np.float32(10.0 ** (self.track.level / 20.0))
        mix *= level / np.float32(np.sqrt(np.mean(mix**2)) + 1e-9)
        mix += np.float32(self.hiss) * level * rng.standard_normal(len(mix), dtype=np.float32)
        return np.asarray(CEILING * np.tanh(mix / CEILING), dtype=np.float32)


def distort(sound: Signal, drive: float) -> Signal:
    """An overdriven valve amplifier and its loudspeaker, which passes 90 Hz to 4.5 kHz."""
    driven = np.tanh(drive * sound / (loudness(sound) + 1e-6))
    b, a = butter(2, [90.0 / (SAMPLE_RATE / 2), 4500.0 / (SAMPLE_RATE / 2)], btype="band")
    return np.asarray(lfilter(b, a, driven), dtype=np.float32)


def shout(sound: Signal, drive: float) -> Signal:
    """A voice pressed until it breaks."""
    return as_signal(np.tanh(0.25 * drive * sound / (loudness(sound) + 1e-6)))


EFFECTS: Final[Mapping[str, Callable[[Signal, float], Signal]]] = {"electric_guitar": distort, "shouter": shout}


def block_rms(sound: Signal) -> Signal:
    """RMS of each 50 ms."""
    return np.asarray(np.sqrt(np.mean(sound.reshape(-1, BLOCK) ** 2, axis=1)), dtype=np.float32)


def loudness(sound: Signal) -> float:
    """RMS of the louder passages: the 80th percentile over 50 ms blocks."""
    return float(np.percentile(block_rms(sound), 80))


def compress(mix: Signal, amount: float) -> Signal:
    """Reduce the level's swings by ``amount`` (0 none, 1 all), as a slow compressor does."""
    level = block_rms(mix)
    smooth = lfilter([0.3], [1.0, -0.7], level) + 0.05 * float(level.max()) + 1e-9
    gain = (smooth / float(smooth.mean())) ** -amount
    at = (np.arange(len(level)) + 0.5) * BLOCK
    return np.asarray(mix * np.interp(np.arange(len(mix)), at, gain), dtype=np.float32)


def room_response(seconds: float, rng: np.random.Generator) -> Signal:
    """Impulse response of a room: noise that dies away, its high frequencies first."""
    t = np.arange(int(seconds * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    noise = rng.standard_normal((2, len(t)), dtype=np.float32)
    low = lfilter([0.25], [1.0, -0.75], noise[0]) * np.exp(-6.9 * t / seconds)
    high = 0.3 * noise[1] * np.exp(-6.9 * t / (0.45 * seconds))
    response = np.concatenate([np.zeros(int(0.012 * SAMPLE_RATE), dtype=np.float32), low + high])
    return np.asarray(response, dtype=np.float32)
