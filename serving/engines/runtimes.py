"""What computes a pushed model's probabilities in this process: TensorFlow, ONNX Runtime, OpenVINO or LiteRT.

``load_engine(model_dir)`` takes the fastest one that is installed and that the model has a file for. All take waveforms
and give what the SavedModel's signature ``waveform`` gives: ONNX Runtime up to rounding; OpenVINO in bfloat16, where
the CPU multiplies in it, and LiteRT with int8 weights within 0.002 ROC-AUC.

No engine but TensorFlow imports TensorFlow, so that the first answer comes within about a second.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from preprocessing.audio.samples import Samples, to_pcm
from preprocessing.clip_format import PAPER_CLIP
from preprocessing.errors import AutotagError, BadInputError
from serving.engines.engine_files import litert_file, litert_weights, onnx_file
from serving.engines.last_layer import LastLayer, find_last_layer, with_output
from serving.model_info import read_model_info
from serving.model_versions import SAVED_MODEL_NAME

if TYPE_CHECKING:
    import openvino as ov  # type: ignore[import-untyped]
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

WAVEFORM: Final = "waveform"
EMBEDDING: Final = "embedding"
FEATURE: Final = re.compile(r"feature_\d+")
"""Names of the tensors between front ends and networks in an ONNX file."""

AUTO: Final = "auto"
AUTO_ORDER: Final = ("litert", "openvino", "onnxruntime", "tensorflow")
"""Fastest first. Seconds of CPU a clip for the ensemble, one thread, alternated in one run, and ROC-AUC on the demo's
test split (AMD EPYC with AVX-512 VNNI and BF16; benchmarks/serving.py): LiteRT int8 0.065, 0.8763; OpenVINO bfloat16
0.070, 0.8757; ONNX Runtime float32 0.129, 0.8755; TensorFlow float32 0.117, 0.8755. ONNX Runtime stands before
TensorFlow because it starts in a second instead of five."""

FLOAT32_ORDER: Final = ("openvino", "onnxruntime", "litert", "tensorflow")
"""Likewise for a model whose LiteRT file is in float32. ``musicnn``, seconds a clip on one core of that processor, MP3
bytes to tags (benchmarks/pretrained.py): OpenVINO bfloat16 0.089, ONNX Runtime 0.235, LiteRT 0.26."""

EMBEDDING_ORDER: Final = ("openvino", "onnxruntime", "tensorflow")
"""Those that give embeddings, the fastest first."""

MOST_AT_ONCE: Final = 8
"""Clips computed at a time at most: each takes memory of its own."""

_FIRST_LOOK: Final = threading.Lock()

Probabilities = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float32]
Runner = Callable[[Samples], Probabilities]
"""Float32 [1, samples] -> float32 [1, n_tags], or [1, n_tags + embedding]; for one thread at a time."""


class Engine(Protocol):
    """A model, loaded.

    ``predict`` uses several threads by itself and must not be called by several at a time.
    """

    name: str
    precision: str
    """What the networks' weights are multiplied in: ``float32``, ``bfloat16``, ``int8``."""

    def predict(self, waveforms: Samples) -> Probabilities:
        """Float32 [n, clip samples] in [-1, 1] -> probabilities float32 [n, n_tags].

        Raises:
            ValueError: another shape.
        """
        ...


class EmbeddingEngine(Engine, Protocol):
    """A model that gives its embeddings too."""

    def embed(self, waveforms: Samples) -> tuple[Probabilities, Vectors]:
        """Float32 [n, clip samples] in [-1, 1] -> probabilities float32 [n, n_tags] and embeddings float32 [n, size].

        An embedding is what the SavedModel's signature ``embedding`` gives of a clip of this length that is not silent.

        Raises:
            ValueError: another shape.
        """
        ...


def load_engine(model_dir: Path, name: str = AUTO, threads: int | None = None) -> Engine:
    """Load a pushed model.

    Args:
        model_dir: one version's directory.
        name: one of AUTO_ORDER, or "auto": the first of them that is installed and that the model has a file for.
        threads: that it may use; None for as many as there are cores.

    Raises:
        BadInputError: there is no such engine, it is not installed, the model has no file for it, or the file is
            damaged.
    """
    if name == AUTO:
        order = AUTO_ORDER if litert_weights(model_dir) == "int8" else FLOAT32_ORDER
        name = next((known for known in order if _missing(known, model_dir) is None), order[-1])
    if name not in _ENGINES:
        raise BadInputError(f"no engine is called {name!r}; there are {', '.join((AUTO, *AUTO_ORDER))}")
    missing = _missing(name, model_dir)
    if missing is not None:
        raise BadInputError(missing)
    with _load_errors(model_dir, name):
        return _ENGINES[name].load(model_dir, threads or usable_cores())


