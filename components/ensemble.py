"""EnsembleTrainer: the branches' predictions, computed once; a combiner for every combination; the export.

TFX's Trainer takes one base model; this component takes one model a branch. The combiner (Bengani et al. 2019, Table 4)
learns from the branches' probabilities, which are computed once for each split and kept with the run. All
combinations of two and three branches are trained and scored on the test split (the paper's Table 5); the configured
one is exported.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from components.metrics import score_tags
from components.reader import TransformFacts, transform_facts
from components.thresholds import best_f1_thresholds, macro_f1
from components.training import (
    TrainingSettings,
    branch_dataset,
    fit,
    inference,
    load_network,
    predict,
    write_history,
)
from models.branches import BRANCHES, INPUT_SHAPES
from models.combiner import build_combiner
from preprocessing.constants import SPLITS
from serving.graph.ensemble import Ensemble
from serving.graph.export import export_ensemble, write_engine_files
from serving.model_info import DataInfo, SplitScores

log = logging.getLogger(__name__)

Array = npt.NDArray[np.float32]
Predictions = Mapping[str, Mapping[str, Array]]
"""split -> branch -> probabilities, float32 [clips, tags]."""

SCORES_FILE = "scores.json"
PREDICTIONS_FILE = "predictions.npz"
PREDICT_BATCH = 16
TIMED_CLIPS = 32


def combinations(branches: Sequence[str]) -> list[tuple[str, ...]]:
    """All combinations of two and more branches, in the paper's order."""
    return [chosen for size in range(2, len(branches) + 1) for chosen in itertools.combinations(branches, size)]


def side_by_side(predictions: Mapping[str, Array], chosen: Sequence[str]) -> Array:
    """The combiner's input, float32 [clips, branches * tags]."""
    return np.concatenate([predictions[name] for name in chosen], axis=1)


@dataclass(frozen=True)
class SplitFiles:
    """Where a split's examples lie: the raw ones and Transform's."""

    raw: list[str]
    transformed: list[str]


def predict_all(
    networks: Mapping[str, keras.Model], files: Mapping[str, SplitFiles], transform_graph: str
) -> tuple[Predictions, Mapping[str, Array]]:
    """Run every branch over every split once.

    Args:
        networks: branch -> network.
        files: split -> its examples.
        transform_graph: folder of Transform's graph.

    Returns:
        Predictions, split -> branch -> probabilities, and labels, split -> 0 or 1; all float32 [clips, tags], in the
        order of the clips' ids.

    Raises:
        ValueError: two branches were given other clips or labels of a split, a split has no files, or the vocabulary
            is smaller than the labels are wide.
    """
    predictions: dict[str, dict[str, Array]] = {split: {} for split in files}
    labels: dict[str, Array] = {}
    clip_ids: dict[str, tuple[bytes, ...]] = {}
    for name, network in networks.items():
        step = inference(network)
        for split, paths in files.items():
            started = time.perf_counter()
            patterns = paths.transformed if BRANCHES[name].input == "log_mel" else paths.raw
            answers = predict(step, branch_dataset(BRANCHES[name], patterns, transform_graph, PREDICT_BATCH))
            # Raw and transformed examples come in different orders; by their ids they are the same clips.
            if clip_ids.setdefault(split, answers.clip_ids) != answers.clip_ids:
                raise ValueError(f"{split}: {name} was given other clips than the branches before it")
            if not np.array_equal(labels.setdefault(split, answers.labels), answers.labels):
                raise ValueError(f"{split}: {name} was given other labels than the branches before it")
            predictions[split][name] = answers.predictions
            log.warning(
                "%s on %s: %d clips in %.0f s", name, split, len(answers.clip_ids), time.perf_counter() - started
            )
    return predictions, labels


def train_combiner(
    chosen: Sequence[str],
    predictions: Predictions,
    labels: Mapping[str, Array],
    settings: TrainingSettings,
    checkpoint_dir: str,
) -> tuple[keras.Model, dict[str, Any]]:
    """Train a combiner on the training split's predictions, stopped by the validation split's.

    Args:
        chosen: the branches that it combines.
        predictions: split -> branch -> probabilities, float32 [clips, tags].
        labels: split -> 0 or 1, float32 [clips, tags].
        settings: how.
        checkpoint_dir: below which the state is kept after each epoch, in a folder of the combiner's own.

    Returns:
        The network with the weights of its best epoch, and its entry in the history.

    Raises:
        ValueError: the loss is not finite.
    """

    def dataset(split: str) -> Callable[[int | None], tf.data.Dataset]:
        inputs, truth = side_by_side(predictions[split], chosen), labels[split]
        rows = [b"%08d" % row for row in range(len(truth))]

        def make(seed: int | None) -> tf.data.Dataset:
            clips = tf.data.Dataset.from_tensor_slices({"inputs": inputs, "labels": truth, "clip_id": rows})
            clips = clips if seed is None else clips.shuffle(len(inputs), seed=seed)
            return clips.batch(settings.batch_size)

        return make

    n_tags = labels["train"].shape[1]
    name = "+".join(chosen)
    model, state = fit(
        lambda: build_combiner(len(chosen), n_tags, seed=settings.seed),
        dataset("train"),
        dataset("valid"),
        settings,
        os.path.join(checkpoint_dir, name),
        name=name,
        epoch_level=logging.DEBUG,
    )
    log.warning("combiner %s: valid ROC-AUC %.4f after %d epochs", name, state.best_roc_auc, state.best_epoch)
    return model, {"name": name, "precision": "float32", **asdict(state)}


