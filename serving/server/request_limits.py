"""Whether a gRPC request to TensorFlow Serving claims more than it brings: its bytes walked, nothing parsed or copied.

TensorFlow fills a tensor whose shape is larger than its list of values from the last of them, before a graph runs: 52
bytes can ask for two gigabytes. So each tensor's claimed size is held against the values that are there. Protocol
Buffers' rules of merging are kept: fields of a message that comes twice add up, and of each field that adds up here
every occurrence counts.

Fields from tensorflow_serving/apis/{predict,classification,input}.proto and tensorflow/core/framework/tensor.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from serving.client.requests import MOST_CLIPS

MOST_FIELDS: Final = 4096
"""Of one message: a list of numbers is one field, packed, and of strings as many as clips."""
MOST_DIMENSIONS: Final = 8
DT_STRING: Final = 7

VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5

TYPE, SHAPE, CONTENT = 1, 2, 4
VALUE_BYTES: Final = {5: 4, 6: 8, 7: 1, 9: 4, 10: 1, 11: 1, 12: 8, 13: 1, 16: 1, 17: 1}
"""List of numbers -> the fewest bytes that one takes in it."""
STRINGS: Final = 8
ITEM_BYTES: Final = {
    **dict.fromkeys((1, 3, 12, 13, 22), 4),
    **dict.fromkeys((2, 8, 9, 23), 8),
    **dict.fromkeys((4, 6, 10, 11), 1),
    **dict.fromkeys((5, 14, 17, 19), 2),
    18: 16,
}
"""DataType -> bytes of one value."""


class InvalidRequestError(ValueError):
    """A request that must not reach the server; its text is for the client."""


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Attributes:
        clips: strings in a tensor, and examples.
        tensor_bytes: of one tensor in the server's memory.
    """

    clips: int = MOST_CLIPS
    tensor_bytes: int = 256 * 2**20


def check_predict(request: bytes, limits: Limits) -> None:
    """Check a PredictRequest: each tensor of its map ``inputs``.

    Raises:
        InvalidRequestError: a tensor claims more than it brings or may, or the bytes are no such message.
    """
    view = memoryview(request)
    for number, entry in _messages(view, 0, len(view)):
        if number == 2:
            name = b"".join(bytes(view[slice(*span)]) for key, span in _messages(view, *entry) if key == 1)
            tensors = [span for key, span in _messages(view, *entry) if key == 2]
            _check_tensor(view, tensors, _shown_name(name), limits)


def check_input(request: bytes, limits: Limits) -> None:
    """Check a ClassificationRequest or RegressionRequest: how many examples are in its ``input``.

    Raises:
        InvalidRequestError: more than may be, or the bytes are no such message.
    """
    view, examples = memoryview(request), 0
    for number, given in _messages(view, 0, len(view)):
        if number != 2:
            continue
        for _, kind in _messages(view, *given):
            for key, _ in _messages(view, *kind):
                examples += key == 1
                if examples > limits.clips:
                    raise InvalidRequestError(f"input: expected at most {limits.clips} examples in one request")


def _check_tensor(view: memoryview, spans: list[tuple[int, int]], name: str, limits: Limits) -> None:
    """Check a TensorProto, which may be in parts."""
    dtype, sizes, strings, content, values = 0, list[int](), 0, 0, 0
    for start, end in spans:
        for number, wire, value, (first, last) in _fields(view, start, end):
            if number == TYPE and wire == VARINT:
                dtype = value
            elif number == SHAPE and wire == LENGTH:
                sizes += _sizes(view, first, last, name)
            elif number == CONTENT and wire == LENGTH:
                content = last - first
            elif number == STRINGS and wire == LENGTH:
                strings += 1
                if strings > limits.clips:
                    raise InvalidRequestError(f"{name}: expected at most {limits.clips} clips in one request")
            elif number in VALUE_BYTES:
                values += (last - first) // VALUE_BYTES[number] if wire == LENGTH else 1
    claimed = math.prod(sizes)
    if dtype == DT_STRING:
        if claimed > limits.clips:
            raise InvalidRequestError(f"{name}: expected at most {limits.clips} clips in one request, got {claimed}")
        there = max(strings, content)
    else:
        item = ITEM_BYTES.get(dtype, 16)
        if claimed * item > limits.tensor_bytes:
            raise InvalidRequestError(
                f"{name}: expected a tensor of at most {limits.tensor_bytes} bytes, got {claimed * item}"
            )
        there = max(values, content // item)
    if claimed > there:
        raise InvalidRequestError(
            f"{name}: the shape {sizes} claims {claimed} values, and {there} are there: send each of them"
        )


def _sizes(view: memoryview, start: int, end: int, name: str) -> list[int]:
    """Sizes of a TensorShapeProto's dimensions."""
    sizes = []
    for number, wire, value, (first, last) in _fields(view, start, end):
        if number == 3 and wire == VARINT and value:
            raise InvalidRequestError(f"{name}: the shape must be known")
        if number != 2 or wire != LENGTH:
            continue
        size = 0
        for key, kind, given, _ in _fields(view, first, last):
            if key == 1 and kind == VARINT:
                size = given - 2**64 if given >= 2**63 else given
        if size < 0:
            raise InvalidRequestError(f"{name}: the shape must be known, got a dimension of {size}")
        sizes.append(size)
        if len(sizes) > MOST_DIMENSIONS:
            raise InvalidRequestError(f"{name}: expected at most {MOST_DIMENSIONS} dimensions")
    return sizes


def _messages(view: memoryview, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Number and span of the length-delimited fields."""
    for number, wire, _, span in _fields(view, start, end):
        if wire == LENGTH:
            yield number, span


def _fields(view: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, tuple[int, int]]]:
    """Yield number, wire type, value (of a varint) and span (of the content) of a message's fields."""
    at, count = start, 0
    while at < end:
        count += 1
        if count > MOST_FIELDS:
            raise InvalidRequestError(f"expected at most {MOST_FIELDS} fields in a message: send numbers packed")
        tag, at = _varint(view, at, end)
        number, wire = tag >> 3, tag & 7
        value, first = 0, at
        if wire == VARINT:
            value, last = _varint(view, at, end)
        elif wire == LENGTH:
            size, first = _varint(view, at, end)
            last = first + size
        elif wire in (EIGHT_BYTES, FOUR_BYTES):
            last = at + (8 if wire == EIGHT_BYTES else 4)
        else:
            raise InvalidRequestError("not a message of this method: a group, or a wrong wire type")
        if last > end or number == 0:
            raise InvalidRequestError("not a message of this method: lengths inside do not fit each other")
        yield number, wire, value, (first, last)
        at = last


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """A varint of at most ten bytes, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
    raise InvalidRequestError("not a message of this method: a number without an end")


def _shown_name(name: bytes) -> str:
    return name[:64].decode("ascii", "replace") if name.isascii() and name.isalnum() else "an input"
