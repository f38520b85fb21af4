"""Garbage collection of kubeflow.work_dir: what no run and no schedule needs goes, and nothing else."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from kubeflow_api import MadeUpServer, serve_api

from pipeline.commands import gc
from pipeline.kubeflow.pipeline_spec import ShardFolder, shard_folders
from pipeline.kubeflow.server import Server
from pipeline.kubeflow.server_runs import FoundRun
from pipeline.kubeflow.uploads import NoPipelineError
from pipeline.kubeflow.volume_garbage import collect_on_volume
from pipeline.settings.config import PipelineConfig
from preprocessing.errors import BadInputError

BEFORE = datetime.datetime(2026, 1, 4, tzinfo=datetime.timezone.utc).timestamp()
"""The made-up server's runs began a day later."""


class Volume:
    """A work_dir with shards of several codes, a checkpoint and pushed versions, and the server of its runs."""

    def __init__(self, folder: Path, server: MadeUpServer) -> None:
        self.work = folder / "work"
        self.server = server
        self.config = PipelineConfig.model_validate({"name": "music", "kubeflow": {"work_dir": str(self.work)}})
        for name in ("shards", "checkpoints", "pushed"):
            (self.work / name).mkdir(parents=True)
        server.answers["/apis/v2beta1/recurringruns"] = (200, {"recurringRuns": []})

    def write(self, *names: str, time: float = BEFORE) -> None:
        for name in names:
            path = self.work / name / "train-00000-of-00001.tfrecord"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"0123456789")
            os.utime(path, (time, time))

    def add_run(self, name: str, state: str, code: str, minute: int = 30) -> None:
        self.server.add_version(f"of-{name}", str(self.work / "shards"), code)
        self.server.add_run(name, state, minute, version=f"of-{name}")

    def there(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.work / folder).iterdir())

    def gc(self, *options: str) -> Result:
        settings = [f"kubeflow.work_dir={self.work}", "name=music"]
        words = [word for setting in settings for word in ("--set", setting)]
        return CliRunner().invoke(gc.command, ["--kubeflow", "--host", self.server.host, *words, *options])


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    with serve_api() as (host, answers):
        yield Volume(tmp_path, MadeUpServer(host, answers))


def test_shards_of_old_code_and_old_checkpoints_go_and_the_rest_stays(volume: Volume) -> None:
    volume.write("shards/old", "shards/before", "shards/newest", "shards/scheduled", "shards/.deleted-ancient")
    volume.write("shards/unknown", "checkpoints/going-on", time=datetime.datetime.now().timestamp())
    volume.write("checkpoints/mel_1d-aaa", "pushed/1795239564", "pushed/.folder.tmp-host-17-1", "somebody's")
    volume.add_run("one", "SUCCEEDED", "old")
    volume.add_run("two", "SUCCEEDED", "before")
    volume.add_run("three", "FAILED", "old")
    volume.add_run("four", "SUCCEEDED", "newest")
    volume.server.add_version("next", str(volume.work / "shards"), "scheduled")
    volume.server.add_schedule("next")
    dry = volume.gc("--keep", "1", "--dry-run", "--paths")
    assert dry.exit_code == 0, (dry.output, dry.exception)
    assert volume.there("shards") == [".deleted-ancient", "before", "newest", "old", "scheduled", "unknown"]
    assert f"{volume.work}/shards/old" in dry.output
    done = volume.gc("--keep", "1", "--paths")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "kept whole: 1 runs (four)" in done.output
    assert done.output.replace("deleted", "would be deleted", 1).splitlines()[-6:-1] == dry.output.splitlines()[-6:-1]
    assert volume.there("shards") == ["newest", "scheduled", "unknown"]
    assert volume.there("checkpoints") == ["going-on"]
    assert volume.there("pushed") == ["1795239564"]
    assert volume.there("somebody's")


def test_kept_runs_and_those_after_the_newest_that_ended_well_keep_their_shards(volume: Volume) -> None:
    volume.write("shards/a", "shards/b", "shards/c", "shards/d")
    for name, state, code in (("1", "SUCCEEDED", "a"), ("2", "SUCCEEDED", "b"), ("3", "SUCCEEDED", "c")):
        volume.add_run(name, state, code)
    volume.add_run("4", "FAILED", "d")
    volume.server.runs[0]["created_at"] = "2026-01-06T02:00:00Z"
    assert volume.gc("--keep", "2").exit_code == 0
    assert volume.there("shards") == ["b", "c", "d"]


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "CANCELING", "A_STATE_TO_COME"])
def test_nothing_is_deleted_while_a_run_works_there(volume: Volume, state: str) -> None:
    volume.write("shards/old", "shards/newest")
    volume.add_run("one", "SUCCEEDED", "newest")
    volume.server.add_version("elsewhere", "/data/elsewhere/shards", "old")
    volume.server.add_run("another's", "RUNNING", 0, version="elsewhere")
    volume.server.add_version("no-music", None)
    volume.server.add_run("no-music", "RUNNING", 0, version="no-music")
    volume.add_run("two", state, "newest", minute=0)
    done = volume.gc("--keep", "1")
    assert isinstance(done.exception, BadInputError)
    assert "the run two (two) goes on in" in str(done.exception)
    assert volume.there("shards") == ["newest", "old"]
    volume.server.runs[0]["state"] = "FAILED"
    assert volume.gc("--keep", "1").exit_code == 0
    assert volume.there("shards") == ["newest"]


