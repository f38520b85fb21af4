"""EnsembleTrainer: the networks' predictions, computed once; combiners fitted on them; the export.

TFX's Trainer takes one base model; this component takes one model a network. Every network is asked once about every
clip, from the waveform, as it will be when it is served. The combiners (Bengani et al. 2019, Table 4) are fitted on
those predictions: on predictions for clips that the networks did not learn from, unless the paper's way is asked for.
All networks and combinations are scored on the test split (the paper's Table 5); the configured one is exported.
"""

from __future__ import annotations

import io
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from components.combiners import IN_SAMPLE, OUT_OF_FOLD, CombinerTask, Fit, fit_combiner
from components.labels import read_settings
from components.metrics import head_accuracies, score_tags
from components.reader import TransformFacts, transform_facts, waveform_dataset
from components.thresholds import best_f1_thresholds, macro_f1
from components.training import load_network, read_out_of_fold, write_history
from components.training_settings import FitSettings
from models.heads import Heads
from preprocessing.clip_format import ClipFormat
from preprocessing.constants import SPLITS
from serving.graph.ensemble import Ensemble, Member, Members
from serving.graph.export import export_ensemble, write_engine_files
from serving.model_info import DataInfo, SplitScores

log = logging.getLogger(__name__)

Array = npt.NDArray[np.float32]

SCORES_FILE = "scores.json"
PREDICTIONS_FILE = "predictions.npz"
PREDICT_BATCH = 8
TIMED_CLIPS = 16


@dataclass(frozen=True)
class Combination:
    """Several networks and what makes one answer of theirs.

    Attributes:
        name: of the ensemble, or the networks' names joined.
        of: names of its networks, in the order of the combiner's inputs.
        combiner: kind, of models.combiner.
        fit: on which predictions it is fitted, see components.combiners.
    """

    name: str
    of: tuple[str, ...]
    combiner: str
    fit: Fit

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Combination:
        """Read one of a component's configuration."""
        return cls(values["name"], tuple(values["of"]), values["combiner"], values["fit"])

    @property
    def fitted_on(self) -> Fit | None:
        """As ``fit``; None of a mean, in which nothing is fitted."""
        return None if self.combiner == "mean" else self.fit


@dataclass(frozen=True)
class Predictions:
    """What the networks say of the clips of one split.

    Attributes:
        clip_ids: sorted.
        tracks: of each clip.
        labels: 0 or 1, float32 [clips, outputs].
        by_network: name -> probabilities, float32 [clips, outputs].
    """

    clip_ids: tuple[bytes, ...]
    tracks: tuple[bytes, ...]
    labels: Array
    by_network: dict[str, Array]

    def side_by_side(self, chosen: Sequence[str]) -> Array:
        """The combiner's input, float32 [clips, networks * outputs]."""
        return np.concatenate([self.by_network[name] for name in chosen], axis=1)


def predict_split(
    members: Sequence[Member], patterns: list[str], facts: TransformFacts, clip: ClipFormat
) -> Predictions:
    """Ask all networks about a split, from the waveform; what several of them hear alike is computed once.

    Args:
        members: the networks; none where labels alone are wanted.
        patterns: of the split's raw examples.
        facts: tags and heads.
        clip: what the examples hold.

    Raises:
        ValueError: no file matches.
        BadInputError: a network hears more than a clip.
    """
    asked = Members(members, facts.heads, clip)
    spec = tf.TensorSpec([None, clip.samples], tf.float32)
    step = tf.function(
        lambda waveform: asked.member_answers(asked.features(waveform)), input_signature=[spec], autograph=False
    )
    ids, tracks, labels, answers = [], [], [], []
    for batch in waveform_dataset(patterns, facts.tags, min(PREDICT_BATCH, asked.clips_at_once), clip=clip):
        ids.append(batch["clip_id"].numpy())
        tracks.append(batch["track"].numpy())
        labels.append(batch["labels"].numpy())
        answers.append([answer.numpy() for answer in step(batch["inputs"])])
    clip_ids = np.concatenate(ids)
    order = np.argsort(clip_ids)
    by_network = {
        member.name: np.concatenate(parts)[order]
        for member, parts in zip(members, zip(*answers, strict=True), strict=True)
    }
    return Predictions(
        tuple(clip_ids[order]), tuple(np.concatenate(tracks)[order]), np.concatenate(labels)[order], by_network
    )


