"""EnsembleTrainer: the networks' predictions, computed once; combiners fitted on them; the export.

TFX's Trainer takes one base model; this component takes one model a network. Every network is asked once about every
clip, from the waveform, as it will be when it is served. The combiners (Bengani et al. 2019, Table 4) are fitted on
those predictions: on predictions for clips that the networks did not learn from, unless the paper's way is asked for.
All networks and combinations are scored on the test split (the paper's Table 5); the configured one is exported.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import keras
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from components.combiners import Combination, combined, fit_combiners
from components.labels import read_settings
from components.model_scores import SCORES_FILE, data_info, score_models, split_scores
from components.predictions import Predictions, keep_predictions, predict_split, split_patterns
from components.reader import TransformFacts, transform_facts
from components.thresholds import best_f1_thresholds
from components.trained_network import load_network, write_history
from components.training_settings import IN_SAMPLE
from preprocessing.clip_format import ClipFormat
from preprocessing.constants import SPLITS
from preprocessing.whole_files import write_whole
from serving.graph.ensemble import Ensemble, Member
from serving.graph.export import export_ensemble, write_engine_files

log = logging.getLogger(__name__)

PREDICTIONS_FILE = "predictions.npz"


class EnsembleTrainerExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Predicts, fits the combiners, scores, exports."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the model's SavedModel, and scores, curves and predictions beside it.

        Raises:
            ValueError: inputs do not fit each other, or a combiner's loss is not finite.
        """
        config = json.loads(exec_properties["config"])
        given = _Given.read(config, input_dict)
        run_dir = artifact_utils.get_single_uri(output_dict["model_run"])
        model = artifact_utils.get_single_instance(output_dict["model"])

        splits = _predict_all(given, input_dict["examples"])
        keep_predictions(os.path.join(run_dir, PREDICTIONS_FILE), splits)
        heads = given.facts.heads
        combiners, histories = fit_combiners(given.combinations, splits, given.uris, heads, config["settings"], run_dir)
        write_history(run_dir, {"combiners": histories})
        scores = score_models(given.members, given.combinations, combiners, splits["test"], given.facts, given.clip)
        _write_scores(os.path.join(run_dir, SCORES_FILE), scores, config["push"])
        _export(given, combiners, splits, config, path_utils.serving_model_dir(model.uri))
        model.set_string_custom_property("ensemble", config["push"])


@dataclass(frozen=True)
class _Given:
    """What there is to combine: name -> network, name -> the Trainer's folder, and what is to be made of them."""

    members: Mapping[str, Member]
    uris: Mapping[str, str]
    combinations: Sequence[Combination]
    facts: TransformFacts
    clip: ClipFormat

    @classmethod
    def read(cls, config: Mapping[str, Any], input_dict: Mapping[str, list[types.Artifact]]) -> _Given:
        uris = {name: artifact_utils.get_single_uri(input_dict[name]) for name in config["networks"]}
        graph = artifact_utils.get_single_uri(input_dict["transform_graph"])
        return cls(
            {name: load_network(uri) for name, uri in uris.items()},
            uris,
            [Combination.from_json(values) for values in config["combinations"]],
            transform_facts(graph, read_settings(config["heads"])),
            ClipFormat(**config["clip"]),
        )


def _write_scores(path: str, scores: Mapping[str, Any], pushed: str) -> None:
    write_whole(path, json.dumps({**scores, "pushed": pushed}, indent=1))
    for row in scores["models"]:
        log.warning("%-32s test ROC-AUC %.4f, PR-AUC %.4f", row["name"], row["roc_auc"], row["pr_auc"])


