"""Masks on spectrograms."""

import keras
import numpy as np
import pytest

from models.spec_augment import SpecAugment


@pytest.mark.parametrize("shape", [(5, 40, 60), (5, 3, 40, 60), (5, 400)], ids=["bands", "stack", "waveform"])
def test_masks_hide_stretches_in_training_alone(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype("f4")
    layer = SpecAugment(0.3, 0.2, seed=4)
    np.testing.assert_array_equal(layer(values), values)
    masked = np.asarray(layer(values, training=True))
    hidden = masked != values
    assert 0.02 < hidden.mean() < 0.7
    mean = values.mean(axis=tuple(range(1, values.ndim)), keepdims=True)
    np.testing.assert_allclose(masked[hidden], np.broadcast_to(mean, shape)[hidden], rtol=1e-4, atol=1e-6)
    frames = hidden.reshape(5, -1, shape[-1])
    whole_frames = frames.all(axis=1)
    rest = frames & ~whole_frames[:, np.newaxis]
    assert whole_frames.mean() < 0.4
    if len(shape) > 2:
        bands = hidden.reshape(5, -1, *shape[-2:])[:, 0]
        whole_bands = bands.all(axis=2)
        np.testing.assert_array_equal(bands, whole_bands[:, :, np.newaxis] | bands.all(axis=1)[:, np.newaxis])
    else:
        assert not rest.any()


def test_no_share_masks_nothing() -> None:
    values = np.random.default_rng(0).normal(size=(2, 8, 9)).astype("f4")
    np.testing.assert_array_equal(SpecAugment()(values, training=True), values)


def test_layer_is_loaded_as_it_was_saved() -> None:
    layer = SpecAugment(0.1, 0.2, masks=3, seed=5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    values = np.random.default_rng(0).normal(size=(2, 8, 9)).astype("f4")
    np.testing.assert_array_equal(again(values, training=True), layer(values, training=True))
