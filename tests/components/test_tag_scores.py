"""The figures are scikit-learn's own, also through TFMA on Beam."""

import math
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, roc_auc_score
from tensorflow_model_analysis.proto import config_pb2

from components.evaluator_metric import SCORED_TAGS, _computations
from components.tag_scores import PR_AUC, ROC_AUC, head_accuracies, score_tags
from models.heads import MULTI_LABEL, ONE_OF, Head, Heads


def some_scores(clips: int = 60, tags: int = 5, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    labels = (random.random((clips, tags)) < 0.3).astype("f4")
    predictions = (scale * (0.4 * labels + random.random((clips, tags)))).astype("f4")
    return labels, predictions


@pytest.mark.parametrize("scale", [1.0, 1e-4], ids=["usual", "tiny scores"])
def test_macro_and_per_tag_equal_scikit_learn(scale: float) -> None:
    labels, predictions = some_scores(scale=scale)
    scores = score_tags(labels, predictions, list("abcde"))
    assert scores.roc_auc == pytest.approx(roc_auc_score(labels, predictions, average="macro"), abs=1e-6)
    assert scores.pr_auc == pytest.approx(average_precision_score(labels, predictions, average="macro"), abs=1e-6)
    assert scores.per_tag["c"][0] == pytest.approx(roc_auc_score(labels[:, 2], predictions[:, 2]), abs=1e-6)
    assert scores.per_tag["c"][1] == pytest.approx(average_precision_score(labels[:, 2], predictions[:, 2]), abs=1e-6)


def test_tag_of_one_class_is_left_out_of_the_mean_and_counted() -> None:
    labels, predictions = some_scores()
    labels[:, 1], labels[:, 3] = 0, 1
    scores = score_tags(labels, predictions, list("abcde"))
    kept = [0, 2, 4]
    assert scores.scored_tags == 3
    assert math.isnan(scores.per_tag["b"][0])
    assert math.isnan(scores.per_tag["d"][1])
    assert scores.roc_auc == pytest.approx(roc_auc_score(labels[:, kept], predictions[:, kept], average="macro"))


def test_no_tag_with_both_classes_gives_nan_not_a_good_score() -> None:
    scores = score_tags(np.zeros((4, 2)), np.ones((4, 2)), ["a", "b"])
    assert math.isnan(scores.roc_auc)
    assert scores.scored_tags == 0


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="3 tags"):
        score_tags(np.zeros((4, 2)), np.zeros((4, 2)), ["a", "b", "c"])


def through_tfma(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    (computation,) = _computations(Heads.of_tags(labels.shape[1]).to_json(), eval_config=config_pb2.EvalConfig())
    found: list[dict[tfma.metrics.MetricKey, float]] = []
    inputs = [
        tfma.metrics.StandardMetricInputs(label=label, prediction=prediction, example_weight=np.array([1.0]))
        for label, prediction in zip(labels, predictions, strict=True)
    ]
    with beam.Pipeline("DirectRunner") as pipeline:
        _ = pipeline | beam.Create(inputs) | beam.CombineGlobally(computation.combiner) | beam.Map(found.append)
    # The runner may pickle what it is given; the combiner itself is also asked directly.
    accumulators = [computation.combiner.add_input(computation.combiner.create_accumulator(), item) for item in inputs]
    direct = computation.combiner.extract_output(computation.combiner.merge_accumulators(accumulators))
    if found:
        assert {key.name: value for key, value in found[0].items()} == pytest.approx(
            {key.name: value for key, value in direct.items()}, nan_ok=True
        )
    return {key.name: value for key, value in direct.items()}


def test_tfma_metric_on_beam_equals_scikit_learn() -> None:
    labels, predictions = some_scores()
    labels[:, 4] = 0
    values = through_tfma(labels, predictions)
    assert values[ROC_AUC] == pytest.approx(roc_auc_score(labels[:, :4], predictions[:, :4], average="macro"), abs=1e-6)
    assert values[PR_AUC] == pytest.approx(
        average_precision_score(labels[:, :4], predictions[:, :4], average="macro"), abs=1e-6
    )
    assert values[SCORED_TAGS] == 4
    assert values["roc_auc/02"] == pytest.approx(roc_auc_score(labels[:, 2], predictions[:, 2]), abs=1e-6)
    assert math.isnan(values["roc_auc/04"])


@settings(max_examples=50, deadline=None)
@given(
    labels=hnp.arrays("f4", (12, 3), elements=st.sampled_from([0.0, 1.0])),
    predictions=hnp.arrays("f4", (12, 3), elements=st.floats(0, 1, width=32)),
)
def test_scores_lie_between_0_and_1_and_do_not_depend_on_the_clips_order(
    labels: np.ndarray, predictions: np.ndarray
) -> None:
    scores = score_tags(labels, predictions, list("abc"))
    turned = score_tags(labels[::-1], predictions[::-1], list("abc"))
    both = [0 < labels[:, tag].sum() < len(labels) for tag in range(3)]
    assert scores.scored_tags == sum(both)
    assert math.isnan(scores.roc_auc) == math.isnan(scores.pr_auc) == (not any(both))
    if any(both):
        assert 0 <= scores.roc_auc <= 1
        assert 0 < scores.pr_auc <= 1
    assert scores.roc_auc == pytest.approx(turned.roc_auc, nan_ok=True)
    assert scores.pr_auc == pytest.approx(turned.pr_auc, nan_ok=True)


PUBLISHED = Path(__file__).parents[3] / "shared" / "mtat" / "predictions"


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no published predictions at {PUBLISHED}")
def test_published_predictions_for_the_clean_test_split_get_the_published_score() -> None:
    """philtgun/music-tagging-benchmark: a trained MusicNN on MagnaTagATune's 4,332 clips."""
    labels, predictions = (
        np.loadtxt(PUBLISHED / name, delimiter=",", usecols=range(1, 51)) for name in ("gt.csv", "musicnn_est.csv")
    )
    assert labels.shape == predictions.shape == (4332, 50)
    scores = score_tags(labels, predictions, [str(tag) for tag in range(50)])
    assert scores.roc_auc == pytest.approx(0.910897708562001, abs=1e-9)
    assert scores.scored_tags == 50


def test_accuracy_of_a_one_of_head_counts_labelled_clips_alone() -> None:
    heads = Heads((Head("genre", ONE_OF, 3), Head("tags", MULTI_LABEL, 1)))
    labels = np.float32([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    predictions = np.float32([[0.5, 0.3, 0.2, 0.9], [0.6, 0.3, 0.1, 0.9], [0.1, 0.1, 0.8, 0.9], [0.1, 0.2, 0.7, 0]])
    assert head_accuracies(labels, predictions, heads) == {"genre": pytest.approx(2 / 3)}
    assert head_accuracies(np.zeros((2, 4)), predictions[:2], heads) == {}
