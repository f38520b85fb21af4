"""Name what is heard in audio files of any length, with a pushed model loaded here or with one that a server has.

A file is decoded block by block and cut into windows of one clip's length (the model's, 29.1 s by custom) every
``hop``; a song's tags are the mean over its windows that are not silent (preprocessing.silence). Neither the decoded
file nor its windows are ever in memory as a whole. Several files are decoded at a time, and their windows go to the
model in common batches, so that short files keep the cores as busy as long ones.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from models.heads import Heads
from preprocessing.audio.decoding import Heard
from preprocessing.audio.samples import Samples, fit_clip, from_pcm, to_pcm
from preprocessing.audio.streams import open_audio
from preprocessing.audio.stretches import Stretch
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.errors import AutotagError, BadInputError, ClipError
from preprocessing.level import Level, levelled
from preprocessing.silence import is_silent, mean_of_heard
from preprocessing.windows import least_rest
from serving.engines.runtimes import AUTO, load_embedding_engine, load_engine, usable_cores
from serving.model_info import MODEL_INFO_NAME, read_model_info
from serving.model_versions import find_model
from serving.tagging.models import model_folder

if TYPE_CHECKING:
    from serving.client import TagClient


log = logging.getLogger(__name__)

WINDOWS_AT_ONCE: Final = min(8, max(4, usable_cores()))
"""Most windows in one call of the model: one a core, and some where there are few cores."""

WINDOWS_AHEAD: Final = 2 * WINDOWS_AT_ONCE
"""Windows of one file that wait for their answers: while one batch is computed, the next is decoded."""

SHORTEST_HOP_SECONDS: Final = 0.1

MOST_TIMES: Final = 2
"""How often a song is tagged where a server changes its version in between: the second time, one is there alone."""

Probabilities = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """What a model says of a batch of windows.

    Attributes:
        tags: their names, in the order of the probabilities.
        thresholds: float32 [n_tags], from which probability on a tag counts as heard.
        probabilities: float32 [n, n_tags].
        model: identity of what gave them, as TagSource has it.
        heads: slices of the tags, by which they are decided; None where a server's model does not tell them, and each
            tag's threshold decides.
        embeddings: float32 [n, size], what the model's last layer reads; None where the source gives none.
    """

    tags: tuple[str, ...]
    thresholds: Probabilities
    probabilities: Probabilities
    model: str
    heads: Heads | None = None
    embeddings: Vectors | None = None


class TagSource(Protocol):
    """Whoever turns windows into probabilities."""

    name: str
    """What people call it."""

    calls_at_once: int
    """How many threads may call ``answer`` at a time."""

    tags: tuple[str, ...] | None
    """Those of its answers; None where only an answer tells."""

    @property
    def clip(self) -> ClipFormat:
        """What it takes as one window."""
        ...

    def identity(self) -> str:
        """Return what tells this model from others, one line: the same for as long as the answers stay the same.

        It is the identity of what would answer now; each answer says which one gave it.
        """
        ...

    def answer(self, windows: Samples) -> Answers:
        """Float32 [n, clip samples] at the clip's rate, as decoded: beyond [-1, 1] where an encoder overshot.

        Returns answers of n rows.
        """
        ...


def model_digest(model_dir: Path) -> str:
    """Return 16 hexadecimal digits that tell a version from all others, whatever computes it.

    Of the card and of the checkpoint's index, which holds a checksum of each weight.

    Raises:
        OSError: there is none.
    """
    digest = hashlib.sha256()
    for name in (MODEL_INFO_NAME, "variables/variables.index"):
        digest.update((model_dir / name).read_bytes())
    return digest.hexdigest()[:16]


class LocalModel:
    """A pushed model, loaded in this process.

    Args:
        model_dir: a SavedModel of serving.graph.export, or a folder of numbered versions (the highest is taken).
        engine: what computes, a name that serving.engines.runtimes knows; "auto" is the fastest one for this model.
        threads: of the engine; None leaves it to the engine.
        name: what people call the model; else the folder as it was given.
        embeddings: whether answers carry them; of the engines only some give them
            (serving.engines.runtimes.EMBEDDING_ORDER), and "auto" is then the fastest of these.

    Raises:
        BadInputError: there is no such model, or it cannot be loaded.
    """

    calls_at_once = 1  # an engine uses all cores by itself

    def __init__(
        self,
        model_dir: Path | str,
        engine: str = AUTO,
        threads: int | None = None,
        name: str | None = None,
        embeddings: bool = False,
    ) -> None:
        self.name = name or str(model_dir)
        self.model_dir = find_model(Path(model_dir))
        self.info = read_model_info(self.model_dir)
        self.tags: tuple[str, ...] | None = self.info.tags
        self.clip = self.info.clip
        self._thresholds = np.asarray(self.info.thresholds, dtype=np.float32)
        self._embedding = load_embedding_engine(self.model_dir, engine, threads) if embeddings else None
        self._engine = self._embedding or load_engine(self.model_dir, engine, threads)
        self.digest = model_digest(self.model_dir)
        self._identity = f"autotag {self.digest} {self._engine.name}-{self._engine.precision}"

    @functools.cached_property
    def embedding_size(self) -> int:
        """Numbers in an embedding; 0 where answers carry none."""
        if self._embedding is None:
            return 0
        return self._embedding.embed(np.zeros((1, self.clip.samples), np.float32))[1].shape[1]

    def identity(self) -> str:
        """Digest of the model card and of its weights, and what computes: the engine and its arithmetic."""
        return self._identity

    def answer(self, windows: Samples) -> Answers:
        """Float32 [n, clip samples] at the clip's rate -> answers of n rows.

        A model that was trained here hears what is stored, 16 bits with the peaks clipped. Those of others were trained
        on what their decoder gave, and clipping the overshoot of a loud MP3 changes a tag by up to 0.06 (musicnn).
        """
        heard = from_pcm(to_pcm(windows)) if self.info.origin is None else windows
        rows, vectors = (self._engine.predict(heard), None) if self._embedding is None else self._embedding.embed(heard)
        return Answers(self.info.tags, self._thresholds, rows, self._identity, self.info.heads, vectors)


class ServedModel:
    """A pushed model behind TF Serving, asked through a client.

    Args:
        client: for the server and its model; closing it is the caller's.
        address: of the server, and of the model on it where that was chosen.
        calls_at_once: requests under way at a time.
    """

    tags: tuple[str, ...] | None = None

    def __init__(self, client: TagClient, address: str, calls_at_once: int) -> None:
        self.name = address
        self.calls_at_once = calls_at_once
        self._client = client

    @functools.cached_property
    def clip(self) -> ClipFormat:
        """What the model takes as one window, of the version that answers when this is first asked.

        Raises:
            TagServerError: the server does not say.
        """
        return self._client.card().clip

    def identity(self) -> str:
        """Return the server's address and the version that answers.

        Raises:
            TagServerError: the server does not say.
        """
        return self._of_version(self._client.metadata().version)

    def answer(self, windows: Samples) -> Answers:
        """Float32 [n, clip samples] at the clip's rate -> answers of n rows, all of one version.

        Raises:
            TagServerError: see serving.client.errors.
            AutotagError: a version came that takes other clips.
        """
        clips = self._client.tag_pcm([to_pcm(window).tobytes() for window in windows])
        first = clips[0]
        card = self._client.card(first.version)
        if card.clip != self.clip:
            raise AutotagError(
                f"{self._of_version(first.version)} takes clips of {card.clip.seconds:g} s at {card.clip.sample_rate} "
                f"Hz, and the version before it {self.clip.seconds:g} s at {self.clip.sample_rate} Hz: call again"
            )
        rows = np.stack([clip.probabilities for clip in clips])
        return Answers(first.tags, first.thresholds, rows, self._of_version(first.version), card.heads)

    def _of_version(self, version: int) -> str:
        return f"{self.name} version {version}"


@dataclass(frozen=True)
class Selection:
    """Which of a file's tags are shown and written.

    Attributes:
        threshold: from which probability on: a number, "model" for each tag's own threshold, or None for any.
        most: at most so many, the most probable; None for no limit.
    """

    threshold: float | Literal["model"] | None = None
    most: int | None = None


@dataclass(frozen=True)
class HeardPart:
    """Where in a file that lies which was heard.

    Attributes:
        start: seconds from the file's beginning.
        file_seconds: length of the file; None where it was not asked for, as of a part from the beginning on.
    """

    start: float
    file_seconds: float | None


@dataclass(frozen=True)
class TaggedFile:
    """What was heard in one file.

    Attributes:
        path: the file.
        seconds: length of what was decoded.
        heard: that, and how much there should be.
        tags: the model's tags, in the order of its outputs.
        thresholds: float32 [n_tags], from which probability on a tag counts as heard.
        probabilities: float32 [n_tags], mean over the windows in which there is something to hear; 0 without any.
        starts: float64 [windows], seconds from the beginning at which each window starts.
        window_probabilities: float32 [windows, n_tags], 0 where a window is silent.
        model: identity of the model that heard them, one for all windows.
        source: what people call that model.
        window_seconds: length of a window.
        heads: as Answers has them.
        silent_windows: bool [windows], there is nothing to hear; None for none of them.
        part: where in the file that lies, where only a part was to be heard; None for all of it.
        embedding: float32 [size], mean over the windows in which there is something to hear, 0 without any; None where
            the model was not asked for it.
    """

    path: Path
    seconds: float
    tags: tuple[str, ...]
    thresholds: Probabilities
    probabilities: Probabilities
    starts: npt.NDArray[np.float64]
    window_probabilities: Probabilities
    model: str
    source: str
    window_seconds: float = PAPER_CLIP.seconds
    heads: Heads | None = None
    heard: Heard | None = None
    silent_windows: npt.NDArray[np.bool_] | None = None
    part: HeardPart | None = None
    embedding: Vectors | None = None

    @property
    def begin(self) -> float:
        """Seconds of the file before what was heard."""
        return self.part.start if self.part is not None else 0.0

    @property
    def end(self) -> float:
        """Seconds from the file's beginning to the end of what was heard."""
        return self.begin + self.seconds

    @property
    def shortfall(self) -> str:
        """How much of the file was heard, such as ``43.8 of 87.6 s``; empty where nothing is known to be missing."""
        return self.heard.shortfall if self.heard is not None else ""

    @property
    def silences(self) -> npt.NDArray[np.bool_]:
        """Bool [windows], there is nothing to hear."""
        return np.zeros(self.windows, np.bool_) if self.silent_windows is None else self.silent_windows

    @property
    def silent(self) -> bool:
        """Nothing is to be heard in the whole file, which therefore has no tag."""
        return bool(self.silences.all())

    @property
    def windows(self) -> int:
        """Number of windows."""
        return len(self.starts)

    @property
    def above(self) -> npt.NDArray[np.bool_]:
        """Bool [n_tags]: the tag reaches its threshold, or is the most probable one of a one-of head.

        None of a silent file's does.
        """
        if self.silent:
            return np.zeros(len(self.tags), np.bool_)
        heads = self.heads or Heads.of_tags(len(self.tags))
        return heads.decide(self.probabilities, self.thresholds)

    def top(self, count: int) -> list[tuple[str, float]]:
        """The ``count`` most probable tags, the most probable first."""
        return self.select(Selection(most=count))

    def select(self, selection: Selection) -> list[tuple[str, float]]:
        """The tags chosen, with their probability, the most probable first; none of a silent file."""
        if self.silent:
            return []
        threshold = selection.threshold
        order = np.argsort(-self.probabilities, kind="stable")
        if threshold is not None:
            heard = self.above if threshold == "model" else self.probabilities >= threshold
            order = order[heard[order]]
        return [(self.tags[i], float(self.probabilities[i])) for i in order[: selection.most]]


