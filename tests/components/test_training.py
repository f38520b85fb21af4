"""The training loop, on a small network: learning, stopping, and going on after a kill."""

import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.devices import choose_precision
from components.fitting import SplitPredictions, fit, inference, predict
from components.network_task import NetworkTask
from components.reader import MakeDataset, TransformFacts
from components.trained_network import KERAS_FOLDER, MODEL_FILE, save_network
from components.training_settings import TrainingSettings
from models.heads import Heads
from models.outputs import with_heads
from models.registry import NETWORKS, find_network
from pipeline.reports.report import NETWORK_FILE
from preprocessing.audio.samples import to_pcm
from preprocessing.clip_format import PAPER_CLIP
from preprocessing.examples import encode_example, write_record
from preprocessing.level import levelled
from serving.graph.ensemble import Member
from serving.model_info import Normalisation

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(96, 6)).astype("f4")
LABELS = (INPUTS[:, :3] + 0.5 * RANDOM.normal(size=(96, 3)) > 0.5).astype("f4")


def dataset(first: int, last: int) -> MakeDataset:
    ids = [b"%03d" % row for row in range(first, last)]

    def make(seed: int | None) -> tf.data.Dataset:
        rows = {"inputs": INPUTS[first:last], "labels": LABELS[first:last], "clip_id": ids}
        clips = tf.data.Dataset.from_tensor_slices(rows)
        return (clips if seed is None else clips.shuffle(100, seed=seed)).batch(16)

    return make


def small_network() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dropout(0.2, seed=5),
            keras.layers.Dense(3, activation="sigmoid", name="logits"),
        ]
    )


HEADS = Heads.of_tags(3)


def validate(model: keras.Model) -> Callable[[], SplitPredictions]:
    answer = inference(model)
    return lambda: predict(answer, dataset(64, 96))


SETTINGS = TrainingSettings(epochs=6, batch_size=16, learning_rate=0.05, patience=6)

WAYS: dict[str, Any] = {
    "cosine": {},
    "one cycle": {"schedule": "one_cycle", "layer_decay": 0.7, "label_smoothing": 0.1, "class_balance": 0.5},
    "timetable": {"schedule": "adam_sgd", "weight_decay": 1e-3, "monitor": "loss"},
    "plateau, averaged": {"schedule": "plateau", "average": 0.9, "weight_decay": 1e-2, "monitor": "pr_auc"},
}
"""Each has something that must outlive a killed process: steps, rates, optimisers, averages."""


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_learning_raises_the_validation_roc_auc(way: str, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update=WAYS[way])
    _, state = fit(small_network, dataset(0, 64), validate, settings, HEADS, str(tmp_path))
    assert state.epoch == 6
    assert max(row["valid_roc_auc"] for row in state.history) > 0.8


def test_training_is_logged_and_its_best_epoch_known(tmp_path: Path) -> None:
    model, state = fit(small_network, dataset(0, 64), validate, SETTINGS, HEADS, str(tmp_path), str(tmp_path / "logs"))
    assert state.best_figure > 0.8
    assert state.history[state.best_epoch - 1]["valid_roc_auc"] == state.best_figure
    assert predict(inference(model), dataset(64, 96)).predictions.shape == (32, 3)
    assert list((tmp_path / "logs").glob("events*")), "TensorBoard's log is there"


@pytest.mark.parametrize("average", [0.0, 0.8])
def test_best_epochs_weights_are_returned_not_the_last_ones(average: float, tmp_path: Path) -> None:
    """With averages of the weights it is these that are scored and returned."""
    from components.tag_scores import score_tags

    settings = SETTINGS.model_copy(update={"average": average})
    model, state = fit(small_network, dataset(0, 64), validate, settings, HEADS, str(tmp_path))
    answers = predict(inference(model), dataset(64, 96))
    assert score_tags(answers.labels, answers.predictions, list("abc")).roc_auc == pytest.approx(state.best_figure)


def test_training_stops_when_nothing_gets_better(tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=50, learning_rate=1e-12, patience=3, schedule="constant")
    _, state = fit(small_network, dataset(0, 64), validate, settings, HEADS, str(tmp_path))
    assert state.epoch < 50
    assert state.epoch - state.best_epoch == 3


