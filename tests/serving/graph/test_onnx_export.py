from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from engine_model import EngineModel
from exported_model import TAGS, THRESHOLDS

from preprocessing.features import log_mel
from serving.engines.engine_files import onnx_file
from serving.engines.measurement import Measured, Worker


@pytest.fixture(scope="module")
def graph(model: EngineModel) -> Any:
    return onnx.load(onnx_file(model.path))


def test_one_file_from_waveform_to_predictions_with_any_number_of_clips(graph: Any) -> None:
    def shape(value: Any) -> list[Any]:
        return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]

    assert [(value.name, shape(value)) for value in graph.graph.input] == [("waveform", ["clips", 465600])]
    assert [(value.name, shape(value)) for value in graph.graph.output] == [("predictions", ["clips", len(TAGS)])]
    assert {node.domain for node in graph.graph.node} == {""}, "standard operators alone"


def test_metadata_holds_tags_thresholds_version_and_rate(graph: Any) -> None:
    properties = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(properties["tags"]) == list(TAGS)
    assert json.loads(properties["thresholds"]) == list(THRESHOLDS)
    assert (properties["version"], properties["sample_rate"], properties["samples"]) == ("20", "16000", "465600")


def test_same_model_gives_the_same_bytes(model: EngineModel) -> None:
    from serving.graph.onnx_export import convert_model

    assert convert_model(model.ensemble, model.info, "20") == onnx_file(model.path).read_bytes()


def test_front_end_gives_what_preprocessing_stores(graph: Any, clips: Any) -> None:
    from onnx.reference import ReferenceEvaluator

    extractor = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(graph))
    front_end = extractor.extract_model(["waveform"], ["feature_0"])
    (mel,) = ReferenceEvaluator(front_end).run(None, {"waveform": clips})
    np.testing.assert_allclose(mel, [log_mel(clip) for clip in clips], atol=2e-3)


def test_file_answers_as_the_networks_do(model: EngineModel, tmp_path: Path) -> None:
    out = tmp_path / "probabilities.npy"
    with Worker(Measured("ONNX", str(onnx_file(model.path)))) as worker:
        worker.call(examples=[str(model.examples)], out=str(out))
    np.testing.assert_allclose(np.load(out), model.probabilities, atol=1e-4)


@pytest.mark.parametrize("name", ["mel_1d", "waveform_1d", "musicnn"])
def test_a_network_alone_is_exported_to_all_engines_with_what_it_reads(name: str, clips: Any, tmp_path: Path) -> None:
    from exported_model import DATA, SCORES, untrained_ensemble

    from models.heads import Heads
    from serving.engines.engine_files import engine_files
    from serving.engines.runtimes import load_engine
    from serving.graph.export import export_ensemble
    from serving.graph.frozen import feature_shapes

    ensemble = untrained_ensemble((name,), Heads.of_tags(len(TAGS)))
    info = export_ensemble(tmp_path, ensemble, TAGS, THRESHOLDS, DATA, SCORES)
    (windows, *shape), *others = feature_shapes(ensemble, 1).values()
    assert (windows, *shape) == ensemble.feature_shape("feature_0")
    assert not others
    (tmp_path / "engines").mkdir()
    for path, content in engine_files(ensemble, info).items():
        (tmp_path / path).write_bytes(content)
    graph = onnx.load(onnx_file(tmp_path)).graph
    assert [value.name for value in graph.input] == ["waveform"]
    assert sum("feature_0" in node.output for node in graph.node) == 1
    expected = ensemble.from_waveform(clips).numpy()
    for engine in ("onnxruntime", "litert", "openvino"):
        if importlib.util.find_spec(engine.replace("litert", "ai_edge_litert")) is not None:
            np.testing.assert_allclose(load_engine(tmp_path, engine).predict(clips), expected, atol=0.02)