def seconds_for_1000_clips(member: Member, clip: ClipFormat) -> float:
    """Measure a network alone, in float32, input in memory: the paper's Table 5 column.

    A clip counts with all windows over which its answer is averaged.
    """
    alone = Ensemble([member], None, Heads.of_tags(member.model.output_shape[-1]), clip)
    (feature,) = alone.hearings
    clips = min(TIMED_CLIPS, alone.clips_at_once)
    windows, *shape = alone.feature_shape(feature)
    network = alone.members[0]
    step = tf.function(lambda read: network.model(read, training=False), autograph=False)
    batch = tf.random.stateless_normal((clips * windows, *shape), seed=(1, 2))
    return _seconds(step, batch) / clips * 1000


def _seconds(step: Any, batch: tf.Tensor, rounds: int = 2) -> float:
    step(batch)
    started = time.perf_counter()
    for _ in range(rounds):
        step(batch).numpy()
    return (time.perf_counter() - started) / rounds


def combiner_seconds(combiner: keras.Model) -> float:
    """As ``seconds_for_1000_clips``, of a combiner."""
    batch = tf.random.stateless_uniform((TIMED_CLIPS, *combiner.input_shape[1:]), seed=(1, 2))
    step = tf.function(lambda inputs: combiner(inputs, training=False), autograph=False)
    return _seconds(step, batch) / TIMED_CLIPS * 1000


def megabytes(network: keras.Model) -> float:
    """Size of a network's float32 weights, in 2**20 bytes."""
    return float(network.count_params()) * 4 / 2**20


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
        clip, names = ClipFormat(**config["clip"]), config["networks"]
        uris = {name: artifact_utils.get_single_uri(input_dict[name]) for name in names}
        facts = transform_facts(
            artifact_utils.get_single_uri(input_dict["transform_graph"]), read_settings(config["heads"])
        )
        members = {name: load_network(uri) for name, uri in uris.items()}
        run_dir = artifact_utils.get_single_uri(output_dict["model_run"])
        model_uri = artifact_utils.get_single_uri(output_dict["model"])
        combinations = [Combination.from_json(values) for values in config["combinations"]]

        splits = _predict_all(list(members.values()), input_dict, facts, clip, combinations)
        _keep_predictions(os.path.join(run_dir, PREDICTIONS_FILE), splits)
        combiners, histories = fit_combiners(combinations, splits, uris, facts.heads, config["settings"], run_dir)
        write_history(run_dir, {"combiners": histories})

        scores = _score_all(members, combinations, combiners, splits["test"], facts, clip)
        with tf.io.gfile.GFile(os.path.join(run_dir, SCORES_FILE), "w") as file:
            json.dump({**scores, "pushed": config["push"]}, file, indent=1)
        for row in scores["models"]:
            log.warning("%-32s test ROC-AUC %.4f, PR-AUC %.4f", row["name"], row["roc_auc"], row["pr_auc"])

        pushed = next((one for one in combinations if one.name == config["push"]), None)
        chosen = (config["push"],) if pushed is None else pushed.of
        combiner = None if pushed is None else combiners[pushed.name]
        ensemble = Ensemble(
            [members[name] for name in chosen],
            combiner,
            facts.heads,
            clip,
            "dense" if pushed is None else pushed.combiner,
        )
        outputs = {
            split: answers.by_network[chosen[0]] if combiner is None else combined(combiner, answers, chosen)
            for split, answers in splits.items()
            if split != "train"
        }
        labels = {split: splits[split].labels for split in outputs}
        thresholds = best_f1_thresholds(labels["valid"], outputs["valid"])
        model_dir = path_utils.serving_model_dir(model_uri)
        info = export_ensemble(
            model_dir,
            ensemble,
            facts.tags,
            thresholds.tolist(),
            data_info(config["data"], {split: answers.labels for split, answers in splits.items()}),
            {
                split: split_scores(labels[split], output, thresholds, facts.tags, facts.heads)
                for split, output in outputs.items()
            },
        )
        write_engine_files(model_dir, ensemble, info)
        model = artifact_utils.get_single_instance(output_dict["model"])
        model.set_string_custom_property("ensemble", config["push"])


