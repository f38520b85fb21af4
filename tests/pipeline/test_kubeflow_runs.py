"""Metrics of runs on Kubeflow, from the API server's answers and from ML Metadata as KFP writes it."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from kubeflow_api import MadeUpServer as Server
from kubeflow_api import serve_api
from metadata_service import KubeflowMetadata, serve_metadata
from prometheus_text import Samples, parse

from pipeline.commands import kubeflow
from pipeline.kubeflow.cluster_runs import Execution, NoMetadataError, as_run, read_executions
from pipeline.kubeflow.server_runs import FoundRun, FoundStep
from pipeline.runs.prometheus import attempt_metrics, exposition
from preprocessing.errors import BadInputError

MODEL = {"ensemble": "mel_1d"}
EVALUATION = {"roc_auc": 0.875, "pr_auc": 0.5, "baseline_roc_auc": 0.9, "min_roc_auc": 0.8, "allowed_change": -0.005}
CLIPS = {"clips": 103.0, "examples": 100.0, "rejected": 3.0}
PUSHED = {"pushed": 1.0, "pushed_destination": "/data/autotag/pushed/1795239564", "pushed_version": "1795239564"}


@pytest.fixture
def server() -> Iterator[Server]:
    with serve_api() as (host, answers):
        yield Server(host, answers)


@pytest.fixture
def metadata(tmp_path: Path) -> Iterator[KubeflowMetadata]:
    with serve_metadata(tmp_path) as served:
        yield served


def written(server: Server, path: Path, *options: str, name: str = "music", **settings: Any) -> Samples:
    config = path.with_suffix(".yaml")
    config.write_text(yaml.safe_dump({"name": name, **settings}))
    arguments = ["runs", str(config), "--host", server.host, "--metrics-file", str(path), *options]
    done = CliRunner().invoke(kubeflow.command, arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return parse(path.read_text())


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"autotag_{name}", tuple(sorted({"pipeline": "music", **labels}.items()))]


def names(samples: Samples) -> set[str]:
    return {name for name, _ in samples}


def seconds(minute: int) -> float:
    return datetime.datetime(2026, 1, 5, 2, minute, tzinfo=datetime.timezone.utc).timestamp()


@pytest.fixture
def pushed_run(server: Server, metadata: KubeflowMetadata, tmp_path: Path) -> Samples:
    """Samples of a run "r" of two o'clock to half past that pushed its model."""
    steps = dict.fromkeys(("ClipExampleGen", "Trainer_mel_1d", "EnsembleTrainer", "Evaluator", "Pusher"), "SUCCEEDED")
    server.add_run("r", "SUCCEEDED", 30, **steps)
    metadata.add_step("r", "ClipExampleGen", "cached", {"examples": CLIPS})
    metadata.add_step("r", "Trainer-mel-1d", "done", {"model": {}})
    metadata.add_step("r", "EnsembleTrainer", "done", {"model": MODEL})
    metadata.add_step("r", "Evaluator", "done", {"evaluation": EVALUATION, "blessing": {"blessed": 1.0}})
    metadata.add_step("r", "Pusher", "done", {"pushed_model": PUSHED})
    return written(server, tmp_path / "m.prom", "--metadata", metadata.address)


def test_a_run_that_pushed_is_written_with_its_figures(pushed_run: Samples) -> None:
    samples = pushed_run
    assert value(samples, "attempt_success") == 1
    assert value(samples, "attempt_timestamp_seconds") == seconds(30)
    assert value(samples, "last_success_timestamp_seconds") == seconds(30)
    assert value(samples, "run_seconds") == 1800
    assert value(samples, "run_info", run="r", ensemble="mel_1d", version="1795239564") == 1
    assert value(samples, "test_roc_auc") == 0.875
    assert value(samples, "test_pr_auc") == 0.5
    assert value(samples, "gate_min_roc_auc") == 0.8
    assert value(samples, "gate_baseline_roc_auc") == 0.9
    assert value(samples, "model_blessed") == value(samples, "model_pushed") == 1
    assert [value(samples, "clips", kind=kind) for kind in ("clips", "examples", "rejected")] == [103, 100, 3]
    assert (value(samples, "node_cached", node="ClipExampleGen"), value(samples, "node_cached", node="Pusher")) == (
        1,
        0,
    )
    assert value(samples, "node_seconds", node="ClipExampleGen") == 0
    assert value(samples, "node_seconds", node="Trainer_mel_1d") == 90, "the driver's pod included"


def test_without_ml_metadata_nothing_is_made_up(server: Server, tmp_path: Path) -> None:
    server.add_run("r", "SUCCEEDED", 30, ClipExampleGen="SUCCEEDED", Evaluator="SUCCEEDED", Pusher="SUCCEEDED")
    samples = written(server, tmp_path / "m.prom")
    assert value(samples, "attempt_success") == 1
    assert value(samples, "node_seconds", node="Pusher") == 90
    assert value(samples, "node_failed", node="Pusher") == 0
    unknown = {
        "node_cached",
        "clips",
        "test_roc_auc",
        "test_pr_auc",
        "gate_min_roc_auc",
        "model_blessed",
        "model_pushed",
    }
    assert not names(samples) & {f"autotag_{name}" for name in unknown}


