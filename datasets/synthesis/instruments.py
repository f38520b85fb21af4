"""Timbres: one function a family of instruments, each from a pitch and a length to a note's samples.

What is plucked is a string (datasets.synthesis.tones); everything that sustains reads a band-limited wave table, one
period long, whose harmonics are shaped by the instrument's body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from datasets.synthesis.tones import (
    Player,
    Shape,
    Signal,
    as_signal,
    band_passed,
    envelope,
    frequency,
    high_passed,
    karplus_strong,
    plain,
    read_table,
    resonances,
    seconds_axis,
    vibrato_cycles,
    wave_table,
)
from preprocessing.constants import SAMPLE_RATE

Instrument = Callable[[float, float, int, Player], Signal]
"""(MIDI pitch, seconds, shade, player) -> float32 samples; the shade picks a vowel or another variant."""


GUITAR_BODY: Final = ((100.0, 240.0), (200.0, 420.0))


def acoustic_guitar(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """Steel or nylon strings on a wooden body."""
    f0 = frequency(midi)
    softness = 0.55 - 0.1 * player.brightness
    string = karplus_strong(f0, seconds + 0.25, player, ring=2.2, damping=0.42, softness=softness, pick=0.18)
    return string + 0.8 * band_passed(string, *GUITAR_BODY[shade % 2])


def steel_guitar(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """A twanging string, bright and bent up into its pitch, as in country music."""
    t = seconds_axis(seconds + 0.2)
    bend = frequency(midi) * (1.0 - 0.09 * np.exp(-t / 0.07)) * (1.0 + 0.008 * np.sin(2 * np.pi * 5.5 * t))
    cycles = np.cumsum(bend) / SAMPLE_RATE
    f0 = frequency(midi)
    body = resonances((700, 600, 1.0), (1900, 1200, 1.4), floor=0.3, slope=5.0)
    tone = read_table(wave_table(f0, body, player.brightness, lambda k: np.abs(np.sin(np.pi * k * 0.12))), cycles)
    return as_signal(tone * envelope(t, 0.004, 0.1) * np.exp(-t * 1.6).astype(np.float32))


def banjo(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """Short and bright, on a drum skin."""
    string = karplus_strong(
        frequency(midi), min(seconds + 0.1, 0.6), player, ring=0.5, damping=0.2, softness=0.1, pick=0.1
    )
    return string + 1.2 * band_passed(string, 600.0, 1400.0)


def electric_guitar(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """A long even string; the amplifier's distortion comes with the mix. Shade 1 is palm-muted."""
    ring, softness = (0.35, 0.6) if shade == 1 else (6.0, 0.3)
    return karplus_strong(
        frequency(midi), seconds + 0.05, player, ring=ring, damping=0.25, softness=softness, pick=0.13
    )


