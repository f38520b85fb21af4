from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
import yaml
from made_up_run import MadeUpPipeline
from ml_metadata.errors import InternalError
from ml_metadata.metadata_store.metadata_store import MetadataStore
from prometheus_text import Samples, parse

from pipeline.runs.prometheus import Metric, attempt_metrics, exposition, record_attempt
from pipeline.runs.run_history import list_runs
from pipeline.runs.run_metrics import keep_metrics, run_metrics
from preprocessing.errors import AutotagError


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted({"pipeline": "made-up", **labels}.items()))]


@pytest.fixture
def made_up(tmp_path: Path) -> MadeUpPipeline:
    return MadeUpPipeline(tmp_path / "root")


def test_a_run_is_written_for_prometheus(made_up: MadeUpPipeline) -> None:
    made_up.add_run("1", rejected=3)
    made_up.add_run("2", states={"ClipExampleGen": "cached"}, rejected=3)
    run = record_attempt(made_up.config, "2", succeeded=True)
    assert run
    assert run.run_id == "2"
    path = made_up.root / "metrics.prom"
    samples = parse(path.read_text(encoding="utf-8"))
    assert value(samples, "autotag_attempt_success") == 1
    assert value(samples, "autotag_test_roc_auc") == pytest.approx(0.8623)
    assert value(samples, "autotag_gate_min_roc_auc") == 0.8
    assert value(samples, "autotag_gate_baseline_roc_auc") == 0.9
    assert value(samples, "autotag_clips", kind="clips") == 103
    assert value(samples, "autotag_model_pushed") == value(samples, "autotag_model_blessed") == 1
    assert value(samples, "autotag_node_cached", node="ClipExampleGen") == 1
    assert value(samples, "autotag_node_seconds", node="ClipExampleGen") == 0
    assert value(samples, "autotag_run_state", state="done") == 1
    assert value(samples, "autotag_last_success_timestamp_seconds") >= run.started.timestamp()
    assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444  # node_exporter is another user
    assert [file.name for file in made_up.root.iterdir() if "metrics" in file.name] == ["metrics.prom"]


def test_prometheus_own_parser_reads_it(made_up: MadeUpPipeline) -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is not installed")
    made_up.add_run("1")
    text = exposition(attempt_metrics("made-up", True, list_runs(made_up.config), 1.5))
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert families["autotag_test_roc_auc"].samples[0].value == pytest.approx(0.8623)
    assert families["autotag_test_roc_auc"].type == "gauge"
    assert len(parse(text)) == sum(len(family.samples) for family in families.values())


def test_a_refused_model_and_a_failed_run_are_seen(made_up: MadeUpPipeline) -> None:
    made_up.add_run("1")
    made_up.add_run("2", blessed=False)
    samples = parse(exposition(attempt_metrics("made-up", True, list_runs(made_up.config), 1.5)))
    assert value(samples, "autotag_model_blessed") == value(samples, "autotag_model_pushed") == 0
    made_up.add_run("3", states={"Trainer_mel_2d": "failed", "Evaluator": "missing", "Pusher": "missing"})
    runs = list_runs(made_up.config)
    samples = parse(exposition(attempt_metrics("made-up", False, runs, 1.5)))
    assert value(samples, "autotag_attempt_success") == 0
    assert value(samples, "autotag_node_failed", node="Trainer_mel_2d") == 1
    assert value(samples, "autotag_run_state", state="failed") == 1
    assert runs[1].ended
    assert value(samples, "autotag_last_success_timestamp_seconds") == runs[1].ended.timestamp()
    assert value(samples, "autotag_model_blessed") == value(samples, "autotag_model_pushed") == 0
    assert value(samples, "autotag_model_timestamp_seconds") == runs[1].started.timestamp()


def test_a_run_of_a_part_hides_nothing_of_the_newest_model_and_clips(made_up: MadeUpPipeline) -> None:
    made_up.add_run("1", blessed=False, rejected=3)
    whole = parse(exposition(attempt_metrics("made-up", True, list_runs(made_up.config), 1.5)))
    left_out = dict.fromkeys(("ClipExampleGen", "ExampleValidator", "Evaluator", "Pusher"), "missing")
    made_up.add_run("2", states=left_out)
    part = parse(exposition(attempt_metrics("made-up", True, list_runs(made_up.config), 1.5)))
    of_run = ("autotag_run_", "autotag_node_")
    kept = {sample: value for sample, value in whole.items() if not sample[0].startswith(of_run)}
    assert value(part, "autotag_model_blessed") == 0
    assert value(part, "autotag_clips", kind="rejected") == 3
    assert {sample: value for sample, value in part.items() if not sample[0].startswith(of_run)} == kept
    assert not any(("node", "Evaluator") in labels for _, labels in part)
    made_up.add_run("3")
    newest = parse(exposition(attempt_metrics("made-up", True, list_runs(made_up.config), 1.5)))
    assert value(newest, "autotag_model_blessed") == value(newest, "autotag_model_pushed") == 1