def test_a_run_that_begins_while_the_files_are_listed_is_seen(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    volume.write("shards/old", "shards/newest")
    volume.add_run("one", "SUCCEEDED", "newest")

    def scheduled_meanwhile(server: Server) -> list[dict[str, Any]]:
        volume.add_run("two", "PENDING", "old", minute=0)
        return []

    monkeypatch.setattr(Server, "scheduled_pipelines", scheduled_meanwhile)
    assert "the run two" in str(volume.gc("--keep", "1").exception)
    assert volume.there("shards") == ["newest", "old"]


def test_a_run_or_a_schedule_whose_pipeline_is_gone_stops_it(volume: Volume) -> None:
    volume.write("shards/old", "shards/newest")
    volume.add_run("one", "SUCCEEDED", "newest")
    volume.server.add_run("two", "RUNNING", 0, version="deleted")
    done = volume.gc("--keep", "1")
    assert isinstance(done.exception, NoPipelineError)
    assert "has the pipeline of the run two (two) no more" in str(done.exception)
    volume.server.runs[0]["state"] = "FAILED"
    volume.server.add_schedule("deleted")
    assert "recurring run weekly (of deleted)" in str(volume.gc("--keep", "1").exception)
    assert volume.there("shards") == ["newest", "old"]


@pytest.mark.parametrize("runs", [[], [("1", "FAILED", "old")], [("1", "SUCCEEDED", "of another volume")]])
def test_another_server_or_another_volume_is_refused(volume: Volume, runs: list[tuple[str, str, str]]) -> None:
    volume.write("shards/old")
    for run in runs:
        volume.add_run(*run)
    done = volume.gc("--keep", "1")
    assert isinstance(done.exception, BadInputError)
    assert "nothing is deleted" in str(done.exception)
    assert volume.there("shards") == ["old"]


def test_folder_that_is_not_mounted_and_options_that_do_not_go_together_are_refused(volume: Volume) -> None:
    done = volume.gc("--keep", "1", "--set", "kubeflow.work_dir=/data/nowhere")
    assert "/data/nowhere/shards is not here" in str(done.exception)
    assert "pushed versions stay" in str(volume.gc("--keep", "1", "--versions").exception)
    alone = CliRunner().invoke(gc.command, ["--keep", "1", "--host", volume.server.host])
    assert isinstance(alone.exception, BadInputError)


def test_folder_of_shards_is_read_from_what_the_compiler_writes() -> None:
    from pipeline.kubeflow.compiler import compile_pipeline

    data = {"audio_dir": "/data/mtat", "annotations": "/data/mtat/annotations_final.csv"}
    config = PipelineConfig.model_validate(
        {"data": data, "kubeflow": {"image": "autotag", "work_dir": "/data/autotag"}}
    )
    (found,) = shard_folders(compile_pipeline(config, "any")[0])
    assert found == ShardFolder("/data/autotag/shards", found.code)
    assert len(found.code) == 16
    assert shard_folders({}) == []


CODES = ("a", "b", "c", "d")
COMPARED = ("c", "d")
"""Codes of pipelines that are comparisons, of this folder's data set and another one."""
RUNS = st.lists(st.tuples(st.sampled_from(("succeeded", "failed", "canceled")), st.sampled_from(CODES)), max_size=8)


class Known:
    """What a server answers that has some runs, one an hour, and schedules."""

    host = "http://made-up"

    def __init__(self, shards: Path, runs: list[tuple[str, str]], scheduled: set[str]) -> None:
        self._shards, self._runs, self._scheduled = shards, runs, scheduled

    def all_runs(self) -> Iterator[FoundRun]:
        for number, (state, code) in reversed(list(enumerate(self._runs))):
            created = datetime.datetime(2026, 1, 5, number, tzinfo=datetime.timezone.utc)
            yield FoundRun(str(number), str(number), state, created, created, None, None, "p", code)

    def pipeline_of(self, run: FoundRun) -> dict[str, Any]:
        return self._spec(str(run.version_id))

    def scheduled_pipelines(self) -> list[dict[str, Any]]:
        return [self._spec(code) for code in self._scheduled]

    def runs_going_on(self) -> list[FoundRun]:
        return []

    def _spec(self, code: str) -> dict[str, Any]:
        if code in COMPARED:
            folders = {"ClipExampleGen--other": "/data/other/shards", "ClipExampleGen--one": str(self._shards)}
        else:
            folders = {"ClipExampleGen": str(self._shards)}
        tasks = {}
        for step, folder in folders.items():
            values = {"work_dir": folder, "code": code}
            parameters = {key: {"runtimeValue": {"constant": value}} for key, value in values.items()}
            tasks[step] = {"inputs": {"parameters": parameters}}
        return {"root": {"dag": {"tasks": tasks}}}


@given(RUNS, st.sets(st.sampled_from(CODES)), st.integers(1, 4))
def test_what_a_schedule_or_a_kept_run_uses_is_never_deleted(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[str, str]], scheduled: set[str], keep: int
) -> None:
    work = tmp_path_factory.mktemp("work")
    for code in CODES:
        (work / "shards" / code).mkdir(parents=True)
        (work / "shards" / code / "shard").write_text(code)
        os.utime(work / "shards" / code / "shard", (BEFORE, BEFORE))
    config = PipelineConfig.model_validate({"kubeflow": {"work_dir": str(work)}})
    server: Any = Known(work / "shards", runs, scheduled)
    ended_well = [place for place, (state, _) in enumerate(runs) if state == "succeeded"]
    if not ended_well:
        with pytest.raises(BadInputError, match="nothing is deleted"):
            collect_on_volume(config, server, keep)
    else:
        collect_on_volume(config, server, keep)
    there = {path.name for path in (work / "shards").iterdir()}
    needed = {runs[place][1] for place in ended_well[-keep:]} | scheduled
    needed |= {code for _, code in runs[ended_well[-1] :]} if ended_well else set(CODES)
    if len(ended_well) < keep:
        assert there >= needed
    else:
        assert there == needed
