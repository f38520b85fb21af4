from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from models.waveform_1d import WaveformConvPool


def one_step(front: list[layers.Layer], clips: np.ndarray, weights: list[np.ndarray]) -> list[np.ndarray]:
    """Weights after a step of gradient descent at rate 1: the step is the gradient."""
    network = keras.Sequential([keras.Input(clips.shape[1:]), *front])
    network.set_weights(weights)
    network.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse", jit_compile=False)
    network.train_on_batch(clips, np.zeros((len(clips), *network.outputs[0].shape[1:]), np.float32))
    return [new - old for new, old in zip(network.get_weights(), weights, strict=True)]


@pytest.fixture
def weights() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal((5, 1, 64)).astype(np.float32), rng.standard_normal(64).astype(np.float32)]


@pytest.mark.parametrize("samples", [20, 36, 1604, 1605, 1619, 16_000])
def test_first_layer_equals_convolution_relu_and_max_pool(samples: int, weights: list[np.ndarray]) -> None:
    clips = np.random.default_rng(4).standard_normal((2, samples, 1)).astype(np.float32)
    usual = keras.Sequential(
        [keras.Input((samples, 1)), layers.Conv1D(64, 5, activation="relu"), layers.MaxPooling1D(16)]
    )
    usual.set_weights(weights)
    expected = np.array(usual(clips))
    fast = WaveformConvPool(64, 5, 16)
    fast.build((None, samples))
    fast.set_weights(weights)
    np.testing.assert_allclose(np.array(fast(clips[..., 0])), expected, atol=1e-5)
    np.testing.assert_allclose(np.array(fast(clips)), expected, atol=1e-5)
    assert fast.compute_output_shape((None, samples)) == (None, *expected.shape[1:])


def test_gradient_of_the_first_layer_equals_convolution_relu_and_max_pool(weights: list[np.ndarray]) -> None:
    clips = np.random.default_rng(5).standard_normal((2, 1605, 1)).astype(np.float32)
    usual = one_step([layers.Conv1D(64, 5, activation="relu"), layers.MaxPooling1D(16)], clips, weights)
    fast = one_step([WaveformConvPool(64, 5, 16)], clips, weights)
    for ours, theirs in zip(fast, usual, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_first_layer_survives_its_configuration() -> None:
    layer = WaveformConvPool(8, 3, 4, kernel_initializer=keras.initializers.GlorotUniform(seed=1), name="first")
    again = WaveformConvPool.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_kernel_longer_than_the_pool_and_one_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel_size 6"):
        WaveformConvPool(8, 6, 4)
