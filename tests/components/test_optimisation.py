"""Learning rates, decay and averages of weights."""

import keras
import numpy as np
import pytest

from components.optimisation import (
    ADAM_SGD,
    Adam,
    OneCycle,
    Sgd,
    first_optimiser,
    layer_rates,
    next_stage,
    plateau_rate,
)
from components.training_settings import Optimisation


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, name="first")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dense(3, name="second")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))


def step(model: keras.Model, optimiser: keras.optimizers.Optimizer, gradient: float) -> list[np.ndarray]:
    """How much each variable changes in one step with the same gradient everywhere."""
    before = [variable.numpy() for variable in model.trainable_variables]
    gradients = [keras.ops.full(variable.shape, gradient) for variable in model.trainable_variables]
    optimiser.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return [variable.numpy() - old for variable, old in zip(model.trainable_variables, before, strict=True)]


def test_one_cycle_rises_for_three_tenths_and_falls_to_nearly_nothing() -> None:
    rates = [float(OneCycle(0.01, 100)(number)) for number in range(101)]
    assert rates[0] == pytest.approx(0.0004, rel=1e-4)
    assert int(np.argmax(rates)) == 30
    assert max(rates) == pytest.approx(0.01)
    assert rates[100] == pytest.approx(4e-8, abs=1e-9)
    assert np.all(np.diff(rates[:31]) > 0)
    assert np.all(np.diff(rates[30:]) < 0)


def test_timetable_of_2020_has_its_epochs_and_rates() -> None:
    plan = Optimisation(schedule="adam_sgd", learning_rate=1e-4, epochs=200, weight_decay=1e-4)
    changes = {epoch: change for epoch in range(200) if (change := next_stage(plan, epoch)) is not None}
    assert list(changes) == [80, 100, 120]
    sgd = changes[80]
    assert isinstance(sgd, Sgd)
    assert (sgd.momentum, sgd.nesterov, sgd.l2) == (0.9, True, 1e-4)
    assert float(sgd.learning_rate) == pytest.approx(1e-3)
    assert [changes[100], changes[120]] == pytest.approx([1e-4, 1e-5])
    assert plan.never_stops_early


def test_timetable_of_few_epochs_keeps_its_shares_and_its_last_stage() -> None:
    for epochs in range(1, 40):
        plan = Optimisation(schedule="adam_sgd", learning_rate=1e-4, epochs=epochs)
        changes = [change for epoch in range(epochs) if (change := next_stage(plan, epoch)) is not None]
        kinds = [isinstance(change, Sgd) for change in changes]
        assert sum(kinds) == (1 if kinds else 0), "SGD begins once"
        assert not kinds or kinds[0]
    assert len(ADAM_SGD) == 4


def test_plateau_takes_a_fifth_after_three_epochs_without_a_better_figure() -> None:
    plan = Optimisation(schedule="plateau", learning_rate=1e-3, epochs=30)
    assert plateau_rate(plan, []) == 1e-3
    assert plateau_rate(plan, [0.5, 0.6, 0.55, 0.59]) == 1e-3
    assert plateau_rate(plan, [0.5, 0.6, 0.55, 0.59, 0.6]) == pytest.approx(2e-4)
    assert plateau_rate(plan, [0.5, 0.6, 0.55, 0.59, 0.6, 0.7, 0.6, 0.6, 0.6]) == pytest.approx(4e-5)
    assert plateau_rate(Optimisation(schedule="cosine"), [0.5]) is None


def test_each_layer_before_the_last_learns_more_slowly() -> None:
    model = network()
    assert layer_rates(model, 1.0) == []
    rates = layer_rates(model, 0.5)
    assert rates == pytest.approx([0.125] * 2 + [0.25] * 2 + [0.5] * 2 + [1.0] * 2)
    changes = step(model, Adam(0.01, rates=rates), 1.0)
    sizes = [float(np.abs(change).mean()) for change in changes]
    assert sizes == pytest.approx([0.01 * rate for rate in rates], rel=1e-3)


def test_decoupled_decay_leaves_biases_and_batch_norms_alone() -> None:
    model = network()
    changes = step(
        model,
        first_optimiser(Optimisation(schedule="constant", learning_rate=0.1, epochs=1, weight_decay=0.5), model, 1),
        0.0,
    )
    moved = {
        variable.path: bool(np.any(change)) for variable, change in zip(model.trainable_variables, changes, strict=True)
    }
    assert [name.split("/")[-1] for name, changed in moved.items() if changed] == ["kernel"] * 3


def test_penalty_in_the_gradient_draws_every_weight_to_zero() -> None:
    model = network()
    optimiser = first_optimiser(
        Optimisation(schedule="adam_sgd", learning_rate=0.1, epochs=10, weight_decay=0.5), model, 1
    )
    before = [variable.numpy() for variable in model.trainable_variables]
    changes = step(model, optimiser, 0.0)
    for weights, change in zip(before, changes, strict=True):
        moved = weights != 0
        assert np.all(np.sign(change[moved]) == -np.sign(weights[moved]))


def test_optimisers_are_loaded_as_they_were_saved() -> None:
    for optimiser in (Adam(0.1, rates=[0.5, 1.0], l2=0.1), Sgd(OneCycle(0.1, 5), momentum=0.9, l2=0.2)):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimiser))
        assert again.get_config() == optimiser.get_config()
