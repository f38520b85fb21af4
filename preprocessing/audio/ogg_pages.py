"""The pages of an Ogg file (RFC 3533), without decoding: its streams' lengths and beginnings, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from preprocessing.audio.file_bytes import MOST_PARTS, FileBytes, find

_HEADER: Final = 27
_BEGINS, _ENDS = 2, 4
_NO_POSITION: Final = 2**64 - 1
_LATEST_START: Final = 60.0
"""Seconds; a stream whose first page lies later in time was cut out of a longer one, and its last says no length."""


@dataclass(frozen=True)
class Link:
    """One of the streams that follow each other in a file.

    Attributes:
        start, end: bytes.
        seconds: length by its last page; None where that does not say.
        regular: no page is missing or doubled, and nothing lies between them.
        ends: the last page is whole and marked as the last.
        codec: ``vorbis``, ``opus``, ``flac`` or empty.
    """

    start: int
    end: int
    seconds: float | None
    regular: bool
    ends: bool
    codec: str


def links(data: FileBytes) -> list[Link]:
    """Go through all pages and return the streams that follow each other; one that has several at a time is one."""
    found: list[Link] = []
    place = max(0, find(data, b"OggS"))
    while place < data.size and len(found) <= MOST_PARTS:
        link = _link(data, place)
        if link is None:
            break
        found.append(link)
        place = link.end
    return found


def _link(data: FileBytes, start: int) -> Link | None:
    place, rate, codec, skip, main = start, 0, "", 0, None
    first = last = None
    regular, ends, data_pages = True, False, False
    numbers: dict[int, int] = {}
    open_streams: set[int] = set()
    while place < data.size:
        head = data.at(place, _HEADER + 255)
        size = _page_size(head)
        if size is None or place + size > data.size:
            following = find(data, b"OggS\0", place + 1)
            if following < 0:
                rest = data.at(place, 1 << 16)
                if size is not None or rest.strip(b"\0"):
                    ends = ends and size is None
                place = data.size
                break
            regular, place = False, following
            continue
        flags, position = head[5], int.from_bytes(head[6:14], "little")
        serial, number = int.from_bytes(head[14:18], "little"), int.from_bytes(head[18:22], "little")
        if flags & _BEGINS:
            if data_pages:
                break
            found = _codec(data.at(place + _HEADER + head[26], 64))
            open_streams.add(serial)
            if found and main is None:
                (codec, rate, skip), main = found, serial
        else:
            data_pages = True
            regular = regular and (serial in numbers and number == numbers[serial] + 1)
        numbers[serial] = number
        if serial == main and position not in (0, _NO_POSITION):
            first, last = first or position, position
        if flags & _ENDS:
            open_streams.discard(serial)
        ends = not open_streams
        place += size
    if place == start:
        return None
    seconds = None
    if rate and last is not None and first is not None and first / rate < _LATEST_START:
        seconds = max(0, last - skip) / rate
    return Link(start, place, seconds, regular, ends, codec)


def _page_size(head: bytes) -> int | None:
    if len(head) < _HEADER or head[:5] != b"OggS\0" or len(head) < _HEADER + head[26]:
        return None
    return _HEADER + head[26] + sum(head[_HEADER : _HEADER + head[26]])


def _codec(packet: bytes) -> tuple[str, int, int] | None:
    """Return codec, rate of positions and samples to leave out, by a stream's first packet."""
    if packet[:7] == b"\x01vorbis":
        return "vorbis", int.from_bytes(packet[12:16], "little"), 0
    if packet[:8] == b"OpusHead":
        return "opus", 48_000, int.from_bytes(packet[10:12], "little")
    if packet[:5] == b"\x7fFLAC":
        return "flac", int.from_bytes(packet[27:30], "big") >> 4, 0
    return None
