"""How combiners are fitted, and on which predictions.

A network answers too surely about the clips that it learnt from, so a combiner fitted on those trusts the network that
has learnt most by heart. Three choices:

- ``valid``: on the validation split, which no network learnt from (it chose their epochs alone).
- ``out_of_fold``: on the training split, each clip predicted by networks that were trained without its track
  (Wolpert 1992, 'Stacked generalization'). More clips, at the cost of so many further trainings.
- ``in_sample``: on the networks' own answers for the training split, probably the paper's way.
"""

from __future__ import annotations

import logging
import os
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from components.fitting import SplitPredictions, fit, inference, predict
from components.predictions import Predictions
from components.reader import MakeDataset, in_memory
from components.trained_network import read_out_of_fold
from components.training_settings import IN_SAMPLE, OUT_OF_FOLD, VALID, Fit, FitSettings
from models.combiner import HeadLogits, build_combiner
from models.heads import ONE_OF, Heads
from models.outputs import LOGITS

Array = npt.NDArray[np.float32]

STOPPING_SHARE: Final = 4
"""Where a combiner is fitted on the validation split, every so many-th clip of it says when to stop."""

PENALTY: Final = 1.0
"""Of a logistic combiner's weights, squared, about the mean of the networks: a prior of about one clip."""


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
class CombinerTask:
    """One combiner.

    Attributes:
        kind: of models.combiner.
        networks: names, in the order of its inputs.
        fit: on which predictions.
        heads: what it answers.
        settings: of a combiner that is trained in epochs.
    """

    kind: str
    networks: tuple[str, ...]
    fit: Fit
    heads: Heads
    settings: FitSettings


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


def fit_combiner(
    task: CombinerTask,
    splits: Mapping[str, Predictions],
    out_of_fold: Mapping[str, Mapping[bytes, Array]],
    checkpoint_dir: str,
) -> tuple[keras.Model, dict[str, Any] | None]:
    """Fit a combiner.

    Args:
        task: which.
        splits: the networks' predictions; of the training split they are needed where ``task.fit`` is "in_sample".
        out_of_fold: name -> clip -> what networks that did not see it say of a training clip, float32 [outputs].
        checkpoint_dir: where the state is kept after each epoch.

    Returns:
        The network, and its history where it was trained in epochs.

    Raises:
        ValueError: the loss is not finite.
    """
    model = build_combiner(task.kind, len(task.networks), task.heads, seed=task.settings.seed)  # type: ignore[arg-type]
    if task.kind == "mean":
        return model, None
    inputs, labels, stop = _fitting_data(task, splits, out_of_fold)
    if task.kind == "logistic":
        return _fit_logistic(model, task, inputs, labels), None
    learnt, held = ~stop, stop
    stopping = (inputs[held], labels[held])
    if not held.any():
        stopping = (splits["valid"].side_by_side(task.networks), splits["valid"].labels)
    return _fit_in_epochs(model, task, (inputs[learnt], labels[learnt]), stopping, checkpoint_dir)


def _fitting_data(
    task: CombinerTask, splits: Mapping[str, Predictions], out_of_fold: Mapping[str, Mapping[bytes, Array]]
) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """Inputs, labels, and which clips say when to stop (none where the validation split does)."""
    if task.fit == VALID:
        valid = splits["valid"]
        stop = np.array([zlib.crc32(clip_id) % STOPPING_SHARE == 0 for clip_id in valid.clip_ids])
        return valid.side_by_side(task.networks), valid.labels, stop
    train = splits["train"]
    if task.fit == IN_SAMPLE:
        inputs = train.side_by_side(task.networks)
    else:
        inputs = np.concatenate(
            [np.stack([out_of_fold[name][clip_id] for clip_id in train.clip_ids]) for name in task.networks], axis=1
        )
    return inputs, train.labels, np.zeros(len(inputs), bool)


def _fit_in_epochs(
    model: keras.Model,
    task: CombinerTask,
    learnt: tuple[Array, Array],
    stopping: tuple[Array, Array],
    checkpoint_dir: str,
) -> tuple[keras.Model, dict[str, Any]]:
    def dataset(inputs: Array, labels: Array) -> MakeDataset:
        rows = [b"%08d" % row for row in range(len(labels))]
        return in_memory({"inputs": inputs, "labels": labels, "clip_id": rows}, task.settings.batch_size)

    held = dataset(*stopping)

    def validate(network: keras.Model) -> Callable[[], SplitPredictions]:
        answer = inference(network)
        return lambda: predict(answer, held)

    name = "+".join(task.networks)
    fitted, state = fit(
        lambda: model,
        dataset(*learnt),
        validate,
        task.settings,
        task.heads,
        checkpoint_dir,
        name=name,
        epoch_level=logging.DEBUG,
    )
    return fitted, asdict(state)


def _fit_logistic(model: keras.Model, task: CombinerTask, inputs: Array, labels: Array) -> keras.Model:
    """Set the weights that minimise the heads' losses and the penalty: a convex problem."""
    logits = np.asarray(HeadLogits(task.heads.to_json())(inputs), np.float64)
    by_network = logits.reshape(len(inputs), len(task.networks), task.heads.size)
    shape = (len(task.networks) + 1, task.heads.size)  # the last row is the bias
    mean = np.concatenate([np.full((shape[0] - 1, shape[1]), 1 / len(task.networks)), np.zeros((1, shape[1]))])

    def loss_and_gradient(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weights = flat.reshape(shape)
        combined = np.einsum("cno,no->co", by_network, weights[:-1]) + weights[-1]
        loss, slope = _loss_and_slope(combined, labels, task.heads)
        away = weights - mean
        gradient = np.concatenate([np.einsum("cno,co->no", by_network, slope), slope.sum(axis=0, keepdims=True)])
        return loss + PENALTY / 2 * float(np.square(away).sum()), (gradient + PENALTY * away).ravel()

    found = minimize(loss_and_gradient, mean.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    weights = found.x.reshape(shape)
    model.get_layer(LOGITS).set_weights([weights[:-1].astype("f4"), weights[-1].astype("f4")])
    return model


def _loss_and_slope(
    logits: npt.NDArray[np.float64], labels: Array, heads: Heads
) -> tuple[float, npt.NDArray[np.float64]]:
    """Sum of the heads' losses over clips and tags, and its derivative by each logit."""
    loss, slope = 0.0, np.zeros_like(logits)
    for head, at in heads.slices():
        own, truth = logits[:, at], labels[:, at].astype(np.float64)
        if head.kind == ONE_OF:
            shifted = own - own.max(axis=1, keepdims=True)
            log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            loss -= float((truth * log_shares).sum())
            slope[:, at] = np.exp(log_shares) * truth.sum(axis=1, keepdims=True) - truth
        else:
            loss += float((np.logaddexp(0, own) - truth * own).sum())
            slope[:, at] = 1 / (1 + np.exp(-own)) - truth
    return loss, slope


def combined(combiner: keras.Model, answers: Predictions, chosen: Sequence[str]) -> Array:
    """What a combiner makes of networks' predictions, float32 [clips, outputs]."""
    output: Array = combiner.predict(answers.side_by_side(chosen), batch_size=256, verbose=0)
    return output
