from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import librosa
import numpy as np
import numpy.typing as npt
import pytest
from lowering import on_litert, on_onnx_runtime

from models.front_ends import settings as front_ends
from models.front_ends.mel import mel_filterbank
from models.front_ends.settings import STORED_LOG_MEL, FrontEnd, LogMel, Mfcc, Spectrogram, Stack, Stft
from models.registry import NETWORKS
from preprocessing.constants import CLIP_SECONDS, N_FRAMES, N_MELS, SAMPLE_RATE
from preprocessing.features import log_mel

REAL_CLIPS = Path(__file__).parents[3] / "shared" / "mtat" / "audio"
Signal = npt.NDArray[np.float32]

EXTRA = (
    LogMel(n_fft=512, hop_length=256, n_mels=96, htk=True, area_norm=False),
    LogMel(n_fft=512, hop_length=256, n_mels=96, pad="constant", scale="log10_1p"),
    LogMel(sample_rate=12000, n_fft=512, hop_length=256, n_mels=96, exponent=2.0, top_db=80.0),
    LogMel(n_fft=1024, hop_length=512, n_mels=64, fmin=50.0, fmax=7000.0, scale="ln_1p", pad="none"),
    LogMel(n_fft=400, hop_length=500, n_mels=40, scale="power"),
    LogMel(n_fft=509, hop_length=160, n_mels=40, scale="magnitude", pad="constant"),
    Stft(n_fft=512, hop_length=256),
    Mfcc(n_mels=96, n_mfcc=30, pad="constant", top_db=80.0),
    Mfcc(sample_rate=22050, n_fft=1024, hop_length=512, n_mels=40, n_mfcc=13, deltas=1, delta_width=5, top_db=90.0),
    Stft(n_fft=513, hop_length=256, scale="db", bands=128, top_db=80.0),
)


def front_ends_of_the_registry() -> Iterator[FrontEnd]:
    for network in NETWORKS.values():
        if isinstance(network.front_end, Stack):
            yield from network.front_end.parts
        elif network.front_end is not None:
            yield network.front_end


FRONT_ENDS = {
    f"{front_end.kind}-{front_end.fingerprint}": front_end for front_end in (*front_ends_of_the_registry(), *EXTRA)
}
each_front_end = pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS)


def signals(sample_rate: int, seconds: float = 2.0) -> dict[str, Signal]:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    noise = np.random.default_rng(0).standard_normal(len(time))
    made = {
        "noise": 0.1 * noise,
        "tone": 0.5 * np.sin(2 * np.pi * 440 * time),
        "chirp": 0.9 * np.sin(2 * np.pi * (50 * time + 1500 * time**2)),
        "silence": 0 * time,
        "clicks": (np.arange(len(time)) % 9000 == 0).astype(float),
        "quiet": 1e-4 * noise,
        "noise padded with silence": np.where(time < 0.7 * seconds, 0.1 * noise, 0),
    }
    return {name: signal.astype(np.float32) for name, signal in made.items()}


def librosa_power(signal: Signal, front_end: Spectrogram) -> Any:
    modes = {"constant": "constant", "reflect": "reflect", "none": "constant"}
    spectrum = librosa.stft(
        signal,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        center=front_end.pad != "none",
        pad_mode=modes[front_end.pad],
    )
    power = np.abs(spectrum) ** 2
    if isinstance(front_end, Stft):
        return power[: front_end.bands]
    assert isinstance(front_end, LogMel)
    mel = librosa.feature.melspectrogram(
        S=power,
        sr=front_end.sample_rate,
        n_fft=front_end.n_fft,
        n_mels=front_end.n_mels,
        fmin=front_end.fmin,
        fmax=front_end.fmax,
        htk=front_end.htk,
        norm="slaney" if front_end.area_norm else None,
    )
    return mel**front_end.exponent


def librosa_values(signal: Signal, front_end: Spectrogram) -> Any:
    if isinstance(front_end, Mfcc):
        mel = librosa_scaled(librosa_power(signal, front_end), front_end)
        values = librosa.feature.mfcc(S=mel, n_mfcc=front_end.n_mfcc)
        orders = range(1, front_end.deltas + 1)
        deltas = [librosa.feature.delta(values, order=order, width=front_end.delta_width) for order in orders]
        return np.concatenate([values, *deltas])
    return librosa_scaled(librosa_power(signal, front_end), front_end)


def librosa_scaled(power: Any, front_end: Spectrogram) -> Any:
    if front_end.scale == "db":
        return librosa.power_to_db(power, ref=1.0, amin=front_end.floor, top_db=front_end.top_db)
    scales = {
        "power": lambda x: x,
        "magnitude": np.sqrt,
        "log10_1p": lambda x: np.log10(1 + 10_000 * x),
        "ln_1p": lambda x: np.log(1 + 10_000 * x),
    }
    return scales[front_end.scale](power)


