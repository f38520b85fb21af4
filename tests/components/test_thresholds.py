from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from components.thresholds import best_f1_thresholds, macro_f1


def f1(truth: Any, scores: Any, threshold: float) -> float:
    return float(f1_score(truth, scores >= threshold, zero_division=0.0))


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=40))
def test_no_other_threshold_has_a_better_f1(rows: list[tuple[bool, int]]) -> None:
    truth = np.array([[heard] for heard, _ in rows], np.float32)
    scores = np.array([[score / 20] for _, score in rows], np.float32)
    (threshold,) = best_f1_thresholds(truth, scores)
    if not 0 < truth.sum() < len(truth):
        return
    best = max(f1(truth[:, 0], scores[:, 0], candidate) for candidate in np.unique(scores))
    assert f1(truth[:, 0], scores[:, 0], threshold) == pytest.approx(best)


def test_threshold_lies_between_the_last_clip_that_counts_and_the_next() -> None:
    truth = np.array([[1], [1], [0], [0]], np.float32)
    scores = np.array([[0.9], [0.7], [0.3], [0.1]], np.float32)
    assert best_f1_thresholds(truth, scores).tolist() == [0.5]


def test_tag_of_one_class_takes_the_threshold_of_all_tags_together() -> None:
    truth = np.array([[1, 0, 1], [1, 0, 1], [0, 0, 1], [0, 0, 1]], np.float32)
    scores = np.array([[0.9, 0.2, 0.8], [0.7, 0.2, 0.8], [0.3, 0.2, 0.8], [0.1, 0.2, 0.8]], np.float32)
    own, none, every = best_f1_thresholds(truth, scores)
    assert own == 0.5
    assert none == every
    pooled = best_f1_thresholds(truth.reshape(-1, 1), scores.reshape(-1, 1))[0]
    assert none == pooled


def test_without_any_positive_clip_the_threshold_is_one_half() -> None:
    assert best_f1_thresholds(np.zeros((3, 2)), np.full((3, 2), 0.1)).tolist() == [0.5, 0.5]


def test_macro_f1_leaves_out_tags_of_one_class() -> None:
    truth = np.array([[1, 0], [0, 0]], np.float32)
    scores = np.array([[0.9, 0.9], [0.1, 0.9]], np.float32)
    assert macro_f1(truth, scores, np.array([0.5, 0.5])) == 1.0
    assert macro_f1(truth[:, 1:], scores[:, 1:], np.array([0.5])) is None
