from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from lowering import on_litert, on_onnx_runtime

from models.front_ends.harmonic import HarmonicFilters, centre_frequencies
from models.front_ends.layers import decibels
from models.front_ends.settings import Stft


def power(batch: int = 2, samples: int = 16000) -> np.ndarray:
    waveforms = 0.1 * np.random.default_rng(0).standard_normal((batch, samples))
    waveforms[-1] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(samples) / 16000)
    return keras.ops.convert_to_numpy(Stft().layer()(waveforms.astype(np.float32)))


def expected_power(spectrogram: np.ndarray, quality: float) -> np.ndarray:
    """The triangles of section 1.4 of the facts about the networks, filter by filter."""
    bins = np.linspace(0, 8000, spectrogram.shape[1])
    out = np.zeros((len(spectrogram), 6, 128, spectrogram.shape[2]))
    for harmonic in range(6):
        for level in range(128):
            centre = (harmonic + 1) * 440 * 2 ** ((24 + level / 2 - 69) / 12)
            width = (0.1079 * centre + 24.7) / quality
            triangle = np.maximum(0, np.minimum(1 + 2 * (bins - centre) / width, 1 - 2 * (bins - centre) / width))
            out[:, harmonic, level] = np.einsum("f,bft->bt", triangle, spectrogram)
    return out


@pytest.mark.parametrize("quality", [1.0, 1.7])
def test_power_goes_through_triangles_whose_width_is_the_bandwidth_over_q(quality: float) -> None:
    layer, spectrogram = HarmonicFilters(), power()
    layer.build(spectrogram.shape)
    layer.quality.assign(quality)
    values = keras.ops.convert_to_numpy(layer(spectrogram))
    assert values.shape == (2, 6, 128, 63)
    expected = expected_power(spectrogram, quality)
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-5 * expected.max())


def test_levels_go_from_c1_by_half_semitones_to_the_last_whose_harmonics_are_below_nyquist() -> None:
    assert HarmonicFilters(16000, 6).levels == 128
    frequencies = centre_frequencies(6, 128).reshape(6, 128)
    assert frequencies[0, 0] == pytest.approx(32.703, abs=1e-3)
    assert frequencies[0, 2] / frequencies[0, 0] == pytest.approx(2 ** (1 / 12))
    assert frequencies[5].max() < 8000


def test_its_one_weight_gets_a_gradient() -> None:
    layer, spectrogram = HarmonicFilters(), tf.constant(power())
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(decibels(layer(spectrogram)))
    assert [weight.name for weight in layer.trainable_weights] == ["quality"]
    assert layer.count_params() == 1
    assert abs(float(tape.gradient(loss, layer.quality.value))) > 0


def test_layer_survives_saving_with_its_weight_and_stays_float32(tmp_path: Path) -> None:
    spectrogram = keras.Input((257, 63))
    model = keras.Model(spectrogram, HarmonicFilters(16000, 3, 64, dtype="mixed_bfloat16")(spectrogram))
    model.layers[-1].quality.assign(1.5)
    model.save(tmp_path / "harmonic.keras")
    loaded = keras.models.load_model(tmp_path / "harmonic.keras")
    assert loaded.output.shape == (None, 3, 64, 63)
    assert loaded.layers[-1].compute_dtype == "float32"
    np.testing.assert_allclose(loaded.predict_on_batch(power()), model.predict_on_batch(power()), rtol=1e-6)


@pytest.mark.parametrize("optimise", [False, True], ids=["float32", "int8"])
def test_layer_converted_as_it_is_gives_the_same_in_litert_and_onnx(optimise: bool) -> None:
    spectrogram = power()
    layer = HarmonicFilters()
    layer.build((None, 257, 63))
    expected = keras.ops.convert_to_numpy(layer(spectrogram))
    atol = 1e-6 * expected.max()
    np.testing.assert_allclose(on_litert(layer, spectrogram, optimise=optimise), expected, rtol=1e-3, atol=atol)
    np.testing.assert_allclose(on_onnx_runtime(layer, spectrogram), expected, rtol=1e-3, atol=atol)
