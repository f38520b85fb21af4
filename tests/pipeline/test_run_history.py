from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_up_run import MadeUpPipeline, write_evaluation

from pipeline.cli import group
from pipeline.runs.evaluation import ValidationResult, gate_failures, gate_figures
from pipeline.runs.run_history import find_run, list_runs
from pipeline.runs.run_record import Run, describe_run
from pipeline.settings.config import PipelineConfig
from preprocessing.errors import BadInputError

STOPPED = {"Trainer_mel_2d": "failed"} | dict.fromkeys(
    ("Trainer_waveform_1d", "EnsembleTrainer", "Evaluator", "Pusher"), "missing"
)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> MadeUpPipeline:
    made_up = MadeUpPipeline(tmp_path_factory.mktemp("root"))
    made_up.add_run("2026-11-20T05:00:00.000001", states=STOPPED)
    made_up.add_run("2026-11-20T06:00:00.000001", blessed=False)
    made_up.add_run("2026-11-20T06:30:00.000001", states={"ClipExampleGen": "cached", "Trainer_mel_1d": "cached"})
    return made_up


@pytest.fixture(scope="module")
def runs(made_up: MadeUpPipeline) -> list[Run]:
    return list_runs(made_up.config)


def test_runs_are_listed_the_oldest_first(runs: list[Run]) -> None:
    assert [run.short_id for run in runs] == ["2026-11-20T05:00:00", "2026-11-20T06:00:00", "2026-11-20T06:30:00"]


def test_nodes_keep_state_and_outputs(runs: list[Run], made_up: MadeUpPipeline) -> None:
    states = {node.node: node.state for node in runs[2].nodes}
    assert states["ClipExampleGen"] == "cached"
    assert states["Pusher"] == "done"
    folder = runs[2].output("EnsembleTrainer", "model_run")
    assert folder == made_up.root / "artifacts" / "EnsembleTrainer" / runs[2].run_id / "model_run"
    assert runs[0].output("EnsembleTrainer", "model_run") is None
    assert runs[2].output("ClipExampleGen", "no such key") is None


def test_a_run_with_a_failed_node_has_failed_and_has_no_scores(runs: list[Run]) -> None:
    stopped = runs[0]
    assert (stopped.state, stopped.scores, stopped.roc_auc, stopped.blessed, stopped.pushed) == ("failed", *[None] * 4)
    assert stopped.gate_reasons == []
    assert str(stopped.gate) == ""


def test_a_node_that_was_tried_again_counts_by_its_last_try(tmp_path: Path) -> None:
    made_up = MadeUpPipeline(tmp_path)
    made_up.add_run("one", states=STOPPED)
    made_up.add_execution(made_up.context_id("one"), "Trainer_mel_2d", "done", {}, tmp_path)
    (run,) = list_runs(made_up.config)
    assert run.state == "done"
    assert [node.node for node in run.nodes].count("Trainer_mel_2d") == 1


def test_a_run_whose_node_never_ended_is_unfinished(tmp_path: Path) -> None:
    made_up = MadeUpPipeline(tmp_path)
    made_up.add_run("one", states=STOPPED | {"Trainer_mel_2d": "running"})
    (run,) = list_runs(made_up.config)
    assert run.state == "unfinished"


def test_a_refused_model_says_why_with_the_figures(runs: list[Run]) -> None:
    refused = runs[1]
    assert (refused.blessed, refused.pushed, refused.pushed_version) == (False, None, None)
    assert refused.gate_reasons == ["ROC-AUC is 0.7321; at least 0.8000 is asked"]
    assert "refused by the gate, not pushed: ROC-AUC is 0.7321" in describe_run(refused)


def test_a_pushed_model_has_its_version_and_the_gates_figures(runs: list[Run]) -> None:
    pushed = runs[2]
    assert (pushed.blessed, pushed.pushed_version) == (True, "1795239564")
    assert pushed.roc_auc == pytest.approx(0.8623)
    assert str(pushed.gate) == (
        "ROC-AUC 0.9061 (at least 0.8000 is asked); +0.0061 against the latest blessed model (-0.0050 is allowed)"
    )


def test_runs_of_another_pipeline_in_the_same_file_are_left_out(tmp_path: Path) -> None:
    mine, other = MadeUpPipeline(tmp_path, "mine"), MadeUpPipeline(tmp_path, "other")
    mine.add_run("of mine", states=STOPPED)
    other.add_run("of other", states=STOPPED)
    assert [run.run_id for run in list_runs(mine.config)] == ["of mine"]


def test_no_metadata_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no run yet"):
        list_runs(PipelineConfig(root=str(tmp_path)))


@pytest.mark.parametrize(
    ("asked", "found"),
    [(None, "2026-11-20T06:30"), ("2026-11-20T05", "2026-11-20T05:00"), ("2026-11-20T06:00:00", "2026-11-20T06:00")],
)
def test_a_run_is_found_by_the_beginning_of_its_id(runs: list[Run], asked: str | None, found: str) -> None:
    assert find_run(runs, asked).run_id.startswith(found)


