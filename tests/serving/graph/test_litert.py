from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from engine_model import EngineModel
from exported_model import TAGS, THRESHOLDS, tone, write_audio

from preprocessing.audio.samples import fit_clip
from preprocessing.constants import CLIP_SAMPLES, N_MELS
from preprocessing.errors import BadInputError
from preprocessing.features import log_mel
from serving.engines.engine_files import litert_file, onnx_file
from serving.engines.on_device import main, read_card

ROOT = Path(__file__).parents[3]
REQUIREMENTS = ROOT / "requirements" / "ondevice-py310.txt"


@pytest.fixture(scope="module")
def content(model: EngineModel) -> bytes:
    return litert_file(model.path).read_bytes()


def parts(content: bytes) -> Any:
    from tensorflow.lite.python import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def test_features_in_the_graph_equal_what_preprocessing_stores(model: EngineModel, clips: Any) -> None:
    import tensorflow as tf

    from serving.graph.frozen import feature_shapes, frozen_feature

    assert feature_shapes(model.ensemble, 2) == {"feature_0": (2, 128, 592), "feature_1": (2, CLIP_SAMPLES)}
    (mel,) = frozen_feature(model.ensemble, "feature_0", None)(tf.constant(clips))
    np.testing.assert_allclose(mel.numpy(), [log_mel(clip) for clip in clips], atol=2e-3)


def test_int8_file_takes_a_waveform_and_gives_a_probability_a_tag(content: bytes) -> None:
    (graph,) = parts(content).subgraphs
    (given,), (answer,) = graph.inputs, graph.outputs
    assert graph.tensors[given].name == b"waveform"
    assert list(graph.tensors[given].shape) == [1, CLIP_SAMPLES]
    assert graph.tensors[answer].name == b"predictions"
    assert list(graph.tensors[answer].shape) == [1, len(TAGS)]


def test_file_says_that_it_takes_one_clip_a_call_and_the_interpreter_refuses_two(model: EngineModel) -> None:
    from ai_edge_litert.interpreter import Interpreter

    path = litert_file(model.path)
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("autotag.json"))["batch"].startswith("one clip a call")
    assert b"one clip a call" in path.read_bytes()[:-4_000]
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    (waveform,) = interpreter.get_input_details()
    assert list(waveform["shape_signature"]) == [1, CLIP_SAMPLES]
    interpreter.resize_tensor_input(waveform["index"], [2, CLIP_SAMPLES])
    with pytest.raises(RuntimeError):
        interpreter.allocate_tensors()


def test_int8_weights_are_the_networks_alone_and_the_front_end_stays_float(content: bytes) -> None:
    from tensorflow.lite.python.schema_py_generated import TensorType

    (graph,) = parts(content).subgraphs
    names = [tensor.name for tensor in graph.tensors]
    mel_bands = [tensor for tensor in graph.tensors if N_MELS in list(tensor.shape) and len(tensor.shape) == 2]
    before_log_mel = graph.tensors[: names.index(b"feature_0") + 1]
    assert any(tensor in before_log_mel for tensor in mel_bands)
    assert {tensor.type for tensor in before_log_mel} <= {TensorType.FLOAT32, TensorType.INT32}
    quantised = [tensor for tensor in graph.tensors if tensor.type == TensorType.INT8]
    assert len(quantised) >= 20
    kernels = [tensor for tensor in quantised if len(tensor.shape) == 4 and tensor.shape[0] > 6]
    assert all(len(tensor.quantization.scale) == tensor.shape[0] for tensor in kernels), "a scale for each channel"


def test_no_operator_needs_tensorflow(content: bytes) -> None:
    from serving.graph.litert import operators

    names = operators(content)
    assert not {"CUSTOM", "FLEX"} & set(names)


def test_file_says_what_it_takes_its_tags_and_their_thresholds(model: EngineModel) -> None:
    with zipfile.ZipFile(litert_file(model.path)) as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(TAGS)
        card = json.loads(archive.read("autotag.json"))
    assert card["tags"] == list(TAGS)
    assert card["thresholds"] == list(THRESHOLDS)
    assert (card["sample_rate"], card["samples"], card["version"], card["weights"]) == (16000, 465600, "20", "int8")
    assert read_card(litert_file(model.path)).tags == TAGS


def string_field(table: Any, number: int) -> str:
    return str(table.String(table.Pos + table.Offset(4 + 2 * number)).decode())


def vector_table(table: Any, number: int) -> Any:
    start = table.Vector(table.Offset(4 + 2 * number))
    return flatbuffers.table.Table(table.Bytes, table.Indirect(start))


