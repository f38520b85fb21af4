"""The pushed model as one ONNX file: waveform in, probabilities out, tag names and thresholds inside.

The network is converted by tf2onnx. The front end is written here from operators that every runtime has: frames by
slices, and the Fourier transform of 2048 samples as two small matrix products (Cooley and Tukey, 2048 = 32 x 64), which
is faster than the DFT operator of the runtimes tried and, unlike a cut frequency range, exact to float32. The tensor
between front end and network is named ``log_mel``.

The file's ``metadata_props`` hold the tags in order and their thresholds (JSON), the version, sample rate and samples.
The same model gives the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.log_mel import mel_filterbank
from preprocessing.constants import CLIP_SAMPLES, HOP_LENGTH, N_FFT, N_FRAMES, POWER_FLOOR, SAMPLE_RATE, TOP_DB
from serving.graph.ensemble import Ensemble
from serving.graph.frozen import frozen_network
from serving.model_info import ModelInfo

OPSET: Final = 17
IR_VERSION: Final = 8
LOG_MEL: Final = "log_mel"
WAVEFORM: Final = "waveform"
PREDICTIONS: Final = "predictions"

FIRST_FACTOR: Final = 32
SECOND_FACTOR: Final = N_FFT // FIRST_FACTOR

Matrix = npt.NDArray[np.float64]


def convert_model(ensemble: Ensemble, info: ModelInfo, version: str) -> bytes:
    """Return the model: ``waveform`` float32 [clips, 465600] in [-1, 1] -> ``predictions`` float32 [clips, n_tags].

    Args:
        ensemble: the networks.
        info: their description.
        version: of the pushed model, as it shall be named in the file.
    """
    network = _network(ensemble)
    nodes, constants = list(network.node), list(network.initializer)
    if ensemble.log_mel is not None:
        front_end = _FrontEnd()
        nodes, constants = [*front_end.nodes, *nodes], [*front_end.constants, *constants]
    graph = helper.make_graph(
        nodes,
        "autotag",
        [helper.make_tensor_value_info(WAVEFORM, TensorProto.FLOAT, ["clips", CLIP_SAMPLES])],
        [helper.make_tensor_value_info(PREDICTIONS, TensorProto.FLOAT, ["clips", len(info.tags)])],
        constants,
        doc_string="probability of each tag for clips of 29.1 s",
    )
    model = helper.make_model(graph, producer_name="autotag", producer_version=info.code_version)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model.ir_version = IR_VERSION
    helper.set_model_props(model, _properties(info, version))
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _properties(info: ModelInfo, version: str) -> dict[str, str]:
    return {
        "tags": json.dumps(list(info.tags), ensure_ascii=False),
        "thresholds": json.dumps(list(info.thresholds)),
        "version": version,
        "code_version": info.code_version,
        "sample_rate": str(SAMPLE_RATE),
        "samples": str(CLIP_SAMPLES),
        "data": json.dumps({"name": info.data.name, "licence": info.data.licence}, ensure_ascii=False),
    }


def _network(ensemble: Ensemble) -> Any:
    """The graph from ``log_mel`` and ``waveform`` to ``predictions``, its inner tensors numbered in their order."""
    import tf2onnx.convert  # type: ignore[import-untyped]

    function = frozen_network(ensemble, None)
    kinds = sorted(ensemble.kinds)
    graph_def = function.graph.as_graph_def()
    inputs, output = [tensor.name for tensor in function.inputs], function.outputs[0].name
    with _errors_alone("tensorflow"), _errors_alone("tf2onnx"):
        model, _ = tf2onnx.convert.from_graph_def(graph_def, input_names=inputs, output_names=[output], opset=OPSET)
    return _renamed(model.graph, {**dict(zip(inputs, kinds, strict=True)), output: PREDICTIONS})


@contextlib.contextmanager
def _errors_alone(logger_name: str) -> Iterator[None]:
    """Keep a library's warnings about its own use of deprecated functions from the terminal."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _renamed(graph: Any, names: dict[str, str]) -> Any:
    """The graph with the ends named as given and all else numbered: tf2onnx's own names differ from call to call."""
    new = {"": "", **names}
    used = dict.fromkeys(name for node in graph.node for name in node.input)
    constants = {constant.name: constant for constant in graph.initializer}
    ordered = [constants[name] for name in used if name in constants]
    for number, constant in enumerate(ordered):
        new[constant.name] = f"weights_{number}"
        constant.name = new[constant.name]
    for number, node in enumerate(graph.node):
        node.name = f"node_{number}"
        for place, name in enumerate(node.output):
            new.setdefault(name, f"value_{number}_{place}")
    for node in graph.node:
        node.input[:] = [new[name] for name in node.input]
        node.output[:] = [new[name] for name in node.output]
    renamed = onnx.GraphProto(name=graph.name)
    renamed.node.extend(graph.node)
    renamed.initializer.extend(ordered)
    return renamed


