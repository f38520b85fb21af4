"""Optimisers and their learning rates: what a training does between two epochs, and between two steps.

``cosine`` falls to a hundredth over all epochs (Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts);
``one_cycle`` rises over the first 30 % of the steps and falls to a ten-thousandth (Smith and Topin 2018, arXiv
1708.07120, in the form of later libraries with a cosine on both sides); ``plateau`` takes a fifth after epochs without
a better figure (musicnn's training does); ``adam_sgd`` is the timetable of the comparison of 2020 (Won et al., arXiv
2006.00751, section 3.3): Adam, then three stages of SGD with Nesterov's momentum, each from the best weights so far.
Its counter is never set back in the published code, so that the stages begin at fixed epochs: 80, 100, 120 of 200.

``layer_decay`` is the discriminative learning rate of Howard and Ruder 2018 (arXiv 1801.06146).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import keras

from components.training_settings import Optimisation
from models.outputs import LOGITS

PLATEAU_FACTOR: Final = 0.2
PLATEAU_PATIENCE: Final = 3
"""Epochs without a better figure, after which the learning rate falls."""

ONE_CYCLE_RISE: Final = 0.3
ONE_CYCLE_START: Final = 1 / 25
ONE_CYCLE_END: Final = 1e-4
COSINE_END: Final = 0.01


@dataclass(frozen=True)
class Stage:
    """A stretch of the timetable of ``adam_sgd``.

    Attributes:
        begins: share of all epochs after which it begins.
        optimiser: "adam" or "sgd".
        rate: learning rate as a multiple of Adam's (1e-4 there).
    """

    begins: float
    optimiser: Literal["adam", "sgd"]
    rate: float


ADAM_SGD: Final = (Stage(0.0, "adam", 1.0), Stage(0.4, "sgd", 10.0), Stage(0.5, "sgd", 1.0), Stage(0.6, "sgd", 0.1))


@keras.saving.register_keras_serializable(package="autotag")
class Adam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam whose variables learn at different rates, and with the penalty in the gradient where that is asked for.

    Args:
        rates: of each trainable variable, in their order, as multiples of the learning rate; none for 1 each.
        l2: weight of the squared weights' half in the loss, all weights included, as PyTorch's ``weight_decay`` of Adam
            (decoupled decay is Keras' own ``weight_decay``).
    """

    def __init__(self, *args: Any, rates: Sequence[float] = (), l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rates, self.l2 = list(rates), l2

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step."""
        rate = self.rates[self._get_variable_index(variable)] if self.rates else 1.0
        super().update_step(gradient + self.l2 * variable if self.l2 else gradient, variable, learning_rate * rate)

    def _use_weight_decay(self, variable: Any) -> bool:
        """Neither biases nor what batch norms scale and shift with decay."""
        return str(variable.name).rpartition("/")[2].partition(":")[0] not in ("bias", "gamma", "beta")

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "rates": self.rates, "l2": self.l2}


@keras.saving.register_keras_serializable(package="autotag")
class Sgd(keras.optimizers.SGD):  # type: ignore[misc]
    """Stochastic gradient descent with the penalty in the gradient; ``l2`` as Adam's here."""

    def __init__(self, *args: Any, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.l2 = l2

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step."""
        super().update_step(gradient + self.l2 * variable if self.l2 else gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "l2": self.l2}


def first_optimiser(settings: Optimisation, model: keras.Model, steps: int) -> keras.optimizers.Optimizer:
    """Return the optimiser of the first epoch.

    Args:
        settings: how weights are learnt.
        model: what is trained.
        steps: of an epoch.
    """
    coupled = settings.schedule == "adam_sgd"
    return Adam(
        _rate(settings, steps),
        rates=layer_rates(model, settings.layer_decay),
        l2=settings.weight_decay if coupled else 0.0,
        weight_decay=None if coupled or not settings.weight_decay else settings.weight_decay,
        **_averaged(settings),
    )


def next_stage(settings: Optimisation, epoch: int) -> keras.optimizers.Optimizer | float | None:
    """Say what changes before an epoch, counted from 0, of ``adam_sgd``.

    Returns:
        Another optimiser, another learning rate for the one that there is, or None where nothing changes. With
        either, training goes on from the best weights.
    """
    if settings.schedule != "adam_sgd":
        return None
    begins = [round(stage.begins * settings.epochs) for stage in ADAM_SGD]
    numbers = [number for number, at in enumerate(begins) if at == epoch and number]
    if not numbers:
        return None
    stage = ADAM_SGD[numbers[-1]]
    rate = stage.rate * settings.learning_rate
    if ADAM_SGD[numbers[0] - 1].optimiser == stage.optimiser:
        return rate
    return Sgd(rate, momentum=0.9, nesterov=True, l2=settings.weight_decay, **_averaged(settings))


def plateau_rate(settings: Optimisation, figures: Sequence[float]) -> float | None:
    """The learning rate of the next epoch of ``plateau``; None of every other schedule.

    Args:
        settings: how weights are learnt.
        figures: of all epochs so far, the larger the better.
    """
    if settings.schedule != "plateau":
        return None
    best, waited, falls = -math.inf, 0, 0
    for figure in figures:
        waited = 0 if figure > best else waited + 1
        best = max(best, figure)
        if waited == PLATEAU_PATIENCE:
            waited, falls = 0, falls + 1
    return settings.learning_rate * PLATEAU_FACTOR**falls


def _averaged(settings: Optimisation) -> Mapping[str, Any]:
    return {"use_ema": True, "ema_momentum": settings.average} if settings.average else {}


def _rate(settings: Optimisation, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    total = max(1, steps * settings.epochs)
    if settings.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(settings.learning_rate, total, alpha=COSINE_END)
    if settings.schedule == "one_cycle":
        return OneCycle(settings.learning_rate, total)
    return settings.learning_rate


@keras.saving.register_keras_serializable(package="autotag")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A rise and a longer fall, both half a cosine.

    Args:
        largest: learning rate at the top.
        steps: of the whole training.
    """

    def __init__(self, largest: float, steps: int) -> None:
        self.largest, self.steps = largest, steps

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step."""
        share = keras.ops.cast(step, "float32") / self.steps
        rising = keras.ops.clip(share / ONE_CYCLE_RISE, 0.0, 1.0)
        falling = keras.ops.clip((share - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE), 0.0, 1.0)
        up = _half_cosine(ONE_CYCLE_START * self.largest, self.largest, rising)
        return up + _half_cosine(self.largest, ONE_CYCLE_START * ONE_CYCLE_END * self.largest, falling) - self.largest

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"largest": self.largest, "steps": self.steps}


def _half_cosine(start: float, end: float, share: Any) -> Any:
    return end + (start - end) * (1 + keras.ops.cos(math.pi * share)) / 2


def layer_rates(model: keras.Model, decay: float) -> list[float]:
    """Return the rates of a model's trainable variables: 1 for the last layer's, less for each layer before it.

    Args:
        model: a network; its layer ``logits`` has rate 1.
        decay: factor from one layer with weights to the one before; 1 gives no rates.
    """
    if decay == 1.0:
        return []
    weighted = [layer for layer in model._flatten_layers() if layer.trainable_variables and not _inner(layer)]
    at = next((number for number, layer in enumerate(weighted) if layer.name == LOGITS), len(weighted) - 1)
    rate_of = {
        id(variable): decay ** max(0, at - number)
        for number, layer in enumerate(weighted)
        for variable in layer.trainable_variables
    }
    return [rate_of[id(variable)] for variable in model.trainable_variables]


def _inner(layer: keras.layers.Layer) -> bool:
    """Whether a layer's variables are those of layers in it."""
    return any(inner is not layer and inner.trainable_variables for inner in layer._flatten_layers())
