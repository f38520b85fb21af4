"""Where in a model's ONNX file the embedding is: what the last layer with weights reads.

That is what the SavedModel's signature ``embedding`` gives of a clip (serving.graph.ensemble.Ensemble.embed): the input
of the layer that answers, of the combiner or of a network alone, and there its mean over places and windows. The file
is read as protobuf, so that neither Keras nor the package ``onnx`` is needed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from preprocessing.protobuf import message_classes

_LAYERS: Final = {"MatMul": -1, "Gemm": -1, "Conv": 1}
"""Operator with weights -> the axis of its input that they are summed over."""


@dataclass(frozen=True)
class LastLayer:
    """What the last layer reads.

    Attributes:
        tensor: name.
        axis: on which the embedding lies.
    """

    tensor: str
    axis: int

    def embedding(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The tensor of one clip, its windows first -> float32 [1, size], the mean over windows and places."""
        rows = np.moveaxis(values, self.axis, -1)
        mean: npt.NDArray[np.float32] = rows.reshape(-1, rows.shape[-1]).mean(axis=0, dtype=np.float64)[None]
        return mean.astype(np.float32)


def find_last_layer(content: bytes) -> LastLayer | None:
    """Look for it in an ONNX file; None where the answers come of several layers, as those of a mean of networks.

    Raises:
        google.protobuf.message.DecodeError: it is no such file.
    """
    graph = _read(content).graph
    weights = {tensor.name for tensor in graph.initializer}
    maker = {name: node for node in graph.node for name in node.output}
    waiting, seen, layers = deque(value.name for value in graph.output), set[str](), dict[str, LastLayer]()
    while waiting:
        name = waiting.popleft()
        node = maker.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in _LAYERS and node.input[1] in weights:
            layers[name] = LastLayer(node.input[0], _LAYERS[node.op_type])
        else:
            waiting.extend(node.input)
    return next(iter(layers.values())) if len(layers) == 1 else None


def with_output(content: bytes, tensor: str) -> bytes:
    """Return an ONNX file that gives an inner tensor too, as its last output."""
    model = _read(content)
    model.graph.output.add(name=tensor)
    changed: bytes = model.SerializeToString()
    return changed


def _read(content: bytes) -> Message:
    return message_classes(Path(__file__).with_name("protos"))["onnx_fields.ModelProto"].FromString(content)
