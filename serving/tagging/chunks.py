"""WAV and AIFF files that mutagen refuses or breaks, though players play them: what is in them, and writing them anew.

Programs that write to a pipe cannot go back to fill in sizes: ffmpeg leaves 0xFFFFFFFF or 0 there. Others leave out the
pad byte after a chunk of odd length, or lose the end of a file. RF64 and BW64 (EBU Tech 3306, ITU-R BS.2088) have their
sizes in a chunk ``ds64``. Here the sizes are those of what is there. Tags go into an ``id3 `` chunk (``ID3 `` in AIFF)
at the end; every other chunk keeps its bytes and its place.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from preprocessing.errors import ClipError
from preprocessing.whole_files import open_whole

STREAMED: Final = (0, 0xFFFFFFFF)
"""Sizes of what was written to a pipe."""
MOST_BYTES: Final = 2**32 - 1
SMALL: Final = (b"fmt ", b"COMM")
"""What mutagen reads of a file besides its tags."""
TAGS: Final = (b"id3 ", b"ID3 ")
DS64_BYTES: Final = 28
SSND_HEAD_BYTES: Final = 8
EVEN: Final = (b"NONE", b"twos", b"sowt", b"fl32", b"FL32", b"fl64", b"FL64", b"in24", b"in32", b"raw ")
"""Codings of AIFF-C in which every frame has as many bytes as the next."""
COPIED_AT_ONCE: Final = 1 << 20
PRIVATE: Final = 0o600
"""Permissions of a copy, until it has those of the file whose place it takes."""


@dataclass(frozen=True)
class Chunk:
    """A chunk: its four letters, where its body begins, and how many bytes of it are there."""

    name: bytes
    begin: int
    length: int

    @property
    def end(self) -> int:
        """Where the body ends; a pad byte may follow."""
        return self.begin + self.length


@dataclass(frozen=True)
class Layout:
    """What is in a file.

    Attributes:
        magic: ``RIFF``, ``RF64``, ``BW64`` or ``FORM``.
        kind: ``WAVE``, ``AIFF`` or ``AIFC``.
        chunks: in their order.
        end: where the last one ends, with its pad byte; what follows belongs to none.
        sound: whether every size in the file says what is there, as RIFF and IFF have it.
    """

    magic: bytes
    kind: bytes
    chunks: tuple[Chunk, ...]
    end: int
    sound: bool

    @property
    def order(self) -> str:
        """Of the bytes of a number, for struct."""
        return ">" if self.magic == b"FORM" else "<"

    @property
    def audio(self) -> bytes:
        """Name of the chunk with the samples."""
        return b"SSND" if self.magic == b"FORM" else b"data"


def read_layout(path: Path) -> Layout | None:
    """Look at a file's chunks; None where it is no WAV or AIFF file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(12)
        magic, kind = head[:4], head[8:12]
        if len(head) < 12 or (magic, kind) not in (
            *((magic, b"WAVE") for magic in (b"RIFF", b"RF64", b"BW64")),
            (b"FORM", b"AIFF"),
            (b"FORM", b"AIFC"),
        ):
            return None
        order = ">" if magic == b"FORM" else "<"
        (claimed,) = struct.unpack(f"{order}I", head[4:8])
        return _walk(file, Layout(magic, kind, (), 12, sound=magic in (b"RIFF", b"FORM")), claimed, size)


def _walk(file: BinaryIO, empty: Layout, claimed: int, size: int) -> Layout:
    chunks: list[Chunk] = []
    at, sound, wide = 12, empty.sound, None
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack(f"{empty.order}4sI", file.read(8))
        if not _is_name(name):
            break
        there = size - at - 8
        if name == b"ds64" and not empty.sound and there >= 16:
            wide = struct.unpack("<QQ", file.read(16))[1]
        if name == empty.audio:
            said = wide if wide and length == MOST_BYTES else length
            streamed = length in STREAMED and claimed in STREAMED and not (wide and wide <= there)
            length = there if streamed else min(said, there)
            sound = sound and length == said
        elif length > there:
            length, sound = there, False
        chunks.append(Chunk(name, at + 8, length))
        at += 8 + length
        if length % 2:
            padded = at < size and not (_begins(file, at, size) and not _begins(file, at + 1, size))
            at, sound = at + padded, sound and padded
    whole = sound and claimed == at - 8
    return Layout(empty.magic, empty.kind, tuple(chunks), at, whole)


def _is_name(name: bytes) -> bool:
    return all(0x20 <= letter < 0x7F for letter in name)