def test_metadata_of_tensorflow_lite_names_the_label_file(content: bytes) -> None:
    model = parts(content)
    (entry,) = model.metadata
    assert entry.name == b"TFLITE_METADATA"
    metadata = bytes(model.buffers[entry.buffer].data)
    assert metadata[4:8] == b"M001"
    root = flatbuffers.table.Table(bytearray(metadata), int.from_bytes(metadata[:4], "little"))
    assert string_field(root, 0) == "autotag"
    assert string_field(root, 2) == "20"
    assert string_field(vector_table(root, 6), 0) == "autotag.json"
    graph = vector_table(root, 3)
    assert string_field(vector_table(graph, 2), 0) == "waveform"
    assert string_field(vector_table(vector_table(graph, 3), 6), 0) == "labels.txt"


def test_same_model_gives_the_same_bytes(model: EngineModel, content: bytes) -> None:
    from serving.graph.litert import convert_model

    assert convert_model(model.ensemble, model.info, "int8", "20") == content


def test_a_file_without_the_card_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.tflite").write_bytes(b"TFL3")
    with pytest.raises(BadInputError, match="not a file that `autotag export --litert` wrote"):
        read_card(tmp_path / "other.tflite")


@pytest.fixture(scope="session")
def python_without_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of what requirements/ondevice-py310.txt locks."""
    if sys.version_info[:2] != (3, 10):
        pytest.skip(f"{REQUIREMENTS.name} is locked for Python 3.10")
    venv = tmp_path_factory.mktemp("venv")
    uv = [str(Path(sys.executable).with_name("uv"))]
    install = [*uv, "pip", "install", "-q", "--python", str(venv / "bin" / "python"), "--require-hashes", "-r"]
    for command in (
        [*uv, "venv", "-q", "--python", sys.executable, str(venv), "--allow-existing"],
        [*install, str(REQUIREMENTS)],
    ):
        try:
            subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"no environment without TensorFlow: {getattr(error, 'stderr', None) or error}")
    return venv / "bin" / "python"


def run_without_tensorflow(python: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [str(python), *arguments], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-800:]
    return done.stdout


def test_exported_file_tags_an_mp3_where_there_is_no_tensorflow(
    model: EngineModel, python_without_tensorflow: Path, tmp_path: Path
) -> None:
    song = write_audio(tmp_path / "song.mp3", 29.1)
    missing = "import importlib.util as u; print([n for n in ('tensorflow', 'keras', 'librosa') if u.find_spec(n)])"
    assert run_without_tensorflow(python_without_tensorflow, "-c", missing) == "[]\n"
    line = run_without_tensorflow(
        python_without_tensorflow, "-m", "serving.engines.on_device", str(litert_file(model.path)), str(song)
    )
    answer = json.loads(line)
    assert answer["file"] == str(song)
    assert set(answer["tags"]) == set(TAGS)
    assert all(0 <= probability <= 1 for probability in answer["tags"].values())


def test_program_reports_what_it_cannot_use_and_goes_on(
    model: EngineModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song, broken = write_audio(tmp_path / "song.wav", 3), tmp_path / "broken.mp3"
    broken.write_bytes(b"no audio")
    assert main([str(litert_file(model.path)), str(broken), str(tmp_path / "missing.mp3"), str(song)]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["file"] == str(song)
    assert [name for name in ("broken.mp3", "missing.mp3") if name not in said.err] == []
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().err
    assert main([str(broken), str(song)]) == 2
    assert "autotag export --litert" in capsys.readouterr().err


def test_onnx_file_answers_with_onnxruntime_where_there_is_no_tensorflow(
    model: EngineModel, python_without_tensorflow: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "clip.npy", fit_clip(tone(11))[None])
    script = (
        "import sys, json, numpy, onnxruntime\n"
        "session = onnxruntime.InferenceSession(sys.argv[1])\n"
        "answer = session.run(['predictions'], {'waveform': numpy.load(sys.argv[2])})[0]\n"
        "properties = session.get_modelmeta().custom_metadata_map\n"
        "print(json.dumps([answer.tolist(), json.loads(properties['tags'])]))\n"
    )
    shown = run_without_tensorflow(
        python_without_tensorflow, "-c", script, str(onnx_file(model.path)), str(tmp_path / "clip.npy")
    )
    answers, tags = json.loads(shown)
    expected = model.ensemble.from_waveform(np.load(tmp_path / "clip.npy")).numpy()
    np.testing.assert_allclose(answers, expected, atol=1e-4)
    assert tuple(tags) == TAGS
