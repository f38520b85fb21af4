"""Fitting in epochs, of networks and combiners alike: Adam on the heads' losses, the best epoch kept.

The heads' losses are binary cross entropy for tags (Bengani et al. 2019, 'Implementation'). After every epoch a figure
of the validation split, macro ROC-AUC unless asked otherwise, decides what is kept and when to stop. The state is saved
whole after every epoch, so a killed training goes on at its last one and ends with the same weights as one that was
left alone.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components.checkpoints import TrainingState, averaged_weights, best_model, restore, save, unscaled
from components.devices import distribution
from components.optimisation import first_optimiser, next_stage, plateau_rate
from components.reader import MakeDataset
from components.tag_scores import score_tags
from components.training_settings import FitSettings, Monitor
from models.heads import Heads
from models.outputs import LOGITS, HeadsLoss, set_initial_bias

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitPredictions:
    """A network's answers for a split, in the order of the clips' ids.

    Attributes:
        clip_ids: sorted.
        labels: float32 [clips, tags].
        predictions: float32 [clips, tags].
    """

    clip_ids: tuple[bytes, ...]
    labels: npt.NDArray[np.float32]
    predictions: npt.NDArray[np.float32]


Validate = Callable[[keras.Model], Callable[[], SplitPredictions]]
"""Makes, once for a network, what asks it about the validation split after each epoch."""


def fit(
    build: Callable[[], keras.Model],
    train: MakeDataset,
    validate: Validate,
    settings: FitSettings,
    heads: Heads,
    checkpoint_dir: str,
    log_dir: str | None = None,
    name: str = "network",
    epoch_level: int = logging.WARNING,
    initial_bias: bool = True,
) -> tuple[keras.Model, TrainingState]:
    """Train a network until its figure on the validation split stops rising.

    Args:
        build: makes the network to begin with, inside the distribution's scope: a batch's ``inputs`` -> probabilities.
        train: the training split's batches, in a new order each epoch.
        validate: see Validate.
        settings: how.
        heads: what it answers.
        checkpoint_dir: where the state is kept after each epoch; a state found there is gone on from.
        log_dir: for TensorBoard.
        name: for the log.
        epoch_level: level of the epochs' lines in the log.
        initial_bias: start from the tags' frequencies.

    Returns:
        The network with the weights of its best epoch, and the history.

    Raises:
        ValueError: the loss is not finite.
    """
    steps, frequencies = _survey(train)
    with distribution().scope():
        keras.utils.set_random_seed(settings.seed)
        model, state = restore(checkpoint_dir)
        if model is None:
            model = build()
            if initial_bias:
                set_initial_bias(core_of(model), heads, frequencies)
            loss = HeadsLoss(heads, frequencies, settings.class_balance, settings.label_smoothing)
            _compile(model, first_optimiser(settings, model, steps), loss)
    ask = validate(model)
    writer = tf.summary.create_file_writer(log_dir) if log_dir else None
    patience = settings.epochs if settings.never_stops_early else settings.patience
    while state.epoch < settings.epochs and state.epoch - state.best_epoch < patience:
        _begin_epoch(model, settings, state, checkpoint_dir)
        batches = train(settings.seed * 10_007 + state.epoch).map(lambda batch: (batch["inputs"], batch["labels"]))
        figures = _fit_epoch(model, batches.apply(tf.data.experimental.assert_cardinality(steps)), ask, heads, state)
        if not math.isfinite(figures["loss"]):
            raise ValueError(f"{name}: the loss is {figures['loss']} in epoch {state.epoch}; lower the learning rate")
        better = _note_figure(state, _figure(figures, settings.monitor))
        log.log(epoch_level, "%s epoch %d/%d: %s", name, state.epoch, settings.epochs, _line(figures))
        if writer:
            _write_summary(writer, figures, state.epoch)
        save(checkpoint_dir, model, state, better)
    return best_model(checkpoint_dir, state), state


def _fit_epoch(
    model: keras.Model,
    batches: tf.data.Dataset,
    ask: Callable[[], SplitPredictions],
    heads: Heads,
    state: TrainingState,
) -> dict[str, float]:
    """Learn from an epoch's batches, ask about the validation split, and add the epoch's figures to the history."""
    began = time.perf_counter()
    loss = model.fit(batches, epochs=1, verbose=0).history["loss"][-1]
    state.epoch += 1
    if not math.isfinite(loss):
        return {"loss": loss}
    with averaged_weights(model):
        figures = {"epoch": state.epoch, "loss": loss, **_figures(ask(), heads)}
    figures["seconds"] = time.perf_counter() - began
    state.history.append(figures)
    return figures


def _write_summary(writer: tf.summary.SummaryWriter, figures: Mapping[str, float], epoch: int) -> None:
    """Write an epoch's figures for TensorBoard."""
    with writer.as_default():
        for key in ("loss", "valid_roc_auc", "valid_pr_auc"):
            tf.summary.scalar(f"epoch_{key}", figures[key], step=epoch)
    writer.flush()


