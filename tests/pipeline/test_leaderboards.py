from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_run import MadeUpPipeline
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.reports import leaderboards
from pipeline.reports.leaderboard_rows import RowAnswers, Standing, curve, load
from pipeline.reports.leaderboards import MetadataLeaderboards
from preprocessing.errors import BadInputError
from serving.page.answers import PageError
from serving.page.work import Check


def answers_of(labels: Any, scores: Any) -> RowAnswers:
    return RowAnswers(("rock",), np.array(labels, bool)[:, None], np.float32(scores)[:, None], np.float32([0.25]))


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 3000), seed=st.integers(0, 1000), digits=st.integers(1, 4), share=st.floats(0.05, 0.95))
def test_curves_are_those_of_the_scores_and_few_points_long(count: int, seed: int, digits: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random(count) < share
    labels[:2] = True, False
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1).round(digits)
    drawn = curve(answers_of(labels, scores), 0)
    for name, axes in (("roc", ("false_positive_rate", "true_positive_rate")), ("pr", ("recall", "precision"))):
        points = drawn[name]
        assert len({len(values) for values in points.values()}) == 1
        assert len(points["thresholds"]) <= 200
        assert all(0 <= value <= 1 for values in points.values() for value in values)
        assert all(axis in points for axis in axes)
    area = np.trapz(drawn["roc"]["true_positive_rate"], drawn["roc"]["false_positive_rate"])
    assert area == pytest.approx(roc_auc_score(labels, np.float32(scores)), abs=0.02)
    assert (drawn["positives"], drawn["clips"]) == (labels.sum(), count)
    assert sum(drawn["histogram"]["positive"]) == labels.sum()
    assert sum(drawn["histogram"]["negative"]) == count - labels.sum()
    assert drawn["threshold"] == 0.25
    steps = -np.diff(drawn["pr"]["recall"]) @ np.array(drawn["pr"]["precision"][:-1])
    if count <= 200:
        assert steps == pytest.approx(average_precision_score(labels, np.float32(scores)), abs=1e-4)


@pytest.mark.parametrize(("labels", "words"), [([1, 1], "all clips carry rock"), ([0, 0], "no clip carries rock")])
def test_tag_of_all_clips_or_none_has_no_curve(labels: list[int], words: str) -> None:
    with pytest.raises(PageError, match=words):
        curve(answers_of(labels, [0.1, 0.2]), 0)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Read in this process; the list has what was read."""
    reads: list[Any] = []

    def run(work: Any, *arguments: Any, say: Any, check: Check) -> Standing:
        standing: Standing = work(say, *arguments)
        reads.append(standing)
        return standing

    monkeypatch.setattr(leaderboards, "run_apart", run)
    return reads


def config_of(pipeline: MadeUpPipeline, file: Path) -> Path:
    file.write_text(yaml.safe_dump({"name": pipeline.name, "root": str(pipeline.root)}))
    return file


def test_runs_are_listed_newest_first_and_read_again_when_there_are_more(tmp_path: Path, here: list[Any]) -> None:
    pipeline = MadeUpPipeline(tmp_path / "root")
    pipeline.add_run("2026-01-01T10:00:00.123456")
    config = config_of(pipeline, tmp_path / "mine.yaml")
    boards = MetadataLeaderboards([config])
    shown = boards.read(Check())
    assert shown["boards"] == []
    (run,) = shown["runs"]
    assert run["config"] == str(config)
    assert run["run"] == "2026-01-01T10:00:00"
    assert (run["state"], run["pushed"]) == ("done", True)
    assert 0 < run["roc_auc"] < 1
    assert boards.read(Check()) is shown
    assert len(here) == 1
    pipeline.add_run("2026-01-02T10:00:00.123456", {"Evaluator": "failed", "Pusher": "missing"})
    os.utime(pipeline.config.metadata_file)
    for _ in range(500):
        if len(boards.read(Check())["runs"]) == 2:
            break
        time.sleep(0.01)
    runs = boards.read(Check())["runs"]
    assert [run["state"] for run in runs].count("failed") == 1
    assert len(here) == 2


def test_configuration_without_a_run_is_an_empty_list(tmp_path: Path, here: list[Any]) -> None:
    (tmp_path / "new.yaml").write_text(f"root: {tmp_path / 'nothing'}\n")
    assert MetadataLeaderboards([tmp_path / "new.yaml"]).read(Check()) == {"boards": [], "runs": []}


def test_configurations_of_both_commands_are_told_apart() -> None:
    configs = Path(__file__).resolve().parents[2] / "pipeline" / "configs"
    for path in configs.glob("*.yaml"):
        assert load(str(path))[0] is None, path
    for path in (configs / "compare").glob("*.yaml"):
        comparison, pipelines = load(str(path))
        assert comparison is not None, path
        assert len(pipelines) == len(comparison.data)


def test_run_whose_data_have_mappings_alone_is_no_comparison(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("data: {heads: {genres: {top: 20}}}\n")
    comparison, (pipeline,) = load(str(tmp_path / "run.yaml"))
    assert comparison is None
    assert pipeline.data.heads["genres"].top == 20


def test_what_is_no_configuration_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("colour: blue\n")
    with pytest.raises(BadInputError, match="colour"):
        MetadataLeaderboards([tmp_path / "wrong.yaml"])
    with pytest.raises(BadInputError, match="none.yaml"):
        MetadataLeaderboards([tmp_path / "none.yaml"])


def test_row_that_is_not_there_is_said(tmp_path: Path, here: list[Any]) -> None:
    (tmp_path / "new.yaml").write_text(f"root: {tmp_path / 'nothing'}\n")
    boards = MetadataLeaderboards([tmp_path / "new.yaml"])
    with pytest.raises(PageError, match="no row 'cnn' of 'mtat' on the board 'all'"):
        boards.curve("all", "mtat", "cnn", "rock", Check())
