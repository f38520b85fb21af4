"""Keras layers in the other runtimes, converted as they are: what no lowering of its own may be needed for."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from serving.graph.litert import operators

Single = npt.NDArray[np.float32]


def on_litert(layer: Any, inputs: Single, *, optimise: bool = False) -> Any:
    """What a layer gives after LiteRT's converter, row by row; only LiteRT's own operators may come of it."""
    from ai_edge_litert.interpreter import Interpreter

    function = _traced(layer, (1, *inputs.shape[1:]))
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
    signature = [tf.TensorSpec([None, *inputs.shape[1:]], tf.float32, name="taken")]
    model, _ = tf2onnx.convert.from_function(
        tf.function(lambda taken: layer(taken), autograph=False), input_signature=signature, opset=17
    )
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: inputs})[0]


def _traced(layer: Any, shape: tuple[int, ...]) -> Any:
    function = tf.function(lambda taken: layer(taken), autograph=False)
    return convert_variables_to_constants_v2(function.get_concrete_function(tf.TensorSpec(shape, tf.float32)))
