"""Checkpoints of a training: network, optimiser and state, whole after every epoch, so that a killed one goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import keras

from preprocessing.whole_files import write_whole

log = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """What is known after an epoch; saved beside the checkpoint."""

    epoch: int = 0
    best_epoch: int = 0
    best_figure: float = -math.inf
    history: list[dict[str, float]] = field(default_factory=list)


_STATE = "state.json"


def restore(checkpoint_dir: str) -> tuple[keras.Model | None, TrainingState]:
    """Return the compiled model of the last epoch and the state after it; no model where nothing was saved."""
    try:
        with open(os.path.join(checkpoint_dir, _STATE), encoding="utf-8") as file:
            state = TrainingState(**json.load(file))
        model = keras.models.load_model(os.path.join(checkpoint_dir, _last_file(state)))
    except FileNotFoundError:
        return None, TrainingState()
    log.warning("training goes on after epoch %d, found in %s", state.epoch, checkpoint_dir)
    return model, state


def save(checkpoint_dir: str, model: keras.Model, state: TrainingState, better: bool) -> None:
    """Save network, optimiser and state; state.json, replaced last, decides which files count."""
    os.makedirs(checkpoint_dir, exist_ok=True)
    last, best = (os.path.join(checkpoint_dir, name) for name in (_last_file(state), _best_file(state)))
    model.save(last)
    if better and unscaled(model.optimizer).use_ema:
        with averaged_weights(model):
            model.save(best)
    elif better:
        shutil.copyfile(last, best)
    write_whole(os.path.join(checkpoint_dir, _STATE), json.dumps(asdict(state)))
    for old in os.listdir(checkpoint_dir):
        if old.endswith(".keras") and old not in (_last_file(state), _best_file(state)):
            os.remove(os.path.join(checkpoint_dir, old))


def _last_file(state: TrainingState) -> str:
    return f"epoch-{state.epoch:04d}.keras"


def _best_file(state: TrainingState) -> str:
    return f"best-{state.best_epoch:04d}.keras"


def unscaled(optimiser: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimiser itself where it scales another's loss."""
    return getattr(optimiser, "inner_optimizer", optimiser)


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Let a model have the averages of its weights meanwhile, where its optimiser keeps them."""
    optimiser = unscaled(model.optimizer)
    if not optimiser.use_ema:
        yield
        return
    last = [variable.numpy() for variable in model.trainable_variables]
    optimiser.finalize_variable_values(model.trainable_variables)
    yield
    for variable, value in zip(model.trainable_variables, last, strict=True):
        variable.assign(value)


def best_model(checkpoint_dir: str, state: TrainingState) -> keras.Model:
    """Load the network with the weights of its best epoch, not compiled."""
    return keras.models.load_model(os.path.join(checkpoint_dir, _best_file(state)), compile=False)


def checkpoint_key(*parts: Any) -> str:
    """Name of a training's checkpoint folder: the same settings on the same data find it again."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