def assert_equal(values: Any, expected: Any, front_end: Spectrogram) -> None:
    """All to 1e-2 dB of what they stand for.

    Decibels 120 dB below the loudest, where float32 ends; log(1 + 10,000 x) where x is small against 1 as well.
    """
    assert values.shape == expected.shape
    if isinstance(front_end, Mfcc):
        np.testing.assert_allclose(values, expected, atol=1e-2 if front_end.top_db else 0.5)
    elif front_end.scale == "db":
        exponent = front_end.exponent if isinstance(front_end, LogMel) else 1.0
        power, expected_power = (10 ** (np.asarray(x, np.float64) / (10 * exponent)) for x in (values, expected))
        np.testing.assert_allclose(power, expected_power, rtol=2.3e-3, atol=1e-12 * expected_power.max())
    else:
        least = {"log10_1p": 1e-3, "ln_1p": 2.3e-3}.get(front_end.scale, 1e-6 * max(1e-6, np.abs(expected).max()))
        np.testing.assert_allclose(values, expected, rtol=1e-3, atol=least)


def computed(front_end: FrontEnd, waveforms: Signal) -> Any:
    return keras.ops.convert_to_numpy(front_end.layer()(waveforms))


@each_front_end
def test_front_end_equals_librosa_on_every_signal(front_end: FrontEnd) -> None:
    given = signals(front_end.sample_rate)
    values = computed(front_end, np.stack(list(given.values())))
    assert values.dtype == np.float32
    for row, signal in zip(values, given.values(), strict=True):
        assert row.shape == front_end.shape(len(signal))
        assert_equal(row, librosa_values(signal, front_end), front_end)


@each_front_end
def test_window_of_hardly_more_than_the_least_equals_librosa(front_end: Spectrogram) -> None:
    frames = front_end.delta_width if isinstance(front_end, Mfcc) else 1
    signal = signals(front_end.sample_rate)["noise"][: front_end.n_fft + frames * front_end.hop_length]
    assert_equal(computed(front_end, signal[None])[0], librosa_values(signal, front_end), front_end)


@pytest.mark.parametrize("htk", [False, True])
@pytest.mark.parametrize("area_norm", [False, True])
@pytest.mark.parametrize(("sample_rate", "n_fft", "n_mels"), [(16000, 2048, 128), (12000, 513, 96)])
def test_mel_filters_equal_librosa(htk: bool, area_norm: bool, sample_rate: int, n_fft: int, n_mels: int) -> None:
    ours = mel_filterbank(sample_rate, n_fft, n_mels, 20.0, 6000.0, htk=htk, area_norm=area_norm)
    expected = librosa.filters.mel(
        sr=sample_rate,
        n_fft=n_fft,
        n_mels=n_mels,
        fmin=20.0,
        fmax=6000.0,
        htk=htk,
        norm="slaney" if area_norm else None,
    )
    np.testing.assert_allclose(ours, expected.T, atol=1e-6)


@each_front_end
def test_layer_is_made_anew_from_its_configuration_and_stays_float32(front_end: FrontEnd) -> None:
    layer = front_end.layer()
    again = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    assert again.settings == front_end
    assert again.fingerprint == front_end.fingerprint == front_ends.front_end(front_end.to_json()).fingerprint
    assert type(layer)(front_end, dtype="mixed_bfloat16").compute_dtype == "float32"
    assert not layer.weights


@each_front_end
def test_fingerprint_changes_with_every_setting(front_end: Spectrogram) -> None:
    others: dict[str, Any] = {
        "sample_rate": 8000,
        "n_fft": 2 * front_end.n_fft,
        "hop_length": 100,
        "pad": "none" if front_end.pad != "none" else "reflect",
        "scale": "db" if front_end.scale != "db" else "ln_1p",
        "bands": 7,
        "n_mels": 10,
        "fmin": 33.0,
        "fmax": 3000.0,
        "htk": not getattr(front_end, "htk", False),
        "area_norm": not getattr(front_end, "area_norm", False),
        "exponent": 1.5,
        "n_mfcc": 7,
        "deltas": 0 if getattr(front_end, "deltas", 0) else 1,
    }
    if getattr(front_end, "deltas", 0):
        others["delta_width"] = 3
    if front_end.scale == "db":
        others |= {"floor": 1e-6, "top_db": 60.0}
    names = {field.name for field in dataclasses.fields(front_end)}
    changed = [dataclasses.replace(front_end, **{name: value}) for name, value in others.items() if name in names]
    assert len({front_end.fingerprint, *(other.fingerprint for other in changed)}) == len(changed) + 1


def test_settings_that_change_nothing_leave_the_fingerprint_alone() -> None:
    assert LogMel(fmax=8000.0).fingerprint == LogMel(fmax=None).fingerprint == LogMel(fmin=0).fingerprint
    assert LogMel(scale="ln_1p", floor=1.0).fingerprint == LogMel(scale="ln_1p").fingerprint
    assert Stft(bands=257).fingerprint == Stft().fingerprint


