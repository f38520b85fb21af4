"""The Evaluator's metric: components.tag_scores as a metric of TFMA, for each model of an evaluation.

TFMA's own AUC counts on 10,000 uniform thresholds: wrong for small scores, and a tag of one class counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import tensorflow_model_analysis as tfma

from components.tag_scores import PR_AUC, ROC_AUC, head_accuracies, score_tags
from models.heads import ONE_OF, Heads

SCORED_TAGS = "scored_tags"
ACCURACY = "accuracy"

Accumulator = list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]


class _CollectScores(beam.CombineFn):  # type: ignore[misc]
    """Collects labels and predictions (400 bytes a clip) and asks scikit-learn at the end."""

    def __init__(self, heads: Heads, keys: Mapping[str, tfma.metrics.MetricKey], model: str, **kwargs: Any) -> None:
        self._heads = heads
        self._tags = tag_numbers(heads.size)
        self._keys = keys
        self._model = model
        self._kwargs = kwargs

    def create_accumulator(self) -> Accumulator:
        return []

    def add_input(self, accumulator: Accumulator, element: tfma.metrics.StandardMetricInputs) -> Accumulator:
        for label, prediction, _ in tfma.metrics.to_label_prediction_example_weight(
            element, model_name=self._model, flatten=False, **self._kwargs
        ):
            width = len(self._tags)
            accumulator.append(
                (np.reshape(label, [-1, width]).astype("f4"), np.reshape(prediction, [-1, width]).astype("f4"))
            )
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Accumulator]) -> Accumulator:
        return [pair for accumulator in accumulators for pair in accumulator]

    def extract_output(self, accumulator: Accumulator) -> dict[tfma.metrics.MetricKey, float]:
        width = len(self._tags)
        labels, predictions = (
            np.concatenate(arrays) if accumulator else np.zeros([0, width], "f4")
            for arrays in (zip(*accumulator, strict=True) if accumulator else ((), ()))
        )
        # Sorted, so that the figures do not depend on the order in which workers' parts arrive.
        order = np.lexsort(np.concatenate([labels, predictions], axis=1).T)
        scores = score_tags(labels[order], predictions[order], self._tags)
        values = {ROC_AUC: scores.roc_auc, PR_AUC: scores.pr_auc, SCORED_TAGS: float(scores.scored_tags)}
        for tag, (roc, precision) in scores.per_tag.items():
            values[f"{ROC_AUC}/{tag}"], values[f"{PR_AUC}/{tag}"] = roc, precision
        accuracies = head_accuracies(labels, predictions, self._heads)
        values |= {f"{ACCURACY}/{name}": accuracies.get(name, math.nan) for name in one_of_heads(self._heads)}
        return {self._keys[name]: value for name, value in values.items()}


def one_of_heads(heads: Heads) -> list[str]:
    """Names of the heads that have an accuracy."""
    return [head.name for head in heads.heads if head.kind == ONE_OF]


class MacroTagScores(tfma.metrics.Metric):  # type: ignore[misc]
    """TFMA metric: ``roc_auc``, ``pr_auc``, ``scored_tags``, per tag ``roc_auc/NN`` and ``pr_auc/NN``, per one-of head
    ``accuracy/NAME``. The tags of a one-of head count in the means as one tag against the others.

    NN is the tag's place in the model's outputs: the names are learnt by Transform, after this is configured.
    """

    def __init__(
        self, heads: list[dict[str, Any]], name: str = "tag_scores", shared: dict[str, Any] | None = None
    ) -> None:
        """Score the outputs of heads, given as models.heads.Heads.to_json gives them.

        ``shared`` (components.shared_tags) is for the extractor of labels; a tag that is not shared has one class.
        """
        super().__init__(_computations, heads=heads, name=name, shared=shared)


def tag_numbers(n_tags: int) -> list[str]:
    """How the metric names the tags: ``00``, ``01``, ..."""
    return [f"{number:02d}" for number in range(n_tags)]


def _computations(
    heads: list[dict[str, Any]],
    name: str | None = None,
    eval_config: Any = None,
    model_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    **_: Any,
) -> list[tfma.metrics.MetricComputation]:
    """One computation a model: all values come from the one collection of its scores."""
    scored = Heads.from_json(heads)
    names = [
        ROC_AUC,
        PR_AUC,
        SCORED_TAGS,
        *(f"{kind}/{tag}" for tag in tag_numbers(scored.size) for kind in (ROC_AUC, PR_AUC)),
        *(f"{ACCURACY}/{name}" for name in one_of_heads(scored)),
    ]
    computations = []
    for model in model_names or [""]:
        for output in output_names or [""]:
            keys = {
                value: tfma.metrics.MetricKey(name=value, model_name=model, output_name=output, example_weighted=None)
                for value in names
            }
            combiner = _CollectScores(scored, keys, model, output_name=output, eval_config=eval_config)
            computations.append(tfma.metrics.MetricComputation(list(keys.values()), None, combiner))
    return computations
