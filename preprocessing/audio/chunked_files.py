"""Uncompressed audio in chunks (WAV, RF64, W64, AIFF, CAF) and AU: how long their headers say that they are.

libsndfile takes what is there of such a file for all of it, so a cut one looks whole.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from preprocessing.audio.file_bytes import MOST_PARTS, FileBytes

UNKNOWN_SIZE: Final = 0x7F000000
"""From here on a 32-bit size of what reaches beyond the file's end is a program's that wrote into a pipe."""

MOST_CHUNKS: Final = 10_000
_AU_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}


@dataclass(frozen=True)
class Sound:
    """One sound with a header.

    Attributes:
        start, end: bytes of the file, header included.
        claimed: seconds by its header; None where that does not say.
        there: seconds of them that are in the file; None where that cannot be told.
    """

    start: int
    end: int
    claimed: float | None
    there: float | None


def riff_sounds(data: FileBytes, start: int) -> list[Sound]:
    """Return the WAV files that follow each other from ``start`` on: mostly one."""
    found: list[Sound] = []
    while data.at(start, 4) in (b"RIFF", b"RF64", b"BW64", b"RIFX") and len(found) <= MOST_PARTS:
        found.append(_riff(data, start))
        start = found[-1].end
    return found


def _riff(data: FileBytes, start: int) -> Sound:
    order = ">" if data.at(start, 4) == b"RIFX" else "<"
    (riff_size,) = struct.unpack(order + "I", data.at(start + 4, 4).ljust(4, b"\0"))
    byte_rate, claimed, there, large = 0, None, None, None
    end = start + 12
    for name, at, size in _chunks(data, start + 12, order + "4sI", lambda size: size + size % 2):
        if name in (b"RIFF", b"RF64", b"BW64"):
            break
        if name == b"ds64":
            (large,) = struct.unpack("<Q", data.at(at + 8, 8).ljust(8, b"\0"))
        elif name == b"fmt ":
            (byte_rate,) = struct.unpack(order + "I", data.at(at + 8, 4).ljust(4, b"\0"))
        elif name == b"data":
            left = data.size - at
            if size == 0xFFFFFFFF and large is not None:
                size = large
            elif (size > left and size >= UNKNOWN_SIZE) or (size == 0 and riff_size in (0, 0xFFFFFFFF)):
                return Sound(start, data.size, None, left / byte_rate if byte_rate else None)
            if byte_rate:
                claimed, there = size / byte_rate, min(size, left) / byte_rate
        end = min(data.size, at + size + size % 2)
    return Sound(start, end if data.at(end, 4) in (b"RIFF", b"RF64", b"BW64") else data.size, claimed, there)


def _chunks(data: FileBytes, place: int, header: str, padded: Callable[[int], int]) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, place of the content and size of each chunk."""
    length = struct.calcsize(header)
    for _ in range(MOST_CHUNKS):
        head = data.at(place, length)
        if len(head) < length:
            return
        name, size = struct.unpack(header, head)
        yield name, place + length, max(0, size)
        place += length + padded(max(0, size))


def sounds_in_a_row(data: FileBytes, start: int, read: Callable[[FileBytes, int], Sound]) -> list[Sound]:
    """Return the files of one kind that follow each other from ``start`` on: mostly one."""
    magic, found = data.at(start, 4), [read(data, start)]
    while data.at(found[-1].end, 4) == magic and found[-1].start < found[-1].end and len(found) <= MOST_PARTS:
        found.append(read(data, found[-1].end))
    last = found.pop()
    return [*found, Sound(last.start, data.size, last.claimed, last.there)]


def aiff_sound(data: FileBytes, start: int) -> Sound:
    """Read an AIFF or AIFF-C file's header."""
    claimed = there = None
    frames, rate = 0, 0.0
    (size,) = struct.unpack(">I", data.at(start + 4, 4).ljust(4, b"\0"))
    end = start + 8 + size + size % 2
    for name, at, size in _chunks(data, start + 12, ">4sI", lambda size: size + size % 2):
        if at > end:
            break
        if name == b"COMM":
            _, frames, _, exponent, mantissa = struct.unpack(">HIHHQ", data.at(at, 18).ljust(18, b"\0"))
            rate = math.ldexp(mantissa, (exponent & 0x7FFF) - 16_383 - 63) if exponent & 0x7FFF < 16_500 else 0.0
        elif name == b"SSND" and rate >= 1 and 0 < frames < UNKNOWN_SIZE:
            claimed = frames / rate
            there = claimed * (min(1.0, (data.size - at) / size) if size else 1.0)
    return Sound(start, end, claimed, there)


def au_sound(data: FileBytes, start: int) -> Sound:
    """Read a Sun AU file's header."""
    _, offset, size, encoding, rate, channels = struct.unpack(">4s5I", data.at(start, 24).ljust(24, b"\0"))
    byte_rate = _AU_BYTES.get(encoding, 0) * rate * channels
    left = data.size - start - offset
    if not byte_rate or left < 0 or size >= UNKNOWN_SIZE:
        return Sound(start, data.size, None, None)
    return Sound(start, start + offset + size, size / byte_rate, min(size, left) / byte_rate)


def caf_sound(data: FileBytes, start: int) -> Sound:
    """Read a CAF file's header."""
    packet_seconds = 0.0
    packet_bytes = 0
    claimed = there = None
    end = data.size
    for name, at, size in _chunks(data, start + 8, ">4sq", lambda size: size):
        if name[:4] == b"caff":
            break
        end = at + size
        if name == b"desc":
            rate, _, _, packet_bytes, frames = struct.unpack(">d4sIII", data.at(at, 24).ljust(24, b"\0"))
            packet_seconds = frames / rate if rate >= 1 else 0.0
        elif name == b"data" and packet_bytes and packet_seconds and size > 4:
            claimed = (size - 4) / packet_bytes * packet_seconds
            there = (min(size, data.size - at) - 4) / packet_bytes * packet_seconds
    return Sound(start, end, claimed, there)


def w64_sound(data: FileBytes, start: int) -> Sound:
    """Read a Sony Wave64 file's header."""
    byte_rate = 0
    claimed = there = None
    end = data.size
    for name, at, size in _chunks(data, start + 40, "<16sQ", lambda size: max(0, -(-size // 8) * 8 - 24)):
        if name[:4] == b"riff":
            break
        end = at + max(0, -(-size // 8) * 8 - 24)
        if name[:4] == b"fmt ":
            (byte_rate,) = struct.unpack("<I", data.at(at + 8, 4).ljust(4, b"\0"))
        elif name[:4] == b"data" and byte_rate and 24 <= size < 2**62:
            claimed, there = (size - 24) / byte_rate, min(size - 24, data.size - at) / byte_rate
    return Sound(start, end, claimed, there)
