"""The chunks of RIFF files, walked inside the served graph.

tf.audio.decode_wav wants ``fmt `` first, no pad bytes and true sizes, keeps a whole file as floats, and repeats its
bytes in its words. What is taken here besides: chunks before ``fmt `` and after ``data``, of any name; odd chunks
with and without their pad byte; sizes of 2 GB and more that end beyond the file, which is what writes into a pipe
(ffmpeg: 2^32 - 1, sox: 2^31 - 4096 and a little) leave, as "to the end"; WAVE_FORMAT_EXTENSIBLE round PCM.

Source: Multimedia Programming Interface and Data Specifications 1.0 (IBM, Microsoft 1991), chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import tensorflow as tf

from serving.graph.tensors import BoolTensor, IntTensor, StringTensor

FIRST_CHUNK: Final = 12
MOST_CHUNKS: Final = 1024
"""Of one file: walking costs time for each."""
UNKNOWN_FROM: Final = 0x7FFF0000
"""A size of this and more that the file does not have was written before the writer knew it."""
USUAL_NAMES: Final = (b"data", b"fmt ", b"LIST", b"fact", b"JUNK", b"id3 ", b"bext", b"PEAK", b"cue ")
FMT_BYTES: Final = 16
EXTENSIBLE: Final = 0xFFFE
EXTENSIBLE_BYTES: Final = 40
SUB_FORMAT_AT: Final = 24


@dataclass(frozen=True)
class Chunks:
    """What the chunks of each file say, all [n].

    Attributes:
        has_fmt: there is one ``fmt `` chunk of 16 bytes or more, before the data.
        format: 1 is PCM; the one inside where the file says WAVE_FORMAT_EXTENSIBLE.
        channels, rate, byte_rate, frame_bytes, bits: of ``fmt ``.
        data: how many ``data`` chunks there are.
        start: of the first one's content, int64, in bytes.
        claimed, size: how long that is by its header, and how much of it is there, int64; alike where it is unknown.
        count: chunks that were looked at, a scalar; MOST_CHUNKS where there may be more.
    """

    has_fmt: BoolTensor
    format: IntTensor
    channels: IntTensor
    rate: IntTensor
    byte_rate: IntTensor
    frame_bytes: IntTensor
    bits: IntTensor
    data: IntTensor
    start: IntTensor
    claimed: IntTensor
    size: IntTensor
    count: IntTensor


def walk(files: StringTensor) -> Chunks:
    """Walk the chunks of RIFF files, string [n]; shorter ones than a header have none."""
    lengths = tf.cast(tf.strings.length(files), tf.int64)
    zeros, none = tf.zeros_like(lengths), -tf.ones_like(lengths)

    def goes_on(count: IntTensor, at: IntTensor, *_: IntTensor) -> BoolTensor:
        return tf.logical_and(count < MOST_CHUNKS, tf.reduce_any(at + 8 <= lengths))

    def step(
        count: IntTensor,
        at: IntTensor,
        fmts: IntTensor,
        fmt: IntTensor,
        fmt_size: IntTensor,
        datas: IntTensor,
        data: IntTensor,
        claimed: IntTensor,
    ) -> tuple[IntTensor, ...]:
        there = at + 8 <= lengths
        header = _bytes_at(files, at, 8)
        size = _number(header, 4, 4)
        is_fmt = tf.logical_and(there, _is_name(header, 0, b"fmt "))
        is_data = tf.logical_and(there, _is_name(header, 0, b"data"))
        first_fmt = tf.reduce_all(tf.stack([is_fmt, fmt < 0, data < 0], axis=1), axis=1)
        first_data = tf.logical_and(is_data, data < 0)
        body = at + 8
        end = body + size
        # Behind the data may be anything, such as a tag of another kind: what is no chunk's name ends the walk.
        over = tf.logical_and(data >= 0, tf.logical_not(_is_printable(header, 0)))
        after = tf.where(over, lengths, end + tf.cast(_is_padded(files, end, size), tf.int64))
        return (
            count + 1,
            tf.where(there, after, at),
            fmts + tf.cast(is_fmt, tf.int64),
            tf.where(first_fmt, body, fmt),
            tf.where(first_fmt, size, fmt_size),
            datas + tf.cast(is_data, tf.int64),
            tf.where(first_data, body, data),
            tf.where(first_data, size, claimed),
        )

    state = (tf.constant(0), zeros + FIRST_CHUNK, zeros, none, zeros, zeros, none, zeros)
    count, _, fmts, fmt, fmt_size, datas, data, claimed = tf.while_loop(goes_on, step, state, parallel_iterations=1)
    head = _bytes_at(files, fmt, EXTENSIBLE_BYTES)
    left = tf.maximum(lengths - data, 0)
    unknown = tf.logical_and(claimed >= UNKNOWN_FROM, claimed > left)
    written = _number(head, 0, 2)
    extensible = tf.logical_and(tf.equal(written, EXTENSIBLE), fmt_size >= EXTENSIBLE_BYTES)
    good = [tf.equal(fmts, 1), fmt >= 0, fmt_size >= FMT_BYTES, fmt + fmt_size <= lengths]
    return Chunks(
        has_fmt=tf.reduce_all(tf.stack(good, axis=1), axis=1),
        format=tf.where(extensible, _number(head, SUB_FORMAT_AT, 2), written),
        channels=_number(head, 2, 2),
        rate=_number(head, 4, 4),
        byte_rate=_number(head, 8, 4),
        frame_bytes=_number(head, 12, 2),
        bits=_number(head, 14, 2),
        data=datas,
        start=tf.maximum(data, 0),
        claimed=tf.where(unknown, left, claimed),
        size=tf.minimum(claimed, left),
        count=count,
    )


def _bytes_at(files: StringTensor, position: IntTensor, count: int) -> IntTensor:
    """String [n], int64 [n] -> int64 [n, count]; zeros where there are none."""
    within = tf.clip_by_value(position, 0, tf.cast(tf.strings.length(files), tf.int64))
    cut = tf.strings.substr(files, within, tf.fill(tf.shape(within), tf.constant(count, tf.int64)))
    return tf.cast(tf.io.decode_raw(cut, tf.uint8, fixed_length=count), tf.int64)


def _number(values: IntTensor, position: int, size: int) -> IntTensor:
    """The little-endian number at a position of int64 [n, bytes]: int64 [n]."""
    weights = tf.constant([256**place for place in range(size)], tf.int64)
    return tf.reduce_sum(values[:, position : position + size] * weights, axis=1)


def _is_name(values: IntTensor, position: int, name: bytes) -> BoolTensor:
    return tf.reduce_all(tf.equal(values[:, position : position + 4], list(name)), axis=1)


def _is_printable(values: IntTensor, position: int) -> BoolTensor:
    name = values[:, position : position + 4]
    return tf.reduce_all(tf.logical_and(name >= 0x20, name < 0x7F), axis=1)


def _is_padded(files: StringTensor, end: IntTensor, size: IntTensor) -> BoolTensor:
    """Whether a byte follows an odd chunk: not where a name begins at its end, unless a usual one begins behind."""
    following = _bytes_at(files, end, 5)
    usual = tf.reduce_any(tf.stack([_is_name(following, 1, name) for name in USUAL_NAMES], axis=1), axis=1)
    padded = tf.logical_or(usual, tf.logical_not(_is_printable(following, 0)))
    return tf.logical_and(tf.equal(size % 2, 1), padded)
