"""Metrics of comparisons: scikit-learn's, plain and under the weights of a bootstrap."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, matthews_corrcoef, roc_auc_score

from components.comparison_metrics import METRICS, Figure, differences, draws, measure, measure_drawn, weighted_areas

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.random((120, 5)) < [0.05, 0.2, 0.5, 0.3, 0.1]).astype("f4")
PREDICTIONS = np.clip(LABELS * 0.3 + RANDOM.random((120, 5)) * 0.7, 0, 1).round(2).astype("f4")
THRESHOLDS = np.array([0.3, 0.4, 0.5, 0.4, 0.35], "f4")
TRACKS = np.array([f"track {number // 3}" for number in range(120)])


def test_draw_in_which_each_clip_counts_once_gives_the_plain_figures() -> None:
    drawn = measure_drawn(LABELS, PREDICTIONS, THRESHOLDS, np.ones((2, 120)))
    plain = measure(LABELS, PREDICTIONS, THRESHOLDS)
    assert set(plain) == set(METRICS) == set(drawn)
    for name, value in plain.items():
        np.testing.assert_allclose(drawn[name], value, rtol=1e-9, err_msg=name)


def test_plain_figures_are_those_of_repeated_clips_too() -> None:
    """A draw is the same as taking clips several times."""
    weights = next(draws(TRACKS, 3, seed=4))
    drawn = measure_drawn(LABELS, PREDICTIONS, THRESHOLDS, weights)
    for number, row in enumerate(weights):
        taken = np.repeat(np.arange(120), row.astype(int))
        plain = measure(LABELS[taken], PREDICTIONS[taken], THRESHOLDS)
        for name, value in plain.items():
            assert drawn[name][number] == pytest.approx(value, rel=1e-9), name


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_weighted_areas_are_scikit_learn_s(data: st.DataObject) -> None:
    clips = data.draw(st.integers(2, 30))
    numbers = st.lists(st.integers(0, 6), min_size=clips, max_size=clips)
    truth = np.array(data.draw(st.lists(st.booleans(), min_size=clips, max_size=clips)))
    scores, weights = np.array(data.draw(numbers)) / 6, np.array(data.draw(numbers), float)
    roc, precision = weighted_areas(truth, scores, weights[np.newaxis])
    if not (weights[truth].sum() and weights[~truth].sum()):
        assert np.isnan(roc[0])
        assert np.isnan(precision[0])
        return
    assert roc[0] == pytest.approx(roc_auc_score(truth, scores, sample_weight=weights), abs=1e-9)
    assert precision[0] == pytest.approx(average_precision_score(truth, scores, sample_weight=weights), abs=1e-9)


def test_matthews_correlation_of_a_draw_is_scikit_learn_s() -> None:
    weights = next(draws(TRACKS, 2))
    expected = [
        np.mean(
            [
                matthews_corrcoef(LABELS[:, tag] > 0.5, PREDICTIONS[:, tag] >= THRESHOLDS[tag], sample_weight=row)
                for tag in range(5)
            ]
        )
        for row in weights
    ]
    np.testing.assert_allclose(measure_drawn(LABELS, PREDICTIONS, THRESHOLDS, weights)["mcc_best"], expected)


def test_clips_of_a_track_are_drawn_together_and_so_many_tracks_as_there_are() -> None:
    rows = list(draws(TRACKS, 120, seed=1))
    weights = np.concatenate(rows)
    assert weights.shape == (120, 120)
    by_track = weights.reshape(120, 40, 3)
    np.testing.assert_array_equal(by_track, by_track[:, :, :1].repeat(3, axis=2))
    assert set(by_track[:, :, 0].sum(axis=1)) == {40.0}
    np.testing.assert_array_equal(weights, np.concatenate(list(draws(TRACKS, 120, seed=1))))


def test_models_that_differ_in_nothing_are_not_distinguishable_and_a_much_better_one_is() -> None:
    def drawn_of(predictions: Any) -> Any:
        parts = [measure_drawn(LABELS, predictions, THRESHOLDS, weights) for weights in draws(TRACKS, 200)]
        return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}

    better = np.clip(LABELS * 0.6 + RANDOM.random((120, 5)) * 0.4, 0, 1)
    plain, other = measure(LABELS, PREDICTIONS, THRESHOLDS), measure(LABELS, better, THRESHOLDS)
    same = differences(plain, drawn_of(PREDICTIONS), plain, drawn_of(PREDICTIONS))
    assert not any(figure.distinguishable for figure in same.values())
    above = differences(other, drawn_of(better), plain, drawn_of(PREDICTIONS))["roc_auc"]
    assert above.distinguishable
    assert above.low <= above.value <= above.high
    assert Figure(0.1, -0.1, 0.3).distinguishable is False
