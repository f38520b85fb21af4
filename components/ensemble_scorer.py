"""EnsembleScorer: one combination of a comparison's networks, fitted, scored and costed like a network.

What its networks said of the validation and the test split, deformed too, stands in their evaluations; no network is
asked again, but where the combiner is fitted on their answers for the training split (``fit: in_sample``).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

import keras
import numpy as np
import numpy.typing as npt
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.combiners import Combination, combined, fit_combiners
from components.ensemble_trainer import with_inputs
from components.kept_answers import ANSWERS_FILE, COSTS, DEFORMED
from components.labels import read_settings
from components.network_cost import combiner_seconds
from components.network_scorer import SPLITS, keep_evaluation
from components.predictions import Predictions, predict_split, split_patterns
from components.reader import transform_facts
from components.trained_network import load_network
from components.training_settings import IN_SAMPLE, OUT_OF_FOLD
from preprocessing.clip_format import ClipFormat

Arrays = Mapping[str, npt.NDArray[Any]]
BYTES: Final = 4
"""Of a combiner's weight."""


class EnsembleScorerExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Fits the combiner, combines, scores."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the answers, and figures as properties.

        Raises:
            ValueError: the networks were scored on different clips, or a combiner's loss is not finite.
        """
        config = json.loads(exec_properties["config"])
        combination = Combination.from_json({**config, "name": config["entry"]})
        evaluations = [artifact_utils.get_single_instance(input_dict[f"evaluation_{name}"]) for name in combination.of]
        kept = {name: _read(one.uri) for name, one in zip(combination.of, evaluations, strict=True)}
        splits = {split: _side_by_side(kept, split) for split in SPLITS}
        combiner = _fit(combination, config, splits, input_dict)
        arrays = _combined_answers(combiner, combination.of, kept, splits, config["deformations"])
        costs = _summed_costs(evaluations, combiner)
        keep_evaluation(artifact_utils.get_single_instance(output_dict["evaluation"]), config, arrays, costs)


def _fit(
    combination: Combination,
    config: Mapping[str, Any],
    splits: Mapping[str, Predictions],
    input_dict: Mapping[str, list[types.Artifact]],
) -> keras.Model:
    """Fit the combiner; the training split is read, and networks are asked, where it is fitted on that."""
    graph = artifact_utils.get_single_uri(input_dict["transform_graph"])
    facts = transform_facts(graph, read_settings(config["heads"]))
    models = {name: artifact_utils.get_single_uri(input_dict[f"model_{name}"]) for name in combination.of}
    fitting_splits = dict(splits)
    if combination.fitted_on in (IN_SAMPLE, OUT_OF_FOLD):
        asked = [load_network(uri) for uri in models.values()] if combination.fitted_on == IN_SAMPLE else []
        patterns = split_patterns(input_dict["examples"], "train")
        fitting_splits["train"] = predict_split(asked, patterns, facts, ClipFormat(**config["clip"]))
    with tempfile.TemporaryDirectory() as folder:
        combiners, _ = fit_combiners([combination], fitting_splits, models, facts.heads, config["settings"], folder)
    return combiners[combination.name]


def _combined_answers(
    combiner: keras.Model,
    names: Sequence[str],
    kept: Mapping[str, Arrays],
    splits: Mapping[str, Predictions],
    deformations: Sequence[str],
) -> dict[str, npt.NDArray[Any]]:
    """Return the answers of both splits, deformed too, as keep_evaluation takes them."""
    first = kept[names[0]]
    arrays: dict[str, npt.NDArray[Any]] = {"tags": first["tags"]}
    for split in SPLITS:
        arrays |= {f"{split}/{part}": first[f"{split}/{part}"] for part in ("clip_ids", "tracks", "labels")}
        arrays[f"{split}/predictions"] = combined(combiner, splits[split], names)
    for name in deformations:
        deformed = {one: arrays_of[f"{DEFORMED}{name}"] for one, arrays_of in kept.items()}
        arrays[f"{DEFORMED}{name}"] = combined(combiner, replace(splits["test"], by_network=deformed), names)
    return arrays


def _summed_costs(evaluations: Sequence[types.Artifact], combiner: keras.Model) -> dict[str, float]:
    """Return COSTS of the networks together, and of the combiner."""
    costs = {cost: sum(one.get_float_custom_property(cost) for one in evaluations) for cost in COSTS}
    weights = combiner.count_params()
    costs["parameters"] += weights
    for size in ("megabytes_float32", "megabytes_int8"):
        costs[size] += BYTES * weights / 1e6
    costs["seconds_for_1000_clips"] += combiner_seconds(combiner)
    return costs


def _read(folder: str) -> Arrays:
    with np.load(os.path.join(folder, ANSWERS_FILE)) as arrays:
        return dict(arrays)


def _side_by_side(kept: Mapping[str, Arrays], split: str) -> Predictions:
    """What the networks said of one split.

    Raises:
        ValueError: they were asked about different clips or tags.
    """
    (name, first), *others = kept.items()
    for other, arrays in others:
        for part in ("tags", f"{split}/clip_ids", f"{split}/labels"):
            if not np.array_equal(arrays[part], first[part]):
                raise ValueError(f"{other} and {name} were scored on other clips or tags: {part} differ")
    return Predictions(
        tuple(first[f"{split}/clip_ids"].tolist()),
        tuple(first[f"{split}/tracks"].tolist()),
        first[f"{split}/labels"],
        {name: arrays[f"{split}/predictions"] for name, arrays in kept.items()},
    )


class EnsembleScorerSpec(ComponentSpec):  # type: ignore[misc]
    """EnsembleScorer's interface, without its networks."""

    PARAMETERS: ClassVar[dict[str, Any]] = {"config": ExecutionParameter(type=str)}
    INPUTS: ClassVar[dict[str, Any]] = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
    }
    OUTPUTS: ClassVar[dict[str, Any]] = {"evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation)}

    @classmethod
    def of_networks(cls, names: Sequence[str]) -> type[EnsembleScorerSpec]:
        """Return the interface for networks of these names, which a configuration chooses."""
        each = {}
        for name in names:
            each[f"model_{name}"] = ChannelParameter(type=standard_artifacts.Model)
            each[f"evaluation_{name}"] = ChannelParameter(type=standard_artifacts.ModelEvaluation)
        return with_inputs(cls, each)


class EnsembleScorer(base_component.BaseComponent):  # type: ignore[misc]
    """Scores one combination of a comparison."""

    SPEC_CLASS = EnsembleScorerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(EnsembleScorerExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        models: Mapping[str, types.BaseChannel],
        evaluations: Mapping[str, types.BaseChannel],
        config: dict[str, Any],
    ) -> None:
        """Construct the component.

        Args:
            examples: the raw ones.
            transform_graph: Transform's.
            models: name -> the Trainer's.
            evaluations: name -> the NetworkScorer's.
            config: ``entry`` (name in the comparison), ``of`` (names in order), ``combiner`` and ``fit`` as
                components.combiners has them, ``settings`` (FitSettings of a combiner that is trained in epochs),
                ``heads``, ``clip``, ``deformations`` and ``comparison_key``.
        """
        each = {f"model_{name}": channel for name, channel in models.items()}
        each |= {f"evaluation_{name}": channel for name, channel in evaluations.items()}
        super().__init__(
            spec=EnsembleScorerSpec.of_networks(list(models))(
                examples=examples,
                transform_graph=transform_graph,
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                config=json.dumps(config, sort_keys=True),
                **each,
            )
        )
