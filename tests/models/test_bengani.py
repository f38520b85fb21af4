"""One contract for every network: the paper's table, its size, and what training and serving rely on."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest

import models
from models.branches import BRANCHES, INPUT_SHAPES
from models.combiner import build_combiner


@dataclass(frozen=True)
class Case:
    """A network, the shape of one clip's input, and the paper's table: output shape of each row, by layer."""

    build: Callable[..., keras.Model]
    input_shape: tuple[int, ...]
    parameters: int
    rows: dict[str, tuple[int, ...]]
    parameters_at_10_tags: int


TABLES: dict[str, dict[str, tuple[int, ...]]] = {
    "mel_1d": {
        "conv_1": (1, 589, 256),
        "reshape_1": (589, 256),
        "pool_1": (294, 256),
        "conv_2": (291, 256),
        "batch_norm_2": (291, 256),
        "pool_2": (145, 256),
        "conv_3": (142, 384),
        "pool_3": (71, 384),
        "batch_norm_3": (71, 384),
        "conv_4": (1, 50),
        "tags": (50,),
    },
    "mel_2d": {
        "conv_1a": (128, 592, 128),
        "conv_1b": (128, 592, 128),
        "pool_1": (32, 148, 128),
        "conv_2a": (32, 148, 256),
        "conv_2b": (32, 148, 256),
        "pool_2": (8, 37, 256),
        "conv_3a": (8, 37, 256),
        "conv_3b": (8, 37, 256),
        "pool_3": (4, 18, 256),
        "conv_4a": (2, 18, 512),
        "conv_4b": (2, 16, 512),
        "pool_4": (1, 8, 512),
        "conv_5": (1, 1, 50),
        "tags": (50,),
    },
    "waveform_1d": {
        "conv_pool_1": (29099, 64),
        "conv_2a": (29097, 128),
        "conv_2b": (29095, 128),
        "pool_2": (7273, 128),
        "batch_norm_2": (7273, 128),
        "dropout_2": (7273, 128),
        "conv_3a": (7271, 128),
        "conv_3b": (7269, 128),
        "pool_3": (1817, 128),
        "batch_norm_3": (1817, 128),
        "dropout_3": (1817, 128),
        "conv_4a": (1815, 256),
        "conv_4b": (1813, 256),
        "pool_4": (256,),
        "dense_5": (1024,),
        "tags": (50,),
    },
    "combiner": {"dense_1": (256,), "dense_2": (512,), "tags": (50,)},
}


def build_combiner_of_three(n_tags: int = 50, **options: object) -> keras.Model:
    return build_combiner(3, n_tags, **options)


# What 40 tags fewer cost: the last layer's fan-in and bias for each (and, for the combiner, the narrower input).
LAST_FAN_IN = {"mel_1d": 71 * 384, "mel_2d": 8 * 512, "waveform_1d": 1024}

CASES = {
    name: Case(
        branch.build,
        INPUT_SHAPES[branch.input],
        branch.parameters,
        TABLES[name],
        branch.parameters - 40 * (LAST_FAN_IN[name] + 1),
    )
    for name, branch in BRANCHES.items()
} | {
    "combiner": Case(
        build_combiner_of_three, (150,), 195_890, TABLES["combiner"], 195_890 - 3 * 40 * 256 - 40 * (512 + 1)
    )
}


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def network(case: Case) -> keras.Model:
    return case.build(seed=7)


@pytest.fixture(scope="module")
def clips(case: Case) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, *case.input_shape)).astype(np.float32)


def test_output_shape_at_every_row_of_the_table(case: Case, network: keras.Model) -> None:
    shapes = {name: tuple(network.get_layer(name).output.shape) for name in case.rows}
    assert shapes == {name: (None, *shape) for name, shape in case.rows.items()}


def test_parameters_are_those_of_the_paper(case: Case, network: keras.Model) -> None:
    assert network.count_params() == case.parameters


def test_the_number_of_tags_changes_the_last_layer_alone(case: Case) -> None:
    fewer = case.build(10)
    assert fewer.output.shape == (None, 10)
    assert fewer.count_params() == case.parameters_at_10_tags


def test_probabilities_are_float32_between_0_and_1(network: keras.Model, clips: np.ndarray) -> None:
    probabilities = keras.ops.convert_to_numpy(network(clips))
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (2, 50)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_probabilities_stay_float32_under_mixed_precision(
    case: Case, network: keras.Model, clips: np.ndarray, policy: str
) -> None:
    mixed = case.build(dtype=policy, seed=7)
    assert {weight.dtype for weight in mixed.weights if "seed" not in weight.path} == {"float32"}
    probabilities = keras.ops.convert_to_numpy(mixed(clips[:1]))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, keras.ops.convert_to_numpy(network(clips[:1])), atol=0.02)


def test_same_seed_gives_the_same_weights_and_another_seed_others(case: Case, network: keras.Model) -> None:
    random.seed(1)
    keras.utils.set_random_seed(1)  # global state has no say
    again, other = case.build(seed=7), case.build(seed=8)
    for ours, theirs in zip(network.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    pairs = zip(network.trainable_weights, other.trainable_weights, strict=True)
    assert all(np.any(np.array(a) != np.array(b)) for a, b in pairs if a.name == "kernel")


def test_layers_of_equal_shape_do_not_start_alike(network: keras.Model) -> None:
    kernels = [np.array(weight) for weight in network.trainable_weights if weight.name == "kernel"]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


def test_saved_and_loaded_network_gives_the_same_probabilities(
    network: keras.Model, clips: np.ndarray, tmp_path: Path
) -> None:
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(clips)), keras.ops.convert_to_numpy(network(clips)))


def test_one_training_step_moves_every_trainable_weight(case: Case, clips: np.ndarray) -> None:
    network = case.build(seed=7)
    network.compile(optimizer=keras.optimizers.SGD(1.0), loss="binary_crossentropy", jit_compile=False)
    before = [np.array(weight) for weight in network.trainable_weights]
    network.train_on_batch(clips, np.eye(2, 50, dtype=np.float32))
    unmoved = [
        weight.path
        for weight, old in zip(network.trainable_weights, before, strict=True)
        if np.array_equal(np.array(weight), old)
    ]
    assert unmoved == []


@pytest.mark.parametrize("name", BRANCHES)
def test_branch_is_found_by_its_name_and_says_what_it_reads(name: str) -> None:
    branch = BRANCHES[name]
    network = branch.build()
    assert (branch.name, network.name) == (name, name)
    assert network.input.name == branch.input
    assert network.input.shape[1:] == INPUT_SHAPES[branch.input]


def test_models_import_neither_tensorflow_nor_tfx() -> None:
    for source in Path(models.__path__[0]).glob("*.py"):
        imported = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
            for node in ast.walk(ast.parse(source.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        roots = {name.split(".")[0] for name in imported}
        assert roots.isdisjoint({"tensorflow", "tf_keras", "tfx", "tensorflow_transform", "apache_beam"}), source.name
