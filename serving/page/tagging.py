"""Songs tagged for the page: what models say of a song, line by line as they say it.

Each request decodes in a thread of its own and computes in turns with the others, some windows at a time, so that
twenty people get on together and a song of hours keeps nobody waiting. Of a song no more is decoded than its turn will
need soon, and where the reader is slow the song waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.heads import Heads
from preprocessing.errors import AutotagError, ClipError
from preprocessing.names import escaped, to_json
from serving.engines.runtimes import usable_cores
from serving.page.answers import PageError
from serving.page.models import Models
from serving.page.songs import Song
from serving.page.turns import InTurns, Turns
from serving.page.work import Check, GoneError
from serving.tagging.sources import WINDOWS_AT_ONCE, Answers
from serving.tagging.tagged_files import FailedFile, TaggedFile
from serving.tagging.tagger import HeardWindows, Tagger

MOST_AT_ONCE: Final = 32
"""Requests that are answered at a time."""
RETRY_SECONDS: Final = 20
LINES_AHEAD: Final = 32
"""Lines that wait for their reader."""
SLOWEST_READER_SECONDS: Final = 60.0
"""So long is waited for a reader to take a line."""
MOST_MODELS: Final = 4
WINDOWS_HELD: Final = min(WINDOWS_AT_ONCE, usable_cores())
"""Of a song, that wait for their turn: as many as are computed at a time, for there may be many songs."""
DIGITS: Final = 6
"""Of a probability."""

TagGroup = Callable[[str], str]
"""Tag -> group, such as ``instrument``."""
OnTagged = Callable[[Song, str, TaggedFile], None]
"""Told of each song that was tagged, and what the model is called."""

_log = logging.getLogger(__name__)


class SongTagger:
    """Tags songs for whoever asks.

    Args:
        models: that can be asked.
        group: of each tag.
        on_tagged: told of each song and model when it is done.
        most: requests at a time.
    """

    def __init__(
        self,
        models: Models,
        group: TagGroup,
        on_tagged: OnTagged = lambda song, model, tagged: None,
        most: int = MOST_AT_ONCE,
    ) -> None:
        self.models = models
        self.turns = Turns()
        self._group, self._on_tagged, self._most = group, on_tagged, most
        self._here: set[Check] = set()
        self._lock = threading.Lock()

    def open(self, song: Song, names: Sequence[str], hop: float | None) -> AsyncIterator[bytes]:
        """Begin with a song.

        Args:
            song: which.
            names: of the models, which answer one after the other.
            hop: seconds from one window to the next; None for the window's length.

        Returns:
            Lines, each one JSON object with a line feed. Closing the iterator ends the work.

        Raises:
            PageError: too many others are being answered.
        """
        if len(self._here) >= self._most:
            raise PageError(
                503, f"{len(self._here)} songs are being tagged for others: try again in {RETRY_SECONDS} seconds",
                RETRY_SECONDS,
            )  # fmt: skip
        check = Check()
        lines = _Lines(asyncio.get_running_loop(), check)
        with self._lock:
            self._here.add(check)
        threading.Thread(target=self._answer, args=(song, names, hop, check, lines), daemon=True).start()
        return lines.read()

    def close(self) -> None:
        """End all that is being done."""
        with self._lock:
            for check in self._here:
                check.leave()

    def _answer(self, song: Song, names: Sequence[str], hop: float | None, check: Check, lines: _Lines) -> None:
        try:
            self._ask_all(song, names, hop, check, lines)
        finally:
            with self._lock:
                self._here.discard(check)
            lines.end()

    def _ask_all(self, song: Song, names: Sequence[str], hop: float | None, check: Check, lines: _Lines) -> None:
        with contextlib.suppress(GoneError):
            for name in names:
                try:
                    self._ask(song, name, hop, check, lines)
                except GoneError:
                    raise
                except AutotagError as error:
                    said = error.detail if isinstance(error, ClipError) else str(error)
                    lines.put({"type": "error", "model": name, "error": escaped(said)})
                except Exception as error:
                    _log.exception("tagging %s with %s", song.name, name)
                    said = f"autotag failed: {type(error).__name__}: {error}"
                    lines.put({"type": "error", "model": name, "error": escaped(said)})
            lines.put({"type": "end"})

    def _ask(self, song: Song, name: str, hop: float | None, check: Check, lines: _Lines) -> None:
        def say(line: str) -> None:
            lines.put({"type": "note", "model": name, "text": escaped(line)})

        source = InTurns(self.models.source(name, say, check), self.turns, check)
        begin, label = time.perf_counter(), Path(song.name)
        told = _Told(name, self._group, source.clip.seconds, lines, source)
        tagger = Tagger(source, hop_seconds=hop, jobs=1, places={label: song.path}, windows_ahead=WINDOWS_HELD)
        files = tagger.tag_files([label], lambda *_: told.decoding(check), lambda _, heard: told.windows(heard))
        with contextlib.closing(files):
            tagged = next(files)
        if isinstance(tagged, FailedFile):
            raise tagged.error
        self._on_tagged(song, name, tagged)
        told.song(tagged, time.perf_counter() - begin)


class _Lines:
    """Lines from a thread to the event loop, few at a time: who writes waits for who reads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, check: Check) -> None:
        self._loop, self._check = loop, check
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._places = threading.Semaphore(LINES_AHEAD)

    def put(self, value: dict[str, Any]) -> None:
        """Write a line.

        Raises:
            GoneError: nobody reads any more.
        """
        line = to_json(value).encode() + b"\n"
        latest = time.monotonic() + SLOWEST_READER_SECONDS
        while not self._places.acquire(timeout=0.25):
            self._check()
            if time.monotonic() > latest:
                self._check.leave()
        self._check()
        self._send(line)

    def end(self) -> None:
        """Say that no more comes."""
        self._send(None)

    def _send(self, line: bytes | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)

    async def read(self) -> AsyncIterator[bytes]:
        """Yield the lines; closing it says that nobody reads any more."""
        try:
            while (line := await self._lines.get()) is not None:
                yield line
                self._places.release()
        finally:
            self._check.leave()