def _compile(model: keras.Model, optimiser: keras.optimizers.Optimizer, loss: keras.losses.Loss) -> None:
    """Compile; the loss is scaled where layers compute in float16, as Keras does by itself for whole models alone."""
    in_float16 = any(layer.compute_dtype == "float16" for layer in core_of(model).layers)
    model.compile(
        optimizer=keras.optimizers.LossScaleOptimizer(optimiser) if in_float16 else optimiser,
        loss=loss,
        jit_compile=bool(tf.config.list_physical_devices("GPU")),
    )


def _begin_epoch(model: keras.Model, settings: FitSettings, state: TrainingState, checkpoint_dir: str) -> None:
    """Set what an epoch begins with: random numbers, learning rate, and the stage of the timetable."""
    _seed_dropout(model, settings.seed, state.epoch)
    rate = plateau_rate(settings, [_figure(figures, settings.monitor) for figures in state.history])
    change = next_stage(settings, state.epoch)
    if change is not None and state.best_epoch:
        model.set_weights(best_model(checkpoint_dir, state).get_weights())
    if isinstance(change, keras.optimizers.Optimizer):
        _compile(model, change, model.loss)
    elif change is not None or rate is not None:
        unscaled(model.optimizer).learning_rate = rate if change is None else change


def _survey(dataset: MakeDataset) -> tuple[int, npt.NDArray[np.float64]]:
    """Number of batches, and how frequent each tag is."""
    steps, clips, positives = 0, 0, np.float64(0.0)
    for batch in dataset(None):
        labels = batch["labels"].numpy()
        steps, clips, positives = steps + 1, clips + len(labels), positives + labels.sum(axis=0, dtype=np.float64)
    return steps, np.asarray(positives / clips)


def _seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Give each epoch its own random numbers: Keras does not keep the generators' state in a saved model."""
    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    for number, state in enumerate(states):
        state.assign(np.array([seed * 1009 + number, epoch], dtype="uint32"))


def _figures(split: SplitPredictions, heads: Heads) -> dict[str, float]:
    """What the validation split says of a network."""
    scores = score_tags(split.labels, split.predictions, [str(tag) for tag in range(split.labels.shape[1])])
    loss = float(HeadsLoss(heads)(split.labels, split.predictions))
    return {"valid_roc_auc": scores.roc_auc, "valid_pr_auc": scores.pr_auc, "valid_loss": loss}


def _figure(figures: Mapping[str, float], monitor: Monitor) -> float:
    """The figure to go by, the larger the better."""
    return -figures["valid_loss"] if monitor == "loss" else figures[f"valid_{monitor}"]


def _note_figure(state: TrainingState, figure: float) -> bool:
    """Say whether an epoch is the best; where no tag has both classes there is no figure, and the last one counts."""
    better = math.isnan(figure) or figure > state.best_figure
    if better:
        state.best_epoch, state.best_figure = state.epoch, figure
    return better


def _line(figures: Mapping[str, float]) -> str:
    return "loss {loss:.4f}, valid ROC-AUC {valid_roc_auc:.4f}, PR-AUC {valid_pr_auc:.4f}".format(**figures)


def core_of(model: keras.Model) -> keras.Model:
    """Return the network itself where ``model`` has its front before it (models.hearing.Hearing.from_window)."""
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return inner[-1] if inner and all(layer.name != LOGITS for layer in model.layers) else model


def inference(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the network as a compiled function that is traced once, for any batch size.

    It takes float [batch, ...] of any precision, as the network's input is, and gives float32 [batch, tags].
    """
    inputs = model.inputs[0]
    signature = tf.TensorSpec([None, *inputs.shape[1:]], tf.float32)
    answer = tf.function(lambda batch: model(batch, training=False), input_signature=[signature])
    return lambda batch: answer(tf.cast(batch, tf.float32))


def predict(step: Callable[[tf.Tensor], tf.Tensor], dataset: MakeDataset) -> SplitPredictions:
    """Run a network, given as its ``inference`` function, over a split."""
    parts = [
        (batch["clip_id"].numpy(), batch["labels"].numpy(), step(batch["inputs"]).numpy()) for batch in dataset(None)
    ]
    ids, labels, predictions = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(ids)
    return SplitPredictions(tuple(ids[order]), labels[order], predictions[order])
