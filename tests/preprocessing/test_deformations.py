"""Deformations: what each one does to a sound, and what all of them have in common."""

from __future__ import annotations

import math
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.audio.samples import Samples
from preprocessing.companding import COMPANDERS, companded
from preprocessing.deformations import EXAMPLES, KINDS, PROTOCOL, Deformation, parse_deformation, through_mp3
from preprocessing.errors import BadInputError

RATE = 16_000
NAMES = tuple(dict.fromkeys([*PROTOCOL, *EXAMPLES.split(", "), *(f"drc_{name}" for name in COMPANDERS)]))


def tone(hertz: float = 440.0, seconds: float = 3.0, peak: float = 0.5) -> Samples:
    return (peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def music(seconds: float = 3.0) -> Samples:
    """Loud and soft in turn, with overtones and a little noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    sound = sum(np.sin(2 * np.pi * 196 * harmonic * time) / harmonic for harmonic in range(1, 9))
    loudness = 0.02 + 0.3 * (np.sin(2 * np.pi * 0.7 * time) > 0)
    noise = np.random.default_rng(1).normal(size=len(time))
    return (0.5 * loudness * (sound + 0.05 * noise)).astype(np.float32)


def deformed(name: str, samples: Samples, clip_id: str = "7", seed: int = 0) -> Samples:
    return parse_deformation(name).apply(samples, RATE, clip_id, seed)


def loudest(samples: Samples) -> float:
    """Hz of the strongest partial, by a parabola through the peak."""
    spectrum = np.log(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) + 1e-12)
    at = int(spectrum[1:-1].argmax()) + 1
    left, middle, right = spectrum[at - 1 : at + 2]
    return float((at + (left - right) / (2 * (left - 2 * middle + right))) * RATE / len(samples))


@pytest.mark.parametrize("name", NAMES)
def test_length_type_and_repeatability(name: str) -> None:
    sound = music()
    before = sound.copy()
    first, second = (deformed(name, sound) for _ in range(2))
    assert first.shape == sound.shape
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert np.array_equal(first, second)
    assert np.array_equal(sound, before), "what it was given stays as it was"
    assert not np.array_equal(first, sound)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(NAMES),
    st.lists(st.floats(-1, 1, width=32), min_size=0, max_size=40),
    st.integers(1, 120),
)
def test_sound_of_any_length_keeps_it(name: str, values: list[float], times: int) -> None:
    sound = np.tile(np.array(values, np.float32), times)
    after = deformed(name, sound)
    assert after.shape == sound.shape
    assert after.dtype == np.float32
    assert np.isfinite(after).all()


@pytest.mark.parametrize("name", NAMES)
def test_silence_stays_silence(name: str) -> None:
    assert np.abs(deformed(name, np.zeros(8000, np.float32))).max() < 1e-6


@pytest.mark.parametrize("semitones", [-12.0, -1.0, 1.0, 3.5])
def test_pitch_moves_by_semitones_and_the_sound_lasts_as_long(semitones: float) -> None:
    sound = np.concatenate([tone(seconds=2), np.zeros(RATE, np.float32)])
    shifted = Deformation("pitch", semitones).apply(sound, RATE)
    moved = 12 * math.log2(loudest(shifted[4000:28000]) / 440)
    assert moved == pytest.approx(semitones, abs=0.1)
    assert np.abs(shifted[2 * RATE + 2000 :]).max() < 0.02


@pytest.mark.parametrize("exponent", [-0.5, 0.5, 1.0])
def test_stretch_changes_the_speed_and_keeps_the_pitch(exponent: float) -> None:
    sound = np.concatenate([tone(440, 1), tone(880, 2)])
    stretched = Deformation("stretch", exponent).apply(sound, RATE)
    change = round(RATE / 2**exponent)
    assert loudest(stretched[1000 : change - 1000]) == pytest.approx(440, rel=0.01)
    assert loudest(stretched[change + 1000 : min(len(sound), round(len(sound) / 2**exponent)) - 1000]) == pytest.approx(
        880, rel=0.01
    )


def test_faster_clip_is_repeated_from_its_beginning() -> None:
    sound = music()
    stretched = deformed("stretch_0.5", sound)
    length = round(len(sound) / 2**0.5)
    assert np.array_equal(stretched[length:], stretched[: len(sound) - length])


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_noise_has_the_share_and_the_peak_that_the_protocol_asks_for(share: float) -> None:
    sound = music()
    noise = Deformation("noise", share).apply(sound, RATE, "7").astype(np.float64) - (1 - share) * sound
    assert np.abs(noise).max() == pytest.approx(share * sound.max(), rel=1e-5)
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    low, high = spectrum[: len(spectrum) // 2].mean(), spectrum[len(spectrum) // 2 :].mean()
    assert low == pytest.approx(high, rel=0.1), "white"
    ratio = 10 * np.log10(np.mean(((1 - share) * sound) ** 2) / np.mean(noise**2))
    expected = 10 * np.log10(np.mean(sound.astype(float) ** 2) / sound.max() ** 2) + 20 * np.log10((1 - share) / share)
    assert ratio - expected == pytest.approx(12.5, abs=2), "crest factor of so many samples of a normal distribution"


def test_noise_depends_on_clip_and_seed_alone() -> None:
    sound = music()
    one = deformed("noise_0.1", sound, "7", 0)
    for clip_id, seed in (("8", 0), ("7", 1)):
        other = deformed("noise_0.1", sound, clip_id, seed)
        assert abs(np.corrcoef(one - 0.9 * sound, other - 0.9 * sound)[0, 1]) < 0.02
    of_other_sound = deformed("noise_0.1", sound[::-1].copy(), "7", 0)
    assert np.allclose(one - 0.9 * sound, of_other_sound - 0.9 * sound[::-1], atol=1e-6)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is the reference")
@pytest.mark.parametrize("preset", COMPANDERS)
def test_compression_equals_ffmpegs_compand(preset: str) -> None:
    chosen, sound = COMPANDERS[preset], music(6)
    points = "|".join(f"{x}/{y}" for x, y in chosen.points)
    options = f"attacks={chosen.attack}:decays={chosen.decay}:points={points}:gain={chosen.gain}:delay={chosen.delay}"
    form = ["-f", "f32le", "-ar", str(RATE), "-ac", "1"]
    call = ["ffmpeg", "-v", "error", *form, "-i", "-", "-af", f"compand={options}:volume=0", *form, "-"]
    theirs = np.frombuffer(subprocess.run(call, input=sound.tobytes(), capture_output=True, check=True).stdout, "<f4")
    ours = companded(sound, RATE, chosen)
    assert len(theirs) == len(ours)
    assert np.abs(theirs - ours).max() < 2e-3 * np.abs(theirs).max()


def test_steady_tone_ends_at_the_level_that_the_points_say() -> None:
    """A square wave has one level: -40 dB, which ``speech`` lifts to about -33.1 and ``film_standard`` to -36.5."""
    wave = np.where(np.arange(10 * RATE) % 40 < 20, 0.01, -0.01).astype(np.float32)
    for preset, expected in (
        ("speech", -35 + 4 * 10 / 19),
        ("film_standard", -37 + 6 * 3 / 12),
        ("radio", -40 / 3 - 5),
    ):
        after = 20 * math.log10(np.abs(deformed(f"drc_{preset}", wave)[-RATE : -RATE // 2]).mean())
        assert after == pytest.approx(expected, abs=0.3), preset


@pytest.mark.parametrize("rate", [8000, 12_000, 16_000, 22_050, 32_000, 44_100])
@pytest.mark.parametrize("kbit", [32, 64])
def test_mp3_is_lossy_and_stays_in_step(rate: int, kbit: int) -> None:
    random = np.random.default_rng(rate)
    sound = np.convolve(random.normal(size=rate), np.ones(20) / 40, "same").astype(np.float32)
    after = through_mp3(sound, rate, kbit)
    assert after.shape == sound.shape
    error = np.mean((after - sound) ** 2) / np.mean(sound**2)
    assert 1e-6 < error < 0.3
    spectra = np.fft.rfft(sound, 2 * len(sound)), np.fft.rfft(after, 2 * len(sound))
    assert np.fft.irfft(np.conj(spectra[0]) * spectra[1]).argmax() == 0


def test_fewer_bits_lose_more() -> None:
    sound = music()
    errors = [float(np.mean((through_mp3(sound, RATE, kbit) - sound) ** 2)) for kbit in (16, 32, 64, 128)]
    assert errors == sorted(errors, reverse=True)


def test_low_rate_takes_away_what_is_above_half_of_it() -> None:
    sound = tone(1000) + tone(6000)
    after = deformed("rate_8000", sound)[2000:-2000]
    spectrum = np.abs(np.fft.rfft(after * np.hanning(len(after))))
    at = {hertz: round(hertz * len(after) / RATE) for hertz in (1000, 6000)}
    assert 20 * np.log10(spectrum[at[1000]] / spectrum[at[6000]]) > 60
    assert loudest(after) == pytest.approx(1000, rel=1e-3)


def test_gain_is_in_decibels_and_cut_at_full_scale() -> None:
    assert np.abs(deformed("gain_-20", tone())).max() == pytest.approx(0.05, rel=1e-3)
    assert np.abs(deformed("gain_20", tone())).max() == 1


def test_clipping_cuts_the_part_of_the_peak_that_it_says() -> None:
    soft = tone(peak=0.01)
    after = deformed("clip_6", soft)
    assert np.abs(after).max() == 1
    share = np.mean(np.abs(after) == 1)
    assert share == pytest.approx(1 - 2 / math.pi * math.asin(10 ** (-6 / 20)), abs=0.01)


@settings(max_examples=200)
@given(st.text(max_size=20) | st.sampled_from([f"{kind}_{tail}" for kind in KINDS for tail in ("", "0", "1e3", "x_1")]))
def test_name_is_read_or_refused_in_one_line(name: str) -> None:
    said = ""
    try:
        found = parse_deformation(name)
    except BadInputError as error:
        said = str(error)
    else:
        assert parse_deformation(found.name) == found
    assert "\n" not in said


@given(
    st.sampled_from([kind for kind, one in KINDS.items() if not one.presets and not one.whole]),
    st.decimals(-2, 2, places=3, allow_nan=False).filter(bool),
)
def test_names_and_splits_are_different_for_different_strengths(kind: str, strength: Any) -> None:
    one, other = Deformation(kind, float(strength)), Deformation(kind, float(strength) + 0.001)
    assert one.name != other.name
    assert one.split != other.split
    assert all(character.isalnum() or character in "-_" for character in one.split)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("reverb_1", "there is no such deformation; there are stretch, pitch"),
        ("noise_0", "a number from 0 to 1 and not 0, share of the noise"),
        ("noise_1.5", "from 0 to 1"),
        ("noise", "from 0 to 1"),
        ("mp3_32.5", "a whole number"),
        ("drc_loud", "one of radio, film_standard"),
        ("pitch_nan", "semitones"),
        ("pitch_²", "semitones"),
        ("stretch_0.5\n", "log2 of the rate"),
    ],
)
def test_wrong_name_is_refused_with_what_is_expected(name: str, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        parse_deformation(name)


def test_signs_do_not_make_two_deformations_of_one() -> None:
    assert parse_deformation("pitch_1") == parse_deformation("pitch_+1.0")
    assert parse_deformation("pitch_1").name == "pitch_+1"
    assert parse_deformation("stretch_+0.50").name == "stretch_0.5"


def test_what_the_clips_rate_does_not_allow_is_refused() -> None:
    with pytest.raises(BadInputError, match="less than the clips' own 8000 Hz"):
        parse_deformation("rate_8000").check(8000)
    with pytest.raises(BadInputError, match="MP3 at 16000 Hz has 8, 16"):
        parse_deformation("mp3_320").check(16_000)
    parse_deformation("mp3_320").check(44_100)


def test_sound_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="one channel"):
        deformed("gain_1", np.zeros((2, 10), np.float32))
    with pytest.raises(ValueError, match="finite"):
        deformed("gain_1", np.array([math.nan], np.float32))
