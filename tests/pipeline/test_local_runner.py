"""What of ``beam:`` is checked before a run begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.runs.local_runner import check_beam, run_pipeline
from pipeline.settings.config import PipelineConfig
from preprocessing.beam.settings import BeamSettings
from preprocessing.errors import BadInputError

FLINK = {"runner": "flink", "flink_master": "localhost:9"}
GOOGLE = {"runner": "dataflow", "project": "p", "region": "r", "temp_location": "gs://bucket/tmp", "image": "i"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beam": {**FLINK, "worker_command": "none"}}, r"\(beam.worker_command\) /.*/none: there is no such file"),
        ({"beam": {"options": ["--direct_num_worker=2"]}}, "--direct_num_worker=2: no such option; did you mean"),
        ({"beam": {**FLINK, "image": "i", "options": ["--paralelism", "2"]}}, "did you mean --parallelism?"),
        ({"beam": GOOGLE}, "beam.runner dataflow: its workers do not see root"),
        ({"root": "s3://bucket/run"}, "root s3://bucket/run: expected a folder"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    settings: dict[str, object], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInputError, match=words):
        run_pipeline(PipelineConfig.model_validate({"root": "run", **settings}))
    assert not list(tmp_path.iterdir())


def test_relative_paths_of_a_configuration_are_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("worker").write_text("#!/bin/sh\n")
    Path("worker").chmod(0o755)
    beam = BeamSettings("flink", flink_master="localhost:9", worker_command="worker")
    check_beam(PipelineConfig(root="run", beam=beam))
    assert f'{{"command": "{tmp_path}/worker"}}' in " ".join(beam.arguments())