@dataclass(frozen=True)
class FailedFile:
    """A file that could not be tagged."""

    path: Path
    error: ClipError

    @property
    def reason(self) -> str:
        """The error's detail without the path, for where the path stands beside it."""
        return self.error.detail.removeprefix(str(self.path)).removeprefix(":").strip()


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
        with _WindowQueue(self.source) as window_queue, ThreadPoolExecutor(self.jobs) as pool:
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
            with contextlib.suppress(_ModelChangedError):
                _one_model(answers)
                rows = np.concatenate([answer.probabilities for answer in answers])
                return mean_of_heard(rows, np.full(len(rows), not heard))
        raise AutotagError("the model changes from one window to the next: choose one of its versions")

    def _at_level(self, window: Samples) -> Samples:
        return levelled(window) if self.level == "rms" else window

    def _tag_or_fail(
        self, path: Path, window_queue: _WindowQueue, stopped: threading.Event, watcher: _Watcher
    ) -> TaggedFile | FailedFile:
        for _ in range(MOST_TIMES):
            song = _Song(path, window_queue)
            try:
                return self._tag(song, stopped, watcher)
            except ClipError as error:
                return FailedFile(path, error)
            except _ModelChangedError as error:
                changed = error
            finally:
                song.forget()
        raise AutotagError(
            f"{path}: {changed}, {MOST_TIMES} times over. Choose one version on the server by its label (--label)"
        )

    def _tag(self, song: _Song, stopped: threading.Event, watcher: _Watcher) -> TaggedFile:
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
        first = _one_model(song.answers)
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


