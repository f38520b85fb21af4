"""Drum kits: one-shots by number, so that a kit is played as an instrument is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from scipy.signal import butter, lfilter

from datasets.synthesis.instruments import Instrument
from datasets.synthesis.tones import Player, Signal, as_signal, seconds_axis
from preprocessing.constants import SAMPLE_RATE

KICK, SNARE, HAT, OPEN_HAT, CRASH, CLAP, TOM = range(7)
DRONE_DRUM_HIGH, DRONE_DRUM_LOW = 7, 8
"""The tabla's right and left hand."""


def _noise(player: Player, number: int, seconds: float, decay: float, low_cut: float) -> Signal:
    t = seconds_axis(seconds)
    b, a = butter(2, low_cut / (SAMPLE_RATE / 2), btype="high")
    burst = lfilter(b, a, player.noise_for(number + 0.37, len(t)))
    return np.asarray(burst * np.exp(-t / decay), dtype=np.float32)


def _thump(start: float, end: float, fall: float, decay: float) -> Signal:
    t = seconds_axis(min(6 * decay, 1.0))
    cycles = np.cumsum(end + (start - end) * np.exp(-t / fall)) / SAMPLE_RATE
    return np.asarray(np.sin(2 * np.pi * cycles) * np.exp(-t / decay), dtype=np.float32)


def _together(*layers: Signal) -> Signal:
    mixed = np.zeros(max(map(len, layers)), dtype=np.float32)
    for layer in layers:
        mixed[: len(layer)] += layer
    return mixed


def acoustic_kit(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """Wood and skin: a dry kick, a snare with its wires, cymbals."""
    number = int(midi)
    if number == KICK:
        return 1.6 * _together(_thump(140, 55, 0.03, 0.11), 0.2 * _noise(player, 0, 0.02, 0.005, 1500))
    if number in (SNARE, CLAP):
        return _together(0.8 * _thump(240, 185, 0.02, 0.07), 0.6 * _noise(player, 1, 0.28, 0.07, 1200))
    if number == TOM:
        return _thump(190, 95, 0.06, 0.16)
    if number == CRASH:
        return 0.5 * _noise(player, 4, 1.5, 0.45, 3000)
    return 0.3 * _noise(player, 2, 0.35, 0.03 if number == HAT else 0.16, 4500)


def electronic_kit(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """A drum machine: a deep long kick, a clap, sizzling hats."""
    number = int(midi)
    if number == KICK:
        return as_signal(2.0 * np.tanh(1.8 * _thump(230, 48, 0.035, 0.2)))
    if number in (SNARE, CLAP):
        return 0.8 * _noise(player, 1, 0.2, 0.06, 900)
    if number == TOM:
        return _thump(420, 160, 0.05, 0.12)
    if number == CRASH:
        return 0.4 * _noise(player, 4, 1.2, 0.35, 2500)
    return 0.4 * _noise(player, 2, 0.3, 0.025 if number == HAT else 0.11, 5500)


def tabla(midi: float, seconds: float, shade: int, player: Player) -> Signal:
    """Pitched hand drums: a ringing right hand, a left hand that glides."""
    if int(midi) == DRONE_DRUM_HIGH:
        tones = [0.7 / k * _thump(290 * k * 1.01, 290 * k, 0.02, 0.14 / k) for k in (1, 2, 3)]
        return _together(*tones, 0.25 * _noise(player, 1, 0.03, 0.006, 2500))
    return 1.2 * _thump(75, 125, 0.12, 0.2)


KITS: Final[Mapping[str, Instrument]] = {
    "acoustic_kit": acoustic_kit,
    "electronic_kit": electronic_kit,
    "tabla": tabla,
}
