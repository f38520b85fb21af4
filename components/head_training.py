"""Training of a network's last layer alone; what the rest of it says of each window is computed once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict

import keras
import numpy as np

from components.checkpoints import TrainingState, checkpoint_key
from components.embeddings import Embeddings, embed, frozen_weights, kept
from components.fitting import SplitPredictions, fit
from components.network_task import NetworkTask
from components.reader import Fold, MakeDataset, in_memory
from models.outputs import LOGITS
from models.precision import in_float32

HEAD_DROPOUT = 0.5
"""Before a head that is trained alone: as musicnn, S-CNN and nearly all others have it before their last layer."""


def train_head(
    task: NetworkTask,
    network: keras.Model,
    train: list[str],
    valid: list[str],
    epochs: int,
    checkpoint_dir: str,
    fold: Fold | None = None,
) -> tuple[keras.Model, TrainingState]:
    """Train a network's last layer; what the rest of it says of each window is computed once.

    Args:
        task: which network, on what.
        network: what it reads, normalised -> probabilities.
        train: patterns of the training split's examples.
        valid: of the validation split's.
        epochs: at most.
        checkpoint_dir: where the state is kept.
        fold: part of the training clips.

    Returns:
        The network with its new last layer, and the history.
    """
    learnt, held = (_embeddings(task, network, split, checkpoint_dir) for split in (train, valid))
    head, state = fit(
        lambda: _head_alone(network, task.settings.seed),
        _windows_of(learnt.of(fold), task.settings.batch_size),
        lambda head: _mean_over_windows(head, held),
        task.settings.model_copy(update={"epochs": epochs}),
        task.heads,
        checkpoint_dir,
        name=f"{task.name} head",
    )
    network.get_layer(LOGITS).set_weights(head.get_layer(LOGITS).get_weights())
    shutil.rmtree(checkpoint_dir, ignore_errors=True)
    return network, state


def _windows_of(learnt: Embeddings, batch_size: int) -> MakeDataset:
    """Return what makes batches of single windows."""
    labels = np.tile(learnt.labels, (learnt.vectors.shape[1], 1))
    return in_memory({"inputs": learnt.by_window(), "labels": labels}, batch_size)


def _mean_over_windows(head: keras.Model, held: Embeddings) -> Callable[[], SplitPredictions]:
    """Return what asks a head about clips: the mean over each one's windows."""
    inputs, windows = held.by_window(), held.vectors.shape[1]

    def ask() -> SplitPredictions:
        by_window = head.predict(inputs, batch_size=256, verbose=0)
        mean = np.mean(np.split(by_window, windows), axis=0)
        return SplitPredictions(tuple(held.clip_ids.tolist()), held.labels, mean)

    return ask


def _embeddings(task: NetworkTask, network: keras.Model, patterns: list[str], checkpoint_dir: str) -> Embeddings:
    """What a network's last layer reads of a split's whole clips, kept beside the checkpoints."""
    network = in_float32(network)
    heard = (asdict(task.hearing), task.normalisation, task.facts.tags)
    key = checkpoint_key(task.network.name, frozen_weights(network), *heard, patterns)
    step, dataset = task.clip_embedding(network), task.clip_dataset(patterns)
    return kept(os.path.dirname(checkpoint_dir), key, lambda: embed(step, dataset))


def _head_alone(network: keras.Model, seed: int) -> keras.Model:
    """What a network's last layer reads -> probabilities: new layers of the same kinds, with dropout before them."""
    logits = network.get_layer(LOGITS)
    embedding = keras.Input(logits.input.shape[1:], name="embedding", dtype="float32")
    x = keras.layers.Dropout(HEAD_DROPOUT, seed=seed, name="head_dropout")(embedding)
    for layer in network.layers[network.layers.index(logits) :]:
        x = layer.__class__.from_config(layer.get_config())(x)
    return keras.Model(embedding, x, name="head")
