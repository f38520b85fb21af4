"""Name what is heard in audio files of any length, by any source of answers (serving.tagging.sources).

A file is decoded block by block and cut into windows of one clip's length (the model's, 29.1 s by custom) every
``hop`` (serving.tagging.windowing); a song's tags are the mean over its windows that are not silent
(preprocessing.silence). Neither the decoded file nor its windows are ever in memory as a whole. Several files are
decoded at a time, and their windows go to the model in common batches (serving.tagging.song_answers), so that short
files keep the cores as busy as long ones.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from preprocessing.audio.samples import Samples
from preprocessing.audio.streams import open_audio
from preprocessing.audio.stretches import Stretch
from preprocessing.errors import AutotagError, BadInputError, ClipError
from preprocessing.level import Level, levelled
from preprocessing.silence import is_silent, mean_of_heard
from serving.engines.runtimes import usable_cores
from serving.tagging.models import model_folder
from serving.tagging.song_answers import ModelChangedError, Song, WindowQueue, one_model
from serving.tagging.sources import WINDOWS_AT_ONCE, Answers, LocalModel, Probabilities, TagSource
from serving.tagging.tagged_files import FailedFile, HeardPart, TaggedFile
from serving.tagging.windowing import SHORTEST_HOP_SECONDS, Window, stream_windows, windows

log = logging.getLogger(__name__)

WINDOWS_AHEAD: Final = 2 * WINDOWS_AT_ONCE
"""Windows of one file that wait for their answers: while one batch is computed, the next is decoded."""

MOST_TIMES: Final = 2
"""How often a song is tagged where a server changes its version in between: the second time, one is there alone."""

Progress = Callable[[Path, float, "float | None"], None]
"""Called with a file, its seconds decoded so far, and the seconds that its header claims; from several threads."""


@dataclass(frozen=True)
class HeardWindows:
    """Windows of a file that are answered, one after the other, behind those that were answered before.

    Attributes:
        answers: what the model says of them, its probabilities 0 where a window is silent.
        starts: float64 [n], seconds from the file's beginning at which each begins.
        silent: bool [n], there is nothing to hear.
        seconds: of the file that are decoded so far.
        claimed: of the file by its header; None where nothing tells.
    """

    answers: Answers
    starts: npt.NDArray[np.float64]
    silent: npt.NDArray[np.bool_]
    seconds: float
    claimed: float | None


OnAnswers = Callable[[Path, HeardWindows], None]
"""Called with a file and its windows as they are answered, from several threads; what it raises ends the call that it
is for. Where a server changes its version within a song, it is begun anew."""


class Tagger:
    """Tags files of any format and length.

    Args:
        source: who answers; a path is a model to be loaded, and so is the name of a listed one (`autotag pretrained`),
            which is fetched and converted first if it is not there, with a warning in the log that says so.
        hop_seconds: from one window's start to the next one's, from 0.1 s to the window's length; None for the latter.
        jobs: files decoded at a time; None for as many as there are cores.
        level: at which the model is given a window (preprocessing.level).
        stretch: what is to be heard of each file; None for all.
        places: where the bytes of a file lie that is not under its name.
        on_window: called with each window of a file in turn, as it was decoded; from several threads.
        windows_ahead: of one file that may wait for their answers.

    Raises:
        BadInputError: there is no such model, it cannot be loaded, or the hop is out of range.
        AutotagError: a listed model cannot be fetched or converted.
    """

    def __init__(
        self,
        source: TagSource | Path | str,
        *,
        hop_seconds: float | None = None,
        jobs: int | None = None,
        level: Level = "as_is",
        stretch: Stretch | None = None,
        places: Mapping[Path, Path] | None = None,
        on_window: Callable[[Path, Window], None] | None = None,
        windows_ahead: int = WINDOWS_AHEAD,
    ) -> None:
        self.on_window = on_window
        self.source: TagSource = _loaded(source) if isinstance(source, str | Path) else source
        clip = self.source.clip
        if hop_seconds is not None and not SHORTEST_HOP_SECONDS <= hop_seconds <= clip.seconds:
            raise BadInputError(f"the hop must be from {SHORTEST_HOP_SECONDS} to {clip.seconds} s, got {hop_seconds}")
        self.hop_samples = clip.samples if hop_seconds is None else round(hop_seconds * clip.sample_rate)
        self.jobs = jobs or usable_cores()
        self.level = level
        self.stretch = stretch
        self.places = places or {}
        self.windows_ahead = windows_ahead

    def tag_file(self, path: Path | str) -> TaggedFile:
        """Tag one file.

        Raises:
            ClipError: the file cannot be read or decoded.
        """
        with contextlib.closing(self.tag_files([Path(path)])) as answers:
            answer = next(answers)
        if isinstance(answer, FailedFile):
            raise answer.error
        return answer

    def tag_files(
        self, paths: Iterable[Path], on_progress: Progress | None = None, on_answers: OnAnswers | None = None
    ) -> Generator[TaggedFile | FailedFile, None, None]:
        """Tag files, several at a time, and yield their tags in the order of the paths.

        Closing the generator, or an exception where it waits (Ctrl-C), ends the threads after the batch in work.

        Raises:
            AutotagError: the model or server does not answer.
        """
        stopped, watcher = threading.Event(), _Watcher(on_progress, on_answers)
        running: deque[Future[TaggedFile | FailedFile]] = deque()
        with WindowQueue(self.source) as window_queue, ThreadPoolExecutor(self.jobs) as pool:
            try:
                for path in paths:
                    if len(running) == 2 * self.jobs:
                        yield running.popleft().result()
                    running.append(pool.submit(self._tag_or_fail, path, window_queue, stopped, watcher))
                while running:
                    yield running.popleft().result()
            finally:
                stopped.set()
                for job in running:
                    job.cancel()

    def tag_samples(self, samples: Samples) -> Probabilities:
        """Float32 mono [n] at the clip's rate, nominally in [-1, 1] -> mean probabilities float32 [n_tags].

        Silent windows do not count; 0 where there are no others.

        Raises:
            AutotagError: the model or server does not answer.
        """
        every = windows(samples, self.hop_samples, self.source.clip)
        heard = [window for window in every if not is_silent(window, self.source.clip.sample_rate)]
        cut = [self._at_level(window) for window in heard or every[:1]]
        batches = [cut[first : first + WINDOWS_AT_ONCE] for first in range(0, len(cut), WINDOWS_AT_ONCE)]
        for _ in range(MOST_TIMES):
            answers = [self.source.answer(np.stack(batch)) for batch in batches]
            with contextlib.suppress(ModelChangedError):
                one_model(answers)
                rows = np.concatenate([answer.probabilities for answer in answers])
                return mean_of_heard(rows, np.full(len(rows), not heard))
        raise AutotagError("the model changes from one window to the next: choose one of its versions")

    def _at_level(self, window: Samples) -> Samples:
        return levelled(window) if self.level == "rms" else window

    def _tag_or_fail(
        self, path: Path, window_queue: WindowQueue, stopped: threading.Event, watcher: _Watcher
    ) -> TaggedFile | FailedFile:
        for _ in range(MOST_TIMES):
            song = Song(path, window_queue)
            try:
                return self._tag(song, stopped, watcher)
            except ClipError as error:
                return FailedFile(path, error)
            except ModelChangedError as error:
                changed = error
            finally:
                song.forget()
        raise AutotagError(
            f"{path}: {changed}, {MOST_TIMES} times over. Choose one version on the server by its label (--label)"
        )

    def _tag(self, song: Song, stopped: threading.Event, watcher: _Watcher) -> TaggedFile:
        path, clip = song.path, self.source.clip
        place = self.places.get(path, path)
        with open_audio(place, sample_rate=clip.sample_rate, stretch=self.stretch, name=str(path)) as stream:
            for window in stream_windows(stream.blocks, self.hop_samples, clip):
                if stopped.is_set():
                    raise ClipError("stopped", f"{path} was being decoded when all was stopped")
                if self.on_window is not None:
                    self.on_window(path, window)
                end = (window.start + window.length) / clip.sample_rate
                song.collect(self.windows_ahead - 1)
                silent = is_silent(window.samples, clip.sample_rate)
                song.ask(window.start, None if silent else self._at_level(window.samples))
                watcher.progress(path, end, stream.seconds)
                watcher.answers(song, clip.sample_rate, stream.begin, end, stream.seconds)
        if all(song.silences):  # only an answer tells which tags there are, and whose
            song.ask_besides(window.samples)
        for most_waiting in reversed(range(song.waiting)):
            song.collect(most_waiting)
            watcher.answers(song, clip.sample_rate, stream.begin, end, stream.seconds)
        first = one_model(song.answers)
        silences, rows = np.array(song.silences), song.rows()
        return TaggedFile(
            path=path,
            seconds=end,
            tags=first.tags,
            thresholds=first.thresholds,
            probabilities=mean_of_heard(rows, silences),
            starts=np.array(song.starts) / clip.sample_rate + stream.begin,
            window_probabilities=rows,
            model=first.model,
            source=self.source.name,
            window_seconds=clip.seconds,
            heads=first.heads,
            heard=stream.heard,
            silent_windows=silences,
            part=HeardPart(stream.begin, stream.file_seconds) if self.stretch is not None else None,
            embedding=song.embedding(),
        )


def _loaded(source: Path | str) -> LocalModel:
    return LocalModel(model_folder(str(source), log.warning), name=str(source))


class _Watcher:
    """Tells those who want to know how far the files are."""

    def __init__(self, on_progress: Progress | None, on_answers: OnAnswers | None) -> None:
        self._on_progress, self._on_answers = on_progress, on_answers

    def progress(self, path: Path, end: float, claimed: float | None) -> None:
        """Tell of a file of which ``end`` seconds are decoded."""
        if self._on_progress is not None:
            self._on_progress(path, end, claimed)

    def answers(self, song: Song, rate: int, begin: float, end: float, claimed: float | None) -> None:
        """Tell of the windows that are known now; where samples of ``rate`` Hz begin at ``begin`` seconds."""
        if self._on_answers is None:
            return
        news = song.news()
        if news is None:
            return
        new, rows = news
        answers = dataclasses.replace(song.answers[0], probabilities=rows, embeddings=None)
        starts, silent = np.array(song.starts[new]) / rate + begin, np.array(song.silences[new], bool)
        self._on_answers(song.path, HeardWindows(answers, starts, silent, end, claimed))
