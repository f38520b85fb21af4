"""The pushed model for a phone: one LiteRT (TensorFlow Lite) file, waveform in, probabilities out.

Features (front ends, resampling, windows) and networks are converted apart and joined: weights of the networks become
float16 or int8, while the features stay in float32, because a mel filterbank in int8 is off by up to 10 dB. int8 is
LiteRT's dynamic range quantisation: int8 weights with a scale for each channel, activations quantised as they come, so
no calibration. Networks with a loop in them (recurrent ones) stay in float32 where float16 is asked for, because
XNNPACK in ai-edge-litert 1.0.1 overwrites float16 constants that a loop reads.

A file takes one clip a call. It cannot be resized to several: the converted graph has the shapes of one written into
it, and XNNPACK refuses others.

Each file says what it is in the two ways that LiteRT's tools read: TensorFlow Lite's model metadata (the buffer
``TFLITE_METADATA``) and the files ``labels.txt`` and ``autotag.json`` appended to it as a zip archive.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import flatbuffers  # type: ignore[import-untyped]
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from preprocessing.clip_format import ClipFormat
from serving.engines.on_device import CARD_NAME, LABELS_NAME
from serving.graph.ensemble import Ensemble
from serving.graph.frozen import WAVEFORM, feature_shapes, frozen_feature, frozen_network
from serving.graph.tensors import ConcreteFunction
from serving.model_info import ModelInfo

Weights = Literal["float32", "float16", "int8"]
WEIGHTS: Final[tuple[Weights, ...]] = ("float32", "float16", "int8")

FILE_IDENTIFIER: Final = b"TFL3"
METADATA_NAME: Final = "TFLITE_METADATA"
METADATA_IDENTIFIER: Final = b"M001"
PREDICTIONS: Final = "predictions"
SIGNATURE: Final = "serving_default"
ONE_CLIP: Final = "one clip a call: the input cannot be resized to several; call once for each"
ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)


def convert_model(ensemble: Ensemble, info: ModelInfo, weights: Weights, version: str) -> bytes:
    """Return the whole model as one file: ``waveform`` float32 [1, samples] -> ``predictions`` float32 [1, n_tags].

    Args:
        ensemble: the networks.
        info: their description.
        weights: type of the networks' weights; the features' stay float32.
        version: of the pushed model, as it shall be named in the file.
    """
    features = list(feature_shapes(ensemble, 1))
    parts = [_convert(frozen_feature(ensemble, name, 1), "float32", [WAVEFORM], name) for name in features]
    parts.append(_convert(frozen_network(ensemble, 1), weights, features, PREDICTIONS))
    model = _join(parts)
    model.description = f"autotag {version}, {weights}"
    _set_metadata(model, _metadata(info, weights, version, ensemble.clip))
    return _with_files(
        _write(model), {LABELS_NAME: _lines(info.tags), CARD_NAME: _card(info, weights, version, ensemble.clip)}
    )


def operators(content: bytes) -> list[str]:
    """Names of the operators in a LiteRT file, sorted; ``FLEX`` and ``CUSTOM`` ones would need TensorFlow."""
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    codes = _read(content).operatorCodes
    return sorted({names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in codes})


@dataclass(frozen=True)
class _Part:
    """A converted graph: the names of what it takes, in the order of the graph's inputs, and of what it gives."""

    model: schema.ModelT
    inputs: tuple[str, ...]
    output: str


def _convert(function: ConcreteFunction, weights: Weights, inputs: list[str], output: str) -> _Part:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], function)
    if weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    with _no_output():
        model = _read(converter.convert())
    if weights == "float16" and len(model.subgraphs) > 1:
        return _convert(function, "float32", inputs, output)
    graph = model.subgraphs[0]
    named = {function.inputs[place].op.name: name for place, name in enumerate(inputs)}
    taken = (graph.tensors[index].name.decode().split(":")[0] for index in graph.inputs)
    return _Part(model, tuple(named[name] for name in taken), output)


@contextlib.contextmanager
def _no_output() -> Iterator[None]:
    """The converter's C++ prints to both streams whatever the log level; its errors are raised all the same."""
    with contextlib.ExitStack() as stack:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nowhere)
        for stream in (1, 2):
            kept = os.dup(stream)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, stream)
            os.dup2(nowhere, stream)
        yield


def _join(parts: Sequence[_Part]) -> schema.ModelT:
    """One graph of several, each of which takes what those before it took or gave under the same names."""
    whole = parts[0].model
    joined = whole.subgraphs[0]
    places = dict(zip(parts[0].inputs, joined.inputs, strict=True)) | {parts[0].output: joined.outputs[0]}
    for part in parts[1:]:
        places[part.output] = _append(whole, part, places)
    joined.outputs = [places[parts[-1].output]]
    for name, index in places.items():
        if index not in joined.inputs or name == WAVEFORM:
            joined.tensors[index].name = name.encode()
    whole.signatureDefs = [_signature(joined)]
    whole.metadata = []  # the converter's own notes, for each part
    return whole


