"""TF Serving's and TensorFlow's messages, without TensorFlow.

The messages are described in ``protos/*.proto``, with names and numbers as TF Serving 2.16 has them;
tests/serving/client/test_messages.py holds each against the real ones. A tensor goes in with
``to_tensor`` and comes out with ``from_tensor``::

    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "autotag", "pcm"
    request.inputs["pcm"].CopyFrom(to_tensor([pcm_bytes]))
    call = channel.unary_unary(PREDICT, PredictRequest.SerializeToString, PredictResponse.FromString)
    probabilities = from_tensor(call(request).outputs["predictions"])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from preprocessing.protobuf import message_classes

PREDICT: Final = "/tensorflow.serving.PredictionService/Predict"
CLASSIFY: Final = "/tensorflow.serving.PredictionService/Classify"
GET_MODEL_METADATA: Final = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS: Final = "/tensorflow.serving.ModelService/GetModelStatus"
HANDLE_RELOAD_CONFIG: Final = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"

MESSAGES: Final = message_classes(Path(__file__).with_name("protos"))
"""Message classes by full name; those in use have names of their own below."""

TensorShapeProto: Final = MESSAGES["tensorflow.TensorShapeProto"]
TensorProto: Final = MESSAGES["tensorflow.TensorProto"]
Example: Final = MESSAGES["tensorflow.Example"]
SignatureDef: Final = MESSAGES["tensorflow.SignatureDef"]
ModelSpec: Final = MESSAGES["tensorflow.serving.ModelSpec"]
PredictRequest: Final = MESSAGES["tensorflow.serving.PredictRequest"]
PredictResponse: Final = MESSAGES["tensorflow.serving.PredictResponse"]
ExampleList: Final = MESSAGES["tensorflow.serving.ExampleList"]
Input: Final = MESSAGES["tensorflow.serving.Input"]
ClassificationRequest: Final = MESSAGES["tensorflow.serving.ClassificationRequest"]
ClassificationResponse: Final = MESSAGES["tensorflow.serving.ClassificationResponse"]
ModelVersionStatus: Final = MESSAGES["tensorflow.serving.ModelVersionStatus"]
GetModelStatusRequest: Final = MESSAGES["tensorflow.serving.GetModelStatusRequest"]
GetModelStatusResponse: Final = MESSAGES["tensorflow.serving.GetModelStatusResponse"]
SignatureDefMap: Final = MESSAGES["tensorflow.serving.SignatureDefMap"]
GetModelMetadataRequest: Final = MESSAGES["tensorflow.serving.GetModelMetadataRequest"]
GetModelMetadataResponse: Final = MESSAGES["tensorflow.serving.GetModelMetadataResponse"]
ModelConfig: Final = MESSAGES["tensorflow.serving.ModelConfig"]
ModelConfigList: Final = MESSAGES["tensorflow.serving.ModelConfigList"]
ModelServerConfig: Final = MESSAGES["tensorflow.serving.ModelServerConfig"]
ReloadConfigRequest: Final = MESSAGES["tensorflow.serving.ReloadConfigRequest"]
ReloadConfigResponse: Final = MESSAGES["tensorflow.serving.ReloadConfigResponse"]
PredictLog: Final = MESSAGES["tensorflow.serving.PredictLog"]
ClassifyLog: Final = MESSAGES["tensorflow.serving.ClassifyLog"]
PredictionLog: Final = MESSAGES["tensorflow.serving.PredictionLog"]

DATA_TYPES: Final = {
    1: ("<f4", "float_val"),
    2: ("<f8", "double_val"),
    3: ("<i4", "int_val"),
    4: ("|u1", "int_val"),
    5: ("<i2", "int_val"),
    6: ("|i1", "int_val"),
    9: ("<i8", "int64_val"),
    10: ("|b1", "bool_val"),
    17: ("<u2", "int_val"),
    19: ("<f2", "half_val"),
    22: ("<u4", "uint32_val"),
    23: ("<u8", "uint64_val"),
}
"""Numeric types by their number in ``tensorflow.DataType``: numpy's name, and the list that may hold the values."""

DT_STRING: Final = 7

MOST_FILLED: Final = 2**24
"""Values that a list shorter than its shape is filled up to: a few bytes must not claim all memory."""

_NUMBER_OF: Final = {np.dtype(name): number for number, (name, _) in DATA_TYPES.items()}


def data_type_name(number: int) -> str:
    """Return the name of a type of ``tensorflow.DataType`` (``DT_FLOAT``); its number where it is none of ours."""
    known = TensorProto.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number.get(number)
    return str(number) if known is None else str(known.name)


def to_tensor(value: npt.NDArray[Any] | bytes | Sequence[bytes]) -> Message:
    """Return the TensorProto of an array, of a list of byte strings ([n]) or of one byte string (scalar).

    Numbers travel as ``tensor_content``: their bytes, with nothing round each.

    Raises:
        TypeError: the array's type is none of DATA_TYPES, or an element of a list or object array is not bytes.
    """
    tensor = TensorProto()
    array = value if isinstance(value, np.ndarray) else np.array(value, dtype=object)
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if array.dtype.kind in "OS":
        tensor.dtype = DT_STRING
        tensor.string_val.extend(array.ravel().tolist())
        return tensor
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _NUMBER_OF:
        raise TypeError(f"no tensor of {array.dtype}: use one of {sorted(str(known) for known in _NUMBER_OF)} or bytes")
    tensor.dtype = _NUMBER_OF[dtype]
    tensor.tensor_content = array.astype(dtype, copy=False).tobytes()
    return tensor


def from_tensor(tensor: Message) -> npt.NDArray[Any]:
    """Return the array of a TensorProto: of numbers, or of ``bytes`` (dtype object) where it holds strings.

    Of a typed list that is shorter than the shape says, the last value stands for the rest, as TensorFlow has it.

    Raises:
        ValueError: the type is none of these, the shape is not fully known, or the values do not fill it.
    """
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError(f"a tensor's shape must be known, got {shape or 'unknown rank'}")
    if tensor.dtype != DT_STRING and tensor.dtype not in DATA_TYPES:
        raise ValueError(f"a tensor of type number {tensor.dtype} (tensorflow.DataType) is not understood")
    values = _values(tensor)
    size = math.prod(shape)
    fillable = len(values) > 0 and not tensor.tensor_content and size <= MOST_FILLED
    if len(values) > size or (len(values) < size and not fillable):
        raise ValueError(f"a tensor of shape {shape} has {len(values)} values")
    if len(values) < size:
        whole = np.empty(size, values.dtype)
        whole[: len(values)], whole[len(values) :] = values, values[-1]
        values = whole
    return values.reshape(shape)


def _values(tensor: Message) -> npt.NDArray[Any]:
    if tensor.dtype == DT_STRING:
        strings = np.empty(len(tensor.string_val), dtype=object)
        strings[:] = tensor.string_val
        return strings
    name, field = DATA_TYPES[tensor.dtype]
    dtype = np.dtype(name)
    if tensor.tensor_content:
        if len(tensor.tensor_content) % dtype.itemsize:
            raise ValueError(f"{len(tensor.tensor_content)} bytes are no whole number of {dtype} values")
        return np.frombuffer(tensor.tensor_content, dtype)
    if field == "half_val":
        return np.array(tensor.half_val, np.uint16).view(np.float16)
    return np.array(getattr(tensor, field), dtype)
