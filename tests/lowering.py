"""Keras layers in the other runtimes, converted as they are: what no lowering of its own may be needed for."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from serving.graph.frozen import freeze
from serving.graph.litert import operators

Single = npt.NDArray[np.float32]


def on_litert(layer: Any, inputs: Single, *, optimise: bool = False) -> Any:
    """What a layer gives after LiteRT's converter, row by row; only LiteRT's own operators may come of it."""
    from ai_edge_litert.interpreter import Interpreter

    function = freeze(lambda taken: layer(taken), [tf.TensorSpec([1, *inputs.shape[1:]], tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], function)
    if optimise:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    content = converter.convert()
    assert not {"CUSTOM", "FLEX"} & set(operators(content))
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for row in inputs:
        interpreter.set_tensor(taken["index"], row[np.newaxis])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(given["index"])[0])
    return np.stack(rows)


def on_onnx_runtime(layer: Any, inputs: Single) -> Any:
    """What a layer gives after tf2onnx, all rows at once; only standard operators may come of it."""
    import onnxruntime
    import tf2onnx.convert

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    function = freeze(lambda taken: layer(taken), [tf.TensorSpec([None, *inputs.shape[1:]], tf.float32)])
    taken, given = function.inputs[0].name, function.outputs[0].name
    model, _ = tf2onnx.convert.from_graph_def(
        function.graph.as_graph_def(), input_names=[taken], output_names=[given], opset=17
    )
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([given], {taken: inputs})[0]
