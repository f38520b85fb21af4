"""Real TFX runs of two small nodes: run ids and nodes in the log, caching before and after a garbage collection."""

# No `from __future__ import annotations`: TFX reads the components' annotations as they are.

import contextlib
import errno
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from click.testing import CliRunner
from database_servers import PASSWORD, server
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration.pipeline import Pipeline, RunOptions
from tfx.types.standard_artifacts import Model

from pipeline.commands.run import command
from pipeline.console.logs import JsonFormatter
from pipeline.runs.metadata import connection
from pipeline.runs.node_runner import NodeRunner
from pipeline.runs.run_garbage import collect
from pipeline.runs.run_history import list_runs
from pipeline.runs.run_record import Run
from pipeline.settings.config import MetadataConfig, PipelineConfig
from preprocessing.beam.options import parse_options
from preprocessing.beam.requirements import check_requirements
from preprocessing.errors import AutotagError, BadInputError

log = logging.getLogger("components.here")
FULL = -2
"""A size at which the disk is full."""


@component
def Train(size: Parameter[int], model: OutputArtifact[Model]):  # type: ignore[no-untyped-def]  # noqa: N802
    log.info("trained with %d", size)
    if size == FULL:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if size < 0:
        raise ValueError("too small")
    Path(model.uri).mkdir(parents=True, exist_ok=True)
    (Path(model.uri) / "weights").write_bytes(bytes(size))


@component
def Push(model: InputArtifact[Model], pushed: OutputArtifact[Model]):  # type: ignore[no-untyped-def]  # noqa: N802
    Path(pushed.uri).mkdir(parents=True, exist_ok=True)
    (Path(pushed.uri) / "weights").write_bytes((Path(model.uri) / "weights").read_bytes())


@component(use_beam=True)
def Count(  # type: ignore[no-untyped-def]  # noqa: N802
    model: OutputArtifact[Model], pipeline: BeamComponentParameter[beam.Pipeline] = None
):
    with pipeline as begun:
        counted = begun | beam.Create([1, 2]) | beam.combiners.Count.Globally()
        counted | beam.io.WriteToText(os.path.join(model.uri, "count"), shard_name_template="")


