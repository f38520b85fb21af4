"""A song of three parts that can be told apart, in every format, and what damages files; made with a real ffmpeg."""

from __future__ import annotations

import functools
import io
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile as sf

RATE = 44_100
PART_SECONDS = 5.0
SONG_SECONDS = 3 * PART_SECONDS
PITCHES = (330.0, 550.0, 770.0)
"""Hz of the three parts."""

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg on PATH")

SUFFIXES = ("mp3", "wav", "flac", "ogg", "opus", "m4a")
OPTIONS = {
    "mp3": ["-b:a", "192k", "-f", "mp3"],
    "cbr": ["-b:a", "128k", "-write_xing", "0", "-id3v2_version", "0", "-f", "mp3"],
    "vbr": ["-q:a", "4", "-f", "mp3"],
    "wav": ["-f", "wav"],
    "flac": ["-f", "flac"],
    "ogg": ["-c:a", "libvorbis", "-f", "ogg"],
    "opus": ["-c:a", "libopus", "-f", "ogg"],
    "oga": ["-c:a", "flac", "-f", "ogg"],
    "m4a": ["-c:a", "aac", "-f", "ipod"],
    "faststart": ["-c:a", "aac", "-movflags", "+faststart", "-f", "ipod"],
    "aac": ["-c:a", "aac", "-f", "adts"],
    "webm": ["-c:a", "libopus", "-f", "webm"],
    "wma": ["-f", "asf"],
    "aiff": ["-f", "aiff"],
}


def part(number: int) -> npt.NDArray[np.float32]:
    """One part of the song, float32 [samples, 2]: a tone of its own pitch with overtones and a little noise."""
    time = np.arange(round(PART_SECONDS * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * PITCHES[number] * k * time) / k for k in range(1, 6))
    noise = np.random.default_rng(number).normal(0, 0.02, (len(time), 2))
    return (0.2 * np.stack([tone, 0.8 * tone], axis=1) + noise).astype(np.float32)


def song() -> npt.NDArray[np.float32]:
    """The whole song, float32 [samples, 2]."""
    return np.concatenate([part(number) for number in range(3)])


def as_wav(samples: npt.NDArray[np.float32], subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, samples, RATE, format="WAV", subtype=subtype)
    return buffer.getvalue()


@functools.cache
def song_as(kind: str) -> bytes:
    """The song in a format of OPTIONS."""
    return encoded_by_ffmpeg(as_wav(song()), OPTIONS[kind])


@functools.cache
def part_as(kind: str, number: int) -> bytes:
    """One part as a file of its own."""
    return encoded_by_ffmpeg(as_wav(part(number)), OPTIONS[kind])


def encoded_by_ffmpeg(wav: bytes, options: Sequence[str], to_pipe: bool = False) -> bytes:
    """Encode; into a pipe, where a program cannot go back to write lengths."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in.wav").write_bytes(wav)
        out = "pipe:1" if to_pipe else f"{folder}/out"
        call = ["ffmpeg", "-v", "error", "-i", f"{folder}/in.wav", *options, "-fflags", "+bitexact", out]
        done = subprocess.run(call, check=True, capture_output=True, timeout=60)
        return done.stdout if to_pipe else (Path(folder) / "out").read_bytes()


def parts_heard(samples: npt.NDArray[np.float32], rate: int = 16_000) -> list[int]:
    """Which parts are heard, second by second, in the order in which they come."""
    heard: list[int] = []
    for start in range(0, len(samples) - rate // 2 + 1, rate // 2):
        piece = samples[start : start + rate // 2]
        spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece))))
        powers = [spectrum[round(pitch * len(piece) / rate) - 2 :][:5].max() for pitch in PITCHES]
        loudest = int(np.argmax(powers))
        if powers[loudest] > 3 * sorted(powers)[-2] and heard[-1:] != [loudest]:
            heard.append(loudest)
    return heard


Damage = Callable[[bytes, random.Random], bytes]


def _place(data: bytes, chance: random.Random) -> int:
    return chance.randrange(len(data))


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: max(1, _place(data, chance))]


def _lost(data: bytes, chance: random.Random) -> bytes:
    at = _place(data, chance)
    return data[:at] + data[at + chance.choice([1, 100, 5_000, len(data) // 4]) :]


def _put_in(data: bytes, chance: random.Random) -> bytes:
    at = _place(data, chance)
    return data[:at] + _junk(chance, chance.choice([1, 800, 20_000])) + data[at:]


def _overwritten(data: bytes, chance: random.Random) -> bytes:
    at = _place(data, chance)
    junk = _junk(chance, chance.choice([1, 500, 20_000, len(data) // 4]))[: len(data) - at]
    return data[:at] + junk + data[at + len(junk) :]


def _doubled(data: bytes, chance: random.Random) -> bytes:
    return data + data


def _in_front(data: bytes, chance: random.Random) -> bytes:
    return _junk(chance, chance.choice([1, 500, 3_000])) + data


def _junk(chance: random.Random, size: int) -> bytes:
    return bytes(size) if chance.random() < 0.4 else chance.randbytes(size)


DAMAGES: dict[str, Damage] = {
    "cut": _cut,
    "lost": _lost,
    "put in": _put_in,
    "overwritten": _overwritten,
    "doubled": _doubled,
    "in front": _in_front,
}