class _FrontEnd:
    """``waveform`` [clips, 465600] -> ``log_mel`` [clips, 128, 592] as ONNX nodes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        power = self._power(self._frames())
        mel = self._node("MatMul", power, self._constant("mel_filterbank", _padded_filterbank()))
        floor = self._constant("power_floor", np.float32(POWER_FLOOR))
        ten = self._constant("decibels_per_log", np.float32(10.0 / math.log(10.0)))
        decibels = self._node("Mul", self._node("Log", self._node("Max", mel, floor)), ten)
        loudest = self._node("ReduceMax", decibels, axes=[1, 2], keepdims=1)
        quietest = self._node("Sub", loudest, self._constant("top_db", np.float32(TOP_DB)))
        self._node("Transpose", self._node("Max", decibels, quietest), output=LOG_MEL, perm=[0, 2, 1])

    def _frames(self) -> str:
        """Return [clips, 592, 2048], windowed: each frame is two hops and a piece of the third."""
        margin, (whole, rest) = N_FFT // 2, divmod(N_FFT, HOP_LENGTH)
        padded = self._node("Pad", WAVEFORM, self._constant("margins", np.array([0, margin, 0, margin])))
        hops = self._reshape(
            self._slice(padded, 1, 0, (N_FRAMES + whole) * HOP_LENGTH), [-1, N_FRAMES + whole, HOP_LENGTH]
        )
        pieces = [self._slice(hops, 1, first, first + N_FRAMES) for first in range(whole)]
        pieces.append(self._slice(self._slice(hops, 1, whole, whole + N_FRAMES), 2, 0, rest))
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
        frames = self._node("Concat", *pieces, axis=2)
        return self._node("Mul", frames, self._constant("hann_window", window.astype(np.float32)))

    def _power(self, frames: str) -> str:
        """Return [clips, 592, 1056]: |X[k]|^2 for k up to 1055, where those above 1024 are not used.

        With n = 64 a + b and k = c + 32 d, X[k] = sum over b of W64^(b d) W2048^(b c) (sum over a of x[n] W32^(a c)).
        """
        first, second = FIRST_FACTOR, SECOND_FACTOR
        rows = 1 + N_FFT // 2 // first  # of d that are needed
        by_offset = self._node("Transpose", self._reshape(frames, [-1, N_FRAMES, first, second]), perm=[0, 1, 3, 2])
        cosine, sine = _rotations(first, first, first)
        inner = self._constant("dft_32", _single(np.hstack([cosine, -sine])))
        both = self._node("MatMul", by_offset, inner)  # [..., b, real c | imaginary c]
        real, imaginary = self._slice(both, 3, 0, first), self._slice(both, 3, first, 2 * first)
        cosine, sine = _rotations(second, first, N_FFT)
        turn, across = self._constant("twiddle_cosine", _single(cosine)), self._constant("twiddle_sine", _single(sine))
        turned = self._node(
            "Concat",
            self._node("Add", self._node("Mul", real, turn), self._node("Mul", imaginary, across)),
            self._node("Sub", self._node("Mul", imaginary, turn), self._node("Mul", real, across)),
            axis=2,
        )  # [..., real b | imaginary b, c]
        cosine, sine = _rotations(rows, second, second)
        outer = self._constant("dft_64", _single(np.block([[cosine, sine], [-sine, cosine]])))
        spectrum = self._reshape(self._node("MatMul", outer, turned), [-1, N_FRAMES, 2, rows * first])
        squares = self._node("Mul", spectrum, spectrum)
        return self._node("ReduceSum", squares, self._constant("parts", np.array([2])), keepdims=0)

    def _node(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"front_end_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, list(inputs), [name], name=f"front_end_node_{len(self.nodes)}", **attributes)
        )
        return name

    def _constant(self, name: str, value: Any) -> str:
        if not any(constant.name == name for constant in self.constants):
            self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _integer(self, value: int) -> str:
        return self._constant(f"integer_{value}", np.array([value]))

    def _slice(self, value: str, axis: int, first: int, end: int) -> str:
        return self._node("Slice", value, self._integer(first), self._integer(end), self._integer(axis))

    def _reshape(self, value: str, shape: list[int]) -> str:
        return self._node("Reshape", value, self._constant("shape_" + "_".join(map(str, shape)), np.array(shape)))


def _rotations(rows: int, columns: int, period: int) -> tuple[Matrix, Matrix]:
    """Cosine and sine of 2 pi row column / period, [rows, columns]."""
    angles = 2 * np.pi * (np.outer(np.arange(rows), np.arange(columns)) % period) / period
    return np.cos(angles), np.sin(angles)


def _single(values: Matrix) -> npt.NDArray[np.float32]:
    return values.astype(np.float32)


def _padded_filterbank() -> npt.NDArray[np.float32]:
    filterbank = mel_filterbank()
    return np.pad(filterbank, ((0, FIRST_FACTOR - 1), (0, 0)))
