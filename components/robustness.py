"""How much worse a model hears deformed sound, and a gate on that.

RobustnessScorer asks the exported model, as it will be served, about the clean test split and about each deformed one
(components.deformed_examples). RobustnessGate takes the Evaluator's blessing away from a model whose ROC-AUC drops more
than is allowed: what it gives is the blessing that the Pusher reads.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import tensorflow as tf
from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from components.deformed_examples import deformed_patterns
from components.shared_tags import SharedTags
from components.source_hash import source_hash
from components.tag_scores import PR_AUC, ROC_AUC, score_shared_tags
from preprocessing.examples import decode_tags, read_records
from preprocessing.whole_files import write_whole
from serving.model_info import read_model_info

log = logging.getLogger(__name__)

ROBUSTNESS_FILE: Final = "robustness.json"
CLEAN: Final = "clean"
"""The test split as it is, beside the names of deformations."""
REASONS: Final = "gate_reasons"
"""Property of the blessing: a line for each deformation under which the model drops too much."""
BATCH: Final = 8

Scores = dict[str, dict[str, float]]
"""Deformation, or CLEAN -> ``roc_auc`` and ``pr_auc``, macro means."""


def score_model(model_dir: str, splits: Mapping[str, Sequence[str]], shared: SharedTags | None = None) -> Scores:
    """Score an exported model on several splits.

    Args:
        model_dir: its SavedModel, with a card.
        splits: name -> TFRecord files of raw examples.
        shared: which tags of the data answer for the model's; None where they have the same names.

    Raises:
        ValueError: a file of records is cut.
    """
    tags = shared or _same_names(read_model_info(Path(model_dir)).tags)
    answer = tf.saved_model.load(model_dir).signatures["serving_default"]
    scores = {}
    for name, files in splits.items():
        clips: list[list[str]] = []
        predictions: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        for records in _batches(files):
            clips += map(decode_tags, records)
            predictions.append(answer(examples=tf.constant(records))["predictions"].numpy())
        found = score_shared_tags(clips, np.concatenate(predictions), tags)
        scores[name] = {ROC_AUC: found.roc_auc, PR_AUC: found.pr_auc}
        log.warning("%s: test ROC-AUC %.4f, PR-AUC %.4f", name, found.roc_auc, found.pr_auc)
    return scores


def _same_names(tags: Sequence[str]) -> SharedTags:
    return SharedTags(tuple(tags), tuple((tag,) for tag in tags))


def _batches(files: Sequence[str]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for path in files:
        with open(path, "rb") as file:
            for record in read_records(file):
                batch.append(record)
                if len(batch) == BATCH:
                    yield batch
                    batch = []
    if batch:
        yield batch


def excessive_drops(scores: Scores, limits: Mapping[str, float]) -> list[str]:
    """Say where a model drops too much: a line with the figures for each deformation.

    Args:
        scores: of the clean split and of the deformations.
        limits: deformation -> largest drop of ROC-AUC below the clean one that is allowed.
    """
    clean, lines = scores[CLEAN][ROC_AUC], []
    for name, allowed in limits.items():
        deformed = scores[name][ROC_AUC]
        if math.isnan(clean - deformed):
            lines.append(f"{name}: nothing was measured: no tag has both classes in the test split")
        elif clean - deformed > allowed:
            lines.append(
                f"ROC-AUC under {name} is {deformed:.4f}, {clean - deformed:.4f} below the clean {clean:.4f}; "
                f"at most {allowed:.4f} is allowed"
            )
    return lines


def read_scores(folder: str) -> Scores:
    """Read what a RobustnessScorer kept.

    Raises:
        FileNotFoundError: it is not there.
    """
    with open(os.path.join(folder, ROBUSTNESS_FILE), encoding="utf-8") as file:
        scores: Scores = json.load(file)
    return scores


class RobustnessScorerExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Asks the model about the clean split and the deformed ones."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the scores, and each ROC-AUC as a property.

        Raises:
            ValueError: a file of records is cut.
        """
        config = json.loads(exec_properties["config"])
        model_dir = path_utils.serving_model_dir(artifact_utils.get_single_uri(input_dict["model"]))
        (clean,) = artifact_utils.get_split_uris(input_dict["examples"], "test")
        patterns = {CLEAN: [os.path.join(clean, "*")]}
        patterns |= {name: deformed_patterns(input_dict["deformed"], name) for name in config["deformations"]}
        shared = None if config["shared"] is None else SharedTags.from_json(config["shared"])
        splits = {name: sorted(tf.io.gfile.glob(of_split)) for name, of_split in patterns.items()}
        scores = score_model(model_dir, splits, shared)
        robustness = artifact_utils.get_single_instance(output_dict["robustness"])
        os.makedirs(robustness.uri, exist_ok=True)
        write_whole(os.path.join(robustness.uri, ROBUSTNESS_FILE), json.dumps(scores, indent=1).encode())
        for name, values in scores.items():
            robustness.set_float_custom_property(f"{ROC_AUC}.{name}", values[ROC_AUC])