class _Told:
    """Turns what one model says of a song into lines."""

    def __init__(self, name: str, group: TagGroup, window_seconds: float, lines: _Lines, source: InTurns) -> None:
        self._name, self._group, self._window_seconds = name, group, window_seconds
        self._lines, self._source = lines, source
        self._model: str | None = None
        self._decoding = 0.0

    def decoding(self, check: Check) -> None:
        """Called by the thread that decodes, at each window."""
        check()
        self._source.decoder = threading.get_native_id()
        self._decoding = time.thread_time()

    def windows(self, heard: HeardWindows) -> None:
        """Say what is heard in some windows."""
        self._introduce(heard.answers)
        self._put(
            "windows",
            starts=np.round(heard.starts, 3).tolist(),
            probabilities=_rounded(heard.answers.probabilities),
            silent=heard.silent.tolist(),
            heard=round(heard.seconds, 3),
            of=None if heard.claimed is None else round(heard.claimed, 3),
        )

    def song(self, tagged: TaggedFile, took: float) -> None:
        """Say what is heard in the whole song."""
        self._put(
            "song",
            seconds=round(tagged.seconds, 3),
            shortfall=tagged.shortfall,
            silent=tagged.silent,
            probabilities=_rounded(tagged.probabilities),
            above=tagged.above.tolist(),
            took_seconds=round(took, 3),
            cpu_seconds=round(self._source.cpu_seconds + self._decoding, 3),
            identity=tagged.model,
        )

    def _introduce(self, answers: Answers) -> None:
        """Say which tags there are; again where a server's model changed, as the song begins anew then."""
        if answers.model == self._model:
            return
        self._model = answers.model
        heads = answers.heads or Heads.of_tags(len(answers.tags))
        self._put(
            "model",
            tags=list(answers.tags),
            groups=[self._group(tag) for tag in answers.tags],
            thresholds=_rounded(answers.thresholds),
            thresholded=heads.thresholded.tolist(),
            window_seconds=self._window_seconds,
        )

    def _put(self, kind: str, **values: Any) -> None:
        self._lines.put({"type": kind, "model": self._name, **values})


def _rounded(values: Any) -> Any:
    """As JSON's numbers, of DIGITS digits.

    Raises:
        AutotagError: one is none.
    """
    if not np.isfinite(values).all():
        raise AutotagError("the model answers with what is no number: it is damaged, push it again")
    return np.round(values.astype(np.float64), DIGITS).tolist()
