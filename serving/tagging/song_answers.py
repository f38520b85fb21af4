"""A song's windows on their way to the model, in batches with those of other songs, and the answers that came."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from preprocessing.audio.samples import Samples
from preprocessing.silence import mean_of_heard
from serving.tagging.sources import WINDOWS_AT_ONCE, Answers, Probabilities, TagSource, Vectors


class WindowQueue:
    """Windows of several files on their way to the model, in batches of what is there."""

    def __init__(self, source: TagSource) -> None:
        self._source = source
        self._queue: queue.SimpleQueue[tuple[Samples, Future[Answers]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._answer_all, daemon=True) for _ in range(source.calls_at_once)]

    def __enter__(self) -> WindowQueue:
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


class Song:
    """A file's windows on their way to the model and back, in their order.

    Attributes:
        path: of the file.
        starts: first sample of each window.
        silences: whether there is nothing to hear in it, so that nobody is asked.
        answers: of the others, one row each, as far as they came.
    """

    def __init__(self, path: Path, window_queue: WindowQueue) -> None:
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


class ModelChangedError(Exception):
    """A song's windows were answered by more than one model."""


def one_model(answers: Sequence[Answers]) -> Answers:
    """Return the first answer, where all are of one model; else their mean would be of none."""
    models = list(dict.fromkeys(answer.model for answer in answers))
    if len(models) > 1:
        raise ModelChangedError(f"its windows were answered by {' and '.join(models)}")
    return answers[0]