def _begins(file: BinaryIO, at: int, size: int) -> bool:
    """Whether a chunk that fits into the file begins there."""
    file.seek(at)
    head = file.read(8)
    return len(head) == 8 and _is_name(head[:4]) and head[:4].strip() != b""


def skeleton(path: Path, layout: Layout) -> io.BytesIO:
    """Return a sound file in memory with a file's format and tags, and without its samples."""
    parts = []
    with path.open("rb") as file:
        for chunk in layout.chunks:
            if chunk.name in (*SMALL, *TAGS):
                file.seek(chunk.begin)
                parts.append(_packed(layout, chunk.name, file.read(chunk.length)))
    body = layout.kind + b"".join(parts) + _packed(layout, layout.audio, b"")
    magic = b"FORM" if layout.magic == b"FORM" else b"RIFF"
    return io.BytesIO(magic + struct.pack(f"{layout.order}I", len(body)) + body)


def _packed(layout: Layout, name: bytes, body: bytes) -> bytes:
    return name + struct.pack(f"{layout.order}I", len(body)) + body + b"\0" * (len(body) % 2)


def tags_of(saved: io.BytesIO, layout: Layout) -> bytes:
    """Return the body of the tags' chunk of a skeleton that tags were saved to; nothing where there is none."""
    data, at = saved.getvalue(), 12
    while at + 8 <= len(data):
        name, length = struct.unpack(f"{layout.order}4sI", data[at : at + 8])
        if name in TAGS:
            return data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return b""


def write_anew(path: Path, layout: Layout, tags: bytes) -> None:
    """Write a file anew in its place, with sizes that are right and these tags in place of those that it has.

    Raises:
        ClipError: ``untaggable``, with what would help.
        OSError: it cannot be written.
    """
    kept = [chunk for chunk in layout.chunks if chunk.name not in TAGS]
    total = 4 + sum(8 + chunk.length + chunk.length % 2 for chunk in kept) + 8 + len(tags) + len(tags) % 2
    wide = layout.magic in (b"RF64", b"BW64")
    if wide and not any(chunk.name == b"ds64" and chunk.length >= DS64_BYTES - 4 for chunk in kept):
        raise ClipError("untaggable", f"{path}: it begins as {layout.magic.decode()} and has no sizes (no ds64 chunk)")
    if not wide and total > MOST_BYTES:
        raise ClipError(
            "untaggable",
            f"{path}: of more than 4 GiB, which the sizes in such a file cannot say: as RF64 it can hold tags "
            "(ffmpeg -i IN -c copy -rf64 auto OUT)",
        )
    with path.open("rb") as source, open_whole(path, PRIVATE) as target:
        target.write(layout.magic + struct.pack(f"{layout.order}I", MOST_BYTES if wide else total) + layout.kind)
        for chunk in kept:
            said = MOST_BYTES if wide and chunk.name == b"data" else chunk.length
            target.write(chunk.name + struct.pack(f"{layout.order}I", said))
            body = _counts(source, chunk, layout, total)
            target.write(body)
            for part in _parts(source, chunk.begin + len(body), chunk.end):
                target.write(part)
            target.write(b"\0" * (chunk.length % 2))
        target.write(_packed(layout, b"ID3 " if layout.magic == b"FORM" else b"id3 ", tags))
        source.seek(layout.end)
        shutil.copyfileobj(source, target, COPIED_AT_ONCE)


def _counts(source: BinaryIO, chunk: Chunk, layout: Layout, total: int) -> bytes:
    """Return how a chunk begins that says how much there is in others; nothing of other chunks.

    Of ds64 that is the sizes of all and of the samples; of COMM without a count the number of frames, if each has as
    many bytes.
    """
    audio = sum(one.length for one in layout.chunks if one.name == layout.audio)
    source.seek(chunk.begin)
    if chunk.name == b"ds64":
        return struct.pack("<QQ", total, audio)
    if chunk.name == b"COMM" and chunk.length >= 18:
        body = source.read(min(chunk.length, 22))
        channels, frames, bits = struct.unpack(">hIh", body[:8])
        frame_bytes = channels * -(-bits // 8)
        if not frames and frame_bytes > 0 and (layout.kind == b"AIFF" or body[18:] in EVEN):
            return struct.pack(">hI", channels, max(0, audio - SSND_HEAD_BYTES) // frame_bytes)
    return b""


def _parts(source: BinaryIO, begin: int, end: int) -> Iterator[bytes]:
    source.seek(begin)
    while begin < end and (part := source.read(min(COPIED_AT_ONCE, end - begin))):
        begin += len(part)
        yield part
