"""ROC-AUC, average precision and accuracy, macro and per tag or head, exactly scikit-learn's.

A tag whose labels are all of one class is left out of the means, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score

from components.shared_tags import SharedTags
from models.heads import ONE_OF, Heads

Scores = npt.NDArray[np.floating[Any]]

ROC_AUC = "roc_auc"
PR_AUC = "pr_auc"


@dataclass(frozen=True)
class TagScores:
    """How well tags are told apart.

    Attributes:
        roc_auc: macro mean of ROC-AUC over the tags with both classes; NaN where there is none.
        pr_auc: macro mean of average precision over the same tags.
        per_tag: tag -> (ROC-AUC, average precision); NaN for a tag of one class.
    """

    roc_auc: float
    pr_auc: float
    per_tag: Mapping[str, tuple[float, float]]

    @property
    def scored_tags(self) -> int:
        """Number of tags that have both classes and count in the means."""
        return sum(not math.isnan(roc) for roc, _ in self.per_tag.values())


def score_tags(labels: Scores, predictions: Scores, tags: Sequence[str]) -> TagScores:
    """Score predictions against labels.

    Args:
        labels: 0 or 1, float [clips, tags].
        predictions: probabilities, float [clips, tags].
        tags: names, in the order of the columns.

    Raises:
        ValueError: the shapes differ, or are not those of so many tags.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 2 or labels.shape[1] != len(tags):
        raise ValueError(f"labels {labels.shape} and predictions {predictions.shape} for {len(tags)} tags")
    per_tag = {}
    for column, tag in enumerate(tags):
        truth, score = labels[:, column] > 0.5, predictions[:, column]
        both = bool(truth.any()) and not bool(truth.all())
        per_tag[tag] = (
            (float(roc_auc_score(truth, score)), float(average_precision_score(truth, score)))
            if both
            else (math.nan, math.nan)
        )
    scored = [pair for pair in per_tag.values() if not math.isnan(pair[0])]
    roc, precision = np.mean(scored, axis=0) if scored else (math.nan, math.nan)
    return TagScores(float(roc), float(precision), per_tag)


def score_shared_tags(clips: Sequence[Sequence[str]], predictions: Scores, shared: SharedTags) -> TagScores:
    """Score a model on clips of another data set, by the tags that both have.

    Args:
        clips: each one's tags, as its data set calls them.
        predictions: probabilities, float [clips, model's tags].
        shared: the model's tags and what the data calls them.

    Returns:
        Scores of the shared tags alone.

    Raises:
        ValueError: the shapes differ.
    """
    labels, predictions = shared.labels(clips), np.asarray(predictions)
    if labels.shape != predictions.shape:
        raise ValueError(f"predictions {predictions.shape} for {len(clips)} clips and {len(shared.tags)} tags")
    kept = [at for at, names in enumerate(shared.answers) if names]
    return score_tags(labels[:, kept], predictions[:, kept], shared.scored)


def head_accuracies(labels: Scores, predictions: Scores, heads: Heads) -> dict[str, float]:
    """Accuracy of each one-of head: how often its most probable tag is the clip's.

    Args:
        labels: 0 or 1, float [clips, outputs].
        predictions: probabilities, float [clips, outputs].
        heads: slices of the columns.

    Returns:
        Head -> accuracy over the clips that are labelled with one of its tags; a head without such clips is left out.
    """
    accuracies = {}
    for head, at in heads.slices():
        labelled = np.asarray(labels)[:, at].sum(axis=1) > 0
        if head.kind == ONE_OF and labelled.any():
            truth, answer = (np.asarray(values)[labelled, at].argmax(axis=1) for values in (labels, predictions))
            accuracies[head.name] = float(accuracy_score(truth, answer))
    return accuracies
