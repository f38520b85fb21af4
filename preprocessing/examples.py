"""One clip as a tf.Example, and TFRecord files, without TensorFlow.

A Beam worker that preprocesses audio should not need a gigabyte of TensorFlow, so tf.Example's messages are built here
from descriptors, wire-compatible with tensorflow/core/example/example.proto, in a descriptor pool of their own (the
default pool may hold TensorFlow's). The record format is TensorFlow's: length, masked CRC32C of the length, data,
masked CRC32C of the data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from preprocessing.audio import fit_clip, from_pcm, load_clip, to_pcm
from preprocessing.constants import CLIP_SAMPLES, N_FRAMES, N_MELS
from preprocessing.features import health, log_mel

WAVEFORM_BYTES = 2 * CLIP_SAMPLES
LOG_MEL_BYTES = 2 * N_MELS * N_FRAMES


def _example_class() -> Any:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="autotag/example.proto", package="autotag", syntax="proto3")

    def message(name: str) -> Any:
        return file.message_type.add(name=name)

    for name, kind in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        value = message(name).field.add(name="value", number=1, type=kind, label=field.LABEL_REPEATED)
        if kind != field.TYPE_BYTES:
            value.options.packed = True
    feature = message("Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind) in enumerate(
        (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")), start=1
    ):
        feature.field.add(
            name=name,
            number=number,
            type=field.TYPE_MESSAGE,
            type_name=f".autotag.{kind}",
            label=field.LABEL_OPTIONAL,
            oneof_index=0,
        )
    features = message("Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=field.TYPE_MESSAGE, type_name=".autotag.Feature", label=field.LABEL_OPTIONAL
    )
    features.field.add(
        name="feature",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".autotag.Features.FeatureEntry",
        label=field.LABEL_REPEATED,
    )
    message("Example").field.add(
        name="features", number=1, type=field.TYPE_MESSAGE, type_name=".autotag.Features", label=field.LABEL_OPTIONAL
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("autotag.Example")
    if hasattr(message_factory, "GetMessageClass"):  # protobuf 4.22 and later
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


Example = _example_class()
"""The message class: ``Example.FromString(record).features.feature["waveform"].bytes_list.value[0]``."""

Feature = bytes | float | list[bytes]


def encode_example(features: Mapping[str, Feature]) -> bytes:
    """Serialise features as a tf.Example, the same bytes for the same features (keys in order)."""
    example = Example()
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, list):
            feature.bytes_list.value.extend(value)
        else:
            feature.float_list.value.append(value)
    serialised: bytes = example.SerializeToString(deterministic=True)
    return serialised


def clip_example(data: bytes, clip_id: str, track: str, tags: Iterable[str], name: str = "") -> bytes:
    """Turn one audio file into its serialised tf.Example (the example contract in README).

    A pure function of the file and its annotation; nothing of the rest of the data set is in it.

    Raises:
        ClipError: the audio cannot be used (see preprocessing.audio.load_clip).
    """
    samples, seconds = load_clip(data, name)
    pcm = to_pcm(fit_clip(samples))
    clip = from_pcm(pcm)
    mel = log_mel(clip)
    return encode_example(
        {
            "clip_id": clip_id.encode(),
            "track": track.encode(),
            "waveform": pcm.tobytes(),
            "log_mel": mel.astype("<f2").tobytes(),
            "tags": [tag.encode() for tag in tags],
            **health(clip, mel, seconds),
        }
    )


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def write_record(file: BinaryIO, record: bytes) -> None:
    """Append one TFRecord record."""
    length = struct.pack("<Q", len(record))
    file.write(b"".join((length, _masked_crc(length), record, _masked_crc(record))))


def read_records(file: BinaryIO) -> Iterator[bytes]:
    """Yield the records of a TFRecord file.

    Raises:
        ValueError: the file is cut or a CRC is wrong.
    """
    while header := file.read(12):
        if len(header) < 12 or _masked_crc(header[:8]) != header[8:]:
            raise ValueError("broken TFRecord: wrong or cut length")
        (length,) = struct.unpack("<Q", header[:8])
        record, crc = file.read(length), file.read(4)
        if len(record) < length or _masked_crc(record) != crc:
            raise ValueError("broken TFRecord: wrong or cut record")
        yield record


def decode_waveform(record: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the waveform, float32 [465600], of a serialised example."""
    value = Example.FromString(record).features.feature["waveform"].bytes_list.value[0]
    return from_pcm(np.frombuffer(value, "<i2"))
