from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_up_run import MadeUpPipeline, write_json
from ml_metadata.proto import metadata_store_pb2 as mlmd

from components.push_folder import possible_baselines
from pipeline.commands.gc import command
from pipeline.runs import run_garbage
from pipeline.runs.deletion import KILLED, Plan
from pipeline.runs.local_runner import root_lock
from pipeline.runs.run_garbage import LEFTOVER_SECONDS, collect, runs_to_keep
from pipeline.runs.run_history import list_runs
from pipeline.runs.run_record import Run
from preprocessing.errors import BadInputError
from preprocessing.whole_files import temporary_folder

STATES = {
    "done": mlmd.Execution.COMPLETE,
    "cached": mlmd.Execution.CACHED,
    "failed": mlmd.Execution.FAILED,
    "running": mlmd.Execution.RUNNING,
}
FILE_BYTES = 1000


class Root:
    """A root with runs, as TFX lays it out: each artifact a folder NODE/KEY/EXECUTION with one file."""

    def __init__(self, path: Path, name: str = "made-up") -> None:
        self.pipeline = MadeUpPipeline(path, name)
        self.path = path
        self.config = self.pipeline.config
        self.store = self.pipeline.store
        self._runs: dict[str, int] = {}

    def run(self, run_id: str) -> None:
        self.pipeline.add_run(run_id, states=dict.fromkeys(_all_nodes(), "missing"))
        self._runs[run_id] = self.pipeline.context_id(run_id)

    def node(
        self,
        run_id: str,
        node: str,
        outputs: Sequence[str] = (),
        *,
        state: str = "done",
        cached: Sequence[mlmd.Artifact] = (),
        inputs: Sequence[mlmd.Artifact] = (),
        properties: Mapping[str, str] | None = None,
    ) -> list[mlmd.Artifact]:
        """Add an execution; returns its artifacts, in ML Metadata unless the execution did not end well."""
        type_id = self.store.put_execution_type(mlmd.ExecutionType(name=f"tfx.{node}"))
        execution = mlmd.Execution(type_id=type_id, last_known_state=STATES[state])
        for name, value in (properties or {}).items():
            execution.custom_properties[name].string_value = value
        pairs = [(artifact, _event(mlmd.Event.INPUT, "input")) for artifact in inputs]
        pairs += [(artifact, _event(mlmd.Event.OUTPUT, "output")) for artifact in cached]
        contexts = [self._runs[run_id], self.pipeline._context("node", f"{self.pipeline.name}.{node}")]
        execution.id, _, _ = self.store.put_execution(execution, pairs, self.store.get_contexts_by_id(contexts))
        made = []
        for key in outputs:
            folder = self.path / "artifacts" / node / key / str(execution.id)
            folder.mkdir(parents=True)
            (folder / "data").write_bytes(bytes(FILE_BYTES))
            kind = self.store.put_artifact_type(mlmd.ArtifactType(name=key))
            artifact = mlmd.Artifact(type_id=kind, uri=str(folder), state=mlmd.Artifact.LIVE)
            if state == "done":
                ids = self.store.put_execution(execution, [(artifact, _event(mlmd.Event.OUTPUT, key))], [])
                artifact.id = ids[1][0]
            made.append(artifact)
        execution.last_known_state = STATES[state]
        self.store.put_executions([execution])
        (self.path / "artifacts" / node / ".system" / "executor_execution" / str(execution.id)).mkdir(parents=True)
        return made

    def whole_run(self, run_id: str, examples: Sequence[mlmd.Artifact] = (), code: str = "c0de") -> dict[str, Any]:
        """Add a run that pushed nothing; with examples of an earlier one, or its own."""
        self.run(run_id)
        properties = {"code": code, "manifest": str(self.path / "inputs" / f"manifest-{code}.json")}
        state = "cached" if examples else "done"
        made = self.node(
            run_id, "ClipExampleGen", () if examples else ("examples",), state=state, cached=examples,
            properties=properties,
        )  # fmt: skip
        examples = examples or made
        (model,) = self.node(run_id, "EnsembleTrainer", ("model",), inputs=examples)
        self.node(run_id, "Pusher", ("pushed_model",), inputs=[model])
        return {"examples": list(examples), "model": model}

    def push(self, version: str, model: str, test_set: str = "a") -> Path:
        folder = Path(self.config.pushed, version)
        write_json(folder / "push.json", {"model": model, "test_set": test_set})
        (folder / "saved_model.pb").write_bytes(b"model")
        return folder

    def state(self, artifact: mlmd.Artifact) -> str:
        (found,) = self.store.get_artifacts_by_id([artifact.id])
        return str(mlmd.Artifact.State.Name(found.state))

    def collect(self, keep: int = 1, **options: Any) -> Plan:
        return collect(self.config, keep, **options)


