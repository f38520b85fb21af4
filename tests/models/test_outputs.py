from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.special
from keras import layers

from models.heads import MULTI_LABEL, ONE_OF, Head, Heads
from models.outputs import HeadActivations, HeadsLoss, set_initial_bias, with_heads

TWO_HEADS = Heads((Head("tags", MULTI_LABEL, 2), Head("genre", ONE_OF, 3)))
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(4, 6)).astype(np.float32)
LABELS = np.array([[1, 0, 0, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 1]], np.float32)


def dense_network(outputs: int = 5, dtype: str | None = None) -> keras.Model:
    x = keras.Input((6,), name="features")
    y = layers.Dense(4, activation="relu", dtype=dtype)(x)
    return keras.Model(x, layers.Dense(outputs, dtype="float32", name="logits")(y), name="toy")


def convolutional_network(outputs: int = 5) -> keras.Model:
    x = keras.Input((6,), name="features")
    y = layers.Reshape((1, 6, 1))(x)
    y = layers.Conv2D(outputs, (1, 6), dtype="float32", name="logits")(y)
    return keras.Model(x, layers.Flatten(dtype="float32")(y), name="toy")


def test_each_head_has_its_own_activation() -> None:
    network = dense_network()
    logits, probabilities = np.array(network(INPUTS)), np.array(with_heads(network, TWO_HEADS)(INPUTS))
    np.testing.assert_allclose(probabilities[:, :2], scipy.special.expit(logits[:, :2]), atol=1e-6)
    np.testing.assert_allclose(probabilities[:, 2:], scipy.special.softmax(logits[:, 2:], axis=1), atol=1e-6)


def test_probabilities_are_float32_whatever_the_network_computes_in() -> None:
    model = with_heads(dense_network(dtype="mixed_bfloat16"), TWO_HEADS)
    assert keras.ops.convert_to_numpy(model(INPUTS)).dtype == np.float32
    assert HeadActivations(TWO_HEADS, dtype="mixed_bfloat16").compute_dtype == "float32"


def test_name_input_and_weights_stay_the_networks() -> None:
    network = dense_network()
    model = with_heads(network, TWO_HEADS)
    assert (model.name, model.input.name) == ("toy", "features")
    assert [weight.path for weight in model.weights] == [weight.path for weight in network.weights]
    network.get_layer("logits").bias.assign(np.ones(5))
    np.testing.assert_array_equal(model.get_layer("logits").bias, np.ones(5))


def test_heads_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="toy has 4 outputs, its heads 5"):
        with_heads(dense_network(4), TWO_HEADS)


def test_compiled_network_is_saved_and_loaded_with_heads_and_loss(tmp_path: Path) -> None:
    model = with_heads(dense_network(), TWO_HEADS)
    model.compile("sgd", loss=HeadsLoss(TWO_HEADS), jit_compile=False)
    model.train_on_batch(INPUTS, LABELS)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(INPUTS), model(INPUTS))
    assert loaded.loss.get_config() == model.loss.get_config()
    assert loaded.evaluate(INPUTS, LABELS, verbose=0) == pytest.approx(model.evaluate(INPUTS, LABELS, verbose=0))


def test_loss_of_tags_alone_is_kerass_binary_cross_entropy() -> None:
    labels, probabilities = LABELS, RNG.uniform(size=LABELS.shape).astype(np.float32)
    expected = float(keras.losses.BinaryCrossentropy()(labels, probabilities))
    assert float(HeadsLoss(Heads.of_tags(5))(labels, probabilities)) == pytest.approx(expected, rel=1e-6)


def test_loss_is_the_sum_over_heads_and_leaves_out_unlabelled_clips() -> None:
    probabilities = np.array(with_heads(dense_network(), TWO_HEADS)(INPUTS))
    tags = -np.mean(LABELS * np.log(probabilities) + (1 - LABELS) * np.log(1 - probabilities), where=[[1, 1, 0, 0, 0]])
    genre = -np.mean([np.log(probabilities[0, 3]), np.log(probabilities[1, 2]), np.log(probabilities[3, 4])])
    assert float(HeadsLoss(TWO_HEADS)(LABELS, probabilities)) == pytest.approx(tags + genre, rel=1e-5)


def test_clip_without_a_label_of_a_head_moves_nothing_of_it() -> None:
    head = Heads((Head("genre", ONE_OF, 5),))
    model = with_heads(dense_network(), head)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1.0), loss=HeadsLoss(head), jit_compile=False)
    assert model.train_on_batch(INPUTS, np.zeros((4, 5), np.float32)) == 0.0
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_loss_of_certainly_wrong_answers_is_finite() -> None:
    wrong = np.array([[0, 1, 1, 0, 0]], np.float32)
    right = np.array([[1, 0, 0, 0, 1]], np.float32)
    assert np.isfinite(float(HeadsLoss(TWO_HEADS)(right, wrong)))


@pytest.mark.parametrize("build", [dense_network, convolutional_network])
def test_untrained_network_answers_with_the_frequencies(build: Callable[[], keras.Model]) -> None:
    network = build()
    layer = network.get_layer("logits")
    layer.kernel.assign(np.zeros(layer.kernel.shape))
    set_initial_bias(network, TWO_HEADS, [0.3, 0.02, 0.2, 0.1, 0.1])
    answers = np.array(with_heads(network, TWO_HEADS)(INPUTS))
    np.testing.assert_allclose(answers, [[0.3, 0.02, 0.5, 0.25, 0.25]] * 4, atol=1e-6)


def test_tags_that_never_or_always_occur_get_finite_biases() -> None:
    network = dense_network()
    set_initial_bias(network, TWO_HEADS, [0, 1, 0, 0, 0])
    bias = np.array(network.get_layer("logits").bias)
    np.testing.assert_allclose(bias, [-6.906755, 6.906755, *[np.log(1 / 3)] * 3], atol=1e-5)


def test_network_without_the_layer_logits_is_refused() -> None:
    x = keras.Input((6,))
    with pytest.raises(ValueError, match="logits"):
        set_initial_bias(keras.Model(x, layers.Dense(5)(x)), TWO_HEADS, np.full(5, 0.1))