def test_a_run_of_a_comparison_is_written_without_a_model(
    server: Server, metadata: KubeflowMetadata, tmp_path: Path
) -> None:
    steps = ("ClipExampleGen", "Trainer_mel_1d__paper__0", "NetworkScorer_mel_1d__paper__0", "Comparison")
    server.add_run("r", "SUCCEEDED", 30, **dict.fromkeys(steps, "SUCCEEDED"))
    metadata.add_step("r", "ClipExampleGen", "cached", {"examples": CLIPS})
    metadata.add_step("r", "Trainer-mel-1d--paper--0", "cached", {"model": {}})
    metadata.add_step("r", "NetworkScorer-mel-1d--paper--0", "cached", {"evaluation": {"roc_auc": 0.875}})
    metadata.add_step("r", "Comparison", "done", {"comparison": {"best_on_one": "mel_1d, paper"}})
    data = {"one": {"dataset": "synthetic", "audio_dir": "/data/one"}}
    samples = written(server, tmp_path / "m.prom", "--metadata", metadata.address, data=data, networks={"mel_1d": {}})
    assert value(samples, "attempt_success") == 1
    assert value(samples, "node_cached", node="Trainer_mel_1d__paper__0") == 1
    assert value(samples, "node_cached", node="Comparison") == 0
    assert value(samples, "clips", kind="clips") == 103
    assert not names(samples) & {f"autotag_{name}" for name in ("test_roc_auc", "model_blessed", "model_pushed")}


def test_a_failed_run_is_seen_and_the_last_good_one_however_long_ago(
    server: Server, metadata: KubeflowMetadata, tmp_path: Path
) -> None:
    server.add_run("good", "SUCCEEDED", 5)
    for number in range(5):
        server.add_run(f"bad-{number}", "FAILED", 10 + number, Transform="SUCCEEDED", Trainer_mel_1d="FAILED")
    server.add_run("another pipeline's", "SUCCEEDED", 40, pipeline="another")
    server.add_run("going on", "RUNNING", 0)
    metadata.add_step("bad-4", "Trainer-mel-1d", "running", {})
    samples = written(server, tmp_path / "m.prom", "--metadata", metadata.address)
    assert value(samples, "attempt_success") == 0
    assert value(samples, "attempt_timestamp_seconds") == seconds(14)
    assert value(samples, "last_success_timestamp_seconds") == seconds(5)
    assert value(samples, "run_state", state="failed") == 1
    assert value(samples, "node_failed", node="Trainer_mel_1d") == 1
    assert value(samples, "node_failed", node="Transform") == 0
    assert not names(samples) & {"autotag_model_blessed", "autotag_model_pushed", "autotag_test_roc_auc"}


def test_a_failed_run_hides_nothing_of_the_newest_model(
    server: Server, metadata: KubeflowMetadata, tmp_path: Path
) -> None:
    server.add_run("good", "SUCCEEDED", 5, Evaluator="SUCCEEDED")
    server.add_run("bad", "FAILED", 10, ClipExampleGen="SUCCEEDED", Transform="FAILED")
    metadata.add_step("good", "Evaluator", "done", {"evaluation": EVALUATION, "blessing": {"blessed": 0.0}})
    metadata.add_step("bad", "ClipExampleGen", "done", {"examples": CLIPS})
    samples = written(server, tmp_path / "m.prom", "--metadata", metadata.address)
    assert value(samples, "model_blessed") == 0
    assert value(samples, "test_roc_auc") == 0.875
    assert value(samples, "clips", kind="rejected") == 3
    assert value(samples, "attempt_success") == 0
    assert {dict(labels)["node"] for name, labels in samples if name == "autotag_node_failed"} == {
        "ClipExampleGen",
        "Transform",
    }


def test_a_refused_model_is_seen(server: Server, metadata: KubeflowMetadata, tmp_path: Path) -> None:
    server.add_run("r", "SUCCEEDED", 30, Evaluator="SUCCEEDED", Pusher="SUCCEEDED")
    evaluation = {"roc_auc": 0.7, "min_roc_auc": 0.8, "gate_reasons": "ROC-AUC is 0.7000; at least 0.8000 is asked"}
    metadata.add_step("r", "Evaluator", "done", {"evaluation": evaluation, "blessing": {"blessed": 0.0}})
    metadata.add_step("r", "Pusher", "done", {"pushed_model": {"pushed": 0.0}})
    samples = written(server, tmp_path / "m.prom", "--metadata", metadata.address)
    assert value(samples, "model_blessed") == value(samples, "model_pushed") == 0
    assert "autotag_gate_baseline_roc_auc" not in names(samples)
    run = as_run(
        FoundRun("r", "r", "succeeded", datetime.datetime.now(), None, None, None),
        [FoundStep("Evaluator", "succeeded", 1.0)],
        read_executions(metadata.address, "r"),
    )
    assert run.gate_reasons == ["ROC-AUC is 0.7000; at least 0.8000 is asked"]


