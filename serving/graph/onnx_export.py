"""The pushed model as one ONNX file: waveform in, probabilities out, tag names and thresholds inside.

Features (front ends, resampling, windows) and networks are converted by tf2onnx as they are, each apart, and joined.
The tensors between them are named ``feature_0``, ``feature_1`` and so on, so that an engine which computes the networks
in bfloat16 can compute what lies before them in float32.

The file's ``metadata_props`` hold the tags in order and their thresholds (JSON), the version, sample rate and samples.
The same model gives the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Final

import onnx
from onnx import TensorProto, helper

from preprocessing.clip_format import ClipFormat
from serving.graph.ensemble import Ensemble
from serving.graph.frozen import WAVEFORM, feature_shapes, frozen_feature, frozen_network
from serving.graph.tensors import ConcreteFunction
from serving.model_info import ModelInfo

OPSET: Final = 17
IR_VERSION: Final = 8
PREDICTIONS: Final = "predictions"


def convert_model(ensemble: Ensemble, info: ModelInfo, version: str) -> bytes:
    """Return the model: ``waveform`` float32 [clips, samples] in [-1, 1] -> ``predictions`` float32 [clips, n_tags].

    Args:
        ensemble: the networks.
        info: their description.
        version: of the pushed model, as it shall be named in the file.
    """
    features = {name: f"feature_{number}" for number, name in enumerate(feature_shapes(ensemble, None))}
    graphs = [
        _graph(frozen_feature(ensemble, name, None), [WAVEFORM], tensor, f"{tensor}_")
        for name, tensor in features.items()
    ]
    graphs.append(_graph(frozen_network(ensemble, None), list(features.values()), PREDICTIONS, ""))
    clip = ensemble.clip
    graph = helper.make_graph(
        [node for part in graphs for node in part.node],
        "autotag",
        [helper.make_tensor_value_info(WAVEFORM, TensorProto.FLOAT, ["clips", clip.samples])],
        [helper.make_tensor_value_info(PREDICTIONS, TensorProto.FLOAT, ["clips", len(info.tags)])],
        [constant for part in graphs for constant in part.initializer],
        doc_string=f"probability of each tag for clips of {clip.seconds:g} s",
    )
    model = helper.make_model(graph, producer_name="autotag", producer_version=info.code_version)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model.ir_version = IR_VERSION
    helper.set_model_props(model, _properties(info, version, clip))
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _properties(info: ModelInfo, version: str, clip: ClipFormat) -> dict[str, str]:
    return {
        "tags": json.dumps(list(info.tags), ensure_ascii=False),
        "thresholds": json.dumps(list(info.thresholds)),
        "version": version,
        "code_version": info.code_version,
        "sample_rate": str(clip.sample_rate),
        "samples": str(clip.samples),
        "data": json.dumps({"name": info.data.name, "licence": info.data.licence}, ensure_ascii=False),
    }


def _graph(function: ConcreteFunction, inputs: list[str], output: str, prefix: str) -> onnx.GraphProto:
    """A function as a graph with its ends named as given and its inner tensors numbered in their order."""
    import tf2onnx.convert  # type: ignore[import-untyped]

    given, answer = [tensor.name for tensor in function.inputs], function.outputs[0].name
    graph_def = function.graph.as_graph_def()
    with _errors_alone("tensorflow"), _errors_alone("tf2onnx"):
        model, _ = tf2onnx.convert.from_graph_def(graph_def, input_names=given, output_names=[answer], opset=OPSET)
    return _renamed(model.graph, {**dict(zip(given, inputs, strict=True)), answer: output}, prefix)


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


def _renamed(graph: onnx.GraphProto, outer: Mapping[str, str], prefix: str) -> onnx.GraphProto:
    """The graph with the names of ``outer`` as given there, all else numbered, in an order that follows from the graph.

    tf2onnx's own names and the order of its nodes differ from call to call. Bodies of loops are graphs of their own,
    which read the tensors of the graph that they lie in.
    """
    nodes = _ordered(graph)
    new = {"": "", **outer}
    for number, value in enumerate(graph.input):
        new.setdefault(value.name, f"{prefix}input_{number}")
    used = dict.fromkeys([name for node in nodes for name in _reads(node)] + [value.name for value in graph.output])
    constants = {constant.name: constant for constant in graph.initializer}
    ordered = [constants[name] for name in used if name in constants]
    for number, constant in enumerate(ordered):
        new[constant.name] = f"{prefix}weights_{number}"
    for number, node in enumerate(nodes):
        node.name = f"{prefix}node_{number}"
        for place, name in enumerate(node.output):
            new.setdefault(name, f"{prefix}value_{number}_{place}")
    for node in nodes:
        node.input[:] = [new[name] for name in node.input]
        node.output[:] = [new[name] for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _settle_identities(attribute.g)
                attribute.g.CopyFrom(_renamed(attribute.g, new, f"{node.name}_"))
    renamed = onnx.GraphProto(name=f"{prefix}graph")
    for value in (*ordered, *graph.input, *graph.output):
        value.name = new[value.name]
    for value in (*graph.input, *graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            dimension.ClearField("dim_param")  # open lengths, which tf2onnx numbers through all its calls
    renamed.node.extend(nodes)
    renamed.initializer.extend(ordered)
    renamed.input.extend(graph.input)
    renamed.output.extend(graph.output)
    return renamed


def _settle_identities(body: onnx.GraphProto) -> None:
    """Give two outputs of a loop's body that are one value an Identity for the second.

    tf2onnx puts it before the one or the other, which differs from call to call.
    """
    made = {name for node in body.node if node.op_type != "Identity" for name in node.output}
    copied = {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}

    def source(name: str) -> str:
        first = name
        while first in copied:
            first = copied[first]
        return first if first in made else name

    kept = [node for node in body.node if node.op_type != "Identity" or source(node.output[0]) == node.output[0]]
    for node in kept:
        node.input[:] = [source(name) for name in node.input]
    given: set[str] = set()
    for value in body.output:
        first = source(value.name)
        if first in given:
            value.name = f"{first}:copy_{len(kept)}"
            kept.append(helper.make_node("Identity", [first], [value.name]))
        else:
            value.name = first
        given.add(first)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del body.node[:]
    body.node.extend(nodes)


def _ordered(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """A graph's nodes, each behind those whose outputs it reads, first inputs first."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    ordered: dict[int, onnx.NodeProto] = {}
    waiting = [makers[value.name] for value in reversed(graph.output) if value.name in makers]
    while waiting:
        node = graph.node[waiting[-1]]
        missing = [makers[name] for name in _reads(node) if name in makers and makers[name] not in ordered]
        if missing:
            waiting.extend(reversed(missing))
        else:
            ordered.setdefault(waiting.pop(), node)
    return list(ordered.values())


def _reads(node: onnx.NodeProto) -> list[str]:
    """Names of the tensors that a node or, where it is a loop, its body reads of the graph that it lies in."""
    names = list(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            body = attribute.g
            own = {value.name for value in (*body.input, *body.initializer)}
            own |= {name for inner in body.node for name in inner.output}
            read = [name for inner in body.node for name in _reads(inner)] + [value.name for value in body.output]
            names += [name for name in read if name not in own]
    return names
