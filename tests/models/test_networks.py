"""One contract for every network of the registry: a new entry needs no line here.

Every network is held to shapes, counts, the layer ``logits``, seeds and windows. What costs seconds (gradients, steps
of training, saving, mixed precision, conversion) is asked of each network of up to 5 million parameters, and of a
larger one where it is the smallest of its file: its layers are made by the same lines.

What is costly is made once for each network: float32 weights of seed 7, a network of other outputs and another seed,
and one in mixed precision. Two windows of noise go through each.
"""

from __future__ import annotations

import ast
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from lowering import on_litert, on_onnx_runtime

import models
from models.heads import Heads
from models.outputs import HeadsLoss, with_heads
from models.precision import in_float32
from models.registry import NETWORKS, Network, find_network
from preprocessing.constants import CLIP_SECONDS
from preprocessing.errors import BadInputError

SEED, OTHER_SEED = 7, 8
OTHER_OUTPUTS = 10
STEPS = 10

LARGE = 5_000_000
"""Parameters."""

Array = np.ndarray[Any, np.dtype[np.float32]]


def smallest_of_its_file(entry: Network) -> bool:
    return entry.parameters == min(other.parameters for other in NETWORKS.values() if other.module == entry.module)


IN_FULL = [name for name, entry in NETWORKS.items() if entry.parameters <= LARGE or smallest_of_its_file(entry)]
ALL = [*IN_FULL, *(name for name in NETWORKS if name not in IN_FULL)]

in_full = pytest.mark.parametrize("case", IN_FULL, indirect=True, scope="module")


@dataclass(frozen=True)
class Case:
    """A network, built, two windows of what it reads, and its logits of them."""

    entry: Network
    network: keras.Model
    windows: Array
    logits: Array


def answers(network: Callable[..., Any], windows: Array) -> Array:
    logits: Array = keras.ops.convert_to_numpy(network(windows, training=False))
    return logits


def assert_same(logits: Array, expected: Array, tolerance: float) -> None:
    """Within a share of the largest logit, or of 1 where all are smaller."""
    np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance * max(1.0, float(np.abs(expected).max())))


@pytest.fixture(params=ALL, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    entry = NETWORKS[request.param]
    network = entry.build(dtype="float32", seed=SEED)
    windows = np.random.default_rng(0).standard_normal((2, *entry.input_shape)).astype(np.float32)
    return Case(entry, network, windows, answers(network, windows))


@pytest.fixture(scope="module")
def mixed(case: Case) -> keras.Model:
    random.seed(1)
    keras.utils.set_random_seed(1)  # global state has no say in the weights
    return case.entry.build(dtype="mixed_bfloat16", seed=SEED)


@pytest.fixture(scope="module")
def exact(mixed: keras.Model) -> keras.Model:
    return in_float32(mixed)


@pytest.fixture(scope="module")
def other(case: Case) -> keras.Model:
    return case.entry.build(OTHER_OUTPUTS, dtype="float32", seed=OTHER_SEED)


def test_reads_a_window_and_answers_with_float32_logits(case: Case) -> None:
    assert case.network.name == case.entry.name
    assert case.network.input.shape == (None, *case.entry.input_shape)
    assert case.network.output.shape == (None, case.entry.outputs)
    assert case.logits.shape == (2, case.entry.outputs)
    assert case.logits.dtype == np.float32
    assert np.isfinite(case.logits).all()


def test_parameters_are_those_of_the_entry_and_of_its_source(case: Case) -> None:
    assert case.network.count_params() == case.entry.parameters
    if case.entry.published_parameters is not None:
        trainable = sum(weight.shape.num_elements() for weight in case.network.trainable_weights)
        assert trainable == case.entry.published_parameters


def test_layer_logits_is_the_last_with_weights_and_its_bias_is_the_answer_to_nothing(case: Case) -> None:
    last = [layer for layer in case.network.layers if layer.weights][-1]
    assert last.name == "logits"
    kernel, bias = (np.array(variable) for variable in (last.kernel, last.bias))
    expected = np.linspace(-4, 1, len(bias), dtype=np.float32)
    last.kernel.assign(np.zeros_like(kernel))
    last.bias.assign(expected)
    try:
        np.testing.assert_allclose(answers(case.network, case.windows), [expected] * 2, atol=1e-5)
    finally:
        last.kernel.assign(kernel)
        last.bias.assign(bias)


@in_full
def test_every_trainable_weight_has_a_gradient(case: Case) -> None:
    """As in inference, where batch norm's averages stand still: no weight's share is cancelled by a norm behind it."""
    weights = case.network.trainable_weights
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(case.network(case.windows, training=False) - 1.0))
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    without = [
        weight.path
        for weight, gradient in zip(weights, gradients, strict=True)
        if gradient is None or not np.any(gradient)
    ]
    assert without == []


