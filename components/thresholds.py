"""From which probability on a tag counts as heard: best F1 on the validation split."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score, precision_recall_curve

Array = npt.NDArray[np.floating[Any]]


def best_f1_thresholds(labels: Array, predictions: Array) -> npt.NDArray[np.float32]:
    """Choose a threshold for each tag.

    Args:
        labels: 0 or 1, [clips, tags].
        predictions: probabilities, [clips, tags].

    Returns:
        Float32 [tags]; a probability at the threshold counts as heard. A tag that no clip or every clip carries has no
        best F1 of its own and gets the one of all tags together.
    """
    truth = np.asarray(labels) > 0.5
    pooled = _best_f1(truth.ravel(), predictions.ravel()) if truth.any() else 0.5
    chosen = [
        _best_f1(heard, scores) if heard.any() and not heard.all() else pooled
        for heard, scores in zip(truth.T, np.asarray(predictions).T, strict=True)
    ]
    return np.array(chosen, np.float32)


def macro_f1(labels: Array, predictions: Array, thresholds: Array) -> float | None:
    """Macro mean of F1 at the thresholds over the tags that have both classes; None where there is none.

    Args:
        labels: 0 or 1, [clips, tags].
        predictions: probabilities, [clips, tags].
        thresholds: [tags]; a probability at the threshold counts as heard.
    """
    truth = np.asarray(labels) > 0.5
    both = truth.any(axis=0) & ~truth.all(axis=0)
    if not both.any():
        return None
    heard = np.asarray(predictions) >= thresholds
    return float(f1_score(truth[:, both], heard[:, both], average="macro", zero_division=0.0))


def _best_f1(truth: npt.NDArray[np.bool_], scores: Array) -> float:
    """The middle between the lowest score that counts and the next below it, so that rounding does not move a clip."""
    precision, recall, at = precision_recall_curve(truth, scores)
    # (p + r) is 0 where nothing is found at all; the last point has no threshold.
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = float(at[int(np.argmax(f1[:-1]))])
    below = scores[scores < best]
    return (best + float(below.max())) / 2 if below.size else best
