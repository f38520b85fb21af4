"""Message classes from descriptor sets, without the packages that own the messages.

TensorFlow's, TF Serving's, ONNX's and TFMA's messages come with gigabytes of packages. What is needed of them is a few
fields, written down in ``protos/*.proto`` beside whoever reads them (any other language's tools read the same files).
``make protos`` compiles each such folder to its ``descriptors.binpb``. The classes live in a descriptor pool of their
own: the default pool may hold the owners' messages of the same names. Works with protobuf 3.20 and with 4.22 and later.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


@functools.cache  # protobuf 4.22 to 4.24 crash where the class of an inner message has gone
def message_classes(protos: Path) -> dict[str, Any]:
    """Build the messages of a folder's ``descriptors.binpb`` in a descriptor pool of their own.

    Args:
        protos: the folder; its descriptor set holds what its files import, too.

    Returns:
        Message classes by full name (``tensorflow.TensorProto``, ``tensorflow.TensorShapeProto.Dim``).
    """
    content = (protos / "descriptors.binpb").read_bytes()
    files = descriptor_pb2.FileDescriptorSet.FromString(content).file
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())
    outer = [pool.FindMessageTypeByName(f"{file.package}.{one.name}") for file in files for one in file.message_type]
    return {one.full_name: _message_class(pool, one) for one in _with_nested(outer)}


def _with_nested(descriptors: Any) -> Iterator[Any]:
    for descriptor in descriptors:
        yield descriptor
        yield from _with_nested(descriptor.nested_types)


def _message_class(pool: Any, descriptor: Any) -> Any:
    if hasattr(message_factory, "GetMessageClass"):  # protobuf 4.22 and later
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)
