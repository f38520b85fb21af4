"""tf.Examples read inside the served graph, by string operators alone.

tf.io.parse_example trusts the lengths that it reads: 40 bytes whose list claims a value of 2 GB end the process
(TensorFlow 2.16), and what it cannot parse stands whole in its error message. So the few fields that a model needs are
found here, each length held against what is there; nothing else of an example is looked at.

On the wire (tensorflow/core/example/example.proto), where each ``()`` is a tag byte, a length and so many bytes::

    Example   0A(Features)
    Features  0A(entry) 0A(entry) ...
    entry     0A(key) 12(Feature)
    Feature   0A(BytesList), or 12(FloatList), or 1A(Int64List)
    BytesList 0A(value) 0A(value) ...

Each function takes the examples as string [batch] and byte positions as int32 [batch].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import tensorflow as tf

from serving.graph.tensors import BoolTensor, IntTensor, StringTensor

FIRST: Final = 0x0A
SECOND: Final = 0x12
VARINT_BYTES: Final = 4
"""Of a length: below 2^28."""

MOST_FEATURES: Final = 256
"""Of one example; looking at one takes as long as reading a hundred kilobytes."""


@dataclass(frozen=True)
class Span:
    """A stretch of each example: ``start`` and ``end``, int32 [batch], within it."""

    start: IntTensor
    end: IntTensor


def features_of(examples: StringTensor) -> tuple[Span, BoolTensor]:
    """Return where the features lie, and whether an example is that field and nothing else: bool [batch]."""
    lengths = tf.strings.length(examples)
    tag, content = _field(examples, tf.zeros_like(lengths), lengths)
    whole = tf.logical_and(tf.equal(tag, FIRST), tf.equal(content.end, lengths))
    return content, tf.logical_or(whole, tf.equal(lengths, 0))


def find_features(
    examples: StringTensor, features: Span, names: Sequence[str]
) -> tuple[list[Span], BoolTensor, IntTensor]:
    """Find features by name; of one that is there twice, the last, as protobuf has it.

    Args:
        examples: string [batch].
        features: from ``features_of``.
        names: theirs.

    Returns:
        Their values (Feature), empty where there is none; whether all lengths fit each other, bool [batch]; and how
        many features each example has, int32 [batch], MOST_FEATURES + 1 where it has more.
    """
    zeros = tf.zeros_like(features.start)
    state = (features.start, tf.fill(tf.shape(zeros), True), zeros, [(zeros, zeros) for _ in names])

    def unread(position: IntTensor, sound: BoolTensor) -> BoolTensor:
        return tf.logical_and(sound, position < features.end)

    def goes_on(
        position: IntTensor, sound: BoolTensor, count: IntTensor, found: list[tuple[IntTensor, IntTensor]]
    ) -> BoolTensor:
        del found
        return tf.reduce_any(tf.logical_and(unread(position, sound), count <= MOST_FEATURES))

    def step(
        position: IntTensor, sound: BoolTensor, count: IntTensor, found: list[tuple[IntTensor, IntTensor]]
    ) -> tuple[IntTensor, BoolTensor, IntTensor, list[tuple[IntTensor, IntTensor]]]:
        here = unread(position, sound)
        tag, entry = _field(examples, position, features.end)
        key_tag, key = _field(examples, entry.start, entry.end)
        has_key = tf.equal(key_tag, FIRST)
        key = Span(tf.where(has_key, key.start, entry.start), tf.where(has_key, key.end, entry.start))
        value_tag, value = _field(examples, key.end, entry.end)
        has_value = tf.equal(value_tag, SECOND)
        value = Span(tf.where(has_value, value.start, key.end), tf.where(has_value, value.end, key.end))
        fits = tf.logical_and(tf.equal(tag, FIRST), tf.equal(value.end, entry.end))
        name = cut_out(examples, key)
        taken = [
            tf.logical_and(tf.logical_and(here, fits), tf.equal(name, tf.constant(wanted.encode()))) for wanted in names
        ]
        found = [
            (tf.where(take, value.start, start), tf.where(take, value.end, end))
            for take, (start, end) in zip(taken, found, strict=True)
        ]
        position = tf.where(here, entry.end, position)
        return position, tf.where(here, fits, sound), count + tf.cast(here, tf.int32), found

    _, sound, count, found = tf.while_loop(goes_on, step, state, parallel_iterations=1)
    return [Span(start, end) for start, end in found], sound, count


def bytes_list(examples: StringTensor, feature: Span) -> tuple[Span, BoolTensor]:
    """Return the list in a Feature, and whether it is one of bytes or the Feature is empty: bool [batch]."""
    tag, content = _field(examples, feature.start, feature.end)
    whole = tf.logical_and(tf.equal(tag, FIRST), tf.equal(content.end, feature.end))
    empty = tf.equal(feature.start, feature.end)
    return Span(tf.where(whole, content.start, feature.end), feature.end), tf.logical_or(whole, empty)


def next_value(examples: StringTensor, values: Span) -> tuple[Span, BoolTensor]:
    """Return the first of the values in a list, and whether there is one whose length fits: bool [batch]."""
    tag, content = _field(examples, values.start, values.end)
    return content, tf.equal(tag, FIRST)


def cut_out(examples: StringTensor, span: Span) -> StringTensor:
    """Return the bytes of a span that is within each example: string [batch]."""
    return tf.strings.substr(examples, span.start, span.end - span.start)


def _field(examples: StringTensor, position: IntTensor, end: IntTensor) -> tuple[IntTensor, Span]:
    """Read the field at a position: its tag, int32 [batch], and its content.

    The tag is 0 and the content empty, at ``position``, where no field with a length fits between there and ``end``.
    """
    head = tf.strings.substr(examples, position, tf.minimum(end - position, 1 + VARINT_BYTES))
    head = tf.cast(tf.io.decode_raw(head, tf.uint8, fixed_length=1 + VARINT_BYTES), tf.int32)
    more = tf.math.cumprod(tf.cast(head[:, 1:VARINT_BYTES] >= 128, tf.int32), axis=1)
    read = tf.pad(more, [[0, 0], [1, 0]], constant_values=1)
    scale = tf.constant([1 << 7 * byte for byte in range(VARINT_BYTES)])
    length = tf.reduce_sum(read * (head[:, 1:] % 128) * scale, axis=1)
    start = position + 1 + tf.reduce_sum(read, axis=1)
    ended = head[:, VARINT_BYTES] * read[:, VARINT_BYTES - 1] < 128
    fits = tf.logical_and(ended, tf.logical_and(start <= end, length <= end - start))
    tag = tf.where(fits, head[:, 0], 0)
    return tag, Span(tf.where(fits, start, position), tf.where(fits, start + length, position))