def _export(
    given: _Given,
    combiners: Mapping[str, keras.Model],
    splits: Mapping[str, Predictions],
    config: Mapping[str, Any],
    model_dir: str,
) -> None:
    """Export the network or combination that is pushed, with thresholds and the model card's figures."""
    pushed = next((one for one in given.combinations if one.name == config["push"]), None)
    chosen = (config["push"],) if pushed is None else pushed.of
    combiner = None if pushed is None else combiners[pushed.name]
    kind = "dense" if pushed is None else pushed.combiner
    facts, members = given.facts, [given.members[name] for name in chosen]
    ensemble = Ensemble(members, combiner, facts.heads, given.clip, kind)
    outputs = {
        split: splits[split].by_network[chosen[0]] if combiner is None else combined(combiner, splits[split], chosen)
        for split in splits
        if split != "train"
    }
    labels = {split: answers.labels for split, answers in splits.items()}
    thresholds = best_f1_thresholds(labels["valid"], outputs["valid"])
    scores = {
        split: split_scores(labels[split], output, thresholds, facts.tags, facts.heads)
        for split, output in outputs.items()
    }
    data = data_info(config["data"], labels)
    info = export_ensemble(model_dir, ensemble, facts.tags, thresholds.tolist(), data, scores)
    write_engine_files(model_dir, ensemble, info)


def _predict_all(given: _Given, examples: list[types.Artifact]) -> dict[str, Predictions]:
    """Ask the networks about the splits; about the training split where a combiner is fitted on their answers there."""
    in_sample = any(one.fitted_on == IN_SAMPLE for one in given.combinations)
    splits = {}
    for split in SPLITS:
        started = time.perf_counter()
        asked = list(given.members.values()) if split != "train" or in_sample else []
        splits[split] = predict_split(asked, split_patterns(examples, split), given.facts, given.clip)
        clips, seconds = len(splits[split].clip_ids), time.perf_counter() - started
        log.warning("%d networks on %s: %d clips in %.0f s", len(asked), split, clips, seconds)
    return splits


Spec = TypeVar("Spec", bound=ComponentSpec)


def with_inputs(spec: type[Spec], inputs: Mapping[str, ChannelParameter]) -> type[Spec]:
    """Return a component's interface with further inputs, which a configuration chooses."""
    return type(spec.__name__, (spec,), {"INPUTS": {**spec.INPUTS, **inputs}, "__module__": spec.__module__})


class EnsembleTrainerSpec(ComponentSpec):  # type: ignore[misc]
    """EnsembleTrainer's interface; ``of_networks`` adds one model a network."""

    PARAMETERS: ClassVar[dict[str, Any]] = {"config": ExecutionParameter(type=str)}
    INPUTS: ClassVar[dict[str, Any]] = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
    }
    OUTPUTS: ClassVar[dict[str, Any]] = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "model_run": ChannelParameter(type=standard_artifacts.ModelRun),
    }

    @classmethod
    def of_networks(cls, names: Sequence[str]) -> type[EnsembleTrainerSpec]:
        """Return the interface for networks of these names, which a configuration chooses."""
        return with_inputs(cls, {name: ChannelParameter(type=standard_artifacts.Model) for name in names})


class EnsembleTrainer(base_component.BaseComponent):  # type: ignore[misc]
    """Fits and scores the combinations of the networks and exports the configured one."""

    SPEC_CLASS = EnsembleTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(EnsembleTrainerExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        networks: Mapping[str, types.BaseChannel],
        config: Mapping[str, Any],
    ) -> None:
        """Construct the component.

        Args:
            examples: the raw ones.
            transform_graph: Transform's.
            networks: name -> the Trainer's model.
            config: ``networks`` (names in order), ``combinations`` (Combination as JSON), ``push`` (name of the network
                or combination to export), ``settings`` (FitSettings of combiners that are trained in epochs),
                ``heads``, ``clip``, ``data`` (name, licence and split, for the model card) and ``code``.
        """
        super().__init__(
            spec=EnsembleTrainerSpec.of_networks(list(networks))(
                examples=examples,
                transform_graph=transform_graph,
                config=json.dumps(config, sort_keys=True),
                model=types.Channel(type=standard_artifacts.Model),
                model_run=types.Channel(type=standard_artifacts.ModelRun),
                **networks,
            )
        )
