"""Engines and exported files timed side by side, each in a process of its own, taking turns.

A machine's other load falls on all alike that way, and no two inference libraries share a process. A worker reads one
JSON request a line and answers with one: ``{"file": PATH}`` times one audio file from bytes to probabilities,
``{"clips": N}`` a batch of N clips, ``{"examples": [PATH, ...], "out": PATH.npy}`` writes the probabilities of all
clips in TFRecords, and says ``{"so_far": N}`` after each batch. A worker that is silent for long is killed: inference
libraries' threads have waited for each other for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from preprocessing.audio.loading import load_clip
from preprocessing.audio.samples import Samples, fit_clip, from_pcm, to_pcm
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.examples import Example, read_records, record_damage

CLIPS_AT_ONCE: Final = 8
SILENT_SECONDS: Final = 600.0
"""That a worker may work on a file or a batch; loading a model is part of the first."""
SO_FAR: Final = "so_far"

Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """What a worker computes with.

    Attributes:
        name: of the row in a table.
        path: a version's directory, a .tflite or an .onnx file.
        clip: what it takes at once.
        engine: for a directory: a name of serving.engines.
        threads: and as many cores.
        bfloat16: let TensorFlow multiply in bfloat16.
    """

    name: str
    path: str
    clip: ClipFormat = PAPER_CLIP
    engine: str = "tensorflow"
    threads: int = 1
    bfloat16: bool = False


@dataclass(frozen=True)
class Seconds:
    """Medians over the rounds: of a clock on the wall and of CPU time in all threads."""

    wall: float
    cpu: float


class Worker:
    """A process that computes with one engine. Use as a context.

    Args:
        measured: what it computes with.
        silent_seconds: after which a process that says nothing is killed.
    """

    def __init__(self, measured: Measured, silent_seconds: float = SILENT_SECONDS) -> None:
        self.measured = measured
        self._silent_seconds = silent_seconds

    def __enter__(self) -> Worker:
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serving.engines.measurement", json.dumps(asdict(self.measured))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def call(self, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            AutotagError: the process ended, its last line is in the message; or it was silent for too long.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        while SO_FAR in (answer := self._next_line()):
            pass
        return answer

    def _next_line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        silent = threading.Timer(self._silent_seconds, self._process.kill)
        silent.start()
        try:
            line = self._process.stdout.readline()
        finally:
            silent.cancel()
        if not line:
            self._process.wait()
            raise AutotagError(f"{self.measured.name} could not be measured: {self._last_lines()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_lines(self) -> str:
        if self._process.returncode == -signal.SIGKILL:
            return (
                f"its process was killed: by this program after {self._silent_seconds:g} s without an answer, or for "
                "want of memory"
            )
        self._errors.seek(0)
        return (self._errors.read().strip().splitlines() or ["its process ended without a word"])[-1]


def take_turns(workers: Sequence[Worker], rounds: int, **request: Any) -> dict[str, Seconds]:
    """Ask each worker once in every round, after one round that does not count; name -> medians."""
    answers: dict[str, list[dict[str, float]]] = {worker.measured.name: [] for worker in workers}
    for number in range(rounds + 1):
        for worker in workers:
            answer = worker.call(**request)
            if number:
                answers[worker.measured.name].append(answer)
    return {
        name: Seconds(*(statistics.median(row[clock] for row in rows) for clock in ("wall", "cpu")))
        for name, rows in answers.items()
    }


def read_clips(paths: Sequence[str]) -> Iterator[tuple[Samples, tuple[str, ...]]]:
    """Yield float32 [samples] and the tags of each example in TFRecord files.

    Raises:
        OSError: a file cannot be read.
        BadInputError: a file is damaged.
    """
    for path in paths:
        if damage := record_damage(Path(path), every_byte=True):
            raise BadInputError(f"{path} is damaged: {damage}: make it anew")
        with open(path, "rb") as file:
            for record in read_records(file):
                features = Example.FromString(record).features.feature
                pcm = np.frombuffer(features["waveform"].bytes_list.value[0], "<i2")
                yield from_pcm(pcm), tuple(tag.decode() for tag in features["tags"].bytes_list.value)


def roc_auc(labels: npt.NDArray[np.bool_], scores: Probabilities) -> float | None:
    """Macro mean, over the tags that have both classes, of the area under the ROC curve; None where no tag has.

    By hand, from ranks, since what exports and serves is installed without scikit-learn; a test holds it against that.

    Args:
        labels: bool [clips, n_tags].
        scores: float32 [clips, n_tags].
    """
    from scipy.stats import rankdata

    areas = []
    for truth, score in zip(labels.T, scores.T, strict=True):
        positives, negatives = int(truth.sum()), int((~truth).sum())
        if positives and negatives:
            ranks = rankdata(score)[truth].sum()
            areas.append((ranks - positives * (positives + 1) / 2) / (positives * negatives))
    return float(np.mean(areas)) if areas else None


def _predictor(measured: Measured) -> Callable[[Samples], Probabilities]:
    path = Path(measured.path)
    if path.suffix == ".tflite":
        from serving.engines.on_device import OnDeviceModel

        model = OnDeviceModel(path, measured.threads)
        return lambda clips: np.stack([model.predict(clip) for clip in clips])
    if path.suffix == ".onnx":
        import onnxruntime  # type: ignore[import-untyped]

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = measured.threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda clips: np.concatenate([session.run(None, {name: clip[np.newaxis]})[0] for clip in clips])
    if measured.bfloat16:
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    from serving.engines.runtimes import load_engine

    return load_engine(path, measured.engine, measured.threads).predict


def _timed(run: Callable[[], object]) -> Mapping[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def _answer(
    predict: Callable[[Samples], Probabilities],
    clip: ClipFormat,
    request: dict[str, Any],
    say: Callable[[Mapping[str, Any]], None],
) -> Mapping[str, Any]:
    if "file" in request:
        content = Path(request["file"]).read_bytes()
        return _timed(lambda: predict(from_pcm(to_pcm(fit_clip(load_clip(content, clip=clip)[0], clip)))[np.newaxis]))
    if "clips" in request:
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (request["clips"], clip.samples)).astype(np.float32)
        return _timed(lambda: predict(noise))
    clips = [samples for samples, _ in read_clips(request["examples"])]
    batches = [np.stack(clips[first : first + CLIPS_AT_ONCE]) for first in range(0, len(clips), CLIPS_AT_ONCE)]
    rows = []
    for batch in batches:
        rows.append(predict(batch))
        say({SO_FAR: sum(map(len, rows))})
    np.save(request["out"], np.concatenate(rows))
    return {"clips": len(clips)}


def main() -> None:
    """Answer requests until the input ends."""
    request = json.loads(sys.argv[1])
    measured = Measured(**{**request, "clip": ClipFormat(**request["clip"])})
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: measured.threads])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

    def say(line: Mapping[str, Any]) -> None:
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    predict = _predictor(measured)
    for line in sys.stdin:
        say(_answer(predict, measured.clip, json.loads(line), say))


if __name__ == "__main__":
    main()
