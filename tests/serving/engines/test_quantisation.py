"""Which arithmetic a model's LiteRT file has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engine_model import EngineModel

from preprocessing.clip_format import ClipFormat
from serving.engines import quantisation
from serving.engines.engine_files import LITERT_NAMES, engine_files, litert_file, litert_weights
from serving.engines.quantisation import furthest_apart, sounds
from serving.engines.runtimes import load_engine


def test_sounds_are_clips_and_the_same_each_time() -> None:
    clips = sounds(ClipFormat(8_000, 16_000))
    assert (clips.shape, clips.dtype) == ((3, 16_000), np.float32)
    assert np.abs(clips).max() <= 1
    assert clips.std(axis=1).min() > 0.05
    np.testing.assert_array_equal(clips, sounds(ClipFormat(8_000, 16_000)))


def test_distance_of_a_file_from_its_model_is_that_of_their_answers(model: EngineModel) -> None:
    clips = sounds(model.ensemble.clip)[:1]
    said = load_engine(model.path, "litert").predict(clips)
    expected = np.abs(said - model.ensemble.from_waveform(clips).numpy()).max()
    assert furthest_apart(litert_file(model.path).read_bytes(), model.ensemble, clips) == pytest.approx(
        expected, abs=1e-5
    )
    assert expected > 0


def test_model_that_int8_changes_gets_a_float32_file(
    model: EngineModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantisation, "MOST_APART", 0.0)
    for name, content in engine_files(model.ensemble, model.info).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "model.json").write_bytes((model.path / "model.json").read_bytes())
    assert sorted(path.name for path in (tmp_path / "engines").iterdir()) == ["model-float32.tflite", "model.onnx"]
    assert litert_weights(tmp_path) == "float32"
    engine = load_engine(tmp_path, "litert")
    assert engine.precision == "float32"
    clips = sounds(model.ensemble.clip)[:1]
    np.testing.assert_allclose(engine.predict(clips), model.ensemble.from_waveform(clips).numpy(), atol=1e-4)
    assert load_engine(tmp_path).name != "litert", "in float32 others are faster"


def test_version_without_a_file_is_asked_for_int8(tmp_path: Path) -> None:
    assert litert_weights(tmp_path) == "int8"
    assert litert_file(tmp_path).name == LITERT_NAMES["int8"]