@pytest.mark.parametrize(("asked", "message"), [("2026-11-20T06", "2 runs begin"), ("1999", "there is no run '1999'")])
def test_a_run_that_is_not_one_is_refused(runs: list[Run], asked: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        find_run(runs, asked)


def test_our_messages_agree_with_tfmas(tmp_path: Path) -> None:
    """In a process of its own, where TFMA's protos can be had without the rest of it."""
    written = tmp_path / "messages.json"
    script = f"""
import json, sys, sysconfig, types
package = sys.modules["tensorflow_model_analysis"] = types.ModuleType("tensorflow_model_analysis")
package.__path__ = [sysconfig.get_path("purelib") + "/tensorflow_model_analysis"]
import google.protobuf.wrappers_pb2
from tensorflow_model_analysis.proto import config_pb2, metrics_for_slice_pb2, validation_result_pb2
result = validation_result_pb2.ValidationResult()
for diff in (False, True):
    failure = result.metric_validations_per_slice.add().failures.add()
    failure.metric_key.name, failure.metric_key.is_diff, failure.metric_key.model_name = "roc_auc", diff, "candidate"
    failure.metric_value.double_value.value = -0.25 if diff else 0.5
    failure.metric_threshold.value_threshold.lower_bound.value = 0.75
    failure.metric_threshold.change_threshold.absolute.value = -0.125
result.metric_validations_per_slice[0].failures.add(message="Metric not found.").metric_key.name = "pr_auc"
metrics = metrics_for_slice_pb2.MetricsForSlice()
metric = metrics.metric_keys_and_values.add()
metric.key.name, metric.key.model_name, metric.value.double_value.value = "roc_auc", "baseline", 0.625
json.dump([m.SerializeToString().hex() for m in (result, metrics)], open({str(written)!r}, "w"))
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    from preprocessing.examples import write_record

    folder = tmp_path / "evaluation"
    folder.mkdir()
    for name, message in zip(("validations", "metrics-00000-of-00001"), json.loads(written.read_text()), strict=True):
        with (folder / f"{name}.tfrecord").open("wb") as file:
            write_record(file, bytes.fromhex(message))
    assert gate_failures(folder) == [
        "ROC-AUC is 0.5000; at least 0.7500 is asked",
        "pr_auc: Metric not found.",
        "ROC-AUC changed by -0.2500 against the latest blessed model; allowed -0.1250",
    ]
    assert gate_figures(folder).baseline_roc_auc == 0.625


def test_a_model_without_figures_is_refused_with_a_reason(tmp_path: Path) -> None:
    from preprocessing.examples import write_record

    with (tmp_path / "validations.tfrecord").open("wb") as file:
        write_record(file, ValidationResult().SerializeToString())
    assert gate_failures(tmp_path) == ["nothing was measured: the test split gave no figures"]


def test_the_first_model_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation", 0.9, baseline=None)
    assert str(gate_figures(tmp_path / "evaluation")).endswith("; no blessed model before it to compare with")


def test_the_table_fits_80_columns_with_each_run_on_one_line(made_up: MadeUpPipeline) -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(
        group, ["runs", "--set", f"name={made_up.name}", "--set", f"root={made_up.root}"]
    )
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if line.startswith("2026-")]
    assert rows == [
        ["2026-11-20T05:00:00", "failed", "3", "0"],
        ["2026-11-20T06:00:00", "done", "8", "0", "paper", "0.8623", "0.3600", "refused"],
        ["2026-11-20T06:30:00", "done", "6", "2", "paper", "0.8623", "0.3600", "1795239564"],
    ]


def test_json_has_whole_ids_and_reasons(made_up: MadeUpPipeline) -> None:
    result = CliRunner().invoke(
        group, ["runs", "--json", "--set", f"name={made_up.name}", "--set", f"root={made_up.root}"]
    )
    runs = json.loads(result.output)
    assert runs[1]["run_id"] == "2026-11-20T06:00:00.000001"
    assert runs[1]["gate_reasons"] == ["ROC-AUC is 0.7321; at least 0.8000 is asked"]
    assert runs[2]["pushed"] == "/srv/models/autotag/1795239564"
    assert runs[2]["ensemble"] == "paper"


def test_no_command_on_runs_imports_tensorflow(made_up: MadeUpPipeline) -> None:
    settings = ["--set", f"name={made_up.name}", "--set", f"root={made_up.root}"]
    script = f"""
import sys
from pipeline.cli import group
from pipeline.settings.config import PipelineConfig
group(["runs", "--json", *{settings!r}], standalone_mode=False)
group(["report", "--out", {str(made_up.root / "page.html")!r}, *{settings!r}], standalone_mode=False)
heavy = {{"tensorflow", "tfx", "keras", "tensorflow_model_analysis"}} & sys.modules.keys()
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