@in_full
def test_loss_falls_on_one_batch(case: Case, other: keras.Model) -> None:
    heads = Heads.of_tags(OTHER_OUTPUTS)
    model = with_heads(other, heads)
    model.compile(keras.optimizers.Adam(1e-3), loss=HeadsLoss(heads), run_eagerly=True)
    labels = np.eye(2, OTHER_OUTPUTS, dtype=np.float32)
    before = float(model.train_on_batch(case.windows, labels))
    assert any(float(model.train_on_batch(case.windows, labels)) < before for _ in range(STEPS))


@in_full
def test_saved_and_loaded_network_gives_the_same_logits(case: Case, tmp_path: Path) -> None:
    case.network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert_same(answers(loaded, case.windows[:1]), case.logits[:1], 1e-5)


def test_same_seed_gives_the_same_weights_and_another_seed_others(
    case: Case, mixed: keras.Model, other: keras.Model
) -> None:
    for ours, again in zip(case.network.weights, mixed.weights, strict=True):
        np.testing.assert_array_equal(ours, again)
    pairs = zip(case.network.trainable_weights, other.trainable_weights, strict=True)
    alike = [a.path for a, b in pairs if a.name == "kernel" and a.shape == b.shape and np.array_equal(a, b)]
    assert alike == []


def test_layers_of_equal_shape_do_not_start_alike(case: Case) -> None:
    kernels = [np.array(weight) for weight in case.network.trainable_weights if weight.name == "kernel"]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


def test_a_window_gets_the_same_answer_in_any_batch(case: Case) -> None:
    assert_same(answers(case.network, case.windows[1:]), case.logits[1:], 1e-4)


def test_other_number_of_outputs_changes_the_last_layer_alone(case: Case, other: keras.Model) -> None:
    assert other.output.shape == (None, OTHER_OUTPUTS)
    differing = [
        theirs.path
        for ours, theirs in zip(case.network.weights, other.weights, strict=True)
        if ours.shape != theirs.shape
    ]
    logits = other.get_layer("logits")
    assert set(differing) <= {logits.kernel.path, logits.bias.path}


@in_full
def test_mixed_precision_network_answers_in_float32_nearly_the_same(case: Case, mixed: keras.Model) -> None:
    assert {weight.dtype for weight in mixed.weights if "seed" not in weight.path} == {"float32"}
    logits = answers(mixed, case.windows[:1])
    assert logits.dtype == np.float32
    assert_same(logits, case.logits[:1], 0.05)


@in_full
def test_copy_in_float32_computes_in_float32_everywhere(case: Case, exact: keras.Model) -> None:
    lower = [layer.path for layer in exact._flatten_layers() if layer.compute_dtype != "float32"]
    assert lower == []
    assert_same(answers(exact, case.windows[:1]), case.logits[:1], 1e-5)


def test_windows_lie_within_the_clip(case: Case) -> None:
    entry = case.entry
    samples = max(round(CLIP_SECONDS * entry.sample_rate), entry.window_samples)
    rule = entry.score_windows
    starts = rule.starts(samples, entry.window_samples)
    assert starts
    assert list(starts) == sorted(set(starts))
    assert starts[0] >= -rule.lead
    assert starts[-1] + entry.window_samples <= samples + rule.lead


@in_full
def test_litert_gives_the_same_logits_with_its_own_operators_alone(case: Case) -> None:
    assert_same(on_litert(case.network, case.windows[:1]), case.logits[:1], 1e-4)


@in_full
def test_onnx_runtime_gives_the_same_logits(case: Case) -> None:
    assert_same(on_onnx_runtime(case.network, case.windows), case.logits, 1e-4)


def test_networks_have_their_own_names_and_what_a_reader_asks() -> None:
    for name, entry in NETWORKS.items():
        assert entry.name == name
        assert entry.title
        assert entry.source
        for figure in entry.published:
            assert figure.split, f"{name}: figures of different splits never stand in one column"
            for value in (figure.roc_auc, figure.pr_auc):
                assert value is None or 0 < value < 1


def test_name_that_no_network_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BadInputError, match=r"no network is called 'mel_3d'; there are mel_1d, mel_2d"):
        find_network("mel_3d")


def test_models_import_neither_tensorflow_nor_tfx() -> None:
    for source in Path(models.__path__[0]).rglob("*.py"):
        imported = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
            for node in ast.walk(ast.parse(source.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        roots = {name.split(".")[0] for name in imported}
        assert roots.isdisjoint({"tensorflow", "tf_keras", "tfx", "tensorflow_transform", "apache_beam"}), source.name


def test_registry_is_read_without_keras() -> None:
    program = "import sys, models.registry; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