def _all_nodes() -> Sequence[str]:
    from made_up_run import NODES

    return NODES


def _event(kind: int, key: str) -> mlmd.Event:
    event = mlmd.Event(type=kind)
    event.path.steps.add(key=key)
    return event


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path / "root")


def there(artifact: mlmd.Artifact) -> bool:
    return os.path.exists(artifact.uri)


def test_artifacts_of_older_runs_are_deleted_and_marked_so_that_no_cache_takes_them(root: Root) -> None:
    old, new = root.whole_run("1"), root.whole_run("2")
    plan = root.collect()
    assert [run.run_id for run in plan.kept] == ["2"]
    assert not there(old["model"])
    assert not there(old["examples"][0])
    assert root.state(old["model"]) == root.state(old["examples"][0]) == "DELETED"
    assert there(new["model"])
    assert root.state(new["model"]) == root.state(new["examples"][0]) == "LIVE"
    assert not list((root.path / "artifacts").glob("*/.system/executor_execution/1"))


def test_a_kept_artifact_is_left_untouched_in_ml_metadata_since_its_record_is_in_the_caches_keys(root: Root) -> None:
    root.whole_run("1")
    model = root.whole_run("2")["model"]
    (before,) = root.store.get_artifacts_by_id([model.id])
    root.collect()
    assert root.store.get_artifacts_by_id([model.id]) == [before]


def test_what_a_kept_run_took_from_the_cache_stays(root: Root) -> None:
    first = root.whole_run("1")
    root.whole_run("2", examples=first["examples"])
    root.collect()
    assert there(first["examples"][0])
    assert root.state(first["examples"][0]) == "LIVE"
    assert not there(first["model"])


def test_dry_run_says_the_same_and_deletes_nothing(root: Root) -> None:
    old = root.whole_run("1")
    root.whole_run("2")
    said = root.collect(dry_run=True)
    assert there(old["model"])
    assert root.state(old["model"]) == "LIVE"
    assert said.size == 3 * FILE_BYTES
    done = root.collect()
    assert [item.path for item in done.items] == [item.path for item in said.items]
    assert root.collect().items == ()