def test_a_stopped_run_did_not_succeed_and_did_not_fail(server: Server, tmp_path: Path) -> None:
    server.add_run("r", "CANCELED", 0, Transform="RUNNING")
    samples = written(server, tmp_path / "m.prom")
    assert value(samples, "attempt_success") == 0
    assert value(samples, "run_state", state="unfinished") == 1
    assert not names(samples) & {"autotag_attempt_timestamp_seconds", "autotag_run_seconds", "autotag_node_seconds"}


@pytest.mark.parametrize("state", [None, "RUNNING"])
def test_before_the_first_end_there_is_nothing_to_write(server: Server, tmp_path: Path, state: str | None) -> None:
    if state:
        server.add_run("r", state, 0)
    config, path = tmp_path / "m.yaml", tmp_path / "m.prom"
    config.write_text("name: music\n")
    arguments = ["runs", str(config), "--host", server.host, "--metrics-file", str(path)]
    done = CliRunner().invoke(kubeflow.command, arguments)
    assert done.exit_code == 0, done.output
    assert "no run of music has ended yet" in done.output
    assert path.read_text() == ""


def test_ml_metadata_that_is_away_fails_and_what_is_known_is_written(server: Server, tmp_path: Path) -> None:
    server.add_run("r", "FAILED", 30, Transform="FAILED")
    path = tmp_path / "m.prom"
    arguments = ["runs", "--set", "name=music", "--host", server.host, "--metrics-file", str(path)]
    done = CliRunner().invoke(kubeflow.command, [*arguments, "--metadata", "127.0.0.1:9"])
    assert done.exit_code == 1
    assert isinstance(done.exception, NoMetadataError)
    assert str(done.exception).startswith("Kubeflow's ML Metadata at 127.0.0.1:9: ")
    assert str(done.exception).endswith(f"; {path} is without what stands there")
    assert value(parse(path.read_text()), "node_failed", node="Transform") == 1
    done = CliRunner().invoke(kubeflow.command, [*arguments, "--metadata", "http://localhost:8080"])
    assert isinstance(done.exception, BadInputError)
    assert "expected HOST:PORT" in str(done.exception)


def test_run_that_ml_metadata_does_not_have_has_no_executions(metadata: KubeflowMetadata) -> None:
    metadata.add_step("r", "Transform", "done", {})
    assert read_executions(metadata.address, "another") == {}
    assert read_executions(metadata.address, "r") == {"Transform": Execution(cached=False, properties={})}


def test_alerts_ask_for_metrics_that_a_run_on_kubeflow_has_too(pushed_run: Samples) -> None:
    rules = (Path(__file__).parents[2] / "docs" / "how-to" / "alerts.yaml").read_text(encoding="utf-8")
    asked = set(re.findall(r"autotag_\w+", rules))
    assert len(asked) >= 6
    assert asked <= names(pushed_run)


STATES = ("succeeded", "failed", "error", "running", "pending", "canceled", "skipped")
STEPS = st.dictionaries(
    st.sampled_from(("ClipExampleGen", "Transform", "Trainer-mel-1d", "Evaluator", "Pusher")),
    st.tuples(st.sampled_from(STATES), st.none() | st.floats(0, 1e6)),
)
FIGURES = st.dictionaries(st.sampled_from(sorted(EVALUATION)), st.floats(0, 1))


@given(STEPS, st.sampled_from(STATES), st.sets(st.sampled_from(("Transform", "Trainer_mel_1d", "Evaluator"))), FIGURES)
def test_every_sample_was_known(
    steps: dict[str, tuple[str, float | None]], state: str, cached: set[str], figures: dict[str, float]
) -> None:
    created = datetime.datetime(2026, 1, 5, tzinfo=datetime.timezone.utc)
    executions = {node: Execution(cached=True, properties={"evaluation": dict(figures)}) for node in cached}
    found = [FoundStep(step, *values) for step, values in steps.items()]
    run = as_run(FoundRun("r", "r", state, created, None, None, None), found, executions)
    samples = parse(exposition(attempt_metrics("music", state == "succeeded", [run], None)))
    assert not any(math.isnan(number) for number in samples.values())
    nodes = {
        kind: {dict(labels)["node"] for name, labels in samples if name == f"autotag_node_{kind}"}
        for kind in ("failed", "cached", "seconds")
    }
    assert nodes["failed"] == {step.replace("-", "_") for step in steps}
    succeeded = {step.replace("-", "_") for step, (step_state, _) in steps.items() if step_state == "succeeded"}
    assert nodes["cached"] & succeeded <= cached, "whether it came from the cache is said of those alone"
    timed = {step.replace("-", "_") for step, (_, took) in steps.items() if took is not None}
    assert nodes["seconds"] == timed | (cached & succeeded)
    measured = figures if "Evaluator" in cached and "Evaluator" in steps else {}
    assert ("autotag_test_roc_auc" in names(samples)) is ("roc_auc" in measured)
    assert sum(number for (name, _), number in samples.items() if name == "autotag_run_state") == 1
