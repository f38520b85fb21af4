from __future__ import annotations

import datetime
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from made_up_run import TAGS, MadeUpPipeline, history, scores, write_evaluation, write_json
from markupsafe import escape
from network_files import keras_file
from tensorflow_metadata.proto.v0 import anomalies_pb2

from pipeline.cli import group
from pipeline.reports.plots import combiner_curves, network_curves
from pipeline.reports.report import duration, render, rounded, verdict
from pipeline.reports.report_contents import collect, find_configuration
from pipeline.reports.report_rows import TagScale
from pipeline.runs.run_history import list_runs
from pipeline.runs.run_record import NodeRun, Run, describe_run
from pipeline.settings.config import PipelineConfig

NOT_MEASURED = "not measured"
SECTIONS = ["models", "tags", "training", "data", "nodes", "configuration"]
VOID = {"meta", "link", "br", "img", "hr"}
STOPPED = {"Trainer_mel_2d": "failed"} | dict.fromkeys(
    ("Trainer_waveform_1d", "EnsembleTrainer", "Evaluator", "Pusher"), "missing"
)


class Page(HTMLParser):
    """Elements, attributes, text by section, and tables as rows of cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.sections: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self._section = "header"
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
        if tag == "footer":
            self._section = tag
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.sections[self._section] = self.sections.get(self._section, "") + data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row and row[0].startswith(first))


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> MadeUpPipeline:
    made_up = MadeUpPipeline(tmp_path_factory.mktemp("root"))
    made_up.add_run("2026-11-20T05:00:00.000001", states=STOPPED)
    made_up.add_run("2026-11-20T06:00:00.000001", blessed=False, rejected=31)
    made_up.add_run("2026-11-20T07:00:00.000001", states={"ClipExampleGen": "cached"})
    return made_up


@pytest.fixture(scope="module")
def pages(made_up: MadeUpPipeline) -> list[str]:
    """Pages of a run that failed half-way, of one that the gate refused and of one that was pushed."""
    runs = list_runs(made_up.config)
    return [render(collect(run, made_up.root)) for run in runs]


def test_every_page_has_all_sections_and_closes_what_it_opens(pages: list[str]) -> None:
    for html in pages:
        page = Page(html)
        assert list(page.sections) == ["header", *SECTIONS, "footer"]
        assert page.open == []


def test_a_page_fetches_nothing(pages: list[str]) -> None:
    for html in pages:
        page = Page(html)
        addresses = [
            (tag, name, value) for tag, name, value in page.attributes if name in ("src", "href", "xlink:href")
        ]
        assert all(value.startswith("#") for _, _, value in addresses), addresses
        assert not {"script", "link", "iframe", "img"} & {tag for tag, _, _ in page.attributes}
        assert not re.search(r"url\((?!#)|@import", html)
        assert "default-src 'none'" in html


def test_ids_are_unique_so_that_one_chart_does_not_use_anothers_marks(pages: list[str]) -> None:
    ids = [value for _, name, value in Page(pages[2]).attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_links_within_the_page_lead_somewhere(pages: list[str]) -> None:
    attributes = Page(pages[2]).attributes
    ids = {value for _, name, value in attributes if name == "id"}
    assert {value[1:] for _, name, value in attributes if name in ("href", "xlink:href")} <= ids


def model_rows(page: Page) -> list[list[str]]:
    return [row for row in page.rows if len(row) == 9]


def test_models_stand_beside_published_figures_with_their_split(pages: list[str]) -> None:
    page = Page(pages[2])
    assert page.row("mel_2d")[1:] == ["0.8223", "0.891 (MTAT, paper)", "0.3200", "", "2.50", "1.76", "3.25", "8.14"]
    assert page.row("paper") == [
        "paperpushed", "0.8623", "0.910 (MTAT, paper)", "0.3600", "", "6.50", "10.61", "9.75", "not given",
    ]  # fmt: skip
    assert [row[0].removesuffix("pushed") for row in model_rows(page)] == [
        "mel_1d", "mel_2d", "waveform_1d", "mel_1d+mel_2d", "mel_2d+waveform_1d", "paper",
    ]  # fmt: skip
    assert "8.2 MiB" in page.sections["models"]
    assert "784 KB" in page.sections["models"]


def test_networks_outside_the_papers_table_have_rows_of_their_own_and_nobody_elses_scores(tmp_path: Path) -> None:
    values = scores(TAGS)
    row = values["models"][0]
    heard = {**row, "name": "heard", "networks": ["heard"], "network": "musicnn", "roc_auc": 0.7001}
    mine = {**row, "name": "mine", "networks": ["mel_1d", "heard"], "combiner": "logistic", "fit": "valid"}
    del mine["network"]
    values["models"] = [row, heard, {**mine, "roc_auc": 0.7777, "accuracy": {"mood": 0.5}}]
    made_up = MadeUpPipeline(tmp_path)
    made_up.add_run("one")
    write_json(tmp_path / "artifacts" / "EnsembleTrainer" / "one" / "model_run" / "scores.json", values)
    (run,) = list_runs(made_up.config)
    page = Page(render(collect(run, tmp_path)))
    assert [row[0] for row in model_rows(page)] == ["mel_1d", "heard", "mine"]
    assert page.row("heard")[1] == "0.7001"
    assert "(MTAT, folder)" in page.row("heard")[2]
    assert page.row("mine")[1] == "0.7777accuracy of mood 0.500"
    assert page.row("mine")[2] == ""
    assert "mine: mel_1d + heard; logistic" in page.sections["models"]
    assert NOT_MEASURED in page.sections["header"], "what was pushed has no row, and no other row's score stands there"


def test_what_was_not_measured_is_said(pages: list[str]) -> None:
    stopped = Page(pages[0])
    assert [row[0] for row in model_rows(stopped)][:4] == ["mel_1d", "mel_2d", "waveform_1d", "paper"]
    assert all(row[1] == NOT_MEASURED for row in model_rows(stopped))
    assert "exported" not in stopped.sections["models"]


def test_a_run_that_failed_half_way_says_what_is_missing_and_shows_the_rest(pages: list[str]) -> None:
    sections = Page(pages[0]).sections
    assert "Not pushed: Trainer_mel_2d failed." in sections["header"]
    assert "EnsembleTrainer did not run" in sections["tags"]
    assert "Trainer_mel_2d failed" in sections["training"]
    assert "Trainer_waveform_1d did not run" in sections["training"]
    assert "mel_1d" in sections["training"]
    assert "guitar" in sections["data"]


@pytest.mark.parametrize("key", ["summary.json", "scores.json", "history.json"])
def test_files_that_are_gone_are_said_to_be_gone(tmp_path: Path, key: str) -> None:
    made_up = MadeUpPipeline(tmp_path)
    made_up.add_run("one")
    for path in tmp_path.rglob(key):
        path.unlink()
    (run,) = list_runs(made_up.config)
    assert "is no longer there" in render(collect(run, tmp_path))


def test_the_head_says_pushed_or_refused_with_the_figures(pages: list[str]) -> None:
    refused, pushed = Page(pages[1]).sections["header"], Page(pages[2]).sections["header"]
    assert "Refused by the gate, not pushed: ROC-AUC is 0.7321; at least 0.8000 is asked." in refused
    assert "Pushed as version 1795239564. ROC-AUC 0.9061 (at least 0.8000 is asked); +0.0061" in pushed
    assert "100" in pushed
    assert "(70 / 8 / 22)" in re.sub(r"\s+", " ", pushed)


def test_tags_are_sorted_and_those_of_one_class_listed_as_not_scored(pages: list[str]) -> None:
    page = Page(pages[2])
    rows = [row[0] for row in page.rows if len(row) == 5 and row[0] in TAGS]
    assert rows == ["guitar", TAGS[1]]
    assert page.row("guitar")[2:] == ["0.980", "0.700", "20"]
    assert "flute (on no test clip)." in re.sub(r"\s+", " ", page.sections["tags"])


def test_tags_of_several_heads_are_grouped_by_head(tmp_path: Path) -> None:
    values = scores(TAGS)
    values["heads"] = [
        {"name": "mood", "kind": "multi-label", "size": 1},
        {"name": "genre", "kind": "one-of", "size": 2},
    ]
    for row in values["models"]:
        row["accuracy"] = {"genre": math.nan}
    made_up = MadeUpPipeline(tmp_path)
    made_up.add_run("one")
    write_json(tmp_path / "artifacts" / "EnsembleTrainer" / "one" / "model_run" / "scores.json", values)
    (run,) = list_runs(made_up.config)
    page = Page(render(collect(run, tmp_path)))
    groups = [row[0] for row in page.rows if row and (row[0] in TAGS or "(" in row[0]) and len(row) in (1, 5)]
    assert groups == ["mood (multi-label)", "guitar", "genre (one-of)", TAGS[1]]
    assert page.row("paper")[1] == f"0.8623accuracy of genre {NOT_MEASURED}"


def test_odd_names_are_text_and_not_markup(pages: list[str]) -> None:
    assert "<b>techno" not in pages[2]
    assert TAGS[1] in Page(pages[2]).sections["tags"]
    assert "0/<clip 3>.mp3" in Page(pages[1]).sections["data"]


def test_rejects_are_counted_and_the_first_shown(pages: list[str]) -> None:
    page = Page(pages[1])
    assert "undecodable: 31" in page.sections["data"]
    assert sum(row[-1] == "undecodable: empty" for row in page.rows if row) == 20
    assert "The first 20 of 31" in page.sections["data"]
    assert "all 100 clips gave an example" in Page(pages[2]).sections["data"]


def test_tag_frequencies_are_shown_for_each_split(pages: list[str]) -> None:
    rows = [row for row in Page(pages[2]).rows if len(row) == 8 and row[0] == "guitar"]
    assert rows == [["guitar", "", "70", "100.0", "6", "75.0", "20", "90.9"]]


def test_anomalies_of_the_delivery_are_listed(tmp_path: Path) -> None:
    made_up = MadeUpPipeline(tmp_path)
    made_up.add_run("one", states=STOPPED)
    anomalies = anomalies_pb2.Anomalies()
    anomalies.anomaly_info["silent"].reason.add(description="more than 2.0% of the clips are silent")
    folder = tmp_path / "artifacts" / "ExampleValidator" / "one" / "anomalies" / "Split-test"
    folder.mkdir()
    (folder / "SchemaDiff.pb").write_bytes(anomalies.SerializeToString())
    (run,) = list_runs(made_up.config)
    assert "test, silent: more than 2.0% of the clips are silent" in render(collect(run, tmp_path))


def test_nodes_and_configuration_are_shown(pages: list[str], made_up: MadeUpPipeline) -> None:
    page = Page(pages[2])
    assert page.row("ClipExampleGen") == ["ClipExampleGen", "cached, from an earlier run", ""]
    assert page.row("Pusher")[1] == "done"
    assert yaml.safe_load(page.sections["configuration"].split("included")[1]) == made_up.config.model_dump(mode="json")


def test_scores_without_a_scored_tag_are_not_measured(tmp_path: Path) -> None:
    values = scores(TAGS)
    for row in values["models"]:
        row |= {"roc_auc": math.nan, "pr_auc": math.nan, "per_tag": {tag: [math.nan, math.nan] for tag in TAGS}}
    made_up = MadeUpPipeline(tmp_path)
    made_up.add_run("one")
    write_json(tmp_path / "artifacts" / "EnsembleTrainer" / "one" / "model_run" / "scores.json", values)
    (run,) = list_runs(made_up.config)
    page = Page(render(collect(run, tmp_path)))
    assert page.row("paper")[1] == NOT_MEASURED
    assert "nan" not in page.sections["models"]
    assert run.roc_auc is None


def test_configuration_is_the_one_saved_just_before_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    folder.mkdir()
    for stem in ("2026-11-21T05:38:13.761", "2026-11-21T05:38:25.534", "2026-11-21T05:39:00.000"):
        (folder / f"{stem}.yaml").write_text(stem)
    assert find_configuration(tmp_path, "2026-11-21T05:38:25.541958") == "2026-11-21T05:38:25.534"
    assert find_configuration(tmp_path, "2026-11-21T05:38:13.761") == "2026-11-21T05:38:13.761"
    assert find_configuration(tmp_path, "2026-11-21T09:00:00.000000") is None
    assert find_configuration(tmp_path, "2026-11-20T09:00:00.000000") is None
    assert find_configuration(tmp_path, "autotag-on-a-cluster-1") is None


def _run(*nodes: NodeRun) -> Run:
    return Run("one", datetime.datetime(2026, 11, 20), nodes)


def test_a_model_that_is_blessed_and_not_yet_pushed_is_said_to_be() -> None:
    evaluator = NodeRun("Evaluator", "done", 1.0, {}, {"blessing": {"blessed": 1}})
    assert verdict(_run(evaluator)) == ("open", "Passed the gate, not pushed: Pusher did not run.")
    assert verdict(_run()) == ("open", "Not pushed: Evaluator did not run.")
    running = NodeRun("Evaluator", "running", 0.0, {}, {})
    assert verdict(_run(running)) == ("open", "Not pushed: Evaluator has not finished.")


def test_a_run_of_which_nothing_is_left_still_gives_a_page(tmp_path: Path) -> None:
    page = Page(render(collect(_run(), tmp_path)))
    assert "ClipExampleGen did not run" in page.sections["data"]
    assert "no configuration was kept" in page.sections["configuration"]


def test_curves_take_their_colours_from_the_page_and_keep_text_as_text() -> None:
    svg = network_curves([history("mel_1d", 5)], ["Model 1, mel_1d"])
    assert svg.startswith("<svg ")
    assert "Model 1, mel_1d</text>" in svg
    assert "var(--series-1)" in svg
    assert not re.search(r"#0[0-9]0[0-9]0[0-9]", svg)
    assert svg == network_curves([history("mel_1d", 5)], ["Model 1, mel_1d"])


def test_curves_with_one_epoch_or_without_a_roc_auc_are_drawn() -> None:
    bare = history("mel_1d", 1)
    bare["history"][0]["valid_roc_auc"] = math.nan
    assert "<svg" in network_curves([bare], ["Model 1"])
    assert "<svg" in combiner_curves([bare, history("mel_2d", 3)], ["1+2", "1+3"])


@pytest.mark.parametrize(("value", "bar"), [(0.75, (50.0, 25.0)), (0.25, (25.0, 25.0)), (0.5, (50.0, 0.0))])
def test_bars_begin_at_chance(value: float, bar: tuple[float, float]) -> None:
    scale = TagScale(0.0)
    left, width = scale.bar(value)
    assert (left, width) == (min(bar[0], 100 * value), bar[1])


@pytest.mark.parametrize(
    ("seconds", "said"), [(4.23, "4.2 s"), (59.97, "1 min 0 s"), (725.0, "12 min 5 s"), (12_000.0, "3 h 20 min")]
)
def test_durations_are_said_as_a_person_would(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_figures_are_rounded() -> None:
    assert rounded(0.86543) == "0.8654"
    assert rounded(12345.6, 0) == "12,346"


def test_the_command_writes_the_newest_run_under_the_root_and_says_where(made_up: MadeUpPipeline) -> None:
    settings = ["--set", f"name={made_up.name}", "--set", f"root={made_up.root}"]
    result = CliRunner().invoke(group, ["report", *settings])
    path = made_up.root / "reports" / "2026-11-20T07:00:00.000001.html"
    assert result.exit_code == 0, result.output
    assert result.output == f"2026-11-20T07:00:00.000001 (done): {path}\n"
    assert "run 2026-11-20T07:00:00" in path.read_text(encoding="utf-8")


def test_the_command_takes_a_run_and_a_file(made_up: MadeUpPipeline, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(made_up.config.to_yaml())
    out = tmp_path / "new folder" / "page.html"
    result = CliRunner().invoke(group, ["report", "2026-11-20T05", "--config", str(config), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "Trainer_mel_2d failed" in out.read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_said(made_up: MadeUpPipeline, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = ["--set", f"name={made_up.name}", "--set", f"root={made_up.root}"]
    result = CliRunner().invoke(group, ["report", *settings, "--out", str(tmp_path / "file" / "page.html")])
    assert result.exit_code != 0
    assert "file" in str(result.exception)


ROBUSTNESS = {
    "clean": {"roc_auc": 0.8, "pr_auc": 0.4},
    "noise_0.1": {"roc_auc": 0.71, "pr_auc": 0.3},
    "mp3_32": {"roc_auc": 0.79, "pr_auc": math.nan},
}
TOO_MUCH = "ROC-AUC under noise_0.1 is 0.7100, 0.0900 below the clean 0.8000; at most 0.0500 is allowed"


def robustness_run(tmp_path: Path, evaluators: int = 1) -> Run:
    write_json(tmp_path / "scores" / "robustness.json", ROBUSTNESS)
    write_evaluation(tmp_path / "evaluation", 0.85 if evaluators else 0.75)
    config = PipelineConfig.model_validate({"gate": {"robustness": {"noise_0.1": 0.05}}})
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "one.yaml").write_text(config.to_yaml())
    return _run(
        NodeRun(
            "Evaluator",
            "done",
            1.0,
            {"evaluation": str(tmp_path / "evaluation")},
            {"blessing": {"blessed": evaluators}},
        ),
        NodeRun("RobustnessScorer", "done", 1.0, {"robustness": str(tmp_path / "scores")}, {}),
        NodeRun("RobustnessGate", "done", 1.0, {}, {"robust_blessing": {"blessed": 0, "gate_reasons": TOO_MUCH}}),
        NodeRun("Pusher", "done", 1.0, {}, {}),
    )


def test_model_that_drops_too_much_is_refused_with_the_figures(tmp_path: Path) -> None:
    run = robustness_run(tmp_path)
    assert run.blessed is False
    assert run.gate_reasons == [TOO_MUCH]
    assert verdict(run) == ("refused", f"Refused by the gate, not pushed: {TOO_MUCH}.")
    assert f"refused by the gate, not pushed: {TOO_MUCH}" in describe_run(run)
    page = Page(render(collect(run, tmp_path)))
    assert page.row("noise_0.1") == ["noise_0.1", "0.7100", "0.0900", "0.0500", "0.3000"]
    assert page.row("clean") == ["clean", "0.8000", "", "", "0.4000"]
    assert page.row("mp3_32") == ["mp3_32", "0.7900", "0.0100", "", NOT_MEASURED]


def test_both_gates_say_why_they_refuse(tmp_path: Path) -> None:
    lower, drop = robustness_run(tmp_path, evaluators=0).gate_reasons
    assert lower == "ROC-AUC is 0.7500; at least 0.8000 is asked"
    assert drop == TOO_MUCH


def test_model_waits_for_the_last_gate(tmp_path: Path) -> None:
    run = robustness_run(tmp_path)
    failed = NodeRun("RobustnessGate", "failed", 1.0, {}, {})
    assert _run(run.nodes[0], failed).blessed is None
    assert verdict(_run(run.nodes[0], failed))[0] == "failed"


def test_robustness_that_was_asked_for_and_is_not_there_is_said(tmp_path: Path) -> None:
    run = robustness_run(tmp_path)
    page = Page(render(collect(_run(run.nodes[0]), tmp_path)))
    assert "RobustnessScorer did not run" in page.sections["robustness"]
    (tmp_path / "configs" / "one.yaml").write_text(PipelineConfig().to_yaml())
    assert "robustness" not in Page(render(collect(_run(run.nodes[0]), tmp_path))).sections


def test_trained_networks_give_a_map_of_the_tags(tmp_path: Path) -> None:
    run_id = "2026-11-20T07:00:00.000001"
    made_up = MadeUpPipeline(tmp_path)
    made_up.add_run(run_id)
    (run,) = list_runs(made_up.config)
    assert "As a mapNot there: no trained network of this run is there any more." in squeezed(
        render(collect(run, tmp_path))
    )
    for name in ("mel_1d", "mel_2d"):
        folder = tmp_path / "artifacts" / f"Trainer_{name}" / run_id / "model" / "Format-Keras"
        folder.mkdir(parents=True)
        keras_file(folder / "model.keras", np.random.default_rng(0).normal(size=(4, len(TAGS))))
    html = render(collect(run, tmp_path))
    assert "Tags as a map: the last layers of mel_1d, mel_2d; t-SNE" in html
    picture = html[html.index("Tags as a map:") :]
    assert all(str(escape(tag)) in picture for tag in TAGS)
    ids = [value for _, name, value in Page(html).attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_a_network_for_other_tags_is_said_in_place_of_a_map(tmp_path: Path) -> None:
    made_up = MadeUpPipeline(tmp_path)
    made_up.add_run("2026-11-20T07:00:00.000001")
    folder = tmp_path / "artifacts" / "Trainer_mel_1d" / "2026-11-20T07:00:00.000001" / "model" / "Format-Keras"
    folder.mkdir(parents=True)
    keras_file(folder / "model.keras", np.ones((4, 7)))
    (run,) = list_runs(made_up.config)
    assert "mel_1d answers with 7 tags, and 3 are named" in render(collect(run, tmp_path))


def squeezed(html: str) -> str:
    return re.sub(r"\s*\n\s*", "", Page(html).sections["tags"])