def _append(whole: schema.ModelT, part: _Part, places: Mapping[str, int]) -> int:
    """Put a part behind the rest and return the place of what it gives."""
    graph, *bodies = part.model.subgraphs
    _shift(part.model, len(whole.buffers) - 1, len(whole.operatorCodes or []), len(whole.subgraphs) - 1)
    joined = whole.subgraphs[0]
    place: dict[int, int] = {-1: -1}  # of the part's tensors in the joined graph; -1 stands for an input left out
    place |= {index: places[name] for name, index in zip(part.inputs, graph.inputs, strict=True)}
    tensors = list(joined.tensors)
    for index, tensor in enumerate(graph.tensors):
        if index not in place:
            place[index] = len(tensors)
            tensors.append(tensor)
    for operator in graph.operators or []:
        for name in ("inputs", "outputs", "intermediates"):
            indices = getattr(operator, name)
            if indices is not None:
                setattr(operator, name, [place[index] for index in indices])
    joined.tensors = tensors
    joined.operators = [*(joined.operators or []), *(graph.operators or [])]
    whole.subgraphs = [*whole.subgraphs, *bodies]
    whole.operatorCodes = [*(whole.operatorCodes or []), *(part.model.operatorCodes or [])]
    whole.buffers = [*whole.buffers, *part.model.buffers[1:]]
    return place[graph.outputs[0]]


def _shift(model: schema.ModelT, buffers: int, operators: int, subgraphs: int) -> None:
    """Number a model's buffers, operator codes and the graphs of its loops anew, so many higher."""
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = tensor.buffer + buffers if tensor.buffer else 0
        for operator in graph.operators or []:
            operator.opcodeIndex += operators
            for name in ("condSubgraphIndex", "bodySubgraphIndex", "thenSubgraphIndex", "elseSubgraphIndex"):
                if hasattr(operator.builtinOptions, name):
                    setattr(operator.builtinOptions, name, getattr(operator.builtinOptions, name) + subgraphs)


def _signature(graph: schema.SubGraphT) -> schema.SignatureDefT:
    def named(indices: Sequence[int]) -> list[schema.TensorMapT]:
        maps = []
        for index in indices:
            tensor = schema.TensorMapT()
            tensor.name, tensor.tensorIndex = graph.tensors[index].name.decode(), int(index)
            maps.append(tensor)
        return maps

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs, signature.outputs = named(graph.inputs), named(graph.outputs)
    return signature


def _read(content: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def _write(model: schema.ModelT) -> bytes:
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def _set_metadata(model: schema.ModelT, content: bytes) -> None:
    buffer = schema.BufferT()
    buffer.data = list(content)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers)
    model.buffers = [*model.buffers, buffer]
    model.metadata = [entry]


def _lines(tags: tuple[str, ...]) -> str:
    return "".join(f"{tag}\n" for tag in tags)


def _card(info: ModelInfo, weights: Weights, version: str, clip: ClipFormat) -> str:
    card = {
        "version": version,
        "weights": weights,
        "code_version": info.code_version,
        "sample_rate": clip.sample_rate,
        "samples": clip.samples,
        "input": f"waveform float32 [1, {clip.samples}]: mono, in [-1, 1], a shorter clip repeated",
        "batch": ONE_CLIP,
        "output": "predictions float32 [1, tags]: probability of each tag, in the order of tags",
        "tags": list(info.tags),
        "thresholds": list(info.thresholds),
        "data": {"name": info.data.name, "licence": info.data.licence},
    }
    return json.dumps(card, indent=2, ensure_ascii=False) + "\n"


def _with_files(content: bytes, files: dict[str, str]) -> bytes:
    """Append files as a zip archive, stored: readers of models ignore what follows, readers of zips what precedes."""
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_DATE), text.encode())
    return file.getvalue()


# TensorFlow Lite's metadata schema (tflite-support, metadata_schema.fbs), of which no module is among the dependencies:
# a table is written as {field number: offset or string}.
_ASSOCIATED_FILE_TENSOR_AXIS_LABELS: Final = 2


def _metadata(info: ModelInfo, weights: Weights, version: str, clip: ClipFormat) -> bytes:
    builder = flatbuffers.Builder(1024)

    def table(fields: dict[int, Any]) -> int:
        offsets = {slot: builder.CreateString(v) if isinstance(v, str) else v for slot, v in fields.items()}
        builder.StartObject(max(fields) + 1)
        for slot, offset in offsets.items():
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        return int(builder.EndObject())

    def vector(offsets: list[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    def labels_file() -> int:
        name, text = (
            builder.CreateString(LABELS_NAME),
            builder.CreateString("a tag a line, in the order of the outputs"),
        )
        builder.StartObject(5)
        builder.PrependUOffsetTRelativeSlot(0, name, 0)
        builder.PrependUOffsetTRelativeSlot(1, text, 0)
        builder.PrependInt8Slot(2, _ASSOCIATED_FILE_TENSOR_AXIS_LABELS, 0)
        return int(builder.EndObject())

    card = table({0: CARD_NAME, 1: "sample rate, samples, tags and their thresholds as JSON"})
    waveform = table(
        {
            0: WAVEFORM,
            1: f"mono audio at {clip.sample_rate} Hz, {clip.samples} samples in [-1, 1], a shorter clip repeated; "
            + ONE_CLIP,
        }
    )
    predictions = table({0: PREDICTIONS, 1: "probability of each tag", 6: vector([labels_file()])})
    graph = table({0: "autotag", 2: vector([waveform]), 3: vector([predictions])})
    model = table(
        {
            0: "autotag",
            1: f"Names what is heard in a music clip of {clip.seconds:g} s: {len(info.tags)} tags; {weights} weights",
            2: version,
            3: vector([graph]),
            5: f"data: {info.data.name}, {info.data.licence}",
            6: vector([card]),
            7: "1.3.0",
        }
    )
    builder.Finish(model, METADATA_IDENTIFIER)
    return bytes(builder.Output())


def write_label_file(directory: Path, info: ModelInfo) -> Path:
    """Write ``labels.txt``, a tag a line in the order of the outputs, and return its path."""
    path = directory / LABELS_NAME
    path.write_text(_lines(info.tags), encoding="utf-8")
    return path
