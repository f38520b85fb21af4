"""Networks that hear windows at one level: in numpy, as a Keras layer, and in everything that is pushed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from exported_model import DATA, SCORES, TAGS, THRESHOLDS, tone, untrained
from hypothesis import given, settings
from hypothesis import strategies as st

from models.front_ends.level import RmsLevel
from models.heads import Heads
from models.hearing import Hearing
from models.registry import find_network
from preprocessing.audio.samples import fit_clip, from_pcm, to_pcm
from preprocessing.clip_format import PAPER_CLIP
from preprocessing.level import LEVEL, Level, level_of, levelled
from serving.engines.engine_files import engine_files
from serving.engines.runtimes import load_engine
from serving.graph.ensemble import Ensemble, Members
from serving.graph.export import export_ensemble
from serving.model_info import MemberInfo, read_model_info


def sound(samples: int = 8_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


@settings(max_examples=50, deadline=None)
@given(st.floats(-60, 20), st.floats(-0.2, 0.2), st.integers(1, 5_000))
def test_level_is_that_of_the_deviation_whatever_gain_and_offset(decibels: float, offset: float, samples: int) -> None:
    window = sound(samples)
    gain = np.float32(10 ** (decibels / 20))
    turned = gain * window + np.float32(offset)
    assert level_of(turned) == pytest.approx(gain * window.std(dtype=np.float64), rel=1e-3, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(-49, 20))
def test_window_turned_up_or_down_is_the_same_at_the_level(decibels: float) -> None:
    window = sound()
    at_level = levelled(window)
    assert level_of(at_level) == pytest.approx(LEVEL, rel=1e-4)
    np.testing.assert_allclose(levelled(np.float32(10 ** (decibels / 20)) * window), at_level, atol=1e-5)
    layer = np.asarray(RmsLevel()(np.float32(10 ** (decibels / 20)) * window[None]))[0]
    np.testing.assert_allclose(layer, at_level, atol=1e-5)


def test_peak_is_not_brought_beyond_full_scale() -> None:
    click = np.zeros(16_000, np.float32)
    click[100] = 0.01
    assert np.abs(levelled(click)).max() == pytest.approx(1.0)
    assert not levelled(np.zeros(10, np.float32)).any()


def test_noise_of_an_input_with_nothing_plugged_in_is_not_made_music() -> None:
    hiss = np.float32(10 ** (-93 / 20)) * sound() / sound().std()
    for heard in (levelled(hiss), np.asarray(RmsLevel()(hiss[None]))[0]):
        assert 20 * np.log10(level_of(heard)) == pytest.approx(-18 - (93 - 70), abs=0.1)


def test_silent_window_stays_finite_in_the_graph() -> None:
    heard = np.asarray(RmsLevel()(np.stack([np.zeros(100), np.full(100, 0.5), np.full(100, 1e-30)]).astype(np.float32)))
    assert np.isfinite(heard).all()
    assert not heard[0].any()


@pytest.mark.parametrize("name", ["mel_1d", "waveform_1d", "musicnn", "sample_cnn"])
def test_what_a_network_hears_does_not_change_with_the_level(name: str) -> None:
    network = find_network(name)
    clip = fit_clip(tone(29.1))[None]
    turned_down = np.float32(0.1) * clip
    heard, quiet = (
        np.asarray(hearing.front()(hearing.cut(window)))
        for hearing in [Hearing.of(network, PAPER_CLIP, level="rms")]
        for window in (clip, turned_down)
    )
    np.testing.assert_allclose(quiet, heard, atol=1e-3 * max(1, np.abs(heard).max()))
    as_is = Hearing.of(network, PAPER_CLIP)
    assert as_is != Hearing.of(network, PAPER_CLIP, level="rms"), "they must not share what is computed"
    assert np.abs(np.asarray(as_is.front()(as_is.cut(turned_down))) - heard).max() > 0.05


def test_members_of_one_network_at_two_levels_hear_a_clip_each_in_its_own_way() -> None:
    heads = Heads.of_tags(2)
    made = untrained("mel_1d", heads)
    levels: tuple[Level, ...] = ("as_is", "rms")
    asked = Members([replace(made, name=level, level=level) for level in levels], heads)
    assert len(asked.hearings) == 2
    loud = tf.constant(fit_clip(tone(29.1))[None])
    of_loud, of_quiet = (
        [np.asarray(answer) for answer in asked.member_answers(asked.features(clip))] for clip in (loud, 0.1 * loud)
    )
    assert np.abs(of_loud[0] - of_quiet[0]).max() > 0.05
    np.testing.assert_allclose(of_loud[1], of_quiet[1], atol=1e-3)
    alone = Ensemble([replace(made, level="rms")], None, heads)
    np.testing.assert_allclose(alone.from_waveform(loud), of_loud[1], atol=1e-5)


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    member = untrained("mel_1d", Heads.of_tags(len(TAGS)))
    ensemble = Ensemble([replace(member, level="rms")], None, Heads.of_tags(len(TAGS)))
    path = tmp_path_factory.mktemp("levelled") / "1"
    info = export_ensemble(path, ensemble, TAGS, THRESHOLDS, DATA, SCORES)
    for name, content in engine_files(ensemble, info, "1", "int8").items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(content)
    return path


@pytest.mark.parametrize(("engine", "tolerance"), [("tensorflow", 0.002), ("onnxruntime", 0.002), ("litert", 0.03)])
def test_pushed_model_says_the_same_of_a_clip_20_db_down(pushed: Path, engine: str, tolerance: float) -> None:
    clip = from_pcm(to_pcm(np.stack([fit_clip(tone(29.1, 300)), fit_clip(tone(29.1, 900) + sound(465_600))])))
    quiet = from_pcm(to_pcm(np.float32(0.1) * clip))
    predict = load_engine(pushed, engine).predict
    answers = predict(clip)
    np.testing.assert_allclose(predict(quiet), answers, atol=tolerance)
    assert np.ptp(answers, axis=0).max() > 0.05, "the two clips must be told apart for this to mean anything"
    expected = tf.saved_model.load(str(pushed)).signatures["waveform"](waveform=tf.constant(clip))["predictions"]
    np.testing.assert_allclose(answers, expected, atol=tolerance)


def test_card_says_the_level_and_the_network_is_restored_with_it(pushed: Path) -> None:
    (member,) = read_model_info(pushed).members
    assert member.level == "rms"
    clip = tf.constant(fit_clip(tone(29.1))[None])
    restored = Ensemble.restore(pushed)
    expected = tf.saved_model.load(str(pushed)).signatures["waveform"](waveform=clip)["predictions"]
    np.testing.assert_allclose(restored.from_waveform(clip), expected, atol=1e-5)


def test_card_of_before_hears_windows_as_they_are(pushed: Path) -> None:
    values = json.loads((pushed / "model.json").read_text())["members"][0]
    del values["level"]
    assert MemberInfo.from_json(values).level == "as_is"