@pytest.fixture(scope="module", params=["sqlite", "mysql", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[MetadataConfig]:
    kept_elsewhere = contextlib.nullcontext(MetadataConfig()) if request.param == "sqlite" else server(request.param)
    with kept_elsewhere as settings:
        yield settings


@pytest.fixture
def config(database: MetadataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineConfig:
    monkeypatch.setenv("AUTOTAG_METADATA_PASSWORD", PASSWORD)
    return PipelineConfig(name=tmp_path.name, root=str(tmp_path), metadata=database)


def run(config: PipelineConfig, run_id: str, size: int, part: RunOptions | None = None) -> Run:
    train = Train(size=size)
    push = Push(model=train.outputs["model"]).with_id("Pusher")
    made = Pipeline(
        pipeline_name=config.name,
        pipeline_root=os.path.join(config.root, "artifacts"),
        components=[train, push],
        enable_cache=True,
        metadata_connection_config=connection(config),
    )
    NodeRunner(f"{config.name} {run_id}", connection(config)).run(made, run_options=part)  # ids are a server's, too
    return list_runs(config)[-1]


def states(run: Run) -> dict[str, str]:
    return {node.node: node.state for node in run.nodes}


def test_a_run_after_a_garbage_collection_makes_again_what_is_gone(config: PipelineConfig) -> None:
    assert states(run(config, "1", size=10)) == {"Train": "done", "Pusher": "done"}
    assert states(run(config, "2", size=20)) == {"Train": "done", "Pusher": "done"}
    assert states(run(config, "3", size=10)) == {"Train": "cached", "Pusher": "cached"}
    assert [run.run_id.split()[-1] for run in collect(config, 1).removed] == ["1", "2"]
    kept, again = run(config, "4", size=10), run(config, "5", size=20)
    assert states(kept) == {"Train": "cached", "Pusher": "cached"}
    assert states(again) == {"Train": "done", "Pusher": "done"}
    folder = again.output("Pusher", "pushed")
    assert folder
    assert (folder / "weights").stat().st_size == 20
    assert states(run(config, "6", size=20)) == {"Train": "cached", "Pusher": "cached"}


def test_one_node_is_run_again_from_the_last_runs_inputs_after_a_garbage_collection(config: PipelineConfig) -> None:
    run(config, "1", size=10)
    run(config, "2", size=20)
    collect(config, 1)
    part = run(config, "3", size=20, part=RunOptions(from_nodes=["Pusher"]))
    assert states(part)["Pusher"] == "cached"
    assert part.run_id == f"{config.name} 3"


def test_a_node_whose_result_somebody_deleted_is_run_again(config: PipelineConfig) -> None:
    folder = run(config, "1", size=10).output("Train", "model")
    assert folder
    shutil.rmtree(folder)
    assert states(run(config, "2", size=10)) == {"Train": "done", "Pusher": "done"}


def test_what_a_failed_node_left_is_swept_and_the_next_run_goes_on(config: PipelineConfig) -> None:
    run(config, "1", size=10)
    with pytest.raises(Exception, match="too small"):
        run(config, "2", size=-1)
    assert states(list_runs(config)[-1]) == {"Train": "failed"}
    collect(config, 1)
    assert states(run(config, "3", size=10)) == {"Train": "cached", "Pusher": "cached"}


def test_part_takes_its_inputs_from_the_newest_run_that_has_them(config: PipelineConfig) -> None:
    whole = run(config, "1", size=10)
    with pytest.raises(Exception, match="too small"):
        run(config, "2", size=-1)
    part = run(config, "3", size=10, part=RunOptions(from_nodes=["Pusher"]))
    assert states(part) == {"Train": "cached", "Pusher": "cached"}
    assert part.output("Train", "model") == whole.output("Train", "model")
    assert states(run(config, "4", size=20, part=RunOptions(to_nodes=["Train"]))) == {"Train": "done"}
    folder = list_runs(config)[-1].output("Train", "model")
    part = run(config, "5", size=20, part=RunOptions(from_nodes=["Pusher"]))
    assert states(part) == {"Train": "cached", "Pusher": "done"}
    assert part.output("Train", "model") == folder


def test_part_whose_inputs_no_run_has_is_refused_and_the_next_is_not_harmed(config: PipelineConfig) -> None:
    with pytest.raises(BadInputError, match="no run has the results of Train"):
        run(config, "1", size=10, part=RunOptions(from_nodes=["Pusher"]))
    folder = run(config, "2", size=10).output("Train", "model")
    assert folder
    shutil.rmtree(folder)
    with pytest.raises(BadInputError, match="no run has the results of Train"):
        run(config, "3", size=10, part=RunOptions(from_nodes=["Pusher"]))
    run(config, "4", size=10)
    assert states(run(config, "5", size=10, part=RunOptions(from_nodes=["Pusher"])))["Pusher"] == "cached"


def test_full_disk_ends_a_run_with_the_node_and_the_free_space(config: PipelineConfig) -> None:
    with pytest.raises(
        AutotagError, match=r"Train: No space left on device; free now: .* at .*/artifacts, .* at /tmp; make room"
    ):
        run(config, "1", size=FULL)
    assert states(list_runs(config)[-1]) == {"Train": "failed"}


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_server_that_goes_away_during_a_run_is_said_with_the_node(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOTAG_METADATA_PASSWORD", PASSWORD)
    with contextlib.ExitStack() as running:
        settings = PipelineConfig(name="gone", root=str(tmp_path), metadata=running.enter_context(server(kind)))
        monkeypatch.setattr(log, "info", lambda *arguments: running.close())
        with pytest.raises(AutotagError, match="Train: ML Metadata cannot be read or written: .+"):
            run(settings, "1", size=10)


def test_every_line_says_its_run_and_node_and_none_has_the_password(config: PipelineConfig) -> None:
    lines: list[dict[str, Any]] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonFormatter().format(record)))

    handler, root = Collecting(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        run(config, "one", size=10)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    ours = [
        (line["run"], line["node"], line["message"]) for line in lines if line["logger"].startswith(("comp", "pipe"))
    ]
    name = f"{config.name} one"
    assert ours == [
        (name, "Train", "Component Train is running."),
        (name, "Train", "trained with 10"),
        (name, "Train", "Component Train is finished."),
        (name, "Pusher", "Component Pusher is running."),
        (name, "Pusher", "Component Pusher is finished."),
    ]
    assert PASSWORD not in json.dumps(lines)
    assert json.dumps(PASSWORD)[1:-1] not in "".join(line["message"] for line in lines)


def test_autotag_run_that_cannot_begin_says_so_in_json_and_in_the_metrics(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    settings = ["--set", f"root={root}", "--set", f"data.audio_dir={tmp_path / 'none'}", "--log-format", "json"]
    done = CliRunner().invoke(command, settings)
    assert done.exit_code == 2
    last = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert last["level"] == "error"
    assert "none" in last["message"]
    assert 'autotag_attempt_success{pipeline="autotag"} 0' in (root / "metrics.prom").read_text()


def test_nodes_with_a_beam_job_leave_nothing_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    config = PipelineConfig(name="counted", root=str(tmp_path))
    check_requirements(parse_options(config.beam.arguments()))
    made = Pipeline(
        pipeline_name=config.name,
        pipeline_root=os.path.join(config.root, "artifacts"),
        components=[Count()],
        metadata_connection_config=connection(config),
        beam_pipeline_args=config.beam.arguments(),
    )
    NodeRunner("counted 1", connection(config)).run(made)
    folder = list_runs(config)[-1].output("Count", "model")
    assert folder
    assert (folder / "count").read_text() == "2\n"
    assert not list(temporary.iterdir())