def test_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    first, _ = fit(small_network, dataset(0, 64), validate, SETTINGS, HEADS, str(tmp_path / "a"))
    second, _ = fit(small_network, dataset(0, 64), validate, SETTINGS, HEADS, str(tmp_path / "b"))
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("way", WAYS)
def test_killed_training_goes_on_at_its_last_epoch_and_ends_the_same(way: str, tmp_path: Path) -> None:
    """A process is killed with -9 after its third epoch; the next call ends with the weights of a whole run."""
    program = f"""
        import logging, os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import components.fitting as fitting
        from dataclasses import replace
        from test_training import HEADS, SETTINGS, WAYS, dataset, small_network, validate
        saved = fitting.save
        def save_and_die(folder, model, state, better):
            saved(folder, model, state, better)
            if state.epoch == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        fitting.save = save_and_die
        settings = SETTINGS.model_copy(update=WAYS[{way!r}])
        fitting.fit(small_network, dataset(0, 64), validate, settings, HEADS, {str(tmp_path / "killed")!r})
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert json.loads((tmp_path / "killed" / "state.json").read_text())["epoch"] == 3

    settings = SETTINGS.model_copy(update=WAYS[way])
    resumed, state = fit(small_network, dataset(0, 64), validate, settings, HEADS, str(tmp_path / "killed"))
    undisturbed, whole = fit(small_network, dataset(0, 64), validate, settings, HEADS, str(tmp_path / "whole"))
    assert state.epoch == 6
    assert [row["loss"] for row in state.history] == pytest.approx([row["loss"] for row in whole.history], rel=1e-5)
    for one, other in zip(resumed.get_weights(), undisturbed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_loss_that_is_not_finite_stops_with_a_reason(tmp_path: Path) -> None:
    def broken() -> keras.Model:
        model = small_network()
        model.layers[-1].kernel.assign(np.full((16, 3), np.nan))
        return model

    with pytest.raises(ValueError, match="lower the learning rate"):
        fit(broken, dataset(0, 64), validate, SETTINGS, HEADS, str(tmp_path), name="broken")


def test_predictions_come_in_the_order_of_the_clips_ids(tmp_path: Path) -> None:
    model = small_network()
    plain = predict(inference(model), dataset(0, 32))
    shuffled = predict(inference(model), lambda _: dataset(0, 32)(7))
    assert plain.clip_ids == shuffled.clip_ids
    np.testing.assert_allclose(plain.predictions, shuffled.predictions, rtol=1e-5)
    np.testing.assert_array_equal(plain.labels, shuffled.labels)


def test_precision_that_is_asked_for_is_taken() -> None:
    assert choose_precision("mixed_float16", "mel_1d") == "mixed_float16"
    assert choose_precision("auto", "combiner") in ("float32", "mixed_bfloat16", "mixed_float16")
    assert os.cpu_count()


@pytest.mark.parametrize("score", [None, 1, 4])
def test_network_that_hears_less_than_a_clip_learns_from_random_windows_however_many_score_it(
    score: int | None,
) -> None:
    facts = TransformFacts(("a",), Heads.of_tags(1), *3 * [Normalisation(0.0, 1.0)])
    settings = TrainingSettings(score_windows=score)
    assert NetworkTask("short", find_network("short_chunk"), settings, PAPER_CLIP, facts).windowed
    assert not NetworkTask("whole", find_network("fcn"), settings, PAPER_CLIP, facts).windowed


@pytest.mark.parametrize(
    ("change", "stored"), [({}, True), ({"gain_db": 4.0, "mixup": 0.3}, True), ({"mp3": 0.3}, False)]
)
def test_network_of_the_stored_log_mel_is_normalised_as_transform_learnt(change: Any, stored: bool) -> None:
    facts = TransformFacts(("a",), Heads.of_tags(1), *2 * [Normalisation(0.0, 1.0)], Normalisation(2.0, 3.0))
    task = NetworkTask("mel", find_network("mel_1d"), TrainingSettings(level="rms", **change), PAPER_CLIP, facts)
    assert task.reads_stored_log_mel == stored
    assert task._learn_normalisation([]) == Normalisation(2.0, 3.0)


def write_noise(path: Path, gains: Sequence[float]) -> str:
    """Write examples of noise that is turned up or down."""
    with path.open("wb") as file:
        for seed, gain in enumerate(gains):
            clip = np.random.default_rng(seed).normal(0, 0.2 * gain, PAPER_CLIP.samples).astype(np.float32)
            names = {"clip_id": str(seed).encode(), "track": b"t", "tags": [b"a"]}
            write_record(file, encode_example({**names, "waveform": to_pcm(clip).tobytes()}))
    return str(path)


@pytest.mark.parametrize("name", ["waveform_1d", "musicnn"])
def test_training_clips_are_brought_to_one_level_and_then_changed(tmp_path: Path, name: str) -> None:
    facts = TransformFacts(("a",), Heads.of_tags(1), *3 * [Normalisation(0.0, 1.0)])
    pattern = write_noise(tmp_path / "a.tfrecord", (1.0, 0.1, 0.01))

    def levels(**change: Any) -> Any:
        task = NetworkTask("n", find_network(name), TrainingSettings(level="rms", **change), PAPER_CLIP, facts)
        (batch,) = task.training_dataset([pattern])(1)
        return 20 * np.log10(np.std(batch["inputs"].numpy(), axis=1))

    np.testing.assert_allclose(levels(), -18, atol=0.1)
    np.testing.assert_allclose(levels(time_shift=True), -18, atol=0.1)
    assert np.ptp(levels(gain_db=6.0)) > 1


def test_network_that_hears_one_level_answers_as_it_learnt_whatever_the_clips_level() -> None:
    facts = TransformFacts(("a",), Heads.of_tags(1), *3 * [Normalisation(-20.0, 20.0)])
    settings = TrainingSettings(level="rms", mp3=0.5, precision="float32")
    task = NetworkTask("mel", find_network("mel_1d"), settings, PAPER_CLIP, facts, Normalisation(-20.0, 20.0))
    network = task.build()
    assert task.member(network).info.level == "rms"
    clip = np.random.default_rng(0).normal(0, 0.1, (2, PAPER_CLIP.samples)).astype(np.float32)
    learnt = np.asarray(task.with_front(network)(np.stack([levelled(one) for one in clip])))
    for gain in (1.0, 0.1):
        answer = np.asarray(task.clip_answer(network)(tf.constant(np.float32(gain) * clip)))
        np.testing.assert_allclose(answer, learnt, atol=1e-4)


def test_normalisation_of_waveforms_at_one_level_is_learnt_of_what_is_heard(tmp_path: Path) -> None:
    facts = TransformFacts(("a",), Heads.of_tags(1), *3 * [Normalisation(-9.0, 7.0)])
    pattern = write_noise(tmp_path / "a.tfrecord", (1.0, 0.01))
    task = NetworkTask("n", find_network("waveform_1d"), TrainingSettings(level="rms"), PAPER_CLIP, facts)
    learnt = task._learn_normalisation([pattern])
    assert learnt is not None
    assert learnt.std == pytest.approx(10 ** (-18 / 20), rel=1e-3)
    as_is = NetworkTask("n", find_network("waveform_1d"), TrainingSettings(), PAPER_CLIP, facts)
    assert as_is._learn_normalisation([]) == Normalisation(-9.0, 7.0)


def test_reports_look_for_networks_where_trainers_put_them() -> None:
    assert Path(KERAS_FOLDER, MODEL_FILE) == NETWORK_FILE


def test_kept_networks_are_loaded_by_a_process_that_built_none(tmp_path: Path) -> None:
    """Those whose files have layers or functions of their own, which Keras has to know."""
    own = {
        entry.module: entry.name
        for entry in sorted(NETWORKS.values(), key=lambda entry: -entry.parameters)
        if "register_keras_serializable" in inspect.getsource(importlib.import_module(entry.module))
    }
    assert {"models.crnn_2017", "models.self_attention"} <= own.keys()
    heads = Heads.of_tags(3)
    for name in own.values():
        network = find_network(name)
        model = with_heads(network.build(3, dtype="float32"), heads)
        save_network(Member(name, network, model, network.score_windows, None), str(tmp_path / name))
    program = (
        "import sys; from components.trained_network import load_network; [load_network(uri) for uri in sys.argv[1:]]"
    )
    call = [sys.executable, "-c", program, *(str(tmp_path / name) for name in own.values())]
    loaded = subprocess.run(call, capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr
