"""Combiners: fitted on predictions that were made up so that it is known which network is to be trusted."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from components.combiners import CombinerTask, fit_combiner
from components.predictions import Predictions
from components.training_settings import IN_SAMPLE, OUT_OF_FOLD, VALID, Fit, TrainingSettings
from models.heads import MULTI_LABEL, ONE_OF, Head, Heads

HEADS = Heads((Head("genre", ONE_OF, 3), Head("tags", MULTI_LABEL, 2)))
SETTINGS = TrainingSettings(epochs=30, batch_size=32, learning_rate=0.01, patience=30)


def made_up(split: str, clips: int, seed: int) -> Predictions:
    """``good`` knows the labels nearly, ``noise`` nothing of them."""
    random = np.random.default_rng(seed)
    genre = random.integers(0, 3, clips)
    labels = np.concatenate([np.eye(3)[genre], random.random((clips, 2)) < 0.4], axis=1).astype("f4")

    def answers(knowledge: float) -> np.ndarray:
        logits = knowledge * (2 * labels - 1) + random.normal(size=labels.shape)
        shares = np.exp(logits[:, :3])
        return np.concatenate(
            [shares / shares.sum(axis=1, keepdims=True), 1 / (1 + np.exp(-logits[:, 3:]))], axis=1
        ).astype("f4")

    ids = tuple(f"{split}-{number:03d}".encode() for number in range(clips))
    return Predictions(ids, ids, labels, {"noise": answers(0.0), "good": answers(1.0)})


SPLITS = {"train": made_up("train", 300, 1), "valid": made_up("valid", 160, 2), "test": made_up("test", 400, 3)}
HELD = {
    name: dict(zip(SPLITS["train"].clip_ids, rows, strict=True)) for name, rows in SPLITS["train"].by_network.items()
}


def roc_auc(predictions: np.ndarray) -> float:
    return float(roc_auc_score(SPLITS["test"].labels, predictions, average="macro"))


def task(kind: str, fit: Fit = VALID) -> CombinerTask:
    return CombinerTask(kind, ("noise", "good"), fit, HEADS, SETTINGS)


@pytest.mark.parametrize("fit", [VALID, OUT_OF_FOLD, IN_SAMPLE])
@pytest.mark.parametrize("kind", ["dense", "logistic"])
def test_fitted_combiner_trusts_the_network_that_knows_more(kind: str, fit: Fit, tmp_path: Path) -> None:
    combiner, history = fit_combiner(task(kind, fit), SPLITS, HELD, str(tmp_path))
    answers = combiner.predict(SPLITS["test"].side_by_side(("noise", "good")), verbose=0)
    mean = np.mean([SPLITS["test"].by_network[name] for name in ("noise", "good")], axis=0)
    assert roc_auc(answers) > roc_auc(mean) + 0.03
    assert roc_auc(answers) > roc_auc(SPLITS["test"].by_network["good"]) - 0.03
    np.testing.assert_allclose(answers[:, :3].sum(axis=1), 1, atol=1e-5)
    assert (history is None) == (kind == "logistic")


def test_logistic_combiner_weighs_the_better_network_more_for_each_tag(tmp_path: Path) -> None:
    combiner, _ = fit_combiner(task("logistic"), SPLITS, HELD, str(tmp_path))
    (noise, good), _ = combiner.get_layer("logits").get_weights()
    assert (good > 3 * np.abs(noise)).all()


def test_out_of_fold_answers_are_matched_by_clip_and_not_by_place(tmp_path: Path) -> None:
    turned = {name: dict(reversed(rows.items())) for name, rows in HELD.items()}
    first, _ = fit_combiner(task("logistic", OUT_OF_FOLD), SPLITS, HELD, str(tmp_path))
    second, _ = fit_combiner(task("logistic", OUT_OF_FOLD), SPLITS, turned, str(tmp_path))
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_tag_that_no_clip_has_gets_finite_weights(tmp_path: Path) -> None:
    valid = SPLITS["valid"]
    labels = valid.labels.copy()
    labels[:, 4] = 0
    splits = {**SPLITS, "valid": Predictions(valid.clip_ids, valid.tracks, labels, valid.by_network)}
    combiner, _ = fit_combiner(task("logistic"), splits, HELD, str(tmp_path))
    answers = combiner.predict(SPLITS["test"].side_by_side(("noise", "good")), verbose=0)
    assert np.isfinite(answers).all()
    assert answers[:, 4].max() < 0.1


def test_mean_needs_no_predictions(tmp_path: Path) -> None:
    combiner, history = fit_combiner(task("mean"), {}, {}, str(tmp_path))
    assert history is None
    expected = np.mean([SPLITS["test"].by_network[name] for name in ("noise", "good")], axis=0)
    answers = combiner.predict(SPLITS["test"].side_by_side(("noise", "good")), verbose=0)
    np.testing.assert_allclose(answers, expected, atol=1e-6)
