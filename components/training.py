"""The Trainer's run_fn for a network: from trained weights or none, all of it or its head first, out of fold too."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import keras

from components.checkpoints import TrainingState, checkpoint_key
from components.devices import describe_devices
from components.fitting import SplitPredictions, core_of, fit, predict
from components.head_training import train_head
from components.network_task import NetworkTask
from components.reader import Fold
from components.starting_weights import started_network
from components.trained_network import save_network, write_history, write_out_of_fold
from models.precision import in_float32
from preprocessing.errors import BadInputError

log = logging.getLogger(__name__)


def run_fn(fn_args: Any) -> None:
    """Train one network: TFX Trainer's user function.

    Args:
        fn_args: TFX's FnArgs; ``custom_config`` holds ``name``, ``network``, ``settings`` (TrainingSettings),
            ``heads``, ``clip``, ``folds`` (0, or how many further networks are trained to predict the clips that each
            did not see), ``checkpoints`` (folder) and ``code``. The files are Transform's for a network that reads the
            stored log-mel, the raw examples for any other.

    Raises:
        ValueError: a split has no files, the training split lacks tags, or the loss is not finite.
        BadInputError: the trained weights to start from cannot be had or do not fit.
    """
    config = fn_args.custom_config
    train, valid = list(fn_args.train_files), list(fn_args.eval_files)
    task = NetworkTask.from_config(config, fn_args.transform_graph_path, train)
    log.warning("%s: training in %s on %s", task.name, task.precision, describe_devices())
    parts = (
        task.name,
        config["network"],
        task.settings.model_dump(mode="json"),
        task.precision,
        config["code"],
        config["heads"],
    )
    key = checkpoint_key(*parts, train, fn_args.transform_graph_path)
    checkpoint_dir = os.path.join(config["checkpoints"], f"{task.name}-{key}")
    network, state, trained_on = train_network(task, train, valid, checkpoint_dir, fn_args.model_run_dir)
    network = in_float32(network)
    model_uri = os.path.dirname(fn_args.serving_model_dir)
    save_network(task.member(network, trained_on), model_uri)
    if config.get("folds"):
        predict_out_of_fold(task, train, valid, config["folds"], checkpoint_dir, model_uri)
    with contextlib.redirect_stdout(io.StringIO()):  # Keras prints the signature whatever it is told
        network.export(fn_args.serving_model_dir, verbose=False)
    history = {"name": task.name, "network": task.network.name, "precision": task.precision, **asdict(state)}
    write_history(fn_args.model_run_dir, {**history, "weights": task.settings.weights})
    shutil.rmtree(checkpoint_dir, ignore_errors=True)


def train_network(
    task: NetworkTask,
    train: list[str],
    valid: list[str],
    checkpoint_dir: str,
    log_dir: str | None = None,
    fold: Fold | None = None,
) -> tuple[keras.Model, TrainingState, str | None]:
    """Train one network, from trained weights where the settings say so.

    Returns:
        What the network reads, normalised -> probabilities; its history; what its weights were first trained on.
    """
    settings, trained_on, initial = task.settings, None, None
    task.network.register_layers()  # for a training that goes on, which builds nothing
    if settings.weights is not None:
        initial, trained_on = started_network(
            settings.weights, task.network, task.heads, task.facts.tags, task.precision
        )
        if settings.train != "all":
            epochs = settings.epochs if settings.train == "head" else settings.train
            initial, state = train_head(task, initial, train, valid, epochs, f"{checkpoint_dir}-head", fold)
            if settings.train == "head":
                return initial, state, trained_on

    def validate(model: keras.Model) -> Callable[[], SplitPredictions]:
        answer, held = task.clip_answer(model), task.clip_dataset(valid)
        return lambda: predict(answer, held)

    model, state = fit(
        lambda: task.with_front(task.prepared(task.build() if initial is None else initial)),
        task.training_dataset(train, fold),
        validate,
        settings,
        task.heads,
        checkpoint_dir,
        log_dir,
        task.name,
        initial_bias=initial is None,
    )
    return core_of(model), state, trained_on


def predict_out_of_fold(
    task: NetworkTask, train: list[str], valid: list[str], folds: int, checkpoint_dir: str, model_uri: str
) -> None:
    """Keep what networks trained on the other folds say of each training clip.

    Raises:
        BadInputError: a fold has no track.
    """
    for number in range(folds):
        if not any(True for _ in task.clip_dataset(train, Fold(number, folds, inside=True))(None).take(1)):
            raise BadInputError(
                f"fit: out_of_fold: fold {number + 1} of {folds} has no track of the training split. "
                "Give fewer combiner.folds, more tracks, or fit: valid"
            )
    parts = []
    for number in range(folds):
        folder = f"{checkpoint_dir}-fold{number}"
        network, _, _ = train_network(task, train, valid, folder, fold=Fold(number, folds, inside=False))
        held = task.clip_dataset(train, Fold(number, folds, inside=True))
        parts.append(predict(task.clip_answer(in_float32(network)), held))
        shutil.rmtree(folder, ignore_errors=True)
    write_out_of_fold(parts, model_uri)
