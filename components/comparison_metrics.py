"""What a comparison of taggers measures, and how far each figure can be trusted.

The figures are scikit-learn's. Intervals come from a bootstrap over tracks: clips of one track go together,
and the same draws are used for every model, so that two models are compared on the same clips (Efron and Tibshirani
1993, chapters 13 and 16). A draw weights clips, and the weighted ROC-AUC and average precision of all draws are
computed at once; tests hold them against scikit-learn's with ``sample_weight``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from sklearn.metrics import accuracy_score, hamming_loss, recall_score, roc_auc_score

from components.tag_scores import score_tags

Values = npt.NDArray[np.floating[Any]]
Weights = npt.NDArray[np.float64]

METRICS: Final[dict[str, str]] = {
    "roc_auc": "ROC-AUC, macro",
    "pr_auc": "PR-AUC, macro (average precision)",
    "roc_auc_micro": "ROC-AUC, micro",
    "roc_auc_weighted": "ROC-AUC, weighted by the tags' frequency",
    "mcc_best": "Matthews correlation, macro, at the thresholds of best F1 on the validation split",
    "mcc_half": "Matthews correlation, macro, at 0.5",
    "accuracy": "accuracy, mean over tags, at the thresholds",
    "recall": "recall, mean over tags, at the thresholds",
    "exact_match": "clips all of whose tags are right, at the thresholds",
    "hamming": "Hamming loss, at the thresholds: lower is better",
}
"""Name -> what it is."""
LOWER_IS_BETTER: Final = frozenset({"hamming"})

DRAWS: Final = 1000
DRAWS_AT_ONCE: Final = 50
LEVEL: Final = 0.95


def measure(labels: Values, predictions: Values, thresholds: Values) -> dict[str, float]:
    """Return all of METRICS of one model.

    Args:
        labels: 0 or 1, [clips, tags].
        predictions: probabilities, [clips, tags].
        thresholds: [tags], from which probability on a tag counts as heard.

    Tags of one class are left out of the means over ROC-AUC and average precision, tags without a clip out of recall's.
    """
    truth, heard, half = labels > 0.5, predictions >= thresholds, predictions >= 0.5
    once = np.ones((1, len(labels)))
    both = truth.any(axis=0) & ~truth.all(axis=0)
    some = truth.any(axis=0)
    columns = range(labels.shape[1])
    return {
        **areas(labels, predictions),
        "roc_auc_micro": float(roc_auc_score(truth.ravel(), predictions.ravel())),
        "roc_auc_weighted": float(roc_auc_score(truth[:, both], predictions[:, both], average="weighted")),
        "mcc_best": float(np.mean([_weighted_mcc(truth[:, tag], heard[:, tag], once) for tag in columns])),
        "mcc_half": float(np.mean([_weighted_mcc(truth[:, tag], half[:, tag], once) for tag in columns])),
        "accuracy": float((truth == heard).mean()),
        "recall": float(recall_score(truth[:, some], heard[:, some], average="macro", zero_division=0)),
        "exact_match": float(accuracy_score(truth, heard)),
        "hamming": float(hamming_loss(truth, heard)),
    }


def draws(tracks: npt.ArrayLike, count: int = DRAWS, seed: int = 0) -> Iterator[Weights]:
    """Draw tracks with replacement; yields how often each clip counts, float64 [up to 50 draws, clips].

    Args:
        tracks: [clips], of each clip.
        count: of draws.
        seed: of the draws.
    """
    _, track_of = np.unique(np.asarray(tracks), return_inverse=True)
    size = int(track_of.max()) + 1
    random = np.random.default_rng(seed)
    for first in range(0, count, DRAWS_AT_ONCE):
        drawn = random.multinomial(size, np.full(size, 1 / size), min(DRAWS_AT_ONCE, count - first))
        yield drawn.astype(np.float64)[:, track_of]


def over_draws(tracks: npt.ArrayLike, measured: Callable[[Weights], Mapping[str, Weights]]) -> dict[str, Weights]:
    """Measure all draws of ``draws``, some at a time.

    Args:
        tracks: [clips], of each clip.
        measured: from some draws to figures, name -> float64 [draws].

    Returns:
        Name -> float64 [DRAWS].
    """
    parts = [measured(weights) for weights in draws(tracks)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measure_drawn(labels: Values, predictions: Values, thresholds: Values, weights: Weights) -> dict[str, Weights]:
    """Return all of METRICS for each draw, float64 [draws]; arguments as of measure, and what ``draws`` yields."""
    truth, heard, half = labels > 0.5, predictions >= thresholds, predictions >= 0.5
    roc, precision, positives, mcc_best, mcc_half, recall = [], [], [], [], [], []
    for tag in range(labels.shape[1]):
        areas, averages = weighted_areas(truth[:, tag], predictions[:, tag], weights)
        roc.append(areas)
        precision.append(averages)
        positives.append(weights @ truth[:, tag])
        mcc_best.append(_weighted_mcc(truth[:, tag], heard[:, tag], weights))
        mcc_half.append(_weighted_mcc(truth[:, tag], half[:, tag], weights))
        with np.errstate(invalid="ignore"):
            recall.append((weights @ (truth[:, tag] & heard[:, tag])) / positives[-1])
    clips = weights.sum(axis=1)
    right = (weights @ (truth == heard).mean(axis=1)) / clips
    counted = np.where(np.isnan(roc), 0.0, positives)
    tags = labels.shape[1]
    micro, _ = weighted_areas(truth.ravel(), predictions.ravel(), np.repeat(weights, tags, axis=1))
    return {
        "roc_auc": _mean(roc),
        "pr_auc": _mean(precision),
        "roc_auc_micro": micro,
        "roc_auc_weighted": _mean(roc, counted),
        "mcc_best": np.mean(mcc_best, axis=0),
        "mcc_half": np.mean(mcc_half, axis=0),
        "accuracy": right,
        "recall": _mean(recall),
        "exact_match": (weights @ (truth == heard).all(axis=1)) / clips,
        "hamming": 1 - right,
    }


def areas(labels: Values, predictions: Values) -> dict[str, float]:
    """Return ``roc_auc`` and ``pr_auc`` of ``measure`` alone."""
    scores = score_tags(labels, predictions, [str(tag) for tag in range(labels.shape[1])])
    return {"roc_auc": scores.roc_auc, "pr_auc": scores.pr_auc}


def areas_drawn(labels: Values, predictions: Values, weights: Weights) -> dict[str, Weights]:
    """Return ``roc_auc`` and ``pr_auc`` of ``measure_drawn`` alone, float64 [draws]."""
    truth = labels > 0.5
    of_tags = [weighted_areas(truth[:, tag], predictions[:, tag], weights) for tag in range(labels.shape[1])]
    return {"roc_auc": _mean([one[0] for one in of_tags]), "pr_auc": _mean([one[1] for one in of_tags])}


def weighted_areas(truth: npt.NDArray[np.bool_], scores: Values, weights: Weights) -> tuple[Weights, Weights]:
    """ROC-AUC and average precision of one tag under many weightings.

    Args:
        truth: bool [clips].
        scores: [clips].
        weights: float64 [draws, clips].

    Returns:
        Both float64 [draws]; NaN where one class has no weight.
    """
    order = np.argsort(scores, kind="stable")
    ordered, of_class = scores[order], truth[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    weighted = weights[:, order]
    positive = np.add.reduceat(weighted * of_class, starts, axis=1)
    negative = np.add.reduceat(weighted * ~of_class, starts, axis=1)
    positives, negatives = positive.sum(axis=1), negative.sum(axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    hits = np.cumsum(positive[:, ::-1], axis=1)
    answers = hits + np.cumsum(negative[:, ::-1], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        roc = (positive * below).sum(axis=1) / (positives * negatives)
        precision = np.where(answers > 0, hits / answers, 0.0)
        average = (precision * positive[:, ::-1]).sum(axis=1) / positives
    one_class = (positives == 0) | (negatives == 0)
    return np.where(one_class, math.nan, roc), np.where(one_class, math.nan, average)


def _weighted_mcc(truth: npt.NDArray[np.bool_], heard: npt.NDArray[np.bool_], weights: Weights) -> Weights:
    """Matthews correlation under many weightings, 0 where it is not defined, as scikit-learn has it."""
    both, total = weights @ (truth & heard), weights.sum(axis=1)
    true, said = weights @ truth, weights @ heard
    spread = np.sqrt(true * (total - true) * said * (total - said))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, (both * total - true * said) / spread, 0.0)


def _mean(of_tags: list[Weights], counted: Weights | None = None) -> Weights:
    """Over the tags that have a value in a draw, [tags, draws] -> [draws]; NaN where none has."""
    values = np.asarray(of_tags)
    known = np.where(np.isnan(values), 0.0, 1.0 if counted is None else counted)
    with np.errstate(invalid="ignore"):
        mean: Weights = (np.where(np.isnan(values), 0.0, values) * known).sum(axis=0) / known.sum(axis=0)
    return mean


@dataclass(frozen=True)
class Figure:
    """A figure with its interval.

    Attributes:
        value: on all clips.
        low: lower end of the interval of 95 %.
        high: upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, drawn: Weights) -> Figure:
        """Make one from the figure on all clips and those of the draws.

        Draws repeat clips and leave rare tags out, which lifts average precision: the percentiles are corrected for
        that bias (Efron and Tibshirani 1993, section 14.3, without acceleration).
        """
        known = drawn[~np.isnan(drawn)]
        below = (np.count_nonzero(known < value) + np.count_nonzero(known == value) / 2) / len(known)
        bias = norm.ppf(np.clip(below, 1 / (2 * len(known)), 1 - 1 / (2 * len(known))))
        ends = norm.cdf(2 * bias + norm.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
        low, high = np.quantile(known, ends)
        return cls(float(value), float(low), float(high))

    @property
    def distinguishable(self) -> bool:
        """Of a difference: whether its interval leaves out zero."""
        return not self.low <= 0 <= self.high


def differences(
    figures: Mapping[str, float],
    drawn: Mapping[str, Weights],
    others: Mapping[str, float],
    of_other: Mapping[str, Weights],
) -> dict[str, Figure]:
    """How far one model lies above another, figure by figure, on the same draws.

    Args:
        figures: of the model, on all clips.
        drawn: of the model, in each draw.
        others: of the other model, on all clips.
        of_other: of the other model, in each draw.
    """
    return {name: Figure.of(figures[name] - others[name], drawn[name] - of_other[name]) for name in figures}
