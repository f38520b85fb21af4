from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from waiting import wait_until

from preprocessing.errors import AutotagError
from serving.engines.measurement import Measured, Worker, roc_auc, take_turns


@given(st.integers(0, 2**32 - 1))
def test_roc_auc_equals_scikit_learns_mean_over_tags_with_both_classes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random((20, 6)) < 0.3
    labels[:, 0] = False
    scores = rng.integers(0, 8, (20, 6)).astype(np.float32) / 8  # with ties
    both = labels.any(axis=0) & ~labels.all(axis=0)
    expected = roc_auc_score(labels[:, both], scores[:, both], average="macro") if both.any() else None
    assert roc_auc(labels, scores) == pytest.approx(expected)


def test_roc_auc_of_no_clips_is_not_measured() -> None:
    assert roc_auc(np.zeros((4, 3), bool), np.zeros((4, 3), np.float32)) is None


class FakeWorker:
    def __init__(self, name: str, log: list[str], walls: list[float]) -> None:
        self.measured = Measured(name, "")
        self._log, self._walls = log, iter(walls)

    def call(self, **_: Any) -> dict[str, float]:
        self._log.append(self.measured.name)
        wall = next(self._walls)
        return {"wall": wall, "cpu": 2 * wall}


def test_workers_take_turns_and_the_first_round_does_not_count() -> None:
    log: list[str] = []
    workers: list[Any] = [FakeWorker("a", log, [100, 1, 2, 9]), FakeWorker("b", log, [100, 4, 4, 5])]
    seconds = take_turns(workers, 3, clips=1)
    assert log == ["a", "b"] * 4
    assert (seconds["a"].wall, seconds["a"].cpu, seconds["b"].wall) == (2, 4, 4)


def test_a_worker_that_ends_says_why(tmp_path: Path) -> None:
    with (
        Worker(Measured("LiteRT", str(tmp_path / "none.tflite"))) as worker,
        pytest.raises(AutotagError, match=r"LiteRT could not be measured: .*none\.tflite"),
    ):
        worker.call(clips=1)


def test_a_worker_that_is_silent_for_too_long_is_killed(tmp_path: Path) -> None:
    """A pipe in place of a model: whoever reads it waits for ever."""
    os.mkfifo(tmp_path / "model.onnx")
    with (
        Worker(Measured("ONNX Runtime", str(tmp_path / "model.onnx")), silent_seconds=3) as worker,
        pytest.raises(AutotagError, match=r"ONNX Runtime could not be measured: .* after 3 s without an answer"),
    ):
        worker.call(clips=1)


def test_an_interrupted_measurement_leaves_nothing_that_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = threading.active_count()
    with Worker(Measured("LiteRT", str(tmp_path / "none.tflite"))) as worker:
        monkeypatch.setattr(worker._process.stdout, "readline", interrupted)
        with pytest.raises(KeyboardInterrupt):
            worker.call(clips=1)
    assert wait_until(lambda: threading.active_count() == before, 5)


def interrupted() -> str:
    raise KeyboardInterrupt
