from __future__ import annotations

from pathlib import Path
from typing import get_args

import keras
import numpy as np
import pytest
import scipy.special

from models.combiner import COMBINERS, Combiner, build_combiner
from models.heads import MULTI_LABEL, ONE_OF, Head, Heads

HEADS = Heads((Head("tags", MULTI_LABEL, 2), Head("genre", ONE_OF, 3)))
RNG = np.random.default_rng(0)


def probabilities(networks: int, clips: int = 4) -> np.ndarray:
    parts = []
    for _ in range(networks):
        parts += [RNG.uniform(0.05, 0.95, (clips, 2)), RNG.dirichlet(np.ones(3), clips)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def test_papers_combiner_has_its_layers_and_parameters() -> None:
    combiner = build_combiner("dense", 3, Heads.of_tags(50))
    shapes = {name: combiner.get_layer(name).output.shape for name in ("dense_1", "dense_2", "logits")}
    assert shapes == {"dense_1": (None, 256), "dense_2": (None, 512), "logits": (None, 50)}
    assert combiner.count_params() == 195_890


@pytest.mark.parametrize("kind", COMBINERS)
def test_answers_are_each_heads_probabilities(kind: Combiner) -> None:
    answers = np.array(build_combiner(kind, 3, HEADS)(probabilities(3)))
    assert answers.shape == (4, 5)
    assert answers.dtype == np.float32
    assert ((answers >= 0) & (answers <= 1)).all()
    np.testing.assert_allclose(answers[:, 2:].sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("kind", ["logistic", "mean"])
def test_networks_that_agree_are_believed(kind: Combiner) -> None:
    one = probabilities(1)
    answers = np.array(build_combiner(kind, 2, HEADS)(np.concatenate([one, one], axis=1)))
    np.testing.assert_allclose(answers, one, atol=1e-5)


def test_logistic_combiner_weighs_log_odds_tag_by_tag() -> None:
    combiner = build_combiner("logistic", 2, Heads.of_tags(2))
    layer = combiner.get_layer("logits")
    layer.kernel.assign([[0.75, 0.0], [0.5, 2.0]])
    layer.bias.assign([-1.0, 0.5])
    given = np.array([[0.2, 0.3, 0.6, 0.9]], np.float32)
    odds = scipy.special.logit(given.astype(np.float64))
    expected = scipy.special.expit([0.75 * odds[:, 0] + 0.5 * odds[:, 2] - 1.0, 2.0 * odds[:, 3] + 0.5]).T
    np.testing.assert_allclose(combiner(given), expected, atol=1e-5)


def test_mean_has_nothing_to_learn() -> None:
    combiner = build_combiner("mean", 2, HEADS)
    assert combiner.weights == []
    given = probabilities(2)
    np.testing.assert_allclose(combiner(given), (given[:, :5] + given[:, 5:]) / 2, atol=1e-6)


def test_certain_answers_stay_finite() -> None:
    given = np.array([[0, 1, 1, 0, 0, 1, 1, 0, 0, 1]], np.float32)
    assert np.isfinite(np.array(build_combiner("logistic", 2, HEADS)(given))).all()


@pytest.mark.parametrize("kind", COMBINERS)
def test_saved_and_loaded_combiner_answers_the_same(kind: Combiner, tmp_path: Path) -> None:
    combiner, given = build_combiner(kind, 2, HEADS, seed=3), probabilities(2)
    combiner.save(tmp_path / "combiner.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "combiner.keras")(given), combiner(given), atol=1e-6)


def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (build_combiner("dense", 2, HEADS, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_unknown_kind_is_refused_with_those_that_there_are() -> None:
    assert get_args(Combiner) == COMBINERS
    with pytest.raises(ValueError, match="combiner 'median': expected one of dense, logistic, mean"):
        build_combiner("median", 2, HEADS)  # type: ignore[arg-type]
