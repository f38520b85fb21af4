"""Trained weights become a pushed version: a network of the test's own, so small that export takes seconds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from exported_model import tone

from models.front_ends.settings import LogMel
from models.registry import NETWORKS, Network
from preprocessing.audio.samples import fit_clip
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.windows import WindowRule
from serving.model_info import read_model_info
from serving.model_versions import find_model
from serving.pretrained import convert, importing
from serving.pretrained.importing import Weights, import_weights
from serving.tagging.sources import LocalModel

TAGS = ("loud", "quiet", "männer")


def build_little(n_outputs: int = 3, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    read = keras.Input((20, 63))
    flat = keras.layers.Flatten()(read)
    initial = keras.initializers.RandomNormal(stddev=0.1, seed=seed)
    return keras.Model(read, keras.layers.Dense(n_outputs, kernel_initializer=initial, name="logits")(flat))


LITTLE = Network(
    name="little",
    title="a test's",
    source="none",
    builder="test_importing:build_little",
    parameters=3_783,
    outputs=3,
    window_samples=16_000,
    sample_rate=16_000,
    front_end=LogMel(n_fft=1024, hop_length=256, n_mels=20, scale="ln_1p", pad="constant"),
    score_windows=WindowRule(4),
)


@pytest.fixture(scope="module", autouse=True)
def little() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "little", LITTLE)
        patch.setattr(convert, "load_weights", lambda network, path, n_outputs, variant: network.build(n_outputs))
        yield


def weights(**changes: Any) -> Weights:
    origin = importing.Origin("little.pth", "the test", "MIT", "ROC-AUC 0.9 (none)", "thresholds were not measured")
    given = Weights("little", Path("little.pth"), TAGS, origin, importing.unmeasured_data("noise", "CC0", "none"))
    return dataclasses.replace(given, **changes)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_weights(weights(), tmp_path_factory.mktemp("imported"))


def test_version_is_whole_and_its_card_says_where_it_comes_from(version: Path) -> None:
    assert version.name == "1"
    assert find_model(version.parent) == version
    assert [path.name for path in version.parent.iterdir()] == ["1"]
    info = read_model_info(version)
    assert info.tags == TAGS
    assert info.thresholds == (0.2,) * 3
    assert info.origin == weights().origin
    assert (info.data.name, info.data.licence) == ("noise", "CC0")
    assert json.loads((version / "model.json").read_text("utf-8"))["origin"]["licence"] == "MIT"


def test_signatures_are_those_of_a_model_that_was_trained_here(version: Path, exported: Any) -> None:
    import tensorflow as tf

    names = set(tf.saved_model.load(str(version)).signatures)
    assert names == set(tf.saved_model.load(str(exported.path)).signatures)


@pytest.mark.parametrize("engine", ["litert", "onnxruntime", "tensorflow"])
def test_every_engine_gives_what_the_network_gives(version: Path, engine: str) -> None:
    clip = fit_clip(tone(20))[None]
    said = LocalModel(version, engine).answer(clip).probabilities[0]
    expected = importing.load_ensemble(weights()).from_waveform(clip).numpy()[0]
    np.testing.assert_allclose(said, expected, atol=2e-2 if engine == "litert" else 1e-4)


def test_next_import_is_the_next_version(version: Path) -> None:
    assert import_weights(weights(thresholds=(0.1, 0.2, 0.3)), version.parent).name == "2"
    assert read_model_info(version.parent / "2").thresholds == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": "nope"}, "no network is called 'nope'"),
        ({"tags": ("a", "a", "b")}, "differ"),
        ({"thresholds": (0.1, 0.2)}, "a threshold from 0 to 1 for each of 3 tags"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_left(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        import_weights(weights(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AutotagError, match="file"):
        import_weights(weights(), tmp_path / "file")
