"""One clip as a tf.Example, and TFRecord files, without TensorFlow.

A Beam worker that preprocesses audio should not need a gigabyte of TensorFlow, so tf.Example's messages are described
in ``protos/`` (see preprocessing.protobuf), compatible with tensorflow/core/example/example.proto. The record format
is TensorFlow's: length, masked CRC32C of the length, data, masked CRC32C of the data.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import google_crc32c
import numpy as np

from preprocessing.audio.loading import decode_clip
from preprocessing.audio.samples import fit_clip, from_pcm, to_pcm
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.excerpts import BEGINNING, Excerpt
from preprocessing.features import INCOMPLETE, health, log_mel
from preprocessing.protobuf import message_classes

Example: Final = message_classes(Path(__file__).with_name("protos"))["tensorflow.Example"]
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


def clip_example(
    data: bytes,
    clip_id: str,
    track: str,
    tags: Iterable[str],
    name: str = "",
    clip: ClipFormat = PAPER_CLIP,
    excerpt: Excerpt = BEGINNING,
) -> bytes:
    """Turn one audio file into its serialised tf.Example (docs/reference/examples.md).

    A pure function of the file and its annotation; nothing of the rest of the data set is in it.

    Args:
        data: the file's bytes.
        clip_id: as in the annotations.
        track: that the clip is a part of.
        tags: of the clip.
        name: what to call the file in messages.
        clip: length and rate.
        excerpt: which part of the file.

    Raises:
        ClipError: the audio cannot be used (see preprocessing.audio.loading.decode_clip).
    """
    return example_and_shortfall(data, clip_id, track, tags, name, clip, excerpt)[0]


def example_and_shortfall(
    data: bytes,
    clip_id: str,
    track: str,
    tags: Iterable[str],
    name: str = "",
    clip: ClipFormat = PAPER_CLIP,
    excerpt: Excerpt = BEGINNING,
) -> tuple[bytes, str]:
    """Return clip_example's example, and how much of the clip's audio there was, such as ``12.3 of 29.1 s``.

    That is empty where nothing is missing; else the example says so in its feature ``incomplete``, which others have
    not. Arguments and errors as in clip_example.
    """
    decoded = decode_clip(data, name, clip, excerpt)
    pcm = to_pcm(fit_clip(decoded.samples, clip))
    waveform = from_pcm(pcm)
    mel = log_mel(waveform, clip)
    shortfall = decoded.heard.shortfall
    example = encode_example(
        {
            "clip_id": clip_id.encode(),
            "track": track.encode(),
            "waveform": pcm.tobytes(),
            "log_mel": mel.astype("<f2").tobytes(),
            "tags": [tag.encode() for tag in tags],
            **health(waveform, mel, decoded.seconds, clip),
            **({INCOMPLETE: 1.0} if shortfall else {}),
        }
    )
    return example, shortfall


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


def record_damage(path: Path, *, every_byte: bool = False) -> str | None:
    """Say what is wrong with a TFRecord file, packed by gzip where its name ends with ``.gz``; None where it is whole.

    Args:
        path: of the file.
        every_byte: compare the records' checksums too, and not their lengths alone.
    """
    packed, count = path.suffix == ".gz", 0
    try:
        with gzip.open(path) if packed else path.open("rb") as opened:
            file = cast(BinaryIO, opened)
            for _ in read_records(file) if every_byte or packed else _lengths(file, path.stat().st_size):
                count += 1
    except (ValueError, EOFError, OSError, zlib.error) as error:
        words = str(error).removeprefix("broken TFRecord: ") or type(error).__name__
        return f"{words} after {count} whole records, in a file of {path.stat().st_size:,} bytes"
    return None


def _lengths(file: BinaryIO, size: int) -> Iterator[int]:
    while header := file.read(12):
        if len(header) < 12 or _masked_crc(header[:8]) != header[8:]:
            raise ValueError("broken TFRecord: wrong or cut length")
        (length,) = struct.unpack("<Q", header[:8])
        if file.seek(length + 4, os.SEEK_CUR) > size:
            raise ValueError("broken TFRecord: wrong or cut record")
        yield length


def decode_waveform(record: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the waveform, float32 [samples], of a serialised example."""
    value = Example.FromString(record).features.feature["waveform"].bytes_list.value[0]
    return from_pcm(np.frombuffer(value, "<i2"))


def decode_tags(record: bytes) -> list[str]:
    """Return the tags of a serialised example."""
    return [tag.decode() for tag in Example.FromString(record).features.feature["tags"].bytes_list.value]
