from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from exported_model import DATA
from keras import layers, ops

from models.front_ends.harmonic import HarmonicFilters
from models.front_ends.layers import decibels
from models.front_ends.resample import Resample
from models.front_ends.settings import LogMel, Stft
from preprocessing.clip_format import ClipFormat
from serving.graph import litert, onnx_export
from serving.graph.frozen import feature_shapes

CLIP = ClipFormat(16000, 40000)
TAGS = ("guitar", "piano", "drums")
INFO: Any = SimpleNamespace(tags=TAGS, thresholds=(0.5, 0.5, 0.5), data=DATA, code_version="1")


class ThreeNetworks:
    """Networks that hear a clip in three ways: windows at another rate, windows under learnt filters, and all of it.

    The first is recurrent, which converters turn into a loop with a graph of its own.
    """

    clip = CLIP

    def __init__(self) -> None:
        keras.utils.set_random_seed(0)
        resample = Resample(16000, 12000, 12000)
        log_mel, stft = LogMel(sample_rate=12000).layer(), Stft().layer()
        self._hear = {
            "feature_0": lambda waveform: log_mel(resample(windows(waveform, 3))),
            "feature_1": lambda waveform: stft(windows(waveform, 2)),
            "feature_2": lambda waveform: waveform,
        }
        mel = keras.Input((96, 47))
        recurrent = layers.GRU(16)(layers.Permute((2, 1))(layers.Rescaling(0.02)(mel)))
        power = keras.Input((257, 63))
        harmonic = decibels(HarmonicFilters()(power))
        convolved = layers.Conv2D(32, 3, strides=2, activation="relu")(layers.Permute((2, 3, 1))(harmonic))
        waveform = keras.Input((CLIP.samples,))
        samples = layers.Conv1D(16, 64, strides=32)(layers.Reshape((CLIP.samples, 1))(waveform))
        ends = (
            (mel, recurrent),
            (power, layers.GlobalAveragePooling2D()(convolved)),
            (waveform, layers.GlobalMaxPooling1D()(samples)),
        )
        self._networks = [keras.Model(taken, layers.Dense(3, activation="sigmoid")(x)) for taken, x in ends]

    def features(self, waveform: Any) -> dict[str, Any]:
        return {name: hear(waveform) for name, hear in self._hear.items()}

    def from_features(self, features: dict[str, Any]) -> Any:
        by_window = [network(value) for network, value in zip(self._networks, features.values(), strict=True)]
        counts = (3, 2, 1)
        answers = [ops.mean(ops.reshape(x, (-1, count, 3)), axis=1) for x, count in zip(by_window, counts, strict=True)]
        return sum(answers) / len(answers)


def windows(waveform: Any, count: int) -> Any:
    pieces = [waveform[:, 12000 * number : 12000 * number + 16000] for number in range(count)]
    return ops.reshape(ops.stack(pieces, axis=1), (-1, 16000))


@pytest.fixture(scope="module")
def ensemble() -> Any:
    return ThreeNetworks()


@pytest.fixture(scope="module")
def waveforms() -> Any:
    noise = 0.1 * np.random.default_rng(0).standard_normal((3, CLIP.samples))
    noise[1] = 0
    noise[2] *= np.linspace(0, 1, CLIP.samples)
    return noise.astype(np.float32)


@pytest.fixture(scope="module")
def expected(ensemble: Any, waveforms: Any) -> Any:
    return keras.ops.convert_to_numpy(ensemble.from_features(ensemble.features(waveforms)))


@pytest.fixture(scope="module")
def onnx_content(ensemble: Any) -> bytes:
    return onnx_export.convert_model(ensemble, INFO, "1")


def test_shapes_of_features_have_a_row_for_each_window(ensemble: Any) -> None:
    shapes = {"feature_0": (3, 96, 47), "feature_1": (2, 257, 63), "feature_2": (1, CLIP.samples)}
    assert feature_shapes(ensemble, 1) == shapes


@pytest.mark.parametrize(("weights", "tolerance"), [("float32", 1e-4), ("float16", 5e-3), ("int8", 2e-2)])
def test_litert_answers_as_the_networks_do(
    ensemble: Any, waveforms: Any, expected: Any, weights: litert.Weights, tolerance: float
) -> None:
    from ai_edge_litert.interpreter import Interpreter

    content = litert.convert_model(ensemble, INFO, weights, "1")
    assert not {"CUSTOM", "FLEX"} & set(litert.operators(content))
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    for waveform, answer in zip(waveforms, expected, strict=True):
        interpreter.set_tensor(taken["index"], waveform[np.newaxis])
        interpreter.invoke()
        np.testing.assert_allclose(interpreter.get_tensor(given["index"])[0], answer, atol=tolerance)


def test_onnx_runtime_answers_as_the_networks_do(onnx_content: bytes, waveforms: Any, expected: Any) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_content, providers=["CPUExecutionProvider"])
    (answers,) = session.run(["predictions"], {"waveform": waveforms})
    np.testing.assert_allclose(answers, expected, atol=1e-4)


def test_onnx_file_of_the_same_networks_has_the_same_bytes(ensemble: Any, onnx_content: bytes) -> None:
    assert onnx_export.convert_model(ensemble, INFO, "1") == onnx_content


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_openvino_computes_features_and_networks_apart(
    onnx_content: bytes, waveforms: Any, expected: Any, tmp_path: Path
) -> None:
    import openvino

    from serving.engines import runtimes

    file = tmp_path / "model.onnx"
    file.write_bytes(onnx_content)
    core = openvino.Core()
    front_ends = runtimes._front_ends(openvino, core.read_model(file))
    networks = runtimes._networks(openvino, core.read_model(file), None)
    assert len(front_ends.outputs) == len(networks.inputs) == 3
    run = runtimes._openvino_runner(
        core.compile_model(front_ends, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}),
        core.compile_model(networks, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}),
        None,
    )
    answers = np.concatenate([run(waveform[np.newaxis]) for waveform in waveforms])
    np.testing.assert_allclose(answers, expected, atol=1e-4)
