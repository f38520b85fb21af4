"""Scores of networks and of their combinations on the test split: the paper's Table 5, and the model card's figures."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components.combiners import Combination, combined
from components.network_cost import combiner_seconds, megabytes, seconds_for_1000_clips
from components.predictions import Predictions
from components.reader import TransformFacts
from components.tag_scores import head_accuracies, score_tags
from components.thresholds import macro_f1
from models.heads import Heads
from preprocessing.clip_format import ClipFormat
from serving.graph.ensemble import Member
from serving.model_info import DataInfo, SplitScores

Array = npt.NDArray[np.float32]

SCORES_FILE = "scores.json"


def score_models(
    members: Mapping[str, Member],
    combinations: Sequence[Combination],
    combiners: Mapping[str, keras.Model],
    test: Predictions,
    facts: TransformFacts,
    clip: ClipFormat,
) -> dict[str, Any]:
    """Score networks and combinations on the test split: ROC-AUC, PR-AUC, seconds for 1,000 clips, MB."""
    seconds = {name: seconds_for_1000_clips(member, clip) for name, member in members.items()}
    sizes = {name: megabytes(member.model) for name, member in members.items()}
    rows = []
    for name, member in members.items():
        row = _score_row(name, (name,), test.by_network[name], test.labels, facts, seconds[name], sizes[name])
        rows.append({**row, "network": member.network.name})
    for one in combinations:
        combiner = combiners[one.name]
        row = _score_row(
            one.name,
            one.of,
            combined(combiner, test, one.of),
            test.labels,
            facts,
            sum(seconds[name] for name in one.of) + combiner_seconds(combiner),
            sum(sizes[name] for name in one.of) + megabytes(combiner),
        )
        rows.append({**row, "combiner": one.combiner, "fit": one.fit})
    return {
        "test_clips": len(test.labels),
        "machine": _machine(),
        "tags": list(facts.tags),
        "heads": facts.heads.to_json(),
        "models": rows,
    }


def _score_row(
    name: str,
    networks: Sequence[str],
    output: Array,
    labels: Array,
    facts: TransformFacts,
    seconds: float,
    size: float,
) -> dict[str, Any]:
    scores = score_tags(labels, output, facts.tags)
    return {
        "name": name,
        "networks": list(networks),
        "roc_auc": scores.roc_auc,
        "pr_auc": scores.pr_auc,
        "scored_tags": scores.scored_tags,
        "accuracy": head_accuracies(labels, output, facts.heads),
        "seconds_for_1000_clips": seconds,
        "megabytes": size,
        "per_tag": {tag: list(pair) for tag, pair in scores.per_tag.items()},
    }


def split_scores(
    labels: Array, predictions: Array, thresholds: Array, tags: Sequence[str], heads: Heads
) -> SplitScores:
    """What the model card says of one split.

    Args:
        labels: 0 or 1, float32 [clips, outputs].
        predictions: probabilities, float32 [clips, outputs].
        thresholds: float32 [outputs]; a probability at the threshold counts as heard.
        tags: names, in the order of the columns.
        heads: slices of the columns; F1 is of those of multi-label heads, accuracy of the others.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    scores = score_tags(labels, predictions, tags)
    both, own = scores.scored_tags > 0, heads.thresholded
    return SplitScores(
        roc_auc=scores.roc_auc if both else None,
        pr_auc=scores.pr_auc if both else None,
        f1=macro_f1(labels[:, own], predictions[:, own], thresholds[own]) if own.any() else None,
        scored_tags=scores.scored_tags,
        accuracy=head_accuracies(labels, predictions, heads),
    )


def data_info(data: Mapping[str, Any], labels: Mapping[str, Array]) -> DataInfo:
    """What the model card says of the data: ``data`` has name, licence and split; labels are [clips, tags]."""
    return DataInfo(
        name=data["name"],
        licence=data["licence"],
        split=data["split"],
        clips={split: len(truth) for split, truth in labels.items()},
        clips_with_tag={split: tuple(int(count) for count in truth.sum(axis=0)) for split, truth in labels.items()},
    )


def _machine() -> str:
    gpus = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in _gpus()]
    return ", ".join(gpus) if gpus else f"{os.cpu_count()} {platform.machine()} CPU cores"


def _gpus() -> list[Any]:
    return list(tf.config.list_physical_devices("GPU"))
