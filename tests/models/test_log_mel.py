from __future__ import annotations

from pathlib import Path

import keras
import librosa
import numpy as np
import pytest

from models.log_mel import LogMel, mel_filterbank
from preprocessing import constants

REAL_CLIPS = Path(__file__).parents[3] / "shared" / "mtat" / "audio"
SECONDS = np.arange(constants.CLIP_SAMPLES) / constants.SAMPLE_RATE
NOISE = np.random.default_rng(0).standard_normal(constants.CLIP_SAMPLES)

SIGNALS = {
    "noise": 0.1 * NOISE,
    "tone": 0.5 * np.sin(2 * np.pi * 440 * SECONDS),
    "chirp": 0.9 * np.sin(2 * np.pi * (50 * SECONDS + 130 * SECONDS**2)),
    "square wave at full scale": np.sign(np.sin(2 * np.pi * 100 * SECONDS)),
    "silence": 0 * SECONDS,
    "clicks": (np.arange(constants.CLIP_SAMPLES) % 9000 == 0).astype(float),
    "12 s padded with silence": np.where(SECONDS < 12, 0.01 * NOISE, 0),
    "int16 steps": np.round(3 * NOISE) / constants.PCM_SCALE,
}


def librosa_log_mel(waveform: np.ndarray) -> np.ndarray:
    power = librosa.feature.melspectrogram(
        y=waveform,
        sr=constants.SAMPLE_RATE,
        n_fft=constants.N_FFT,
        hop_length=constants.HOP_LENGTH,
        n_mels=constants.N_MELS,
        fmin=constants.MEL_FMIN,
        fmax=constants.MEL_FMAX,
        center=True,
        pad_mode="constant",
        power=2.0,
    )
    return librosa.power_to_db(power, ref=1.0, amin=constants.POWER_FLOOR, top_db=constants.TOP_DB)


def log_mel(waveforms: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(LogMel()(waveforms.astype(np.float32)))


@pytest.mark.parametrize("signal", SIGNALS)
def test_log_mel_equals_librosa(signal: str) -> None:
    waveform = SIGNALS[signal].astype(np.float32)
    ours = log_mel(waveform[None])
    assert ours.shape == (1, constants.N_MELS, constants.N_FRAMES)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours[0], librosa_log_mel(waveform), atol=1e-2)


def test_log_mel_of_a_real_clip_equals_librosa() -> None:
    clips = sorted(REAL_CLIPS.glob("*.mp3"))
    if not clips:
        pytest.skip(f"no real clip in {REAL_CLIPS} (the data's licence keeps it out of the repository)")
    waveform, _ = librosa.load(clips[0], sr=constants.SAMPLE_RATE)
    waveform = librosa.util.fix_length(waveform, size=constants.CLIP_SAMPLES).astype(np.float32)
    np.testing.assert_allclose(log_mel(waveform[None])[0], librosa_log_mel(waveform), atol=1e-2)


def test_80_db_are_counted_from_each_clips_own_maximum() -> None:
    loud, quiet = SIGNALS["tone"], 1e-4 * SIGNALS["12 s padded with silence"]
    together = log_mel(np.stack([loud, quiet]))
    np.testing.assert_allclose(together[1], log_mel(quiet[None])[0], atol=1e-4)


def test_filters_equal_librosa() -> None:
    expected = librosa.filters.mel(
        sr=constants.SAMPLE_RATE, n_fft=constants.N_FFT, n_mels=constants.N_MELS, fmin=0, fmax=constants.MEL_FMAX
    )
    np.testing.assert_allclose(mel_filterbank(), expected.T, atol=1e-7)


def test_model_with_log_mel_runs_compiled_on_any_batch_and_survives_saving(tmp_path: Path) -> None:
    waveform = keras.Input((constants.CLIP_SAMPLES,))
    model = keras.Model(waveform, LogMel(name="log_mel")(waveform))
    assert model.output.shape == (None, constants.N_MELS, constants.N_FRAMES)
    assert model.count_params() == 0
    model.save(tmp_path / "front.keras")
    loaded = keras.models.load_model(tmp_path / "front.keras")
    loaded.compile(jit_compile=False)
    for batch in (1, 3):
        clips = np.stack([SIGNALS["noise"]] * batch).astype(np.float32)
        np.testing.assert_allclose(loaded.predict_on_batch(clips), log_mel(clips), atol=1e-3)


def test_log_mel_stays_float32_under_a_mixed_policy() -> None:
    layer = LogMel(dtype="mixed_bfloat16")
    assert layer.compute_dtype == "float32"
    assert LogMel.from_config(layer.get_config()).compute_dtype == "float32"
