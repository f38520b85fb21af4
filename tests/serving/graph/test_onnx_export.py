from __future__ import annotations

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


def test_fourier_transform_by_matrices_gives_preprocessings_log_mel(graph: Any, clips: Any) -> None:
    from onnx.reference import ReferenceEvaluator

    extractor = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(graph))
    front_end = extractor.extract_model(["waveform"], ["log_mel"])
    (mel,) = ReferenceEvaluator(front_end).run(None, {"waveform": clips})
    np.testing.assert_allclose(mel, [log_mel(clip) for clip in clips], atol=2e-3)


def test_file_answers_as_the_networks_do(model: EngineModel, tmp_path: Path) -> None:
    out = tmp_path / "probabilities.npy"
    with Worker(Measured("ONNX", str(onnx_file(model.path)))) as worker:
        worker.ask(examples=[str(model.examples)], out=str(out))
    np.testing.assert_allclose(np.load(out), model.probabilities, atol=1e-4)


@pytest.mark.parametrize("branch", ["mel_1d", "waveform_1d"])
def test_a_branch_alone_is_exported_with_the_input_that_it_reads(branch: str) -> None:
    from exported_model import DATA, NORMALISATION

    from models.branches import BRANCHES
    from serving.graph.ensemble import Ensemble
    from serving.graph.onnx_export import convert_model
    from serving.model_info import ModelInfo

    networks = {branch: BRANCHES[branch].build(len(TAGS))}
    ensemble = Ensemble.build(networks, None, {branch: BRANCHES[branch].input}, NORMALISATION)
    info = ModelInfo(TAGS, THRESHOLDS, NORMALISATION, ensemble.infos(), 0, DATA, {})
    model = onnx.load_from_string(convert_model(ensemble, info, "1"))
    assert [value.name for value in model.graph.input] == ["waveform"]
    has_front_end = any("log_mel" in node.output for node in model.graph.node)
    assert has_front_end == (BRANCHES[branch].input == "log_mel")
