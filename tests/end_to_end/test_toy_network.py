"""A network that this file alone registers goes through pipeline, push and tagging: nothing else keeps a list of them.

It hears 4 s at 8 kHz through a mel spectrogram of its own, and answers with two heads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile as sf
import yaml
from command_runner import autotag, invoke
from keras import layers
from registered_networks import registered
from serving_double import SavedModel, serving_double

from models.front_ends.settings import LogMel
from models.initializers import glorot, seed_stream
from models.registry import Network
from preprocessing.audio.loading import load_audio
from preprocessing.constants import SAMPLE_RATE
from preprocessing.windows import WindowRule
from serving.client import TagClient
from serving.client.target import Transport
from serving.graph.ensemble import Ensemble
from serving.model_info import read_model_info
from serving.tagging.sources import LocalModel, ServedModel
from serving.tagging.tagger import Tagger

pytestmark = pytest.mark.timeout(600)

MEL = LogMel(sample_rate=8000, n_fft=256, hop_length=160, n_mels=24, scale="ln_1p")
WINDOW = 32_000


def build_toy(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """Log-mel (batch, 24, frames) -> logits (batch, n_outputs): one convolution over time."""
    next_seed = seed_stream(seed)
    log_mel = keras.Input(MEL.shape(WINDOW), name="log_mel")
    x = layers.Permute((2, 1), dtype=dtype)(log_mel)
    x = layers.BatchNormalization(dtype=dtype)(x)
    x = layers.Conv1D(16, 5, strides=2, activation="relu", kernel_initializer=glorot(next_seed), dtype=dtype)(x)
    x = layers.GlobalAveragePooling1D(dtype=dtype)(x)
    logits = layers.Dense(n_outputs, kernel_initializer=glorot(next_seed), dtype="float32", name="logits")(x)
    return keras.Model(log_mel, logits, name="toy")


@pytest.fixture(scope="module")
def toy() -> Iterator[Network]:
    with registered(
        "toy",
        f"{__name__}:build_toy",
        window_samples=WINDOW,
        sample_rate=8000,
        front_end=MEL,
        score_windows=WindowRule(4),
    ) as network:
        yield network


@pytest.fixture(scope="module")
def pushed(toy: Network, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The pushed version and the corpus."""
    from pipeline.runs.local_runner import run_pipeline
    from pipeline.settings.config import load_config

    folder = tmp_path_factory.mktemp("toy")
    autotag("make-corpus", folder / "corpus", "--clips", 48, "--seed", 3)
    config = {
        "name": "toy",
        "root": str(folder / "run"),
        "data": {
            "dataset": "synthetic",
            "audio_dir": str(folder / "corpus"),
            "ratio": [8, 4, 4],
            "shard_clips": 12,
            "clip": {"seconds": 12, "sample_rate": 22050},
            "heads": {"tempo": {"kind": "one-of", "tags": ["slow", "fast"]}, "tags": {"top": 6}},
        },
        "networks": {
            "mine": {"network": "toy", "epochs": 2, "windows": {"train": 2, "score": 3}},
            "other": {"network": "toy", "epochs": 1, "seed": 5},
        },
        "ensembles": {"both": {"of": ["other", "mine"], "combiner": "logistic", "fit": "out_of_fold"}},
        "combiner": {"folds": 2},
        "gate": {"min_roc_auc": 0.0},
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    run_pipeline(load_config(str(folder / "toy.yaml")))
    (version,) = (folder / "run" / "pushed").iterdir()
    return version, folder / "corpus"


def test_card_says_what_the_toy_hears_and_answers(pushed: tuple[Path, Path]) -> None:
    info = read_model_info(pushed[0])
    assert [(member.name, member.network, member.sample_rate) for member in info.members] == [
        ("other", "toy", 8000),
        ("mine", "toy", 8000),
    ]
    assert [member.windows.count for member in info.members] == [4, 3]
    assert info.combiner is not None
    assert info.combiner.kind == "logistic"
    assert [(head.name, head.kind, head.size) for head in info.heads.heads] == [
        ("tempo", "one-of", 2),
        ("tags", "multi-label", 6),
    ]
    assert info.tags[:2] == ("slow", "fast")
    assert not set(info.tags[2:]) & {"slow", "fast"}
    assert "tempo" in info.scores["test"].accuracy


@pytest.mark.parametrize("engine", ["litert", "onnxruntime", "tensorflow"])
def test_files_are_tagged_and_one_of_two_tempi_is_chosen(pushed: tuple[Path, Path], engine: str) -> None:
    version, corpus = pushed
    model = LocalModel(version, engine)
    song = Tagger(model).tag_file(sorted(corpus.glob("*/*.mp3"))[0])
    assert song.probabilities[:2].sum() == pytest.approx(1, abs=1e-3)
    assert song.above[:2].sum() == 1
    restored = Ensemble.restore(version)
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, restored.clip.samples)).astype("f4")
    expected = restored.from_waveform(waveform).numpy()[0]
    answer = model.answer(waveform).probabilities[0]
    np.testing.assert_allclose(answer, expected, atol=0.02)


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_served_model_is_asked_for_its_own_clips(
    pushed: tuple[Path, Path], transport: Transport, tmp_path: Path
) -> None:
    version, corpus = pushed
    long = tmp_path / "long.wav"
    sf.write(long, np.tile(load_audio(sorted(corpus.glob("*/*.mp3"))[0].read_bytes()), 3), SAMPLE_RATE)
    with (
        serving_double({7: SavedModel(version)}) as double,
        TagClient(double.address(transport), transport=transport) as client,
    ):
        served = ServedModel(client, "here", 1)
        assert client.card().info == read_model_info(version)
        for file in (sorted(corpus.glob("*/*.mp3"))[1], long):
            near, far, direct = Tagger(version).tag_file(file), Tagger(served).tag_file(file), client.tag_file(file)
            assert far.windows == near.windows == direct.windows >= 2
            np.testing.assert_allclose(far.probabilities, near.probabilities, atol=0.02)
            np.testing.assert_allclose(direct.probabilities, near.probabilities, atol=0.02)
            assert far.above[:2].sum() == direct.above_threshold[:2].sum() == 1
            assert far.seconds == pytest.approx(near.seconds)


def test_exported_file_is_measured_on_a_clip_of_the_models_length(pushed: tuple[Path, Path], tmp_path: Path) -> None:
    done = invoke("export", "--onnx", tmp_path / "onnx", "--model", pushed[0], "--rounds", 1)
    assert done.exit_code == 0, done.exception
    report = json.loads((tmp_path / "onnx" / "report.json").read_text())
    assert report["seconds"].startswith("one MP3 file of 12 s ")
    assert [row["name"] for row in report["rows"]] == ["SavedModel", "ONNX float32"]
    assert all(row["seconds"] > 0 for row in report["rows"])
