from __future__ import annotations

import keras
import numpy as np
import pytest
import soxr
from lowering import on_litert, on_onnx_runtime

from models.front_ends.resample import PASSBAND, Resample, polyphase_filter, resampled_length
from models.front_ends.settings import LogMel

RATES = [(16000, 12000), (16000, 22050), (22050, 16000), (44100, 16000), (16000, 48000), (16000, 16000)]
SECONDS = 2
each_ratio = pytest.mark.parametrize(("rate_in", "rate_out"), RATES)


def noise(rate: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal((1, SECONDS * rate))).astype(np.float32)


def resampled(waveform: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    layer = Resample(rate_in, rate_out, resampled_length(waveform.shape[1], rate_in, rate_out))
    return keras.ops.convert_to_numpy(layer(waveform))


def bands_in_the_passband(rate_in: int, rate_out: int) -> LogMel:
    return LogMel(
        sample_rate=rate_out, n_fft=1024, hop_length=512, n_mels=64, fmax=PASSBAND * min(rate_in, rate_out) / 2
    )


@each_ratio
def test_log_mel_below_nine_tenths_of_nyquist_is_that_of_soxr_to_a_fiftieth_of_a_decibel(
    rate_in: int, rate_out: int
) -> None:
    waveform = noise(rate_in)
    ours = resampled(waveform, rate_in, rate_out)
    theirs = soxr.resample(waveform[0], rate_in, rate_out, quality="HQ")[np.newaxis]
    assert ours.shape == theirs.shape
    log_mel = bands_in_the_passband(rate_in, rate_out).layer()
    inner = slice(1, -2)  # at the very edges soxr and zeros behind the clip differ
    np.testing.assert_allclose(log_mel(ours)[..., inner], log_mel(theirs)[..., inner], atol=0.02)


def test_what_lies_above_the_new_nyquist_frequency_is_90_db_down() -> None:
    time = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 6600 * time).astype(np.float32)[np.newaxis]
    assert np.abs(resampled(tone, 16000, 12000)[0, 200:-200]).max() < 10 ** (-90 / 20)


@each_ratio
def test_tone_keeps_its_height_and_its_place(rate_in: int, rate_out: int) -> None:
    tone, expected = (np.sin(2 * np.pi * 1000 * np.arange(rate) / rate) for rate in (rate_in, rate_out))
    ours = resampled(tone.astype(np.float32)[np.newaxis], rate_in, rate_out)[0]
    np.testing.assert_allclose(ours[400:-400], expected[400:-400], atol=1e-4)


def test_fewer_or_more_samples_may_be_asked_for_and_zeros_lie_behind_the_end() -> None:
    waveform = noise(16000)
    whole = resampled(waveform, 16000, 12000)[0]
    short, long = (keras.ops.convert_to_numpy(Resample(16000, 12000, n)(waveform))[0] for n in (10_000, 30_000))
    np.testing.assert_allclose(short, whole[:10_000], atol=1e-6)
    np.testing.assert_allclose(long[: len(whole)], whole, atol=1e-6)
    assert not long[len(whole) + 200 :].any()


def test_layer_is_made_anew_from_its_configuration_has_no_weights_and_stays_float32() -> None:
    layer = Resample(16000, 22050, 59049, dtype="mixed_bfloat16")
    again = Resample.from_config(layer.get_config())
    assert (again.rate_in, again.rate_out, again.samples_out) == (16000, 22050, 59049)
    assert again.compute_dtype == layer.compute_dtype == "float32"
    assert again.fingerprint == layer.fingerprint != Resample(16000, 12000, 59049).fingerprint
    assert again.compute_output_shape((None, 42848)) == (None, 59049)
    again(np.zeros((1, 42848), np.float32))
    assert not again.weights


def test_rates_that_would_need_a_huge_filter_are_refused() -> None:
    with pytest.raises(ValueError, match="sample rates of the ratio 15999 to 16000"):
        Resample(16000, 15999, 100)
    with pytest.raises(ValueError, match="must be positive"):
        Resample(0, 16000, 100)


def test_filter_leaves_a_constant_as_it_is() -> None:
    for step_in, step_out in ((4, 3), (320, 441)):
        filters, _, _ = polyphase_filter(step_in, step_out)
        np.testing.assert_allclose(filters.sum(axis=0), 1.0, atol=1e-5)


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES[:2])
def test_layer_converted_as_it_is_gives_the_same_in_litert_and_onnx(rate_in: int, rate_out: int) -> None:
    waveforms = np.concatenate([noise(rate_in), 0 * noise(rate_in)])
    layer = Resample(rate_in, rate_out, resampled_length(waveforms.shape[1], rate_in, rate_out))
    expected = keras.ops.convert_to_numpy(layer(waveforms))
    np.testing.assert_allclose(on_litert(layer, waveforms), expected, atol=1e-6)
    np.testing.assert_allclose(on_onnx_runtime(layer, waveforms), expected, atol=1e-6)
