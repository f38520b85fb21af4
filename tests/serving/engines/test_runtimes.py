from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_model import EngineModel

from preprocessing.constants import CLIP_SAMPLES
from preprocessing.errors import BadInputError
from serving.engines import runtimes
from serving.engines.measurement import Measured, Worker
from serving.engines.runtimes import AUTO_ORDER, load_engine

TOLERANCE = {"tensorflow": 1e-4, "onnxruntime": 1e-4, "openvino": 0.1, "litert": 0.25}
"""Untrained networks with enlarged weights: what bfloat16 and int8 round off is enlarged with them. On a trained model
the largest differences were 0.008 and 0.029."""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Modules that can be found, whatever is installed here."""
    names = {"tensorflow", "onnxruntime", "openvino", "ai_edge_litert"}
    find = importlib.util.find_spec
    everything = set(names)
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: find("json") if name in names else None if name in everything else find(name),
    )
    return names


@pytest.mark.parametrize("name", AUTO_ORDER)
def test_engine_answers_as_the_networks_do(model: EngineModel, tmp_path: Path, name: str) -> None:
    out = tmp_path / "probabilities.npy"
    with Worker(Measured(name, str(model.path), engine=name, threads=2)) as worker:
        worker.call(examples=[str(model.examples)], out=str(out))
    answers = np.load(out)
    assert answers.shape == model.probabilities.shape
    assert answers.dtype == np.float32
    assert np.ptp(model.probabilities, axis=0).max() > 0.1, "the clips must be told apart"
    np.testing.assert_allclose(answers, model.probabilities, atol=TOLERANCE[name])


@pytest.mark.parametrize("name", ["litert", "openvino", "onnxruntime"])
def test_engine_answers_without_tensorflow_and_keras(model: EngineModel, name: str) -> None:
    script = f"""
import sys
import numpy as np
from pathlib import Path
from serving.engines.runtimes import load_engine
engine = load_engine(Path({str(model.path)!r}), {name!r}, threads=1)
assert engine.predict(np.zeros((1, {CLIP_SAMPLES}), np.float32)).shape == (1, {len(model.info.tags)})
print(engine.name, sorted({{"tensorflow", "keras"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split("\n")[-2] == f"{name} []"


def test_auto_is_the_fastest_engine_that_is_installed(
    model: EngineModel, installed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    for name in AUTO_ORDER:
        kind = runtimes._ENGINES[name]
        fake = runtimes._Kind(kind.module, kind.package, kind.file, lambda *_, name=name: loaded.append(name))
        monkeypatch.setitem(runtimes._ENGINES, name, fake)
    load_engine(model.path)
    for module in ("ai_edge_litert", "openvino", "onnxruntime"):
        installed.discard(module)
        load_engine(model.path)
    assert loaded == ["litert", "openvino", "onnxruntime", "tensorflow"]


def test_auto_takes_tensorflow_for_a_model_without_files_of_other_engines(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "saved_model.pb").touch()
    kind = runtimes._ENGINES["tensorflow"]
    monkeypatch.setitem(
        runtimes._ENGINES, "tensorflow", runtimes._Kind(kind.module, kind.package, kind.file, lambda *_: "tensorflow")
    )
    assert load_engine(tmp_path) == "tensorflow"


def test_an_engine_that_is_not_installed_is_refused_with_what_to_install(
    model: EngineModel, installed: set[str]
) -> None:
    installed.discard("ai_edge_litert")
    with pytest.raises(BadInputError, match="pip install ai-edge-litert"):
        load_engine(model.path, "litert")


def test_an_unknown_engine_is_refused_with_the_names_there_are(model: EngineModel) -> None:
    with pytest.raises(BadInputError, match=r"'torch'; there are auto, litert, openvino, onnxruntime, tensorflow"):
        load_engine(model.path, "torch")


def test_a_model_without_the_engines_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"no engines/model\.onnx .* push it again"):
        load_engine(tmp_path, "onnxruntime")


@pytest.mark.parametrize("name", ["litert", "onnxruntime", "openvino"])
def test_a_damaged_file_is_refused_in_one_line(model: EngineModel, tmp_path: Path, name: str) -> None:
    shutil.copytree(model.path / "engines", tmp_path / "engines")
    shutil.copy(model.path / "model.json", tmp_path)
    for file in (tmp_path / "engines").iterdir():
        file.write_bytes(b"\0" * 1000)
    script = f"""
from pathlib import Path
from preprocessing.errors import BadInputError
from serving.engines.runtimes import load_engine
try:
    load_engine(Path({str(tmp_path)!r}), {name!r})
except BadInputError as error:
    print("refused:", str(error).splitlines()[0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert f"refused: the model at {tmp_path} cannot be loaded by {name}" in done.stdout, done.stderr[-500:]


class FakeRunners:
    """Answers a clip with its first sample, and notes how many work at a time."""

    def __init__(self) -> None:
        self.made: list[tuple[int, int]] = []
        self.working = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, count: int, threads: int) -> list[Any]:
        self.made.append((count, threads))

        def run(clip: Any) -> Any:
            with self._lock:
                self.working += 1
                self.most = max(self.most, self.working)
            time.sleep(0.01 * (1 + int(clip[0, 0]) % 3))
            with self._lock:
                self.working -= 1
            return clip[:, :1].copy()

        return [run] * count


@pytest.mark.parametrize(
    ("threads", "made", "most"), [(1, [(1, 1)], 1), (4, [(1, 4), (4, 1)], 4), (20, [(1, 20), (8, 2)], 8)]
)
def test_clips_share_the_threads_and_keep_their_order(threads: int, made: list[tuple[int, int]], most: int) -> None:
    runners = FakeRunners()
    engine = runtimes._ClipByClip("fake", "float32", runners, threads)
    clips = np.zeros((12, CLIP_SAMPLES), np.float32)
    clips[:, 0] = np.arange(12)
    np.testing.assert_array_equal(engine.predict(clips)[:, 0], np.arange(12))
    np.testing.assert_array_equal(engine.predict(clips[5:6])[:, 0], [5])
    assert runners.made == made
    assert runners.most == most


@pytest.mark.parametrize("shape", [(CLIP_SAMPLES,), (1, CLIP_SAMPLES - 1), (1, 1, CLIP_SAMPLES)])
def test_waveforms_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    engine = runtimes._ClipByClip("fake", "float32", FakeRunners(), 1)
    with pytest.raises(ValueError, match="expected waveforms of shape"):
        engine.predict(np.zeros(shape, np.float32))


FIRST_ANSWERS = """
import sys, threading
import numpy as np
from serving.engines import runtimes
openvino, operators = runtimes.import_openvino(), runtimes._openvino_operators()
given = operators.parameter([1, 4], np.float32, name="x")
compiled = openvino.Core().compile_model(openvino.Model([operators.relu(given)], [given], "model"), "CPU")
begin, clip = threading.Barrier(2), np.zeros((1, 4), np.float32)
def answer(request):
    begin.wait()
    request.infer([clip])
requests = [compiled.create_infer_request() for _ in range(2)]
sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=answer, args=(request,)) for request in requests]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_first_answers_of_openvino_in_two_threads_at_once_come() -> None:
    """Without the look into a tensor that import_openvino takes, some such processes never end."""
    pytest.importorskip("openvino")
    for _ in range(6):
        subprocess.run([sys.executable, "-c", FIRST_ANSWERS], check=True, timeout=60)