def load_embedding_engine(model_dir: Path, name: str = AUTO, threads: int | None = None) -> EmbeddingEngine:
    """Load a pushed model so that it gives embeddings: in OpenVINO, ONNX Runtime or TensorFlow.

    The first two take them from inside the ONNX file, of a network alone and of several with the combiner ``dense``;
    of other combiners the SavedModel gives them.

    Args:
        model_dir: as load_engine has it.
        name: one of EMBEDDING_ORDER, or "auto".
        threads: as load_engine has it.

    Raises:
        BadInputError: as load_engine; or the engine has no embeddings of this model.
    """
    if name not in (AUTO, *EMBEDDING_ORDER):
        raise BadInputError(f"{name} gives no embeddings; take one of the engines {', '.join(EMBEDDING_ORDER)}")
    for engine in EMBEDDING_ORDER if name == AUTO else (name,):
        reason = _missing(engine, model_dir)
        if reason is None:
            with _load_errors(model_dir, engine):
                loaded = _ENGINES[engine].load_embedding(model_dir, threads or usable_cores())
            if loaded is not None:
                return loaded
            reason = f"the file for {engine} does not say which layer is the last: take --engine tensorflow"
        if name != AUTO:
            raise BadInputError(reason)
    raise BadInputError(
        f"the model at {model_dir} gives embeddings with none of the engines that are installed: "
        "pip install openvino or onnxruntime"
    )


@contextlib.contextmanager
def _load_errors(model_dir: Path, name: str) -> Iterator[None]:
    """Say in one error what keeps an engine from loading a model."""
    try:
        yield
    except AutotagError:
        raise
    except Exception as error:  # each engine has error classes of its own, some of them plain Exception
        raise BadInputError(f"the model at {model_dir} cannot be loaded by {name}: {error}") from error


LoadEmbedding = Callable[[Path, int], EmbeddingEngine | None]


@dataclass(frozen=True)
class _Kind:
    """How one engine is found and loaded."""

    module: str
    package: str
    file: Callable[[Path], Path]
    load: Callable[[Path, int], Engine]
    load_embedding: LoadEmbedding = lambda *_: None


def _missing(name: str, model_dir: Path) -> str | None:
    """What keeps an engine from being used, for a person; None where nothing does."""
    kind = _ENGINES[name]
    if importlib.util.find_spec(kind.module) is None:
        return f"the engine {name} is not installed: pip install {kind.package}, or choose another with --engine"
    file = kind.file(model_dir)
    if not file.is_file():
        return (
            f"the model at {model_dir} has no {file.relative_to(model_dir)} for the engine {name}: "
            "push it again with this version of autotag, or take --engine tensorflow"
        )
    return None


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _clip_samples(model_dir: Path) -> int:
    return read_model_info(model_dir).clip.samples


def _check(waveforms: Samples, samples: int) -> Samples:
    if waveforms.ndim != 2 or waveforms.shape[1] != samples:
        raise ValueError(f"expected waveforms of shape [clips, {samples}], got {list(waveforms.shape)}")
    return np.ascontiguousarray(waveforms, dtype=np.float32)