def test_a_collection_that_was_killed_is_finished_by_the_next(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    old = root.whole_run("1")
    root.whole_run("2")
    with monkeypatch.context() as patch:
        patch.setattr(run_garbage, "delete_item", lambda item: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            root.collect()
    assert there(old["model"])
    assert root.state(old["model"]) == "DELETED"
    root.collect()
    assert not there(old["model"])


def test_runs_since_the_newest_finished_one_stay_because_the_next_goes_on_from_them(root: Root) -> None:
    root.whole_run("1")
    root.run("2")
    root.node("2", "ClipExampleGen", ("examples",))
    root.node("2", "EnsembleTrainer", state="failed")
    root.whole_run("3")
    root.run("4")
    (examples,) = root.node("4", "ClipExampleGen", ("examples",))
    root.node("4", "EnsembleTrainer", state="failed")
    root.run("5")  # a part, by --to-node
    root.node("5", "ClipExampleGen", cached=[examples], state="cached")
    runs = list_runs(root.config)
    assert [run.run_id for run in runs_to_keep(runs, 1)] == ["3", "4", "5"]
    assert [run.run_id for run in runs_to_keep(runs, 2)] == ["1", "3", "4", "5"]
    root.collect()
    assert there(examples)


def test_nothing_of_any_run_goes_before_one_has_finished(root: Root) -> None:
    root.run("1")
    (examples,) = root.node("1", "ClipExampleGen", ("examples",))
    assert root.collect().items == ()
    assert there(examples)


def test_models_of_pushed_versions_and_the_versions_stay(root: Root) -> None:
    old = root.whole_run("1")
    version = root.push("100", old["model"].uri)
    for number in range(2, 6):
        root.whole_run(str(number))
    root.collect()
    assert there(old["model"])
    assert version.exists()
    assert not there(old["examples"][0])


def test_old_versions_go_only_where_asked_for_and_not_those_in_use(root: Root) -> None:
    folders = {number: root.push(str(number), f"model {number}") for number in range(101, 110)}
    folders[50] = root.push("50", "model 50", test_set="another")
    labels = {"labels": {"stable": 103}, "before": {"stable": [101, 102, 999]}}
    Path(root.config.pushed, "labels.json").write_text(json.dumps(labels))
    root.whole_run("1")
    root.collect()
    assert all(folder.exists() for folder in folders.values())
    root.collect(keep=3, old_versions=True)
    assert {number for number, folder in folders.items() if folder.exists()} == {50, 102, 103, 107, 108, 109}
    assert not list(Path(root.config.pushed).glob(".deleted-*"))


def test_a_version_that_is_a_baseline_for_some_candidate_stays(root: Root) -> None:
    for version, model, test_set in (
        ("1", "m1", "a"),
        ("2", "m2", "a"),
        ("3", "m3", "a"),
        ("4", "m3", "a"),
        ("5", "m5", "b"),
    ):
        root.push(version, model, test_set)
    assert possible_baselines(root.config.pushed) == {"2", "4", "5"}
    root.whole_run("1")
    root.collect(old_versions=True)
    assert sorted(path.name for path in Path(root.config.pushed).glob("[0-9]*")) == ["2", "4", "5"]


def test_another_pipelines_artifacts_in_the_same_metadata_stay(root: Root) -> None:
    mine = root.whole_run("1")
    other = Root(root.path, "other")
    theirs = other.whole_run("1 of other", examples=mine["examples"])
    root.whole_run("2")
    root.collect()
    assert there(theirs["model"])
    assert there(mine["examples"][0])
    assert not there(mine["model"])


def test_artifacts_that_a_run_under_another_root_takes_stay(root: Root) -> None:
    mine = root.whole_run("1")
    root.run("2 elsewhere")
    (root.path / "configs" / "2 elsewhere.yaml").unlink()
    root.node("2 elsewhere", "EnsembleTrainer", inputs=mine["examples"])
    root.node("2 elsewhere", "Pusher")
    root.whole_run("3")
    plan = root.collect()
    assert [run.run_id for run in plan.removed] == ["1"]
    assert there(mine["examples"][0])
    assert not there(mine["model"])


def test_outputs_of_killed_executions_are_swept_and_unknown_folders_are_not(root: Root) -> None:
    root.whole_run("1")
    root.run("2")
    (half,) = root.node("2", "EnsembleTrainer", ("model",), state="running")
    unknown = root.path / "artifacts" / "EnsembleTrainer" / "model" / "4711"
    unknown.mkdir()
    working = root.path / "artifacts" / "EnsembleTrainer" / ".system" / "stateful_working_dir" / "2026"
    working.mkdir(parents=True)
    plan = root.collect()
    assert not there(half)
    assert not working.exists()
    assert unknown.exists()
    assert {item.kind for item in plan.items} == {KILLED}


@pytest.mark.parametrize("name", [".folder.tmp-host-12345-1", ".push-12345-1"])
def test_leftovers_in_the_push_folder_and_temporary_files_are_swept(root: Root, name: str) -> None:
    root.whole_run("1")
    half = Path(root.config.pushed, name)
    half.mkdir(parents=True)
    (half / "saved_model.pb").write_bytes(bytes(10))
    inputs = root.path / "inputs"
    inputs.mkdir()
    (inputs / ".manifest.json.tmp-host-1-2").write_text("{")
    plan = root.collect()
    assert not half.exists()
    assert list(inputs.iterdir()) == []
    assert plan.size == 11


def test_a_version_that_a_process_still_writes_is_left(root: Root) -> None:
    root.whole_run("1")
    with temporary_folder(root.config.pushed) as half:
        root.collect()
        assert half.exists()


def test_a_folder_that_another_root_may_be_pushing_is_left_for_a_day(root: Root, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    half = shared / ".folder.tmp-host-12345-1"
    half.mkdir(parents=True)
    root.whole_run("1")
    config = root.config.model_copy(update={"push_dir": str(shared)})
    collect(config, 1)
    assert half.exists()
    old = time.time() - LEFTOVER_SECONDS - 60
    os.utime(half, (old, old))
    collect(config, 1)
    assert not half.exists()


def test_checkpoints_go_when_a_later_run_has_finished(root: Root) -> None:
    old, new = root.path / "checkpoints" / "mel_1d-0", root.path / "checkpoints" / "mel_1d-1"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "last.keras").write_bytes(b"1")
    os.utime(old / "last.keras", (1, 1))
    os.utime(old, (1, 1))
    root.whole_run("1")
    later = time.time() + 60
    os.utime(new / "last.keras", (later, later))
    root.collect()
    assert [path.name for path in (root.path / "checkpoints").iterdir()] == ["mel_1d-1"]


def test_shards_and_manifest_of_kept_examples_stay_and_links_count_once(root: Root) -> None:
    for code in ("old", "new"):
        shard = root.path / "shards" / code / "train-00000-of-00001.tfrecord"
        shard.parent.mkdir(parents=True)
        shard.write_bytes(bytes(5000))
        write_json(root.path / "inputs" / f"manifest-{code}.json", {})
    examples = root.whole_run("1", code="old")["examples"]
    os.link(root.path / "shards" / "old" / "train-00000-of-00001.tfrecord", Path(examples[0].uri) / "shard")
    root.whole_run("2", code="new")
    plan = root.collect()
    assert [path.name for path in (root.path / "shards").iterdir()] == ["new"]
    assert [path.name for path in (root.path / "inputs").iterdir()] == ["manifest-new.json"]
    assert plan.size == 3 * FILE_BYTES + 5000 + len("{}")


def test_shards_of_examples_that_a_kept_run_took_from_the_cache_stay(root: Root) -> None:
    (root.path / "shards" / "c0de").mkdir(parents=True)
    first = root.whole_run("1")
    root.run("2")
    root.node("2", "EnsembleTrainer", ("model",), inputs=first["examples"])
    root.node("2", "Pusher", ("pushed_model",))
    root.collect()
    assert (root.path / "shards" / "c0de").exists()


def test_figures_of_a_run_outlive_its_files(tmp_path: Path) -> None:
    made_up = MadeUpPipeline(tmp_path)
    made_up.add_run("1", blessed=False)
    made_up.add_run("2")
    before = _figures(list_runs(made_up.config)[0])
    collect(made_up.config, 1)
    assert not (made_up.root / "artifacts" / "EnsembleTrainer" / "1" / "model_run").exists()
    after = _figures(list_runs(made_up.config)[0])
    assert after[:2] == pytest.approx(before[:2])
    assert after[2:] == before[2:]
    assert before[2:] == (False, ["ROC-AUC is 0.7321; at least 0.8000 is asked"])


def _figures(run: Run) -> tuple[float | None, float | None, bool | None, list[str]]:
    return run.roc_auc, run.pr_auc, run.blessed, run.gate_reasons


def test_it_refuses_while_a_run_is_going_on(root: Root) -> None:
    old = root.whole_run("1")
    root.whole_run("2")
    with root_lock(str(root.path)), pytest.raises(BadInputError, match="another run works there"):
        root.collect()
    assert there(old["model"])


def test_no_run_yet_is_said(tmp_path: Path) -> None:
    root = Root(tmp_path)
    os.remove(root.config.metadata_file)
    with pytest.raises(BadInputError, match="no run yet"):
        root.collect()


def test_the_command_shows_what_goes_with_its_size(root: Root) -> None:
    old = root.whole_run("1")
    root.whole_run("2")
    arguments = ["--keep", "1", "--set", f"root={root.path}", "--set", "name=made-up"]
    said = CliRunner().invoke(command, [*arguments, "--dry-run", "--paths"], catch_exceptions=False)
    assert said.exit_code == 0
    assert "would be deleted" in said.output
    assert "artifacts of old runs: 1" in said.output
    assert "1.0 kB" in said.output
    assert old["model"].uri in said.output
    assert there(old["model"])
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert "deleted, 3.0 kB freed" in done.output
    assert "nothing to delete" in CliRunner().invoke(command, arguments, catch_exceptions=False).output


@pytest.mark.parametrize("arguments", [[], ["--keep", "0"]])
def test_the_number_of_runs_to_keep_has_to_be_said(arguments: list[str]) -> None:
    assert CliRunner().invoke(command, arguments).exit_code == 2
