"""MPEG audio (MP3, MP2, MP1) and ADTS (AAC), frame by frame, without decoding: what of a stream is there.

These streams have no directory. A decoder goes from frame to frame, and where bytes are lost or put in, where several
files were joined or where a header's count is wrong, it may stop or leave out much without a word. The walk over the
frames' headers costs little and tells how long the stream is, whatever its header says.

Sources: Xing's and LAME's tag, and Fraunhofer's VBRI, as their decoders read them; headers are in
preprocessing.audio.mpeg_headers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from preprocessing.audio.file_bytes import PIECE, FileBytes
from preprocessing.audio.mpeg_headers import MPEG, Frame, Framing

CHAIN: Final = 4
"""So many frames, each where the one before it ends, are no accident."""

MOST_GUESSES: Final = 100_000
"""Places looked at for a next frame in one file; what lies behind is not looked for."""

WORTHWHILE: Final = 64
MOST_FAILURES: Final = 16
"""Frames of one length are looked for all at once, until so often fewer than WORTHWHILE were found: variable rates."""


@dataclass(frozen=True)
class FrameStream:
    """What a walk over a stream's frames found.

    Attributes:
        start: the first frame's place in the file.
        seconds: duration of the frames that are there, an information frame (Xing) at the beginning not counted.
        regular: seconds up to the first place where a frame is not followed by another one of its kind though more
            follow; infinite where there is no such place.
        claimed: seconds that the information frame claims, less what encoders add; None where there is none.
        information_bytes: length of the information frame; 0 where there is none.
        claimed_bytes: that it claims from ``start`` on.
        lost: seconds that bytes between frames, which are no frames and no tags, would last.
        breaks: places where a frame is not followed by another one of its kind though more follow.
    """

    start: int
    seconds: float
    regular: float
    claimed: float | None
    information_bytes: int
    claimed_bytes: int | None
    lost: float
    breaks: int

    @property
    def whole(self) -> float:
        """Seconds that the file should hold: what is there, or what its header claims and its size does not refute."""
        if self.claimed is None:
            return self.seconds + self.lost
        return max(self.seconds, self.claimed)


def walk(data: FileBytes, framing: Framing, start: int) -> FrameStream | None:
    """Go through a stream from its first frame to the file's end, over tags and over what is no frame.

    Args:
        data: the file.
        framing: how its frames are written.
        start: where to look for the first frame, within a mebibyte.

    Returns:
        None where there are not CHAIN frames in a row.
    """
    reader = _Reader(data, framing)
    first = reader.next_stream(start, min(data.size, start + PIECE))
    if first is None:
        return None
    runs: list[tuple[Frame, int, int]] = []  # first frame of a run, frames, bytes
    place, junk, regular, told = first, 0, math.inf, 0.0
    while True:
        frame = reader.frame(place)
        assert frame is not None
        count, end, last = reader.run(place, frame)
        runs.append((frame, count, end - place))
        told += count * frame.seconds
        behind = skip_tags(data, end)
        following = reader.next_stream(behind, data.size, last + 4) if behind < data.size else None
        if following is None:
            break
        junk += max(0, following - skip_tags(data, end, zeros=False))
        regular = min(regular, told)
        place = following
    claimed, claimed_bytes = _information(data, first, runs[0][0]) if framing is MPEG else (None, None)
    seconds = told - (runs[0][0].seconds if claimed is not None else 0.0)
    information_bytes = runs[0][0].length if claimed is not None else 0
    lost = junk * told / max(1, sum(size for _, _, size in runs))
    if claimed_bytes is not None and claimed is not None and abs(first + claimed_bytes - end) <= 2 * runs[0][0].length:
        claimed = min(claimed, seconds + lost)  # all bytes are there, whatever the count
    return FrameStream(first, seconds, regular, claimed, information_bytes, claimed_bytes, lost, len(runs) - 1)


class _Reader:
    """Follows frames. Holds a piece of the file."""

    def __init__(self, data: FileBytes, framing: Framing) -> None:
        self._data, self._framing = data, framing
        self._guesses, self._patience = 0, MOST_FAILURES
        self._begin, self._piece = 0, b""

    def _held(self, place: int, length: int) -> int:
        """Make the bytes there be held, as far as the file goes; returns their place in the piece."""
        if not self._begin <= place or place + length > self._begin + len(self._piece):
            self._begin, self._piece = place, self._data.at(place, PIECE)
        return place - self._begin

    def frame(self, place: int) -> Frame | None:
        """Parse the header at a place."""
        size = self._framing.header_bytes
        at = self._held(place, size + 1)
        header = self._piece[at : at + size + 1]
        return self._framing.parse(header[1:]) if header[:1] == b"\xff" else None

    def run(self, place: int, first: Frame) -> tuple[int, int, int]:
        """Follow frames of one kind; returns how many are whole, where the last one ends, and where it begins."""
        size, parse, kind, count, last = self._framing.header_bytes, self._framing.parse, first.kind, 0, place
        lengths: dict[bytes, int] = {}
        while True:
            at = self._held(place, size + 1)
            piece = self._piece
            end, more = len(piece) - size, self._begin + len(piece) < self._data.size
            before = count
            equal = self._equal_frames(at, first) if self._patience else 0
            self._patience -= equal < WORTHWHILE
            if equal:
                count, last = count + equal, self._begin + at + (equal - 1) * first.length
                at += equal * first.length
            while at < end and piece[at] == 0xFF:
                header = piece[at + 1 : at + 1 + size]
                length = lengths.get(header)
                if length is None:
                    frame = parse(header)
                    if frame is None or frame.kind != kind:
                        break
                    length = lengths[header] = frame.length
                    if len(lengths) > 4096:
                        lengths.clear()
                last, at, count = self._begin + at, at + length, count + 1
            place = self._begin + at
            if count == before or at < end or not more:
                break
        if place > self._data.size:  # the last one is cut
            return max(1, count - 1), last, last
        return count, place, last

    def _equal_frames(self, at: int, first: Frame) -> int:
        """How many frames of the length and kind of ``first`` follow each other in the piece: all, of constant rate."""
        size, length, piece = self._framing.header_bytes, first.length, self._piece
        columns = [piece[at + byte :: length] for byte in range(size + 1)]
        same = min(len(column) - len(column.lstrip(column[:1])) for column in columns[:3])
        headers = set(zip(*(column[:same] for column in columns[1:]), strict=False))
        frames = [self._framing.parse(bytes(header)) for header in headers]
        if not all(frame is not None and (frame.kind, frame.length) == (first.kind, length) for frame in frames):
            return 0
        return same if columns[0][:1] == b"\xff" else 0

    def chain(self, place: int) -> bool:
        """Whether CHAIN frames of a kind, or those up to the file's end, lie there one after another."""
        first = self.frame(place)
        following = place
        for _ in range(CHAIN):
            frame = self.frame(following)
            if first is None or frame is None or frame.kind != first.kind:
                return False
            following += frame.length
            if following == self._data.size:
                return True
        return True

    def next_stream(self, place: int, end: int, earliest: int | None = None) -> int | None:
        """Return where the next chain begins before ``end``: at ``place`` if it does, else from ``earliest`` on."""
        if place < end and self.chain(place):
            return place
        for guess in self._headers(place if earliest is None else earliest, end):
            self._guesses += 1
            if self._guesses > MOST_GUESSES:
                return None
            if self.chain(guess):
                return guess
        return None

    def _headers(self, start: int, end: int) -> Iterator[int]:
        while start < end:
            piece = self._data.at(start, min(PIECE, end - start) + 2)
            for match in self._framing.pattern.finditer(piece):
                yield start + match.start()
            start += PIECE


def _information(data: FileBytes, start: int, frame: Frame) -> tuple[float | None, int | None]:
    """Return seconds and bytes that a Xing, Info or VBRI frame claims."""
    head = data.at(start, min(frame.length, 256))
    fields, at = None, max(head.find(b"Xing", 4, 48), head.find(b"Info", 4, 48))
    if at >= 0:
        flags = int.from_bytes(head[at + 4 : at + 8], "big")
        fields = [int.from_bytes(head[at + 8 + 4 * i : at + 12 + 4 * i], "big") for i in range(2)]
        if not flags & 1:
            return None, None
        size = fields[1] if flags & 2 else None
        return fields[0] * frame.seconds - _gap(head[at:], frame), size
    if head[36:40] == b"VBRI":
        return int.from_bytes(head[50:54], "big") * frame.seconds, int.from_bytes(head[46:50], "big")
    return None, None


def _gap(information: bytes, frame: Frame) -> float:
    """Seconds that LAME's tag says were added before and behind."""
    if len(information) < 144 or not information[120:124].strip(b"\0 "):
        return 0.0
    gap = int.from_bytes(information[141:144], "big")
    return ((gap >> 12) + (gap & 0xFFF)) / frame.kind[2]


def skip_tags(data: FileBytes, place: int, zeros: bool = True) -> int:
    """Return where tags (ID3, APE, Lyrics3) that begin at a place end, and runs of zeros where these count as such."""
    while True:
        head = data.at(place, 32)
        if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 128:
            size = functools.reduce(lambda value, byte: value << 7 | byte, head[6:10], 0)
            place += 10 + size + (10 if head[5] & 16 else 0)
        elif head[:3] == b"TAG" and place + 128 <= data.size:
            place += 128
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            size, has_header = int.from_bytes(head[12:16], "little"), head[23] & 0x20
            place += 32 + size if has_header else 32
        elif head[:11] == b"LYRICSBEGIN":
            at = data.at(place, PIECE).find(b"LYRICS200")
            if at < 0:
                return place
            place += at + 9
        elif zeros and head and not head.strip(b"\0"):
            place = _skip_zeros(data, place)
        else:
            return place


def _skip_zeros(data: FileBytes, place: int) -> int:
    while piece := data.at(place, PIECE):
        rest = piece.lstrip(b"\0")
        place += len(piece) - len(rest)
        if rest:
            break
    return place
