"""Headers of frames: of MPEG audio (MP3, MP2, MP1) and of ADTS (AAC).

Sources: ISO/IEC 11172-3 and 13818-3, 2.4.1.3 and 2.4.2.3; 13818-7, 6.2 (ADTS).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_RATES: Final = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KBITS_1: Final = {
    3: (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_KBITS_2: Final = {
    3: (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    1: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_ADTS_RATES: Final = (
    96_000,
    88_200,
    64_000,
    48_000,
    44_100,
    32_000,
    24_000,
    22_050,
    16_000,
    12_000,
    11_025,
    8_000,
    7_350,
)


@dataclass(frozen=True)
class Frame:
    """What a frame's header says.

    Attributes:
        kind: what stays the same from frame to frame of one stream.
        length: bytes, header included.
        seconds: duration.
    """

    kind: tuple[int, ...]
    length: int
    seconds: float


Parse = Callable[[bytes], "Frame | None"]
"""Takes a header's bytes after 0xFF (``header_bytes`` of them); None where they are none."""


@dataclass(frozen=True)
class Framing:
    """One of the two ways to write frames.

    Attributes:
        demuxer: ffmpeg's name of it.
        header_bytes: that the parser takes.
        pattern: of a header's first bytes.
        parse: reads a header.
    """

    demuxer: str
    header_bytes: int
    pattern: re.Pattern[bytes]
    parse: Parse


@functools.lru_cache(4096)
def _mpeg_frame(header: bytes) -> Frame | None:
    if len(header) < 3 or header[0] & 0xE0 != 0xE0:
        return None
    version, layer = header[0] >> 3 & 3, header[0] >> 1 & 3
    index, rate_index, padding = header[1] >> 4, header[1] >> 2 & 3, header[1] >> 1 & 1
    if version == 1 or layer == 0 or index in (0, 15) or rate_index == 3:
        return None
    rate = _RATES[version][rate_index]
    bits = 1000 * (_KBITS_1 if version == 3 else _KBITS_2)[layer][index]
    samples = {3: 384, 2: 1152, 1: 1152 if version == 3 else 576}[layer]
    length = (12 * bits // rate + padding) * 4 if layer == 3 else samples // 8 * bits // rate + padding
    mono = header[2] >> 6 == 3
    return Frame((version, layer, rate, mono), length, samples / rate)


@functools.lru_cache(4096)
def _adts_frame(header: bytes) -> Frame | None:
    if len(header) < 6 or header[0] & 0xF6 != 0xF0:
        return None
    rate_index = header[1] >> 2 & 15
    channels = (header[1] & 1) << 2 | header[2] >> 6
    length = (header[2] & 3) << 11 | header[3] << 3 | header[4] >> 5
    if rate_index >= len(_ADTS_RATES) or length < 7:
        return None
    blocks = (header[5] & 3) + 1
    return Frame((rate_index, channels), length, blocks * 1024 / _ADTS_RATES[rate_index])


MPEG: Final = Framing("mp3", 3, re.compile(rb"\xff[\xe2-\xe7\xf2-\xff][\x10-\xeb]", re.DOTALL), _mpeg_frame)
ADTS: Final = Framing("aac", 6, re.compile(rb"\xff[\xf0\xf1\xf8\xf9]", re.DOTALL), _adts_frame)
