"""What an audio file is, by its content, and how much of it there should be: told before anything is decoded.

A name's suffix says nothing here. What a file holds is told by the first bytes behind tags, zeros and junk; how long it
should be, by its header and by what is really in it. What is not told, no decoder is left to guess: some of the formats
that ffmpeg would guess (play lists) make it open other files and addresses.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from preprocessing.audio import chunked_files
from preprocessing.audio.chunked_files import Sound, riff_sounds, sounds_in_a_row
from preprocessing.audio.file_bytes import MOST_PARTS, FileBytes, find, find_all
from preprocessing.audio.mpeg_frames import FrameStream, skip_tags, walk
from preprocessing.audio.mpeg_headers import ADTS, MPEG
from preprocessing.audio.ogg_pages import links

TOLERANCE_SECONDS: Final = 0.25
"""So much less than claimed is no shortfall: what encoders add and decoders leave out, and a frame or two."""

_BREAK_SECONDS: Final = 0.1
"""What decoders leave out where frames do not follow each other, or where another file was joined on."""

_ROUGHLY: Final = 0.5
MOST_SECONDS: Final = 1e7
MOST_BOXES: Final = 100_000
_ASF_HEADER: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")

_JUNK: Final = 1 << 16
"""Bytes of junk before a file's beginning that are looked over."""


@dataclass(frozen=True)
class Part:
    """One of the recordings that follow each other in a file; mostly there is one.

    Attributes:
        start, end: bytes.
        seconds: that it should hold, by its header or by what is in the file; None where nothing tells.
        there: seconds that are in the file; None where that cannot be told without decoding.
        regular: up to here the fast decoder can be trusted, in seconds.
        ends: False where the file is cut, though nothing tells how much is missing.
        tolerance: so many seconds less than they should be are no shortfall.
        alone: what lies before must not be read: a header that is wrong.
    """

    start: int
    end: int
    seconds: float | None = None
    there: float | None = None
    regular: float = math.inf
    ends: bool = True
    tolerance: float = TOLERANCE_SECONDS
    alone: bool = False


@dataclass(frozen=True)
class Content:
    """What is in a file.

    Attributes:
        demuxer: ffmpeg's name of the format; None where it is none that is known here.
        parts: one at least.
    """

    demuxer: str | None
    parts: tuple[Part, ...]


_MAGIC: Final = (
    (0, b"fLaC", "flac"), (0, b"OggS", "ogg"), (0, b".snd", "au"), (0, b"caff", "caf"),
    (0, b"riff\x2e\x91\xcf\x11", "w64"),
    (4, b"ftyp", "mov"), (4, b"moov", "mov"), (4, b"mdat", "mov"), (4, b"wide", "mov"), (4, b"free", "mov"),
    (0, b"\x1aE\xdf\xa3", "matroska"), (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"), (0, b"wvpk", "wv"),
    (0, b"MAC ", "ape"), (0, b"MPCK", "mpc8"), (0, b"MP+", "mpc"), (0, b"TTA1", "tta"), (0, b"tBaK", "tak"),
    (0, b"DSD ", "dsf"), (0, b"FRM8", "iff"), (0, b"\x0b\x77", "ac3"), (0, b"ADIF", "aac"), (0, b"#!AMR", "amr"),
)  # fmt: skip
"""Place, bytes, ffmpeg's demuxer."""

_OF_THE_FORM: Final = {
    (b"RIFF", b"WAVE"): "wav", (b"RF64", b"WAVE"): "wav", (b"BW64", b"WAVE"): "wav", (b"RIFX", b"WAVE"): "wav",
    (b"FORM", b"AIFF"): "aiff", (b"FORM", b"AIFC"): "aiff",
}  # fmt: skip

_NO_AUDIO: Final = (
    b"RIFF", b"FORM", b"PK", b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\x7fELF", b"\x1f\x8b", b"BZh",
    b"7z\xbc\xaf", b"Rar!", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"<", b"#EXTM3U", b"ffconcat",
    b"[playlist]", b"v=0",
)  # fmt: skip
"""Beginnings of files of other kinds: no frames of sound are looked for in them."""


_BEHIND_JUNK: Final = (
    (b"OggS\0\2", 0), (b"fLaC\0\0\0\x22", 0), (b"RIFF", 0), (b"ftyp", 4), (b"\x1aE\xdf\xa3", 0),
)  # fmt: skip
"""Bytes, and how many there are before them, by which a beginning is found that is not the file's."""


def look_into(data: FileBytes) -> Content:
    """Find out what a file is and what of it there should be.

    Args:
        data: the file; of a large one, headers alone are read, or for formats without a directory all.
    """
    begin = skip_tags(data, 0)
    demuxer = _by_magic(data.at(begin, 64))
    if demuxer is None:
        framed = _framed(data, begin)
        if framed is not None:
            return framed
        begin, demuxer = _behind_junk(data, begin)
    inspect = _INSPECTORS.get(demuxer or "")
    parts = inspect(data, begin) if inspect is not None else []
    if not parts:
        return Content(demuxer, (Part(begin if demuxer else 0, data.size),))
    if len(parts) > MOST_PARTS:
        parts[MOST_PARTS - 1 :] = [dataclasses.replace(parts[MOST_PARTS - 1], end=data.size, ends=False)]
    if begin == 0 or demuxer == "flac":  # libsndfile reads the tags before a FLAC file
        parts[0] = dataclasses.replace(parts[0], start=0)
    return Content(demuxer, tuple(parts))


def _by_magic(head: bytes) -> str | None:
    form = _OF_THE_FORM.get((head[:4], head[8:12]))
    if form is not None:
        return form
    return next((name for place, magic, name in _MAGIC if head[place : place + len(magic)] == magic), None)


def _framed(data: FileBytes, begin: int) -> Content | None:
    """MPEG audio or ADTS, at the beginning or behind junk."""
    head = data.at(begin, 16)
    if head.startswith(_NO_AUDIO):
        return None
    for framing in (MPEG, ADTS):
        stream = walk(data, framing, begin)
        if stream is not None:
            return Content(framing.demuxer, (_of_frames(stream, data),))
    return None


def _of_frames(stream: FrameStream, data: FileBytes) -> Part:
    wrong = stream.claimed is not None and stream.claimed < stream.seconds - TOLERANCE_SECONDS
    start = stream.start + stream.information_bytes if wrong else stream.start  # libsndfile would stop where it says
    tolerance = TOLERANCE_SECONDS + _BREAK_SECONDS * stream.breaks
    return Part(start, data.size, stream.whole, stream.seconds, stream.regular, tolerance=tolerance, alone=wrong)


def _behind_junk(data: FileBytes, begin: int) -> tuple[int, str | None]:
    if data.at(begin, 16).startswith(_NO_AUDIO):
        return begin, None
    places = [find(data, magic, begin, begin + _JUNK) - before for magic, before in _BEHIND_JUNK]
    for place in sorted(place for place in places if place >= begin):
        demuxer = _by_magic(data.at(place, 64))
        if demuxer is not None:
            return place, demuxer
    return begin, None


def _ogg(data: FileBytes, begin: int) -> list[Part]:
    return [
        Part(link.start, link.end, link.seconds, None, math.inf if link.regular else 0.0, link.ends)
        for link in links(data)
    ]


def _flac(data: FileBytes, begin: int) -> list[Part]:
    starts = [begin]
    for magic in (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22"):
        starts += itertools.islice(find_all(data, magic, begin + 42), MOST_PARTS)
    starts.sort()
    ends = [*starts[1:], data.size]
    return [Part(start, end, _flac_seconds(data.at(start, 42))) for start, end in zip(starts, ends, strict=True)]


def _flac_seconds(head: bytes) -> float | None:
    """Read STREAMINFO: 20 bits of rate, 8 of channels and depth, 36 of length."""
    if len(head) < 42 or head[4] & 0x7F:
        return None
    packed = int.from_bytes(head[18:26], "big")
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    return samples / rate if rate and samples else None


def _mov(data: FileBytes, begin: int) -> list[Part]:
    """MP4 files that follow each other: each begins with the box ``ftyp``."""
    starts, place = [begin], begin
    for _ in range(MOST_BOXES):
        head = data.at(place, 16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if len(head) < 8 or size < 8:
            break
        place += size
        if data.at(place + 4, 4) == b"ftyp":
            starts.append(place)
    return [Part(start, end) for start, end in zip(starts, [*starts[1:], data.size], strict=True)]


def _asf(data: FileBytes, begin: int) -> list[Part]:
    """WMA files that follow each other, with the play duration (100 ns) less the preroll (ms) of their headers."""
    starts = [begin, *itertools.islice(find_all(data, _ASF_HEADER, begin + 16), MOST_PARTS)]
    parts = []
    for start, end in zip(starts, [*starts[1:], data.size], strict=True):
        place = find(data, _ASF_PROPERTIES, start, min(end, start + _JUNK))
        duration, _, preroll = (
            struct.unpack("<QQQ", data.at(place + 64, 24).ljust(24, b"\0")) if place >= 0 else (0,) * 3
        )
        seconds = duration / 1e7 - preroll / 1e3
        parts.append(Part(start, end, seconds if 0 < seconds < MOST_SECONDS else None, tolerance=_ROUGHLY))
    return parts


def _of_sound(read: Callable[[FileBytes, int], Sound]) -> Callable[[FileBytes, int], list[Part]]:
    def inspect(data: FileBytes, begin: int) -> list[Part]:
        return [_of_header(sound) for sound in sounds_in_a_row(data, begin, read)]

    return inspect


def _of_header(sound: Sound) -> Part:
    return Part(sound.start, sound.end, sound.claimed, sound.there)


def _riff(data: FileBytes, begin: int) -> list[Part]:
    return [_of_header(sound) for sound in riff_sounds(data, begin)]


_INSPECTORS: Final[dict[str, Callable[[FileBytes, int], list[Part]]]] = {
    "ogg": _ogg,
    "flac": _flac,
    "wav": _riff,
    "mov": _mov,
    "asf": _asf,
    "aiff": _of_sound(chunked_files.aiff_sound),
    "au": _of_sound(chunked_files.au_sound),
    "caf": _of_sound(chunked_files.caf_sound),
    "w64": _of_sound(chunked_files.w64_sound),
}
