"""A song's sound for the page: its bytes as they are, what autotag heard of it, and its outline.

The outline and what was heard are decoded as everything is (preprocessing.audio.streams), block by block, so that
memory does not grow with the song.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import wave
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from preprocessing.audio.samples import Samples, to_pcm
from preprocessing.audio.streams import open_audio
from preprocessing.constants import SAMPLE_RATE
from preprocessing.whole_files import replacement
from serving.page.answers import PageError
from serving.page.songs import Song
from serving.page.work import Check

MEDIA_TYPES: Final = {
    **dict.fromkeys((".mp3", ".mp2", ".mpga"), "audio/mpeg"),
    **dict.fromkeys((".wav", ".wave", ".bwf", ".rf64"), "audio/wav"),
    ".flac": "audio/flac",
    **dict.fromkeys((".ogg", ".oga", ".opus", ".spx"), "audio/ogg"),
    **dict.fromkeys((".aiff", ".aif", ".aifc"), "audio/aiff"),
    **dict.fromkeys((".au", ".snd"), "audio/basic"),
    ".caf": "audio/x-caf",
    **dict.fromkeys((".m4a", ".m4b", ".m4r"), "audio/mp4"),
    ".aac": "audio/aac",
    ".wma": "audio/x-ms-wma",
    **dict.fromkeys((".webm", ".weba"), "audio/webm"),
    ".mka": "audio/x-matroska",
}
UNKNOWN_TYPE: Final = "application/octet-stream"

OUTLINE_RATE: Final = 8_000
"""Hz at which an outline is decoded: what it shows is in the bass and the voice."""
PEAK_SAMPLES: Final = 160
"""Samples of an outline in one peak: 20 ms."""
MOST_KEPT: Final = 1 << 14
"""Peaks of a song that are kept; of a longer one each is of more."""
KEPT_OUTLINES: Final = 256
LONGEST_HEARD_SECONDS: Final = 3 * 3600
KEPT_HEARD_BYTES: Final = 1_000_000_000

Peaks = npt.NDArray[np.float32]


def media_type(name: str) -> str:
    """What a file is called over HTTP, by its suffix; never anything that a browser shows as a page."""
    return MEDIA_TYPES.get(os.path.splitext(name)[1].lower(), UNKNOWN_TYPE)


@dataclass(frozen=True)
class Outline:
    """How loud a song is over time.

    Attributes:
        seconds: its length.
        peaks: float32 [n], the largest absolute sample of each stretch, from 0 to 1.
    """

    seconds: float
    peaks: Peaks

    def drawn(self, count: int) -> Peaks:
        """Return ``count`` peaks, float32 [count]."""
        if not len(self.peaks):
            return np.zeros(count, np.float32)
        edges = np.linspace(0, len(self.peaks), count + 1)
        first = np.minimum(edges[:-1].astype(int), len(self.peaks) - 1)
        longer = count < len(self.peaks)
        peaks: Peaks = np.maximum.reduceat(self.peaks, first) if longer else self.peaks[first]
        return peaks


class Outlines:
    """The outlines of songs, the last ones kept. May be shared by threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int, int], Outline] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, song: Song, check: Check) -> Outline:
        """Return a song's outline.

        Raises:
            ClipError: it cannot be decoded.
            GoneError: nobody waits any more.
        """
        key = song.stamp()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        outline = take_outline(song, check)
        with self._lock:
            self._kept[key] = outline
            while len(self._kept) > KEPT_OUTLINES:
                self._kept.popitem(last=False)
        return outline


def take_outline(song: Song, check: Check) -> Outline:
    """Decode a song for its outline; errors as in Outlines.of."""
    pieces, samples, rest = [], 0, np.zeros(0, np.float32)
    for block in _blocks(song, OUTLINE_RATE, check):
        samples += len(block)
        rest = np.concatenate([rest, np.abs(block)])
        whole = len(rest) // PEAK_SAMPLES * PEAK_SAMPLES
        pieces.append(rest[:whole].reshape(-1, PEAK_SAMPLES).max(axis=1))
        rest = rest[whole:]
    if len(rest):
        pieces.append(rest.max(keepdims=True))
    outline = Outline(samples / OUTLINE_RATE, np.minimum(np.concatenate(pieces), 1))
    return outline if len(outline.peaks) <= MOST_KEPT else Outline(outline.seconds, outline.drawn(MOST_KEPT))


class HeardFiles:
    """WAV files of what autotag heard of songs that a browser does not play, the last ones kept.

    Args:
        folder: of this process alone; deleted by whoever made it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, song: Song, check: Check) -> Path:
        """Return a WAV file, 16 bits, mono, 16 kHz.

        Raises:
            ClipError: it cannot be decoded.
            PageError: it is too long.
            GoneError: nobody waits any more.
        """
        name = hashlib.sha256(repr(song.stamp()).encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".wav"
        path = self._folder / name
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return path
        size = self._write(song, path, check)
        with self._lock:
            self._kept[name] = size
            while sum(self._kept.values()) > KEPT_HEARD_BYTES and len(self._kept) > 1:
                (self._folder / self._kept.popitem(last=False)[0]).unlink(missing_ok=True)
        return path

    def _write(self, song: Song, path: Path, check: Check) -> int:
        with replacement(path) as part, contextlib.closing(wave.open(str(part), "wb")) as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            for block in _blocks(song, SAMPLE_RATE, check):
                file.writeframes(to_pcm(block).tobytes())
                if file.getnframes() > LONGEST_HEARD_SECONDS * SAMPLE_RATE:
                    hours = LONGEST_HEARD_SECONDS // 3600
                    raise PageError(413, f"{song.name} has more than {hours} hours, too long to be decoded for the "
                                         "browser")  # fmt: skip
        return path.stat().st_size


def _blocks(song: Song, rate: int, check: Check) -> Iterator[Samples]:
    with open_audio(song.path, sample_rate=rate, name=song.name) as stream:
        for block in stream.blocks:
            check()
            yield block
