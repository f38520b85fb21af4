"""Trained weights to start from: what is taken over, and what is trained of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from registered_networks import registered

from components.fitting import predict
from components.network_task import NetworkTask
from components.reader import Fold, TransformFacts
from components.starting_weights import started_network
from components.trained_network import KERAS_FOLDER, read_out_of_fold
from components.training import predict_out_of_fold, train_network
from components.training_settings import TrainingSettings
from models.heads import Heads
from models.initializers import glorot, seed_stream
from models.outputs import with_heads
from models.registry import NETWORKS, Network
from preprocessing.clip_format import ClipFormat
from preprocessing.errors import BadInputError
from preprocessing.examples import encode_example, write_record
from preprocessing.windows import WindowRule
from serving.model_info import Normalisation

CLIP = ClipFormat(sample_rate=1000, samples=600)
TAGS = ("high", "low")
FACTS = TransformFacts(TAGS, Heads.of_tags(2), *3 * [Normalisation(0.0, 1.0)])


def build_small(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """``waveform`` (batch, 200) -> logits (batch, n_outputs) float32."""
    next_seed = seed_stream(seed)
    waveform = keras.Input((200,), name="waveform")
    x = layers.Reshape((200, 1), dtype=dtype)(waveform)
    x = layers.Conv1D(8, 16, activation="relu", kernel_initializer=glorot(next_seed), dtype=dtype, name="conv")(x)
    x = layers.GlobalMaxPooling1D(dtype=dtype)(x)
    logits = layers.Dense(n_outputs, kernel_initializer=glorot(next_seed), dtype="float32", name="logits")(x)
    return keras.Model(waveform, logits, name="small")


@pytest.fixture(scope="module")
def small() -> Iterator[Network]:
    with registered(
        "small",
        f"{__name__}:build_small",
        window_samples=200,
        sample_rate=1000,
        score_windows=WindowRule(3),
    ) as network:
        yield network


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Tones, high and low, in the splits ``train`` and ``valid``."""
    folder, random, time = tmp_path_factory.mktemp("tones"), np.random.default_rng(0), np.arange(CLIP.samples) / 1000
    for split, clips in (("train", 48), ("valid", 24)):
        with (folder / split).open("wb") as file:
            for number in range(clips):
                tag, hertz = (b"high", 180) if number % 2 else (b"low", 40)
                samples = 0.5 * np.sin(2 * np.pi * hertz * time + random.uniform(0, 6)) + 0.1 * random.normal(size=600)
                features = {
                    "waveform": (samples * 10_000).astype("<i2").tobytes(),
                    "tags": [tag],
                    "clip_id": f"{split}-{number:02d}".encode(),
                    "track": f"track-{number}".encode(),
                }
                write_record(file, encode_example(features))
    return {split: [str(folder / split)] for split in ("train", "valid")}


@pytest.fixture
def trained(small: Network, tmp_path: Path) -> str:
    """A Trainer's file of a network of two tags, one of which is known here by the same place."""
    path = tmp_path / "trained.keras"
    with_heads(small.build(2, seed=7), Heads.of_tags(2)).save(path)
    return str(path)


def task(network: Network, **settings: object) -> NetworkTask:
    chosen = TrainingSettings(
        **{"epochs": 8, "batch_size": 8, "learning_rate": 0.02, "precision": "float32", **settings}
    )
    return NetworkTask("mine", network, chosen, CLIP, FACTS)


def weights_of(model: keras.Model, layer: str) -> list[np.ndarray]:
    return [np.array(value) for value in model.get_layer(layer).get_weights()]


def test_all_layers_but_the_last_take_the_trained_weights(small: Network, trained: str) -> None:
    started, trained_on = started_network(trained, small, Heads.of_tags(2), TAGS, "float32")
    source = keras.models.load_model(trained, compile=False)
    for one, other in zip(weights_of(started, "conv"), weights_of(source, "conv"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(weights_of(started, "logits")[0], weights_of(source, "logits")[0])
    assert trained_on == trained


def test_head_alone_is_trained_and_the_rest_stays_as_it_is(
    small: Network, trained: str, examples: dict[str, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = task(small, weights=trained, train="head")
    network, state, _ = train_network(mine, examples["train"], examples["valid"], str(tmp_path / "checkpoint"))
    source = keras.models.load_model(trained, compile=False)
    for one, other in zip(weights_of(network, "conv"), weights_of(source, "conv"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert state.best_figure > 0.9
    assert caplog.text.count("computed once") == 2, "of each split"
    other = task(small, weights=trained, train="head", seed=3, epochs=1)
    train_network(other, examples["train"], examples["valid"], str(tmp_path / "another"), fold=Fold(0, 3, inside=False))
    assert caplog.text.count("computed once") == 2, "another seed and a fold take what is there"
    scored = predict(mine.clip_answer(network), mine.clip_dataset(examples["valid"]))
    assert scored.predictions.shape == (24, 2)
    assert np.mean((scored.predictions[:, 0] > scored.predictions[:, 1]) == (scored.labels[:, 0] == 1)) > 0.9


def test_all_is_trained_after_the_head(
    small: Network, trained: str, examples: dict[str, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = task(small, weights=trained, train=2, epochs=3)
    network, state, _ = train_network(mine, examples["train"], examples["valid"], str(tmp_path / "checkpoint"))
    source = keras.models.load_model(trained, compile=False)
    assert not np.array_equal(weights_of(network, "conv")[0], weights_of(source, "conv")[0])
    assert state.epoch == 3
    assert "mine head epoch 2/2" in caplog.text
    assert "mine epoch 3/3" in caplog.text


def test_weights_of_another_network_and_names_that_nobody_knows_are_refused(small: Network, trained: str) -> None:
    with pytest.raises(BadInputError, match="neither a trained model that `autotag pretrained` lists nor a file"):
        started_network("no-such-model", small, Heads.of_tags(2), TAGS, "float32")
    with pytest.raises(BadInputError, match="of another network"):
        started_network(trained, NETWORKS["dieleman_raw"], Heads.of_tags(2), TAGS, "float32")


def test_out_of_fold_answers_are_there_for_every_training_clip(
    small: Network, examples: dict[str, list[str]], tmp_path: Path
) -> None:
    mine = task(small, epochs=2)
    (tmp_path / "m" / KERAS_FOLDER).mkdir(parents=True)  # save_network made it
    predict_out_of_fold(mine, examples["train"], examples["valid"], 3, str(tmp_path / "c"), str(tmp_path / "m"))
    answers = read_out_of_fold(str(tmp_path / "m"))
    assert set(answers) == {f"train-{number:02d}".encode() for number in range(48)}
    assert all(row.shape == (2,) for row in answers.values())


def test_normalisation_of_a_front_end_of_ones_own_is_learnt_from_the_training_clips(
    small: Network, examples: dict[str, list[str]]
) -> None:
    from models.front_ends.settings import Stft

    front_end = Stft(sample_rate=1000, n_fft=64, hop_length=32, pad="none", scale="magnitude")
    heard = task(replace(small, front_end=front_end, normalised=True))
    learnt = heard._learn_normalisation(examples["train"])
    assert learnt is not None
    front, hearing = heard.hearing.front(), heard.hearing
    values = np.concatenate([front(hearing.cut(b["inputs"])) for b in heard.clip_dataset(examples["train"])(None)])
    assert learnt.mean == pytest.approx(values.mean(), rel=1e-4)
    assert learnt.std == pytest.approx(values.std(), rel=1e-4)