def seconds_for_1000_clips(network: keras.Model, input_shape: tuple[int, ...]) -> float:
    """Measure a network alone, in float32, input in memory, batches of 16: the paper's Table 5 column."""
    step = inference(network)
    batch = tf.random.stateless_normal((PREDICT_BATCH, *input_shape), seed=(1, 2))
    step(batch)
    rounds = TIMED_CLIPS // PREDICT_BATCH
    started = time.perf_counter()
    for _ in range(rounds):
        step(batch).numpy()
    return (time.perf_counter() - started) / (rounds * PREDICT_BATCH) * 1000


def megabytes(network: keras.Model) -> float:
    """Size of a network's float32 weights, in 2**20 bytes."""
    return float(network.count_params()) * 4 / 2**20


class EnsembleTrainerExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Predicts, trains the combiners, scores, exports."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the ensemble's SavedModel, and scores, curves and predictions beside it.

        Raises:
            ValueError: inputs do not fit each other, or a combiner's loss is not finite.
        """
        config = json.loads(exec_properties["config"])
        settings = TrainingSettings(**config["settings"])
        graph = artifact_utils.get_single_uri(input_dict["transform_graph"])
        facts = transform_facts(graph)
        networks = {
            name: load_network(artifact_utils.get_single_uri(input_dict[name]))
            for name in BRANCHES
            if name in input_dict
        }
        run_dir = artifact_utils.get_single_uri(output_dict["model_run"])
        model_uri = artifact_utils.get_single_uri(output_dict["model"])
        predictions, labels = predict_all(networks, _split_files(input_dict), graph)
        _keep_predictions(os.path.join(run_dir, PREDICTIONS_FILE), predictions, labels)

        combiners, histories = {}, []
        for chosen in combinations(list(networks)):
            combiners[chosen], history = train_combiner(
                chosen, predictions, labels, settings, os.path.join(run_dir, "checkpoints")
            )
            histories.append(history)
        shutil.rmtree(os.path.join(run_dir, "checkpoints"), ignore_errors=True)
        write_history(run_dir, {"combiners": histories})

        scores = _score_all(networks, combiners, predictions, labels, facts)
        with tf.io.gfile.GFile(os.path.join(run_dir, SCORES_FILE), "w") as file:
            json.dump(scores, file, indent=1)
        for row in scores["models"]:
            log.warning("%-32s test ROC-AUC %.4f, PR-AUC %.4f", row["name"], row["roc_auc"], row["pr_auc"])

        pushed = tuple(config["ensemble"])
        ensemble = Ensemble.build(
            {name: networks[name] for name in pushed},
            combiners[pushed] if len(pushed) > 1 else None,
            {name: BRANCHES[name].input for name in pushed},
            facts.normalisation,
        )
        outputs = {
            split: combiners[pushed].predict(side_by_side(by_name, pushed), batch_size=256, verbose=0)
            if len(pushed) > 1
            else by_name[pushed[0]]
            for split, by_name in predictions.items()
            if split != "train"
        }
        thresholds = best_f1_thresholds(labels["valid"], outputs["valid"])
        model_dir = path_utils.serving_model_dir(model_uri)
        info = export_ensemble(
            model_dir,
            ensemble,
            facts.tags,
            thresholds.tolist(),
            data_info(config["data"], labels),
            {split: split_scores(labels[split], output, thresholds, facts.tags) for split, output in outputs.items()},
        )
        write_engine_files(model_dir, ensemble, info)
        model = artifact_utils.get_single_instance(output_dict["model"])
        model.set_string_custom_property("ensemble", "+".join(pushed))


def data_info(data: Mapping[str, Any], labels: Mapping[str, Array]) -> DataInfo:
    """What the model card says of the data: ``data`` has name, licence and split; labels are [clips, tags]."""
    return DataInfo(
        name=data["name"],
        licence=data["licence"],
        split=data["split"],
        clips={split: len(truth) for split, truth in labels.items()},
        clips_with_tag={split: tuple(int(count) for count in truth.sum(axis=0)) for split, truth in labels.items()},
    )


def split_scores(labels: Array, predictions: Array, thresholds: Array, tags: Sequence[str]) -> SplitScores:
    """What the model card says of one split.

    Args:
        labels: 0 or 1, float32 [clips, tags].
        predictions: probabilities, float32 [clips, tags].
        thresholds: float32 [tags]; a probability at the threshold counts as heard.
        tags: names, in the order of the columns.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    scores = score_tags(labels, predictions, tags)
    both = scores.scored_tags > 0
    return SplitScores(
        roc_auc=scores.roc_auc if both else None,
        pr_auc=scores.pr_auc if both else None,
        f1=macro_f1(labels, predictions, thresholds),
        scored_tags=scores.scored_tags,
    )


def _split_files(input_dict: dict[str, list[types.Artifact]]) -> dict[str, SplitFiles]:
    def patterns(key: str, split: str) -> list[str]:
        return [os.path.join(uri, "*") for uri in artifact_utils.get_split_uris(input_dict[key], split)]

    return {split: SplitFiles(patterns("examples", split), patterns("transformed_examples", split)) for split in SPLITS}


def _keep_predictions(path: str, predictions: Predictions, labels: Mapping[str, Array]) -> None:
    arrays = {f"{split}/{name}": array for split, by_name in predictions.items() for name, array in by_name.items()}
    arrays |= {f"{split}/labels": array for split, array in labels.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(buffer.getvalue())


def _score_all(
    networks: Mapping[str, keras.Model],
    combiners: Mapping[tuple[str, ...], keras.Model],
    predictions: Predictions,
    labels: Mapping[str, Array],
    facts: TransformFacts,
) -> dict[str, Any]:
    """Score branches and combinations on the test split: ROC-AUC, PR-AUC, seconds for 1,000 clips, MB."""
    seconds = {
        name: seconds_for_1000_clips(network, INPUT_SHAPES[BRANCHES[name].input]) for name, network in networks.items()
    }
    outputs: dict[tuple[str, ...], Array] = {(name,): predictions["test"][name] for name in networks}
    for chosen, combiner in combiners.items():
        outputs[chosen] = combiner.predict(side_by_side(predictions["test"], chosen), batch_size=256, verbose=0)
    rows = []
    for chosen, output in outputs.items():
        scores = score_tags(labels["test"], output, facts.tags)
        size = sum(megabytes(networks[name]) for name in chosen)
        time_ = sum(seconds[name] for name in chosen)
        if len(chosen) > 1:
            size += megabytes(combiners[chosen])
            time_ += seconds_for_1000_clips(combiners[chosen], combiners[chosen].input_shape[1:])
        rows.append(
            {
                "name": "+".join(chosen),
                "branches": list(chosen),
                "roc_auc": scores.roc_auc,
                "pr_auc": scores.pr_auc,
                "scored_tags": scores.scored_tags,
                "seconds_for_1000_clips": time_,
                "megabytes": size,
                "per_tag": {tag: list(pair) for tag, pair in scores.per_tag.items()},
            }
        )
    return {"test_clips": len(labels["test"]), "machine": _machine(), "tags": list(facts.tags), "models": rows}


def _machine() -> str:
    gpus = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in _gpus()]
    return ", ".join(gpus) if gpus else f"{os.cpu_count()} {platform.machine()} CPU cores"


def _gpus() -> list[Any]:
    return list(tf.config.list_physical_devices("GPU"))


class EnsembleTrainerSpec(ComponentSpec):  # type: ignore[misc]
    """EnsembleTrainer's interface: one model a branch."""

    PARAMETERS: ClassVar[dict[str, Any]] = {"config": ExecutionParameter(type=str)}
    INPUTS: ClassVar[dict[str, Any]] = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "transformed_examples": ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
        **{name: ChannelParameter(type=standard_artifacts.Model, optional=True) for name in BRANCHES},
    }
    OUTPUTS: ClassVar[dict[str, Any]] = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "model_run": ChannelParameter(type=standard_artifacts.ModelRun),
    }


class EnsembleTrainer(base_component.BaseComponent):  # type: ignore[misc]
    """Trains and scores all combinations of the branches and exports the configured one."""

    SPEC_CLASS = EnsembleTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(EnsembleTrainerExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transformed_examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        branches: Mapping[str, types.BaseChannel],
        config: Mapping[str, Any],
    ) -> None:
        """Construct the component.

        Args:
            examples: the raw ones.
            transformed_examples: Transform's.
            transform_graph: Transform's.
            branches: name -> the Trainer's model.
            config: ``settings`` (TrainingSettings), ``ensemble`` (names of the branches to export), ``data`` (name,
                licence and split, for the model card) and ``code``.
        """
        super().__init__(
            spec=EnsembleTrainerSpec(
                examples=examples,
                transformed_examples=transformed_examples,
                transform_graph=transform_graph,
                config=json.dumps(config, sort_keys=True),
                model=types.Channel(type=standard_artifacts.Model),
                model_run=types.Channel(type=standard_artifacts.ModelRun),
                **branches,
            )
        )