class _Song:
    """A file's windows on their way to the model and back, in their order.

    Attributes:
        path: of the file.
        starts: first sample of each window.
        silences: whether there is nothing to hear in it, so that nobody is asked.
        answers: of the others, one row each, as far as they came.
    """

    def __init__(self, path: Path, window_queue: _WindowQueue) -> None:
        self.path = path
        self.starts: list[int] = []
        self.silences: list[bool] = []
        self.answers: list[Answers] = []
        self._queue = window_queue
        self._waiting: deque[Future[Answers]] = deque()
        self._told = self._used = 0  # windows that news() gave, and answers in them

    @property
    def waiting(self) -> int:
        """Windows that are asked and not answered."""
        return len(self._waiting)

    def ask(self, start: int, samples: Samples | None) -> None:
        """Send the next window, float32 [clip samples]; None for a silent one."""
        self.starts.append(start)
        self.silences.append(samples is None)
        if samples is not None:
            self.ask_besides(samples)

    def ask_besides(self, samples: Samples) -> None:
        """Send what is none of the file's windows."""
        self._waiting.append(self._queue.submit(samples))

    def collect(self, most_waiting: int) -> None:
        """Take the answers that are there, and wait until no more than so many are missing."""
        while len(self._waiting) > most_waiting or (self._waiting and self._waiting[0].done()):
            self.answers.append(self._waiting.popleft().result())

    def news(self) -> tuple[slice, Probabilities] | None:
        """Return which windows are known that were not at the last call, and float32 [n, n_tags]; None for none.

        A window is known when it and all before it are answered or silent, and there is one answer at all: before
        that, nobody knows which tags there are.
        """
        end, used = self._told, self._used
        while self.answers and end < len(self.silences) and (self.silences[end] or used < len(self.answers)):
            used += not self.silences[end]
            end += 1
        if end == self._told:
            return None
        new, answers = slice(self._told, end), self.answers[self._used : used]
        self._told, self._used = end, used
        return new, self._rows(self.silences[new], answers)

    def rows(self) -> Probabilities:
        """Float32 [windows, n_tags] when all are answered."""
        return self._rows(self.silences, [] if all(self.silences) else self.answers)

    def _rows(self, silences: Sequence[bool], answers: Sequence[Answers]) -> Probabilities:
        rows = np.zeros((len(silences), len(self.answers[0].tags)), np.float32)
        if answers:
            rows[~np.array(silences, bool)] = np.concatenate([answer.probabilities for answer in answers])
        return rows

    def embedding(self) -> Vectors | None:
        """Float32 [size], the mean of those of the windows that are heard; 0 of a silent file, None without any."""
        vectors = [answer.embeddings for answer in self.answers if answer.embeddings is not None]
        if not vectors:
            return None
        rows = np.concatenate(vectors)
        return mean_of_heard(rows, np.full(len(rows), all(self.silences)))

    def forget(self) -> None:
        """Let what is still waiting go."""
        for answer in self._waiting:
            answer.cancel()


