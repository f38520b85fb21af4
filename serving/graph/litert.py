"""The pushed model for a phone: one LiteRT (TensorFlow Lite) file, waveform in, probabilities out.

The front end (log-mel) and the network are converted apart and joined: weights of the network become float16 or int8,
while the front end stays in float32, because a mel filterbank in int8 is off by up to 10 dB. int8 is LiteRT's dynamic
range quantisation: int8 weights with a scale for each channel, activations quantised as they come, so no calibration.

Each file says what it is in the two ways that LiteRT's tools read: TensorFlow Lite's model metadata (the buffer
``TFLITE_METADATA``) and the files ``labels.txt`` and ``autotag.json`` appended to it as a zip archive.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import flatbuffers  # type: ignore[import-untyped]
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from preprocessing.constants import CLIP_SAMPLES, SAMPLE_RATE
from serving.engines.on_device import CARD_NAME, LABELS_NAME
from serving.graph.ensemble import Ensemble
from serving.graph.frozen import frozen_front_end, frozen_network
from serving.model_info import ModelInfo, clip_constants

Weights = Literal["float32", "float16", "int8"]
WEIGHTS: Final[tuple[Weights, ...]] = ("float32", "float16", "int8")

FILE_IDENTIFIER: Final = b"TFL3"
METADATA_NAME: Final = "TFLITE_METADATA"
METADATA_IDENTIFIER: Final = b"M001"
SIGNATURE: Final = "serving_default"
ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)


def convert_model(ensemble: Ensemble, info: ModelInfo, weights: Weights, version: str) -> bytes:
    """Return the whole model as one file: ``waveform`` float32 [1, 465600] -> ``predictions`` float32 [1, n_tags].

    Args:
        ensemble: the networks.
        info: their description.
        weights: type of the network's weights; the front end's stay float32.
        version: of the pushed model, as it shall be named in the file.
    """
    model = _read(convert_network(ensemble, weights))
    if ensemble.log_mel is not None:
        model = _join(_read(_convert(frozen_front_end(1), "float32", ["waveform"], "log_mel")), model)
    model.description = f"autotag {version}, {weights}"
    _set_metadata(model, _metadata(info, weights, version))
    return _with_files(_write(model), {LABELS_NAME: _lines(info.tags), CARD_NAME: _card(info, weights, version)})


def convert_network(ensemble: Ensemble, weights: Weights) -> bytes:
    """Return the network alone: ``log_mel`` [1, 128, 592] in dB and ``waveform`` [1, 465600] -> ``predictions``.

    Both inputs float32 and before normalisation; one that no branch reads is not there.
    """
    return _convert(frozen_network(ensemble, 1), weights, sorted(ensemble.kinds), "predictions")


def operators(content: bytes) -> list[str]:
    """Names of the operators in a LiteRT file, sorted; ``FLEX`` and ``CUSTOM`` ones would need TensorFlow."""
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    codes = _read(content).operatorCodes
    return sorted({names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in codes})


def _convert(function: Any, weights: Weights, inputs: list[str], output: str) -> bytes:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], function)
    if weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    with _no_output():
        model = _read(converter.convert())
    graph = model.subgraphs[0]
    named = {function.inputs[place].op.name: name for place, name in enumerate(inputs)}
    by_name = {}
    for index in graph.inputs:
        tensor = graph.tensors[index]
        tensor.name = named[tensor.name.decode().split(":")[0]].encode()
        by_name[tensor.name.decode()] = index
    graph.inputs = [by_name[name] for name in inputs]
    graph.tensors[graph.outputs[0]].name = output.encode()
    model.signatureDefs = [_signature(graph)]
    return _write(model)


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


def _join(first: Any, second: Any) -> Any:
    """One graph of two: what ``first`` gives and takes is what ``second`` takes under the same names."""
    head, tail = first.subgraphs[0], second.subgraphs[0]
    names = {head.tensors[index].name: index for index in [*head.inputs, *head.outputs]}
    place: dict[int, int] = {-1: -1}  # of second's tensors in the joined graph; -1 stands for an input left out
    tensors = list(head.tensors)
    for index, tensor in enumerate(tail.tensors):
        if index in tail.inputs and tensor.name in names:
            place[index] = names[tensor.name]
            continue
        tensor.buffer = tensor.buffer + len(first.buffers) - 1 if tensor.buffer else 0
        place[index] = len(tensors)
        tensors.append(tensor)
    for operator in tail.operators:
        operator.opcodeIndex += len(first.operatorCodes)
        for name in ("inputs", "outputs", "intermediates"):
            indices = getattr(operator, name)
            if indices is not None:
                setattr(operator, name, [place[index] for index in indices])
    head.tensors = tensors
    head.operators = [*head.operators, *tail.operators]
    head.outputs = [place[index] for index in tail.outputs]
    first.operatorCodes = [*first.operatorCodes, *second.operatorCodes]
    first.buffers = [*first.buffers, *second.buffers[1:]]
    first.signatureDefs = [_signature(head)]
    first.metadata = []  # the converter's own notes, for each half
    return first


def _signature(graph: Any) -> Any:
    def named(indices: Any) -> list[Any]:
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


def _read(content: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def _write(model: Any) -> bytes:
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def _set_metadata(model: Any, content: bytes) -> None:
    buffer = schema.BufferT()
    buffer.data = list(content)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers)
    model.buffers = [*model.buffers, buffer]
    model.metadata = [entry]


def _lines(tags: tuple[str, ...]) -> str:
    return "".join(f"{tag}\n" for tag in tags)


def _card(info: ModelInfo, weights: Weights, version: str) -> str:
    card = {
        "version": version,
        "weights": weights,
        "code_version": info.code_version,
        "sample_rate": SAMPLE_RATE,
        "samples": CLIP_SAMPLES,
        "input": "waveform float32 [1, 465600]: mono, in [-1, 1], a shorter clip followed by zeros",
        "output": "predictions float32 [1, tags]: probability of each tag, in the order of tags",
        "tags": list(info.tags),
        "thresholds": list(info.thresholds),
        "data": {"name": info.data.name, "licence": info.data.licence},
        "constants": clip_constants(),
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


def _metadata(info: ModelInfo, weights: Weights, version: str) -> bytes:
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
    clip = table(
        {
            0: "waveform",
            1: f"mono audio at {SAMPLE_RATE} Hz, {CLIP_SAMPLES} samples in [-1, 1], zeros after a short clip",
        }
    )
    predictions = table({0: "predictions", 1: "probability of each tag", 6: vector([labels_file()])})
    graph = table({0: "autotag", 2: vector([clip]), 3: vector([predictions])})
    model = table(
        {
            0: "autotag",
            1: f"Names what is heard in a music clip of 29.1 s: {len(info.tags)} tags; {weights} weights",
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
