from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from pitch_model import index_it
from song_files import needs_ffmpeg

from serving.library.duplicates import MOST_DIFFERENT, difference
from serving.library.fingerprints import BITS, FRAME_SECONDS, STEP_SECONDS, Fingerprinter, fingerprint
from serving.library.library import Library
from serving.library.places import INDEX_NAME

RATE = 16_000


def melody(seed: int, seconds: float = 20.0) -> np.ndarray:  # type: ignore[type-arg]
    """Notes of a quarter of a second with overtones, all drawn by chance, float32 [n]."""
    draw = np.random.default_rng(seed)
    notes = []
    for _ in range(round(seconds * 4)):
        time = np.arange(RATE // 4) / RATE
        pitches = draw.choice([220, 262, 294, 330, 392, 440, 523, 587, 659, 784], 3)
        chord = sum(np.sin(2 * np.pi * pitch * k * time) / k for pitch in pitches for k in range(1, 5))
        notes.append(chord * np.exp(-4 * time) * draw.uniform(0.3, 1))
    return (0.1 * np.concatenate(notes) + 0.002 * draw.normal(size=len(notes) * (RATE // 4))).astype(np.float32)


def test_a_recording_does_not_differ_from_itself() -> None:
    print_ = fingerprint(melody(0), RATE)
    assert print_.dtype == np.uint32
    assert len(print_) == pytest.approx((20 - FRAME_SECONDS) / STEP_SECONDS, abs=1)
    assert difference(print_, print_) == 0


def test_other_recordings_differ_in_nearly_half_of_the_bits() -> None:
    prints = [fingerprint(melody(seed), RATE) for seed in range(5)]
    apart = [difference(a, b) for at, a in enumerate(prints) for b in prints[at + 1 :]]
    assert min(apart) > MOST_DIFFERENT + 0.05


@pytest.mark.parametrize("cut", [0.032, 1.0, 3.36, 7.03])
def test_seconds_that_are_cut_off_are_found(cut: float) -> None:
    samples = melody(1)
    assert (
        difference(fingerprint(samples, RATE), fingerprint(samples[round(cut * RATE) :], RATE)) < MOST_DIFFERENT - 0.05
    )


def test_loudness_does_not_matter() -> None:
    samples = melody(2)
    assert difference(fingerprint(samples, RATE), fingerprint(0.1 * samples, RATE)) < 0.02


def test_a_short_part_of_a_long_recording_is_no_duplicate() -> None:
    samples = melody(3, 40)
    assert difference(fingerprint(samples, RATE), fingerprint(samples[: 10 * RATE], RATE)) == 1


def test_silence_tells_nothing() -> None:
    silence = fingerprint(np.zeros(20 * RATE, np.float32), RATE)
    assert not silence.any()
    assert difference(silence, silence) == 1
    intro = np.zeros(14 * RATE, np.float32)
    first, second = (fingerprint(np.concatenate([intro, melody(seed, 6)]), RATE) for seed in (4, 5))
    assert difference(first, second) > MOST_DIFFERENT


def test_too_short_a_sound_has_no_fingerprint() -> None:
    assert len(fingerprint(np.zeros(0, np.float32), RATE)) == 0
    assert len(fingerprint(melody(0)[:4_000], RATE)) == 0
    assert difference(np.zeros(0, np.uint32), np.zeros(0, np.uint32)) == 1


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 60_000), max_size=8))
def test_pieces_give_the_fingerprint_of_the_whole(sizes: list[int]) -> None:
    samples, whole = melody(0, 6), Fingerprinter(RATE)
    at = 0
    for size in sizes:
        whole.add(samples[at : at + size])
        at += size
    whole.add(samples[at:])
    np.testing.assert_array_equal(whole.finish(), fingerprint(samples, RATE))


@given(st.integers(40, 90), st.integers(0, 25), st.integers(0, 2**32 - 1))
def test_difference_is_the_share_of_bits_at_the_best_offset(steps: int, shift: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    long = draw.integers(1, 2**32, steps + shift, dtype=np.uint32)
    noise = np.packbits(draw.random((steps, BITS)) < 0.1, axis=1).view("<u4")[:, 0]
    short = long[shift:] ^ noise
    by_hand = sum(int(value).bit_count() for value in noise) / (BITS * steps)
    if steps >= 2 * shift:
        assert difference(long, short) == pytest.approx(by_hand, abs=1e-5)
        assert difference(short, long) == pytest.approx(by_hand, abs=1e-5)


@needs_ffmpeg
def test_the_same_recording_in_other_formats_is_one_group(tmp_path: Path) -> None:
    for seed in range(4):
        sf.write(tmp_path / f"{seed}.wav", melody(seed), RATE)
    for name, options in {
        "0-64.mp3": ["-b:a", "64k"],
        "0.ogg": ["-c:a", "libvorbis", "-q:a", "1"],
        "0-cut.mp3": ["-ss", "3.36", "-b:a", "128k"],
        "1.flac": [],
    }.items():
        call = ["ffmpeg", "-v", "error", "-i", str(tmp_path / f"{name[0]}.wav"), *options, str(tmp_path / name)]
        subprocess.run(call, check=True)
    index_it(tmp_path)
    with Library(tmp_path / INDEX_NAME) as library:
        groups = [[song.path for song in group] for group in library.duplicates()]
    assert groups == [["0-64.mp3", "0-cut.mp3", "0.ogg", "0.wav"], ["1.flac", "1.wav"]]