class _Watcher:
    """Tells those who want to know how far the files are."""

    def __init__(self, on_progress: Progress | None, on_answers: OnAnswers | None) -> None:
        self._on_progress, self._on_answers = on_progress, on_answers

    def progress(self, path: Path, end: float, claimed: float | None) -> None:
        """Tell of a file of which ``end`` seconds are decoded."""
        if self._on_progress is not None:
            self._on_progress(path, end, claimed)

    def answers(self, song: _Song, rate: int, begin: float, end: float, claimed: float | None) -> None:
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


class _ModelChangedError(Exception):
    """A song's windows were answered by more than one model."""


def _one_model(answers: Sequence[Answers]) -> Answers:
    """Return the first answer, where all are of one model; else their mean would be of none."""
    models = list(dict.fromkeys(answer.model for answer in answers))
    if len(models) > 1:
        raise _ModelChangedError(f"its windows were answered by {' and '.join(models)}")
    return answers[0]


@dataclass(frozen=True)
class Window:
    """One window of a file.

    Attributes:
        start: its first sample's place in the file.
        length: samples of the file in it: the clip's, or all that a shorter file has.
        samples: float32 [clip samples], from the first one again after ``length``.
    """

    start: int
    length: int
    samples: Samples


def stream_windows(
    blocks: Iterable[Samples], hop: int | None = None, clip: ClipFormat = PAPER_CLIP
) -> Iterator[Window]:
    """Cut blocks of float32 [any length] into windows of a clip's length, one every ``hop`` samples.

    What is shorter than a clip is repeated (preprocessing.audio.samples.fit_clip); of what is longer the last window
    ends where the file ends, or less than half a second before (preprocessing.windows). Holds one window and one block.

    Args:
        blocks: what follows each other in the file.
        hop: samples from one window's start to the next one's, from 1 to the clip's; None for the latter.
        clip: length and rate of a window.

    Raises:
        ValueError: the hop is out of range.
    """
    size = clip.samples
    hop = size if hop is None else hop
    if not 1 <= hop <= size:
        raise ValueError(f"hop must be from 1 to {size} samples, got {hop}")
    held = np.zeros(0, dtype=np.float32)
    end = start = 0  # of the samples so far; of the next window
    for block in blocks:
        held = np.concatenate([held, block])
        end += len(block)
        while start + size <= end:
            first = start - (end - len(held))
            yield Window(start, size, held[first : first + size])
            start += hop
        held = held[-size:]
    if end < size:
        yield Window(0, end, fit_clip(held, clip))
    elif end - (start - hop + size) >= least_rest(clip):
        yield Window(end - size, size, held)


