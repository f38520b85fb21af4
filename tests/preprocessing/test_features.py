"""Log-mel and health figures of one clip."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from audio_samples import MTAT, needs_mtat, tone

from preprocessing.audio.loading import load_audio
from preprocessing.audio.samples import fit_clip
from preprocessing.constants import CLIP_SAMPLES, HOP_LENGTH, N_FFT, N_FRAMES, N_MELS, SAMPLE_RATE
from preprocessing.features import HEALTH_FEATURES, health, log_mel, silence_share


def librosa_log_mel(samples):
    mel = librosa.feature.melspectrogram(y=samples, sr=SAMPLE_RATE, n_fft=N_FFT, hop_length=HOP_LENGTH, n_mels=N_MELS)
    return librosa.power_to_db(mel)


def noise(seed=0, level=0.1):
    return (level * np.random.default_rng(seed).standard_normal(CLIP_SAMPLES)).astype(np.float32)


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(noise(), id="noise"),
        pytest.param(noise(level=1e-4), id="soft noise"),
        pytest.param(np.pad(tone(20.0)[:, 0], (0, CLIP_SAMPLES - 320_000)), id="tone and silence"),
        pytest.param(np.zeros(CLIP_SAMPLES, dtype=np.float32), id="silence"),
    ],
)
def test_log_mel_is_librosas_to_a_hundredth_of_a_decibel(samples):
    mel = log_mel(samples)
    assert (mel.shape, mel.dtype) == ((N_MELS, N_FRAMES), np.float32)
    assert np.abs(mel - librosa_log_mel(samples)).max() < 1e-2


@needs_mtat
def test_log_mel_of_the_real_clip_is_librosas():
    samples = fit_clip(load_audio(next((MTAT / "audio").glob("*.mp3")).read_bytes()))
    assert np.abs(log_mel(samples) - librosa_log_mel(samples)).max() < 1e-2


def test_log_mel_is_the_same_bytes_each_time():
    assert log_mel(noise()).tobytes() == log_mel(noise()).tobytes()


def test_log_mel_refuses_another_length():
    with pytest.raises(ValueError, match="465600"):
        log_mel(np.zeros(1_000, dtype=np.float32))


@pytest.mark.parametrize(
    ("samples", "share"),
    [
        (np.zeros(16_000), 1.0),
        (tone(1.0)[:, 0], 0.0),
        (np.concatenate([np.zeros(8_000), tone(0.5)[:, 0]]), 0.5),
        (np.full(16_000, 9e-4), 1.0),
        (np.full(16_000, 1.1e-3), 0.0),
        (np.zeros(10), 1.0),
        (np.ones(10), 0.0),
    ],
)
def test_silence_share_counts_stretches_below_minus_60_db(samples, share):
    assert silence_share(np.asarray(samples, dtype=np.float32)) == pytest.approx(share)


def test_health_has_the_named_figures_and_a_repeated_clip_is_as_loud_as_its_file():
    clip = fit_clip(tone(10.0)[:, 0])
    figures = health(clip, log_mel(clip), 10.0)

    assert tuple(figures) == HEALTH_FEATURES
    assert figures["seconds"] == 10.0
    assert figures["silence_share"] == 0.0
    assert figures["peak"] == pytest.approx(0.3, abs=1e-3)
    assert figures["rms"] == pytest.approx(0.3 / np.sqrt(2), rel=1e-3)
    assert figures["clipped_share"] == 0.0


def test_health_of_a_clipped_and_of_a_silent_clip():
    square = np.sign(tone(29.1)[:, 0] + 1e-9)
    assert health(square, log_mel(square), 29.1)["clipped_share"] == 1.0
    silent = np.zeros(CLIP_SAMPLES, dtype=np.float32)
    assert health(silent, log_mel(silent), 29.1)["silence_share"] == 1.0


def test_health_holds_what_mean_and_deviation_are_learnt_from():
    clip = noise(1)
    mel = log_mel(clip)
    figures = health(clip, mel, 29.1)
    assert figures["waveform_mean"] == pytest.approx(clip.mean(dtype=np.float64), abs=1e-9)
    assert figures["waveform_mean_square"] - figures["waveform_mean"] ** 2 == pytest.approx(clip.astype(float).var())
    assert figures["log_mel_mean"] == pytest.approx(mel.astype(float).mean())
    assert figures["log_mel_mean_square"] - figures["log_mel_mean"] ** 2 == pytest.approx(mel.astype(float).var())