def harp(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """Soft and long; plucked near the middle by fingertips."""
    string = karplus_strong(
        frequency(midi), max(seconds, 1.2) + 0.6, player, ring=3.0, damping=0.5, softness=0.8, pick=0.45
    )
    return string + 0.5 * band_passed(string, 150.0, 500.0)


def harpsichord(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """Quill-plucked brass strings, an eight foot and a four foot register, damped when the key is let go."""
    f0 = frequency(midi)
    eight = karplus_strong(f0, seconds + 0.06, player, ring=2.5, damping=0.12, softness=0.05, pick=0.07)
    four = karplus_strong(2 * f0, seconds + 0.06, player, ring=1.8, damping=0.1, softness=0.05, pick=0.09)
    length = min(len(eight), len(four))
    return high_passed(eight[:length] + 0.6 * four[:length], 350.0)


def sitar(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """A string that buzzes against its flat bridge while it rings; shade 1 is the drone of the tanpura."""
    ring = 5.0 if shade == 1 else 3.0
    string = karplus_strong(frequency(midi), seconds + 0.5, player, ring=ring, damping=0.3, softness=0.3, pick=0.1)
    level = np.asarray(lfilter([0.002], [1.0, -0.998], np.abs(string)), dtype=np.float32) + 1e-3
    buzz = high_passed(np.tanh(2.5 * string / level).astype(np.float32), 1500.0) * level
    return as_signal(string + (1.5 if shade == 1 else 2.2) * band_passed(buzz, 1500.0, 4500.0) + 0.4 * buzz)


def _hammer(number: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Amplitude of the partials of a string struck at an eighth of its length."""
    return np.asarray(np.abs(np.sin(np.pi * number / 8.0)) + 0.05)


def piano(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """Two strings a note, slightly out of tune; high partials die first; a hammer's knock."""
    f0 = frequency(midi)
    t = seconds_axis(seconds + 0.35)
    slope = 7.0 - player.brightness
    low = wave_table(f0, plain(slope), 0.0, lambda k: _hammer(k) * (k <= 3))
    high = wave_table(f0, plain(slope), 0.0, lambda k: _hammer(k) * (k > 3) + 1e-4)
    decay = 0.9 + 1.5 * max(0.0, (midi - 40.0) / 40.0)
    tone = np.zeros(len(t), dtype=np.float32)
    for detune in (-0.0004, 0.0005):
        cycles = t * f0 * (1.0 + detune)
        tone += read_table(low, cycles) * np.exp(-t * decay).astype(np.float32)
        tone += 0.45 * read_table(high, cycles * 1.0008) * np.exp(-t * decay * 3.5).astype(np.float32)
    knock = int(0.03 * SAMPLE_RATE)
    tone[:knock] += (
        0.5 * band_passed(player.noise_for(midi, knock), 150.0, 900.0) * np.linspace(1, 0, knock, dtype=np.float32)
    )
    return tone * envelope(t, 0.003, 0.3)


VIOLIN_BODY: Final = resonances(
    (280, 120, 0.7), (460, 160, 1.0), (900, 400, 0.6), (2600, 1500, 1.1), floor=0.15, slope=5.5
)
CELLO_BODY: Final = resonances(
    (110, 60, 0.8), (210, 120, 1.0), (450, 250, 0.7), (1300, 900, 0.45), floor=0.08, slope=6.5
)
SECTION_BODY: Final = resonances((300, 300, 0.9), (800, 700, 0.6), (2200, 1800, 0.5), floor=0.15, slope=6.0)


def _bowed(midi: float, seconds: float, player: Player, body: Shape, voices: int, depth: float) -> Signal:
    f0 = frequency(midi)
    t = seconds_axis(seconds + 0.12)
    table = wave_table(f0, body, player.brightness)
    tone = np.zeros(len(t), dtype=np.float32)
    for voice in range(voices):
        detune = 1.0 + 0.0022 * (voice - (voices - 1) / 2)
        rate = 5.4 + 0.45 * voice
        tone += read_table(table, vibrato_cycles(t, f0 * detune, rate, depth * player.vibrato, 0.08) + 0.37 * voice)
    bow = high_passed(player.noise_for(midi, len(t)), 2000.0)
    pulse = 0.09 if voices == 1 else 0.05 * voices
    return (tone + pulse * bow) * envelope(t, (0.07 if voices == 1 else 0.16) * player.attack, 0.12)


def violin(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """One bowed string with a wide vibrato."""
    return _bowed(midi, seconds, player, VIOLIN_BODY, 1, 0.0085)


def fiddle(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """A violin played without vibrato, with the open string below."""
    tone = _bowed(midi, seconds, player, VIOLIN_BODY, 1, 0.001)
    return tone + 0.4 * _bowed(midi - 7, seconds, player, VIOLIN_BODY, 1, 0.001)


def cello(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """A bowed string an octave and a half lower, on a larger body."""
    return _bowed(midi, seconds, player, CELLO_BODY, 1, 0.007)


def string_section(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """Several bowed strings that never quite agree."""
    return _bowed(midi, seconds, player, SECTION_BODY, 4, 0.006)


def flute(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """Few harmonics, breath, and a vibrato of loudness; shade 1 is breathier and slides into its pitch."""
    f0 = frequency(midi)
    t = seconds_axis(seconds + 0.08)
    amplitudes = np.array([1.0, 0.42, 0.22, 0.07, 0.03])
    table = wave_table(
        f0, plain(0.0), player.brightness, lambda k: np.where(k <= 5, amplitudes[np.minimum(k, 5).astype(int) - 1], 0.0)
    )
    slide = 0.06 * shade * np.exp(-t / 0.06)
    cycles = vibrato_cycles(t, f0, 4.8, 0.003 * player.vibrato, 0.15) - np.cumsum(f0 * slide) / SAMPLE_RATE
    tremolo = (1.0 + 0.22 * player.vibrato * np.sin(2 * np.pi * 4.8 * t)).astype(np.float32)
    breath = band_passed(player.noise_for(midi, len(t)), min(f0 * 1.5, 3000.0), 5500.0)
    chiff = (1.0 + 2.5 * np.exp(-t / 0.04)).astype(np.float32)
    return as_signal(
        (read_table(table, cycles) * tremolo + (0.16 + 0.12 * shade) * breath * chiff) * envelope(t, 0.05, 0.07)
    )


def organ(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """Pipes at eight, four and two and two thirds feet."""
    f0 = frequency(midi)
    t = seconds_axis(seconds + 0.1)
    drawbars = np.array([1.0, 0.6, 0.35, 0.3, 0.05, 0.15, 0.02, 0.12])
    stops = lambda k: np.where(k <= 8, drawbars[np.minimum(k, 8).astype(int) - 1], 0.0)  # noqa: E731
    return read_table(wave_table(f0, plain(0.0), player.brightness, stops), t * f0) * envelope(t, 0.05, 0.1)


def synth_pad(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """Detuned saws behind a filter that opens and closes slowly."""
    f0 = frequency(midi)
    t = seconds_axis(seconds + 0.8)
    dark = wave_table(f0, plain(14.0), player.brightness)
    bright = wave_table(f0, plain(6.0), player.brightness)
    sweep = (0.5 - 0.5 * np.cos(2 * np.pi * t / 7.0 + 0.3 * midi)).astype(np.float32)
    tone = np.zeros(len(t), dtype=np.float32)
    for detune in (-0.0045, 0.0, 0.005):
        cycles = t * f0 * (1.0 + detune)
        tone += read_table(dark, cycles) + 0.7 * sweep * read_table(bright, cycles + 0.3)
    return tone * envelope(t, min(0.9, seconds / 2) * player.attack, 0.8)


def synth_lead(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """Two saws or squares, bright, in tune with nothing but themselves."""
    f0 = frequency(midi)
    t = seconds_axis(seconds + 0.06)
    square = (lambda k: (k % 2) + 0.02) if player.brightness < 0 else None
    table = wave_table(f0, plain(5.0), player.brightness, square)
    tone = read_table(table, t * f0) + read_table(table, t * f0 * 1.006 + 0.4)
    return tone * envelope(t, 0.006, 0.05)


def synth_stab(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """A short saw through a filter that snaps shut: arpeggios and acid lines."""
    f0 = frequency(midi)
    t = seconds_axis(min(seconds, 0.4) + 0.04)
    bright, dark = wave_table(f0, plain(3.5), player.brightness), wave_table(f0, plain(13.0))
    snap = np.exp(-t / 0.07).astype(np.float32)
    cycles = t * f0
    return as_signal((snap * read_table(bright, cycles) + 0.6 * read_table(dark, cycles)) * envelope(t, 0.003, 0.04))


def synth_bass(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """A low saw, closed quickly."""
    f0 = frequency(midi)
    t = seconds_axis(seconds)
    bright, dark = wave_table(f0, plain(7.0), player.brightness), wave_table(f0, plain(16.0))
    tone = read_table(dark, t * f0) + 0.6 * np.exp(-t / 0.1).astype(np.float32) * read_table(bright, t * f0)
    return as_signal(tone * envelope(t, 0.004, 0.03))


def bass_guitar(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """A thick string, plucked softly."""
    return karplus_strong(frequency(midi), min(seconds, 1.0), player, ring=1.5, damping=0.48, softness=0.85, pick=0.25)


def bell(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """Frequency modulation at an irrational ratio (Chowning, 1973)."""
    f0 = frequency(midi)
    t = seconds_axis(max(0.8, seconds) + 0.5)
    ratio = (1.4142, 2.7183, 3.5)[shade % 3]
    index = 4.0 * np.exp(-t / 0.5)
    tone = np.sin(2 * np.pi * f0 * t + index * np.sin(2 * np.pi * f0 * ratio * t)) * np.exp(-t / 0.6)
    return as_signal(tone * envelope(t, 0.003, 0.1))


def siren(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """A tone that glides far up or down and is ring-modulated on its way."""
    t = seconds_axis(seconds)
    span = (-2.0, 1.5, 2.5, -1.0)[shade % 4]
    cycles = np.cumsum(frequency(midi) * 2.0 ** (span * t / t[-1] + 0.1 * np.sin(2 * np.pi * 7 * t))) / SAMPLE_RATE
    ring = np.sin(2 * np.pi * (37.0 + 90.0 * (shade % 5)) * t)
    return as_signal(np.sin(2 * np.pi * cycles) * ring * envelope(t, 0.05, 0.1))


def bubbles(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """A patter of random blips: a sample-and-hold of noise drives the pitch."""
    t = seconds_axis(seconds)
    rate = 9.0 + 4.0 * (shade % 4)
    steps = player.noise_for(midi, len(t))[(np.floor(t * rate)).astype(np.int64)]
    cycles = np.cumsum(frequency(midi) * 2.0 ** np.clip(steps.astype(np.float64), -2, 2)) / SAMPLE_RATE
    gate = np.exp(-((t * rate) % 1.0) * 4.0)
    return as_signal(np.sin(2 * np.pi * cycles) * gate * envelope(t, 0.01, 0.05))


INSTRUMENTS: Final[Mapping[str, Instrument]] = {
    "acoustic_guitar": acoustic_guitar,
    "banjo": banjo,
    "bass_guitar": bass_guitar,
    "bell": bell,
    "bubbles": bubbles,
    "cello": cello,
    "electric_guitar": electric_guitar,
    "fiddle": fiddle,
    "flute": flute,
    "harp": harp,
    "harpsichord": harpsichord,
    "organ": organ,
    "piano": piano,
    "siren": siren,
    "sitar": sitar,
    "steel_guitar": steel_guitar,
    "string_section": string_section,
    "synth_bass": synth_bass,
    "synth_lead": synth_lead,
    "synth_pad": synth_pad,
    "synth_stab": synth_stab,
    "violin": violin,
}