class RobustnessScorerSpec(ComponentSpec):  # type: ignore[misc]
    """RobustnessScorer's interface."""

    PARAMETERS: ClassVar[dict[str, Any]] = {"config": ExecutionParameter(type=str)}
    INPUTS: ClassVar[dict[str, Any]] = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "deformed": ChannelParameter(type=standard_artifacts.Examples),
        "model": ChannelParameter(type=standard_artifacts.Model),
    }
    OUTPUTS: ClassVar[dict[str, Any]] = {"robustness": ChannelParameter(type=standard_artifacts.ModelEvaluation)}


class RobustnessScorer(base_component.BaseComponent):  # type: ignore[misc]
    """Scores an exported model on deformed test splits."""

    SPEC_CLASS = RobustnessScorerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RobustnessScorerExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        deformed: types.BaseChannel,
        model: types.BaseChannel,
        deformations: Sequence[str],
        shared: SharedTags | None = None,
    ) -> None:
        """Construct the component.

        Args:
            examples: the raw ones, with a split ``test``.
            deformed: DeformedExamples'.
            model: an exported one.
            deformations: names.
            shared: which tags of the data answer for the model's; None where they have the same names.
        """
        config = {
            "deformations": list(deformations),
            "shared": None if shared is None else shared.to_json(),
            "code": source_hash("components.robustness"),
        }
        super().__init__(
            RobustnessScorerSpec(
                examples=examples,
                deformed=deformed,
                model=model,
                config=json.dumps(config, sort_keys=True),
                robustness=types.Channel(type=standard_artifacts.ModelEvaluation),
            )
        )


class RobustnessGateExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Blesses what the Evaluator blessed and what drops no more than is allowed."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the blessing, and the reasons of a refusal as its property."""
        scores = read_scores(artifact_utils.get_single_uri(input_dict["robustness"]))
        lines = excessive_drops(scores, json.loads(exec_properties["limits"]))
        for line in lines:
            log.warning("not robust enough: %s", line)
        before = artifact_utils.get_single_instance(input_dict["blessing"])
        blessing = artifact_utils.get_single_instance(output_dict["robust_blessing"])
        blessed = model_utils.is_model_blessed(before) and not lines
        os.makedirs(blessing.uri, exist_ok=True)
        name = "BLESSED" if blessed else "NOT_BLESSED"
        write_whole(os.path.join(blessing.uri, name), "\n".join(lines).encode())
        blessing.set_int_custom_property("blessed", int(blessed))
        blessing.set_string_custom_property(REASONS, "\n".join(lines))


class RobustnessGateSpec(ComponentSpec):  # type: ignore[misc]
    """RobustnessGate's interface."""

    PARAMETERS: ClassVar[dict[str, Any]] = {"limits": ExecutionParameter(type=str)}
    INPUTS: ClassVar[dict[str, Any]] = {
        "robustness": ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
    }
    OUTPUTS: ClassVar[dict[str, Any]] = {"robust_blessing": ChannelParameter(type=standard_artifacts.ModelBlessing)}


class RobustnessGate(base_component.BaseComponent):  # type: ignore[misc]
    """What stands between the Evaluator and the Pusher where robustness is asked for."""

    SPEC_CLASS = RobustnessGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RobustnessGateExecutor)

    def __init__(self, robustness: types.BaseChannel, blessing: types.BaseChannel, limits: Mapping[str, float]) -> None:
        """Construct the component.

        Args:
            robustness: RobustnessScorer's.
            blessing: the Evaluator's.
            limits: deformation -> largest drop of ROC-AUC.
        """
        super().__init__(
            RobustnessGateSpec(
                robustness=robustness,
                blessing=blessing,
                limits=json.dumps(dict(limits), sort_keys=True),
                robust_blessing=types.Channel(type=standard_artifacts.ModelBlessing),
            )
        )