def test_differences_are_refused_where_there_are_fewer_frames_than_they_take() -> None:
    with pytest.raises(ValueError, match="differences over 9 frames cannot be taken of the 8 frames"):
        Mfcc().layer()(np.zeros((1, 2000), np.float32))


def test_stack_gives_each_of_its_front_ends() -> None:
    stack = Stack(parts=(LogMel(scale="ln_1p"), LogMel(n_fft=4096, scale="ln_1p"), LogMel(n_fft=1024, top_db=80.0)))
    waveforms = np.stack([signals(16000, 1.0)[name] for name in ("noise", "chirp")])
    values = computed(stack, waveforms)
    assert values.shape == (2, *stack.shape(16000)) == (2, 3, 96, 63)
    for place, part in enumerate(stack.parts):
        np.testing.assert_allclose(values[:, place], computed(part, waveforms), atol=1e-5)
    again = front_ends.front_end(json.loads(json.dumps(stack.to_json())))
    assert again == stack
    assert again.fingerprint == stack.fingerprint
    assert Stack(parts=stack.parts[::-1]).fingerprint != stack.fingerprint
    layer = stack.layer()
    assert type(layer).from_config(layer.get_config()).settings == stack


CONVERTED = {name: front_end for name, front_end in FRONT_ENDS.items()} | {
    f"Stack-{front_end.fingerprint}": front_end
    for front_end in (network.front_end for network in NETWORKS.values())
    if isinstance(front_end, Stack)
}


@pytest.mark.parametrize("front_end", CONVERTED.values(), ids=CONVERTED)
def test_front_end_converted_as_it_is_gives_the_same_in_litert_and_onnx(front_end: FrontEnd) -> None:
    given = signals(front_end.sample_rate, 1.5)
    waveforms = np.stack([given[name] for name in ("noise", "chirp", "clicks", "silence")])
    layer = front_end.layer()
    expected = keras.ops.convert_to_numpy(layer(waveforms))
    atol = 1e-6 * np.abs(expected).max() if getattr(front_end, "scale", "db") in ("power", "magnitude") else 1e-2
    for values in (on_litert(layer, waveforms), on_onnx_runtime(layer, waveforms)):
        audible = expected > -70 if getattr(front_end, "scale", "") == "db" else np.full(expected.shape, True)
        np.testing.assert_allclose(values[audible], expected[audible], atol=atol, rtol=1e-4)


@pytest.mark.parametrize("name", ["noise", "chirp", "clicks", "quiet", "noise padded with silence"])
def test_stored_log_mel_is_what_preprocessing_writes_into_examples(name: str) -> None:
    signal = signals(SAMPLE_RATE, CLIP_SECONDS)[name]
    assert STORED_LOG_MEL.shape(len(signal)) == (N_MELS, N_FRAMES)
    np.testing.assert_allclose(computed(STORED_LOG_MEL, signal[None])[0], log_mel(signal), atol=2e-3)


def test_front_ends_of_a_real_clip_equal_librosa() -> None:
    clips = sorted(REAL_CLIPS.glob("*.mp3"))
    if not clips:
        pytest.skip(f"no real clip in {REAL_CLIPS} (the data's licence keeps it out of the repository)")
    signal, _ = librosa.load(clips[0], sr=16000)
    for front_end in (STORED_LOG_MEL, LogMel(htk=True, area_norm=False), Mfcc(top_db=80.0), Stft(scale="db")):
        assert_equal(computed(front_end, signal[None])[0], librosa_values(signal, front_end), front_end)


def test_top_db_is_counted_from_each_windows_own_maximum() -> None:
    loud, quiet = signals(16000)["tone"], signals(16000)["quiet"]
    together = computed(STORED_LOG_MEL, np.stack([loud, quiet]))
    np.testing.assert_allclose(together[1], computed(STORED_LOG_MEL, quiet[None])[0], atol=1e-4)


def test_window_too_short_to_be_reflected_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 257 samples, not 200"):
        LogMel().layer()(np.zeros((1, 200), np.float32))


def test_model_with_a_front_end_takes_any_batch_and_survives_saving(tmp_path: Path) -> None:
    waveform = keras.Input((16000,))
    model = keras.Model(waveform, LogMel().layer()(waveform))
    assert model.output.shape == (None, 96, 63)
    assert model.count_params() == 0
    model.save(tmp_path / "front.keras")
    loaded = keras.models.load_model(tmp_path / "front.keras")
    for batch in (1, 3):
        clips = np.stack([signals(16000, 1.0)["noise"]] * batch)
        np.testing.assert_allclose(loaded.predict_on_batch(clips), computed(LogMel(), clips), atol=1e-3)