class _ClipByClip:
    """Clips one by one, several at a time: as fast as batches or faster, and memory does not grow with the batch.

    A clip alone gets all threads; of several, each gets its share of them.

    Args:
        name: of the engine.
        precision: see Engine.
        make_runners: (how many, threads of each) -> runners.
        threads: that may be used.
        samples: of a clip.
        n_tags: of a runner's columns; the others are the embedding. None for all.
    """

    def __init__(
        self,
        name: str,
        precision: str,
        make_runners: Callable[[int, int], Sequence[Runner]],
        threads: int,
        samples: int = PAPER_CLIP.samples,
        n_tags: int | None = None,
    ) -> None:
        self.name = name
        self._n_tags = n_tags
        self._samples = samples
        self.precision = precision
        self._make_runners = make_runners
        self._at_once = min(threads, MOST_AT_ONCE)
        self._threads = threads
        self._alone: Sequence[Runner] = make_runners(1, threads)
        self._together: Sequence[Runner] = []

    def predict(self, waveforms: Samples) -> Probabilities:
        """See Engine."""
        return self._rows(waveforms)[:, : self._n_tags]

    def embed(self, waveforms: Samples) -> tuple[Probabilities, Vectors]:
        """See EmbeddingEngine."""
        assert self._n_tags is not None
        rows = self._rows(waveforms)
        return rows[:, : self._n_tags], rows[:, self._n_tags :]

    def _rows(self, waveforms: Samples) -> Probabilities:
        waveforms = _check(waveforms, self._samples)
        if len(waveforms) < 2 or self._at_once == 1:
            runner = self._alone[0]
            return np.concatenate([runner(clip[np.newaxis]) for clip in waveforms])
        if not self._together:
            self._together = self._make_runners(self._at_once, self._threads // self._at_once)
        with ThreadPoolExecutor(self._at_once) as pool:
            mine = threading.local()
            free = list(self._together)

            def run(clip: Samples) -> Probabilities:
                if not hasattr(mine, "runner"):
                    mine.runner = free.pop()
                probabilities: Probabilities = mine.runner(clip[np.newaxis])
                return probabilities

            return np.concatenate(list(pool.map(run, waveforms)))


def _load_litert(model_dir: Path, threads: int) -> Engine:
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

    def make_runners(count: int, threads: int) -> list[Runner]:
        return [_litert_runner(Interpreter, litert_file(model_dir)) for _ in range(count)]

    return _ClipByClip("litert", litert_weights(model_dir), make_runners, threads, _clip_samples(model_dir))


def _litert_runner(interpreter_class: type[Interpreter], file: Path) -> Runner:
    """One thread: LiteRT's own threads wait busily for each other, on a machine with other work many times longer."""
    interpreter = interpreter_class(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    (waveform,), (predictions,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(clip: Samples) -> Probabilities:
        interpreter.set_tensor(waveform["index"], clip)
        interpreter.invoke()
        probabilities: Probabilities = interpreter.get_tensor(predictions["index"])
        return probabilities

    return run


def _load_onnxruntime(model_dir: Path, threads: int, layer: LastLayer | None = None) -> _ClipByClip:
    import onnxruntime  # type: ignore[import-untyped]

    content = onnx_file(model_dir).read_bytes()
    if layer is not None:
        content = with_output(content, layer.tensor)

    def make_runners(count: int, threads: int) -> list[Runner]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

        def run(clip: Samples) -> Probabilities:
            return _row(session.run(None, {session.get_inputs()[0].name: clip}), layer)

        return [run] * count  # a session may be run by several threads

    info = read_model_info(model_dir)
    return _ClipByClip("onnxruntime", "float32", make_runners, threads, info.clip.samples, len(info.tags))


def _row(outputs: Sequence[npt.NDArray[np.float32]], layer: LastLayer | None) -> npt.NDArray[np.float32]:
    """What an ONNX file gives of one clip -> float32 [1, n_tags], with a layer the embedding behind it."""
    if layer is None:
        return outputs[0]
    return np.concatenate([outputs[0], layer.embedding(outputs[1])], axis=1)


def _with_last_layer(load: Callable[[Path, int, LastLayer | None], _ClipByClip]) -> LoadEmbedding:
    """What loads an ONNX file so that it gives what its last layer reads; None where that is not found in it."""

    def load_embedding(model_dir: Path, threads: int) -> EmbeddingEngine | None:
        layer = _last_layer(model_dir)
        return load(model_dir, threads, layer) if layer is not None else None

    return load_embedding


def _last_layer(model_dir: Path) -> LastLayer | None:
    """Where the ONNX file has the embedding; None for combiners that have no layer, or none over all networks."""
    combiner = read_model_info(model_dir).combiner
    if combiner is not None and combiner.kind != "dense":
        return None
    return find_last_layer(onnx_file(model_dir).read_bytes())


def import_openvino() -> ModuleType:
    """Return the package, which several threads may then use.

    The first look into a tensor in a process, made in two threads at once, never ends: one has begun a static variable
    of the binding and waits for Python's lock, the other has that and waits for the variable (2024.6). It is made here.
    """
    import openvino  # type: ignore[import-untyped]

    with _FIRST_LOOK:
        _ = openvino.Tensor(np.zeros(1, np.float32)).data
    package: ModuleType = openvino
    return package


def _load_openvino(model_dir: Path, threads: int, layer: LastLayer | None = None) -> _ClipByClip:
    openvino = import_openvino()
    core = openvino.Core()
    fast = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
    front_ends = _front_ends(openvino, core.read_model(onnx_file(model_dir)))
    networks = _networks(openvino, core.read_model(onnx_file(model_dir)), layer)

    def make_runners(count: int, threads: int) -> list[Runner]:
        def compiled(model: ov.Model, precision: str) -> ov.CompiledModel:
            options = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": count}
            return core.compile_model(model, "CPU", {**options, "INFERENCE_NUM_THREADS": count * threads})

        to_features, to_tags = compiled(front_ends, "f32"), compiled(networks, fast)
        return [_openvino_runner(to_features, to_tags, layer) for _ in range(count)]

    info = read_model_info(model_dir)
    precision = {"bf16": "bfloat16", "f32": "float32"}[fast]
    return _ClipByClip("openvino", precision, make_runners, threads, info.clip.samples, len(info.tags))


def _openvino_runner(front_ends: ov.CompiledModel, networks: ov.CompiledModel, layer: LastLayer | None) -> Runner:
    to_features, to_tags = front_ends.create_infer_request(), networks.create_infer_request()

    def run(clip: Samples) -> Probabilities:
        features = list(to_features.infer({WAVEFORM: clip}).values())
        answers = to_tags.infer(features)
        return _row([answers[place].copy() for place in range(len(answers))], layer)

    return run


def _front_ends(openvino: ModuleType, model: ov.Model) -> ov.Model:
    """The part up to the features: bfloat16 does for a network, and not for a Fourier transform."""
    results = [_openvino_operators().result(port) for port in _feature_ports(model)]
    return openvino.Model(results, [model.inputs[0].get_node()], "front_ends")


def _networks(openvino: ModuleType, model: ov.Model, layer: LastLayer | None) -> ov.Model:
    """What follows the features, which it takes in the order in which ``_front_ends`` gives them."""
    if layer is not None:
        model.add_outputs(layer.tensor)
    parameters = []
    for port in _feature_ports(model):
        readers = port.get_target_inputs()
        feature = _openvino_operators().parameter(port.get_partial_shape(), np.float32)
        for reader in readers:
            reader.replace_source_output(feature.output(0))
        parameters.append(feature)
    return openvino.Model([output.get_node() for output in model.outputs], parameters, "networks")


def _openvino_operators() -> ModuleType:
    """The operators' module, which moved in 2025."""
    try:
        return importlib.import_module("openvino.opset13")
    except ImportError:
        return importlib.import_module("openvino.runtime.opset13")


def _feature_ports(model: ov.Model) -> list[ov.Output]:
    """The tensors between front ends and networks, in the order of their names.

    Raises:
        BadInputError: the file names none.
    """
    ports = {
        name: port
        for node in model.get_ordered_ops()
        for port in node.outputs()
        for name in port.get_names()
        if FEATURE.fullmatch(name)
    }
    if not ports:
        raise BadInputError("its ONNX file does not name what lies between front ends and networks: push it again")
    return [ports[name] for name in sorted(ports)]


class _TensorFlow:
    """The SavedModel itself, in float32. It takes values from -1 to 1 alone, so that an overshoot is clipped."""

    name = "tensorflow"
    precision = "float32"

    def __init__(self, model_dir: Path, threads: int) -> None:
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        except RuntimeError as error:  # it runs already, with other threads
            if tf.config.threading.get_intra_op_parallelism_threads() not in (0, threads):
                raise AutotagError(f"TensorFlow runs in this process with other threads than {threads}") from error
        self._model = tf.saved_model.load(str(model_dir))
        names = sorted(self._model.signatures)
        if WAVEFORM not in names:
            raise BadInputError(f"the model at {model_dir} has no signature {WAVEFORM!r}, only {names}")
        self._predict = self._model.signatures[WAVEFORM]
        self._embed = self._model.signatures[EMBEDDING] if EMBEDDING in names else None
        self._samples = _clip_samples(model_dir)

    def predict(self, waveforms: Samples) -> Probabilities:
        """See Engine."""
        import tensorflow as tf

        waveform = tf.constant(np.clip(_check(waveforms, self._samples), -1, 1))
        probabilities: Probabilities = self._predict(waveform=waveform)["predictions"].numpy()
        return probabilities

    def embed(self, waveforms: Samples) -> tuple[Probabilities, Vectors]:
        """See EmbeddingEngine. The two signatures compute the networks twice."""
        import tensorflow as tf

        assert self._embed is not None
        probabilities = self.predict(waveforms)
        pcm = tf.constant([to_pcm(waveform).tobytes() for waveform in waveforms])
        vectors: Vectors = self._embed(pcm=pcm)[EMBEDDING].numpy()
        return probabilities, vectors


def _embed_by_tensorflow(model_dir: Path, threads: int) -> EmbeddingEngine | None:
    loaded = _TensorFlow(model_dir, threads)
    return loaded if loaded._embed is not None else None


_ENGINES: Final = {
    "litert": _Kind("ai_edge_litert", "ai-edge-litert", litert_file, _load_litert),
    "openvino": _Kind("openvino", "openvino", onnx_file, _load_openvino, _with_last_layer(_load_openvino)),
    "onnxruntime": _Kind(
        "onnxruntime", "onnxruntime", onnx_file, _load_onnxruntime, _with_last_layer(_load_onnxruntime)
    ),
    "tensorflow": _Kind(
        "tensorflow",
        "tensorflow",
        lambda model_dir: model_dir / SAVED_MODEL_NAME,
        _TensorFlow,
        _embed_by_tensorflow,
    ),
}
