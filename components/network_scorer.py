"""NetworkScorer: what one trained network says of the validation and the test split, deformed too, and what it costs.

One network is in memory at a time. What it says is kept whole, so that any figure can be computed from it afterwards
(components.comparison_metrics); the plain ones and the cost stand as properties of the artifact in ML Metadata.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.comparison_metrics import measure
from components.deformed_examples import deformed_patterns
from components.kept_answers import ANSWERS_FILE, COSTS, DEFORMED, KEY
from components.labels import read_settings
from components.network_cost import cpu_seconds_of_a_clip, litert_bytes
from components.predictions import predict_split, split_patterns
from components.reader import TransformFacts, transform_facts
from components.thresholds import best_f1_thresholds
from components.trained_network import HISTORY_FILE, load_network
from models.heads import Heads
from preprocessing.clip_format import ClipFormat
from preprocessing.whole_files import open_whole
from serving.graph.ensemble import Member

log = logging.getLogger(__name__)

SPLITS: Final = ("valid", "test")


class NetworkScorerExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Predicts, scores, measures the cost."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the answers, and figures as properties.

        Raises:
            ValueError: a split has no files, or a deformed one other clips.
        """
        config = json.loads(exec_properties["config"])
        clip = ClipFormat(**config["clip"])
        graph = artifact_utils.get_single_uri(input_dict["transform_graph"])
        facts = transform_facts(graph, read_settings(config["heads"]))
        member = load_network(artifact_utils.get_single_uri(input_dict["model"]))
        arrays = _answers(member, facts, clip, config["deformations"], input_dict)
        minutes = training_minutes(artifact_utils.get_single_uri(input_dict["model_run"]))
        costs = {**_costs(member, facts.heads, clip), "training_minutes": minutes}
        keep_evaluation(artifact_utils.get_single_instance(output_dict["evaluation"]), config, arrays, costs)


def _answers(
    member: Member,
    facts: TransformFacts,
    clip: ClipFormat,
    deformations: Sequence[str],
    input_dict: Mapping[str, list[types.Artifact]],
) -> dict[str, npt.NDArray[Any]]:
    """Return what the network says of both splits, deformed too, as keep_evaluation takes it.

    Raises:
        ValueError: a split has no files, or a deformed one other clips.
    """
    arrays: dict[str, npt.NDArray[Any]] = {"tags": np.array(facts.tags)}
    for split in SPLITS:
        answers = predict_split([member], split_patterns(input_dict["examples"], split), facts, clip)
        arrays |= {
            f"{split}/clip_ids": np.array(answers.clip_ids),
            f"{split}/tracks": np.array(answers.tracks),
            f"{split}/labels": answers.labels,
            f"{split}/predictions": answers.by_network[member.name],
        }
    for name in deformations:
        answers = predict_split([member], deformed_patterns(input_dict["deformed"], name), facts, clip)
        if not np.array_equal(answers.clip_ids, arrays["test/clip_ids"]):
            raise ValueError(f"{name}: other clips than those of the test split")
        arrays[f"{DEFORMED}{name}"] = answers.by_network[member.name]
    return arrays


def _costs(member: Member, heads: Heads, clip: ClipFormat) -> dict[str, float]:
    """Return COSTS of the network where it is served alone."""
    int8 = litert_bytes(member, heads, clip, "int8")
    return {
        "parameters": member.info.parameters,
        "megabytes_float32": len(litert_bytes(member, heads, clip, "float32")) / 1e6,
        "megabytes_int8": len(int8) / 1e6,
        "seconds_for_1000_clips": 1000 * cpu_seconds_of_a_clip(int8, clip),
    }


def keep_evaluation(
    evaluation: types.Artifact,
    config: Mapping[str, Any],
    arrays: dict[str, npt.NDArray[Any]],
    costs: Mapping[str, float],
) -> None:
    """Write the answers, and figures and costs as properties.

    Args:
        evaluation: the artifact.
        config: ``entry`` and ``comparison_key``.
        arrays: as Answers has them, of both splits; thresholds are added.
        costs: COSTS.
    """
    thresholds = best_f1_thresholds(arrays["valid/labels"], arrays["valid/predictions"])
    arrays = {**arrays, "thresholds": np.asarray(thresholds, np.float32)}
    figures = measure(arrays["test/labels"], arrays["test/predictions"], arrays["thresholds"])
    log.warning("%s: test ROC-AUC %.4f, PR-AUC %.4f", config["entry"], figures["roc_auc"], figures["pr_auc"])
    os.makedirs(evaluation.uri, exist_ok=True)
    with open_whole(os.path.join(evaluation.uri, ANSWERS_FILE)) as file:
        np.savez_compressed(file, **arrays)
    for name, value in {**figures, **{cost: costs[cost] for cost in COSTS}}.items():
        evaluation.set_float_custom_property(name, float(value))
    for name in (KEY, "entry"):
        evaluation.set_string_custom_property(name, config[name])


def training_minutes(model_run: str) -> float:
    """Minutes of all epochs, as the Trainer kept them; a training that was killed and went on counts whole."""
    with open(os.path.join(model_run, HISTORY_FILE), encoding="utf-8") as file:
        epochs = json.load(file)["history"]
    return float(sum(epoch["seconds"] for epoch in epochs)) / 60


class NetworkScorerSpec(ComponentSpec):  # type: ignore[misc]
    """NetworkScorer's interface."""

    PARAMETERS: ClassVar[dict[str, Any]] = {"config": ExecutionParameter(type=str)}
    INPUTS: ClassVar[dict[str, Any]] = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
        "model": ChannelParameter(type=standard_artifacts.Model),
        "model_run": ChannelParameter(type=standard_artifacts.ModelRun),
        "deformed": ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }
    OUTPUTS: ClassVar[dict[str, Any]] = {
        "evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation),
    }


class NetworkScorer(base_component.BaseComponent):  # type: ignore[misc]
    """Scores one network of a comparison."""

    SPEC_CLASS = NetworkScorerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(NetworkScorerExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        model: types.BaseChannel,
        model_run: types.BaseChannel,
        config: dict[str, Any],
        deformed: types.BaseChannel | None = None,
    ) -> None:
        """Construct the component.

        Args:
            examples: the raw ones.
            transform_graph: Transform's.
            model: the Trainer's.
            model_run: the Trainer's.
            config: ``entry`` (name in the comparison), ``heads``, ``clip``, ``deformations``, and ``comparison_key``,
                what says of what code, settings and data the evaluation is.
            deformed: DeformedExamples', where there are deformations.
        """
        super().__init__(
            NetworkScorerSpec(
                examples=examples,
                transform_graph=transform_graph,
                model=model,
                model_run=model_run,
                **({} if deformed is None else {"deformed": deformed}),
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                config=json.dumps(config, sort_keys=True),
            )
        )