def test_an_attempt_that_came_to_no_run_is_written_too(made_up: MadeUpPipeline) -> None:
    assert record_attempt(made_up.config, "1", succeeded=False) is None
    samples = parse((made_up.root / "metrics.prom").read_text())
    assert value(samples, "autotag_attempt_success") == 0
    assert len(samples) == 2


def test_a_run_that_somebody_else_began_later_is_left_out(made_up: MadeUpPipeline) -> None:
    made_up.add_run("1")
    made_up.add_run("2", states=dict.fromkeys(["Pusher"], "running"))
    run = record_attempt(made_up.config, "1", succeeded=True)
    assert run
    assert run.run_id == "1"
    assert 'run="1"' in (made_up.root / "metrics.prom").read_text()


def test_labels_are_escaped_and_odd_values_written_as_prometheus_has_them() -> None:
    name = 'a "quoted"\nname\\'
    samples = [({"pipeline": name}, float("nan")), ({"pipeline": "b"}, 1e-7)]
    text = exposition([Metric("m", "back\\slash\nand line", samples)])
    assert text.splitlines()[0] == "# HELP m back\\\\slash\\nand line"
    assert ("m", (("pipeline", name),)) in parse(text)
    infinite = exposition([Metric("m", "t", [({"a": "1"}, float("inf")), ({"a": "2"}, float("-inf"))])])
    assert [line.split(" ")[1] for line in infinite.splitlines()[2:]] == ["+Inf", "-Inf"]


def test_figures_are_kept_with_the_run_in_ml_metadata(made_up: MadeUpPipeline) -> None:
    made_up.add_run("1", rejected=2)
    (run,) = list_runs(made_up.config)
    assert not run.kept
    keep_metrics(made_up.config, run)
    keep_metrics(made_up.config, run)
    (again,) = list_runs(made_up.config)
    assert again.kept["roc_auc"] == pytest.approx(0.8623)
    assert (again.kept["clips"], again.kept["examples"], again.kept["rejected"]) == (102, 100, 2)
    assert (again.kept["state"], again.kept["blessed"], again.kept["pushed"]) == ("done", 1, 1)
    assert again.kept["pushed_version"] == "1795239564"
    assert run_metrics(again).keys() == again.kept.keys()
    found = made_up.store.get_contexts_by_type("pipeline_run")
    assert [context.name for context in found] == ["1"]


def test_a_metrics_file_that_cannot_be_written_fails_a_run_that_did_well_and_hides_no_other_error(
    made_up: MadeUpPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    made_up.add_run("1")
    (made_up.root / "file").write_text("")
    path = str(made_up.root / "file" / "metrics.prom")
    with pytest.raises(AutotagError, match=r"metrics file .*file/metrics\.prom"):
        record_attempt(made_up.config, "1", succeeded=True, path=path)
    record_attempt(made_up.config, "1", succeeded=False, path=path)
    assert "no metrics: metrics file" in caplog.text


def test_alerts_ask_for_metrics_that_a_run_writes(made_up: MadeUpPipeline) -> None:
    made_up.add_run("1")
    written = {name for name, _ in parse(exposition(attempt_metrics("made-up", True, list_runs(made_up.config), 1.5)))}
    docs = Path(__file__).parents[2] / "docs" / "how-to"
    groups = yaml.safe_load((docs / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    expressions = [rule["expr"] for group in groups for rule in group["rules"]]
    assert len(expressions) == 6
    asked = {name for expression in expressions for name in re.findall(r"autotag_\w+", expression)}
    asked |= set(re.findall(r"`(autotag_\w+)", (docs / "runbook.md").read_text(encoding="utf-8")))
    assert asked <= written


def test_ml_metadata_that_cannot_be_written_is_said_in_one_line(
    made_up: MadeUpPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up.add_run("1")
    (run,) = list_runs(made_up.config)

    def full(*arguments: object) -> None:
        raise InternalError("Error when executing query:\n database or disk is full")

    monkeypatch.setattr(MetadataStore, "put_contexts", full)
    with pytest.raises(AutotagError, match=r"metadata.sqlite: .*query: database or disk is full$"):
        keep_metrics(made_up.config, run)