def _predict_all(
    members: list[Member],
    input_dict: dict[str, list[types.Artifact]],
    facts: TransformFacts,
    clip: ClipFormat,
    combinations: Sequence[Combination],
) -> dict[str, Predictions]:
    """Ask the networks about the splits; about the training split where a combiner is fitted on their answers there."""
    in_sample = any(one.fitted_on == IN_SAMPLE for one in combinations)
    splits = {}
    for split in SPLITS:
        started = time.perf_counter()
        asked = members if split != "train" or in_sample else []
        splits[split] = predict_split(asked, split_patterns(input_dict["examples"], split), facts, clip)
        clips, seconds = len(splits[split].clip_ids), time.perf_counter() - started
        log.warning("%d networks on %s: %d clips in %.0f s", len(asked), split, clips, seconds)
    return splits


def fit_combiners(
    combinations: Sequence[Combination],
    splits: Mapping[str, Predictions],
    uris: Mapping[str, str],
    heads: Heads,
    settings: dict[str, Any],
    run_dir: str,
) -> tuple[dict[str, keras.Model], list[dict[str, Any]]]:
    """Fit every combiner.

    Args:
        combinations: which; their names differ.
        splits: the networks' predictions, as components.combiners needs them.
        uris: network -> folder of the Trainer's model.
        heads: what they answer.
        settings: FitSettings of those that are trained in epochs, as JSON.
        run_dir: where their state is kept meanwhile.

    Returns:
        Name -> network, and the histories of those that are trained in epochs.
    """
    checkpoints = os.path.join(run_dir, "checkpoints")
    out_of_fold: dict[str, dict[bytes, Array]] = {}
    combiners, histories = {}, []
    for one in combinations:
        if one.fitted_on == OUT_OF_FOLD:
            for name in one.of:
                out_of_fold.setdefault(name, read_out_of_fold(uris[name]))
        task = CombinerTask(one.combiner, one.of, one.fit, heads, FitSettings(**settings))
        folder = os.path.join(checkpoints, one.name)
        combiners[one.name], history = fit_combiner(task, splits, out_of_fold, folder)
        if history is not None:
            histories.append({"name": one.name, "precision": "float32", **history})
    shutil.rmtree(checkpoints, ignore_errors=True)
    return combiners, histories


def combined(combiner: keras.Model, answers: Predictions, chosen: Sequence[str]) -> Array:
    """What a combiner makes of networks' predictions, float32 [clips, outputs]."""
    output: Array = combiner.predict(answers.side_by_side(chosen), batch_size=256, verbose=0)
    return output


def data_info(data: Mapping[str, Any], labels: Mapping[str, Array]) -> DataInfo:
    """What the model card says of the data: ``data`` has name, licence and split; labels are [clips, tags]."""
    return DataInfo(
        name=data["name"],
        licence=data["licence"],
        split=data["split"],
        clips={split: len(truth) for split, truth in labels.items()},
        clips_with_tag={split: tuple(int(count) for count in truth.sum(axis=0)) for split, truth in labels.items()},
    )


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


def split_patterns(examples: list[types.Artifact], split: str) -> list[str]:
    """Patterns of a split's files."""
    return [os.path.join(uri, "*") for uri in artifact_utils.get_split_uris(examples, split)]


Spec = TypeVar("Spec", bound=ComponentSpec)


def with_inputs(spec: type[Spec], inputs: Mapping[str, ChannelParameter]) -> type[Spec]:
    """Return a component's interface with further inputs, which a configuration chooses."""
    return type(spec.__name__, (spec,), {"INPUTS": {**spec.INPUTS, **inputs}, "__module__": spec.__module__})


def _keep_predictions(path: str, splits: Mapping[str, Predictions]) -> None:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for split, answers in splits.items():
        arrays |= {f"{split}/{name}": array for name, array in answers.by_network.items()}
        arrays |= {f"{split}/labels": answers.labels, f"{split}/clip_ids": np.array(answers.clip_ids)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(buffer.getvalue())


def _score_all(
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


def _machine() -> str:
    gpus = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in _gpus()]
    return ", ".join(gpus) if gpus else f"{os.cpu_count()} {platform.machine()} CPU cores"


def _gpus() -> list[Any]:
    return list(tf.config.list_physical_devices("GPU"))


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