def windows(samples: Samples, hop: int | None = None, clip: ClipFormat = PAPER_CLIP) -> list[Samples]:
    """Cut float32 [n] into clips of float32 [clip samples], by the rule of stream_windows; errors as there."""
    return [window.samples for window in stream_windows([samples], hop, clip)]


class _WindowQueue:
    """Windows of several files on their way to the model, in batches of what is there."""

    def __init__(self, source: TagSource) -> None:
        self._source = source
        self._queue: queue.SimpleQueue[tuple[Samples, Future[Answers]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._answer_all, daemon=True) for _ in range(source.calls_at_once)]

    def __enter__(self) -> _WindowQueue:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, window: Samples) -> Future[Answers]:
        """Float32 [clip samples] -> the answer of one row to come."""
        answer: Future[Answers] = Future()
        self._queue.put((window, answer))
        return answer

    def _answer_all(self) -> None:
        while batch := self._next_batch():
            try:
                answers = self._source.answer(np.stack([window for window, _ in batch]))
            except BaseException as error:
                for _, answer in batch:
                    answer.set_exception(error)
            else:
                vectors = answers.embeddings
                for row, (_, answer) in enumerate(batch):
                    one = None if vectors is None else vectors[row : row + 1]
                    mine = answers.probabilities[row : row + 1]
                    answer.set_result(dataclasses.replace(answers, probabilities=mine, embeddings=one))

    def _next_batch(self) -> list[tuple[Samples, Future[Answers]]]:
        """Wait for a window and take those that are there besides; none at the end."""
        batch: list[tuple[Samples, Future[Answers]]] = []
        while len(batch) < WINDOWS_AT_ONCE:
            try:
                item = self._queue.get(block=not batch)
            except queue.Empty:
                break
            if item is None:
                self._queue.put(None)  # for the other threads, and for this one's next call
                break
            if item[1].set_running_or_notify_cancel():
                batch.append(item)
        return batch
