"""Songs of every format that can hold tags, with tags of somebody else's in them, and their audio's bytes.

The M4A files are tones of 0.6 s, encoded by ffmpeg with the movie atom last, first and fragmented.
"""

from __future__ import annotations

import base64
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import soundfile as sf
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, ID3, TIT2, TPE1, TXXX, TYER
from mutagen.mp4 import MP4, MP4Cover
from tones import write_audio

from serving.tagging.file_tags import DEFAULT_FIELD, MODEL_SUFFIX, FileTags, write_fields

M4A = Path(__file__).with_name("m4a")
FORMATS = ("mp3", "id3v23.mp3", "flac", "ogg", "opus", "wav", "aiff", "m4a")
COVER = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20


def write_file_tags(path: Path, new: FileTags, field: str = DEFAULT_FIELD) -> None:
    """Put tags and what heard them into a file's own fields."""
    write_fields(path, {field: new.tags, field + MODEL_SUFFIX: (new.model,)})


def song(path: Path, seconds: float = 1.0) -> Path:
    """A song with a title, an artist, a foreign field and a cover, in the format that the name says."""
    if path.suffix == ".m4a":
        shutil.copy(M4A / "moov_first.m4a", path)
    elif path.suffix == ".opus":
        write_audio(path.with_suffix(".ogg"), 0.01)
        sf.write(path, np.sin(np.arange(round(seconds * 48_000)) / 20) / 3, 48_000, format="OGG", subtype="OPUS")
    else:
        write_audio(path, seconds, rate=44_100, channels=2)
    dress(path)
    return path


def dress(path: Path) -> None:
    if path.name.endswith(".id3v23.mp3"):
        old = ID3()
        for frame in (TIT2(3, "Title"), TPE1(3, "AC/DC"), TYER(3, "1999"), TXXX(3, "MOOD", ["a", "b"])):
            old.add(frame)
        old.add(APIC(3, "image/png", 3, "front", COVER))
        old.save(path, v1=2, v2_version=3)
        return
    file: Any = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    if isinstance(file.tags, ID3):
        for frame in (TIT2(3, "Title"), TPE1(3, ["Me", "You"]), TXXX(3, "MOOD", ["a", "b"])):
            file.tags.add(frame)
        file.tags.add(APIC(3, "image/png", 3, "front", COVER))
    elif isinstance(file, MP4):
        file.tags["\xa9nam"], file.tags["\xa9ART"] = ["Title"], ["Me", "You"]
        file.tags["----:com.apple.iTunes:MOOD"] = [b"a", b"b"]
        file.tags["covr"] = [MP4Cover(COVER, MP4Cover.FORMAT_PNG)]
    else:
        file.tags["title"], file.tags["artist"], file.tags["mood"] = "Title", ["Me", "You"], ["a", "b"]
        picture = Picture()
        picture.type, picture.mime, picture.data = 3, "image/png", COVER
        if isinstance(file, FLAC):
            file.add_picture(picture)
        else:
            file.tags["metadata_block_picture"] = base64.b64encode(picture.write()).decode()
    file.save()


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while start < end:
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        yield kind, start + 8, start + size
        start += size


def riff_chunk(data: bytes, name: bytes, order: str) -> bytes:
    at = 12
    while data[at : at + 4] != name:
        at += 8 + (size := struct.unpack(f"{order}I", data[at + 4 : at + 8])[0]) + size % 2
    return data[at + 8 : at + 8 + struct.unpack(f"{order}I", data[at + 4 : at + 8])[0]]


def audio_bytes(path: Path) -> bytes:
    """The encoded audio, without what lies round it."""
    data = path.read_bytes()
    if path.suffix == ".mp3":
        header = ID3(path).size if data.startswith(b"ID3") else 0
        return data[header : len(data) - (128 if data[-128:-125] == b"TAG" else 0)]
    if path.suffix == ".flac":
        at, last = 4, False
        while not last:
            last = bool(data[at] & 0x80)
            at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
        return data[at:]
    if path.suffix == ".wav":
        return riff_chunk(data, b"data", "<")
    if path.suffix == ".aiff":
        return riff_chunk(data, b"SSND", ">")
    if path.suffix == ".m4a":
        return b"".join(data[start:end] for kind, start, end in boxes(data, 0, len(data)) if kind == b"mdat")
    return b"".join(ogg_packets(data)[2:])  # identification and comments come first


def ogg_packets(data: bytes) -> list[bytes]:
    packets, at, rest = [], 0, b""
    while at < len(data):
        lacing = data[at + 27 : at + 27 + data[at + 26]]
        at += 27 + len(lacing)
        for size in lacing:
            rest += data[at : at + size]
            at += size
            if size < 255:
                packets.append(rest)
                rest = b""
    return packets
