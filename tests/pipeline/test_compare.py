"""Comparisons: their configuration, what is trained within a budget, and what is read back."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from components.comparison_metrics import METRICS
from components.kept_answers import COSTS, Answers
from pipeline.compare import results, runner
from pipeline.compare.config import ComparisonConfig, Entry, is_comparison, load_comparison
from pipeline.compare.output import as_csv, as_html, as_json, confusions, group_rows
from pipeline.compare.results import Evaluation, make_rows
from pipeline.compare.runner import Progress, train_missing
from preprocessing.errors import BadInputError
from preprocessing.settings_file import read_settings_file

SETTINGS: dict[str, Any] = {
    "data": {"one": {"dataset": "synthetic", "audio_dir": "one"}, "two": {"dataset": "synthetic", "audio_dir": "two"}},
    "networks": {"mel_1d": {"epochs": 4}, "short": {"network": "dieleman_mel", "epochs": 2}},
    "recipes": {"plain": {}, "mixed": {"mixup": 0.3, "epochs": 7}},
    "seeds": [0, 5],
}
TAGS = ("rock", "piano", "sad")


def config(tmp_path: Path, **changes: Any) -> ComparisonConfig:
    return ComparisonConfig.model_validate({**SETTINGS, "root": str(tmp_path / "run"), **changes})


def test_every_network_meets_every_recipe_data_set_and_seed(tmp_path: Path) -> None:
    entries = list(config(tmp_path).entries())
    assert len(set(entries)) == 2 * 2 * 2 * 2
    assert [entry.seed for entry in entries[:8]] == [0] * 8, "one of each before further seeds"


def test_recipe_stands_over_the_networks_settings_and_the_seed_over_both(tmp_path: Path) -> None:
    comparison = config(tmp_path)
    mixed = comparison.settings(Entry("one", "short", "mixed", 5))
    assert (mixed.network, mixed.epochs, mixed.mixup, mixed.seed) == ("dieleman_mel", 7, 0.3, 5)
    pipeline = comparison.pipeline("two")
    assert pipeline.data.audio_dir == "two"
    assert list(pipeline.networks) == [entry.name for entry in comparison.entries() if entry.data == "two"]
    assert pipeline.root == str(tmp_path / "run" / "two")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"networks": {"mel_3d": {}}}, "no network is called 'mel_3d'"),
        ({"recipes": {"a__b": {}}}, "two underscores"),
        ({"recipes": {"odd": {"mixdown": 1}}}, "mixdown"),
        ({"seeds": [1, 1]}, "expected different ones"),
        ({"reference": "mel_1d__other"}, "expected one of mel_1d__mixed"),
        ({"data": {}}, "data"),
    ],
)
def test_wrong_setting_is_refused_in_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "comparison.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, **changes}))
    with pytest.raises(BadInputError, match=said) as error:
        load_comparison(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", sorted(Path("pipeline/configs/compare").glob("*.yaml")), ids=lambda path: path.stem)
def test_ready_made_comparisons_can_be_read(path: Path) -> None:
    assert list(load_comparison(str(path)).entries())


def test_file_of_a_comparison_is_known_by_its_shape() -> None:
    folder = Path("pipeline/configs")
    assert all(is_comparison(read_settings_file(path)) for path in folder.glob("compare/*.yaml"))
    assert not any(is_comparison(read_settings_file(path)) for path in folder.glob("*.yaml"))
    assert is_comparison({"data": {"mine": {"audio_dir": "clips"}}, "networks": {"mel_1d": {}}})
    assert is_comparison({"data": {"mine": None}, "recipes": {"plain": {}}}), "so that its own fault is named"
    for run in ({}, {"data": {}}, {"data": {"heads": {"tags": {"top": 5}}}}, {"data": {"audio_dri": "clips"}}):
        assert not is_comparison(run)


def test_settings_of_a_comparison_are_overridden_by_their_types(tmp_path: Path) -> None:
    path = tmp_path / "comparison.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    overrides = ["seeds=[3]", "note=5", "networks.mel_1d.epochs=9", "kubeflow.env.AT=12:30", "data.one.split=folder"]
    changed = load_comparison(str(path), overrides)
    assert (changed.seeds, changed.note, changed.kubeflow.env) == ((3,), "5", {"AT": "12:30"})
    assert changed.settings(Entry("one", "mel_1d", "plain", 3)).epochs == 9
    assert (changed.data["one"].split, changed.data["two"].split) == ("folder", "track")
    with pytest.raises(BadInputError, match="seedz"):
        load_comparison(str(path), ["seedz=[3]"])


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trainings take 10 minutes of a clock that is turned by hand; those of ``short`` with seed 5 fail."""
    now, done = [0.0], list[str]()

    def train(_: Path, entry: Entry, log: Path, minutes: float | None) -> int | None:
        if minutes is not None and minutes < 10:
            now[0] += 60 * minutes
            return None
        now[0] += 600
        log.write_text("begun\nautotag: the loss is nan\n")
        if (entry.network, entry.seed) == ("short", 5):
            return 1
        done.append(f"{entry.data} {entry.name}")
        return 0

    monkeypatch.setattr(runner, "_train", train)
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
    return done


def run(comparison: ComparisonConfig, trained: list[str], minutes: float | None = None) -> tuple[Progress, list[str]]:
    said: list[str] = []
    progress = train_missing(
        comparison,
        Path("c.yaml"),
        lambda: [entry for entry in comparison.entries() if f"{entry.data} {entry.name}" in trained],
        minutes,
        said.append,
    )
    return progress, said


def test_failed_training_is_named_and_the_others_go_on(trained: list[str], tmp_path: Path) -> None:
    progress, said = run(config(tmp_path), trained)
    assert len(trained) == len(progress.done) == 12
    assert {failure.reason for failure in progress.failed} == {"the loss is nan"}
    assert len(progress.failed) == 4
    assert progress.left == []
    assert any("about 150 min left" in line for line in said)


def test_budget_is_kept_and_the_next_call_goes_on(trained: list[str], tmp_path: Path) -> None:
    progress, said = run(config(tmp_path), trained, minutes=35)
    assert len(trained) == 3, "a fourth would take 10 of the 5 minutes that are left"
    assert len(progress.left) == 13
    assert "time is up" in said[-1]
    again, said = run(config(tmp_path), trained)
    assert said[0] == "16 trainings: 3 are there, 13 to do"
    assert len(again.done) == 12


def test_first_training_that_does_not_end_in_time_is_left_too(trained: list[str], tmp_path: Path) -> None:
    progress, said = run(config(tmp_path), trained, minutes=4)
    assert trained == []
    assert len(progress.left) == 16
    assert "goes on at its last epoch" in said[-1]


def test_training_ends_with_a_comparison_that_is_killed(tmp_path: Path) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    sleeper.chmod(0o755)
    program = (
        "import sys; from pathlib import Path; from pipeline.compare import runner; "
        f"from pipeline.compare.config import Entry; sys.executable = {str(sleeper)!r}; "
        f"runner._train(Path('c.yaml'), Entry('one', 'short', 'plain', 0), Path({str(tmp_path / 'log')!r}), None)"
    )
    killed = subprocess.Popen([sys.executable, "-c", program])
    training = psutil.Process(int(wait_for_text(tmp_path / "pid")))
    killed.kill()
    killed.wait()
    training.wait(20)


def wait_for_text(file: Path) -> str:
    for _ in range(600):
        if file.exists() and file.read_text().strip():
            return file.read_text()
        time.sleep(0.1)
    raise AssertionError(f"{file} was not written")


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Evaluation]:
    """Of two networks on one data set, two seeds each; ``mel_1d`` answers far better."""
    random = np.random.default_rng(0)
    labels = (random.random((90, 3)) < 0.3).astype("f4")
    answers, found = {}, []
    for network, skill in (("mel_1d", 0.35), ("short", 0.1)):
        for seed in (0, 5):
            predictions = np.clip(labels * skill + random.random((90, 3)) * (1 - skill), 0, 1).astype("f4")
            tracks = np.array([b"%d" % (number // 2) for number in range(90)])
            ids = np.array([b"%03d" % number for number in range(90)])
            entry = Entry("one", network, "plain", seed)
            answers[entry.name] = Answers(TAGS, ids, tracks, labels, predictions, np.full(3, 0.4, "f4"))
            figures = dict.fromkeys(METRICS, 0.5 + skill / 4 + seed / 100)
            found.append(Evaluation(entry, entry.name, figures, dict.fromkeys(COSTS, 2.0 + seed), seed == 0))
    monkeypatch.setattr(results, "read_answers", answers.__getitem__)
    return found


def test_rows_are_means_over_seeds_with_intervals_and_differences(
    evaluations: list[Evaluation], tmp_path: Path
) -> None:
    best, other = make_rows(config(tmp_path), evaluations)
    assert (best.name, best.seeds) == ("mel_1d__plain", (0, 5))
    assert best.to_reference is None
    assert other.to_reference is not None
    assert other.to_reference["roc_auc"].distinguishable
    assert other.to_reference["roc_auc"].value == pytest.approx(
        other.figures["roc_auc"].value - best.figures["roc_auc"].value
    )
    assert best.figures["roc_auc"].low < best.figures["roc_auc"].value < best.figures["roc_auc"].high
    mean, deviation = best.spread["roc_auc"]
    assert mean == pytest.approx(0.6125)
    assert deviation == pytest.approx(0.05 / 2**0.5)
    assert best.costs["training_minutes"] == 4.5
    assert not best.current


def test_scores_of_other_clips_are_not_put_into_one_table(
    evaluations: list[Evaluation], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read = results.read_answers

    def other(folder: str) -> Answers:
        answers = read(folder)
        return replace(answers, clip_ids=answers.clip_ids[::-1]) if folder.startswith("short") else answers

    monkeypatch.setattr(results, "read_answers", other)
    with pytest.raises(BadInputError, match="scored on other clips or tags"):
        make_rows(config(tmp_path), evaluations)


def test_csv_json_and_page_hold_all_rows(evaluations: list[Evaluation], tmp_path: Path) -> None:
    import csv
    import json

    comparison = config(tmp_path, note="<script>alert(1)</script>")
    rows, progress = make_rows(comparison, evaluations), Progress(left=[Entry("two", "mel_1d", "plain", 0)])
    table = list(csv.DictReader(as_csv(rows).splitlines()))
    assert [row["network"] for row in table] == ["mel_1d", "short"]
    assert float(table[0]["roc_auc"]) == rows[0].figures["roc_auc"].value
    values = json.loads(as_json(comparison, rows, progress))
    assert values["rows"][1]["above_reference"]["roc_auc"]["distinguishable"] is True
    assert values["left"] == [{"data": "two", "network": "mel_1d", "recipe": "plain", "seed": 0}]
    page = as_html(comparison, rows, progress)
    assert "<script>" not in page
    assert page.count("<svg") == 2
    assert "1 trainings are left" in page
    assert "not distinguishable" not in page
    assert "0.8570" in page, "the published figure of mel_1d"


@pytest.fixture
def deformed(evaluations: list[Evaluation], monkeypatch: pytest.MonkeyPatch) -> list[Evaluation]:
    """All were scored under noise, which takes half of mel_1d's skill; one seed of ``short`` alone under MP3."""
    read = results.read_answers

    def answers(folder: str) -> Answers:
        found = read(folder)
        random = np.random.default_rng(len(folder))
        lost = (found.predictions + 2 * random.random(found.predictions.shape)).astype("f4") / 3
        under = {"noise_0.1": lost}
        return replace(found, deformed={**under, "mp3_32": found.predictions} if folder == "short__plain__0" else under)

    monkeypatch.setattr(results, "read_answers", answers)
    return evaluations


def test_drops_are_paired_with_the_clean_clips(deformed: list[Evaluation], tmp_path: Path) -> None:
    best, other = make_rows(config(tmp_path, deformations=["noise_0.1", "mp3_32"]), deformed)
    noise = best.deformed["noise_0.1"]
    assert noise.drop["roc_auc"].value == pytest.approx(best.figures["roc_auc"].value - noise.figures["roc_auc"].value)
    assert noise.drop["roc_auc"].distinguishable
    assert noise.drop["roc_auc"].low < noise.drop["roc_auc"].value < noise.drop["roc_auc"].high
    assert list(best.deformed) == list(other.deformed) == ["noise_0.1"], "MP3 is not there for all seeds"


def test_deformations_stand_in_csv_json_and_page(deformed: list[Evaluation], tmp_path: Path) -> None:
    import csv
    import json

    comparison = config(tmp_path, deformations=["noise_0.1", "mp3_32"])
    rows = make_rows(comparison, deformed)
    table = list(csv.DictReader(as_csv(rows, comparison.deformations).splitlines()))
    assert float(table[0]["roc_auc_drop_noise_0.1"]) == rows[0].deformed["noise_0.1"].drop["roc_auc"].value
    assert table[0]["pr_auc_mp3_32_low"] == ""
    values = json.loads(as_json(comparison, rows, Progress()))
    assert values["rows"][0]["deformed"]["noise_0.1"]["figures"]["pr_auc"]["value"] > 0
    page = as_html(comparison, rows, Progress())
    assert page.count("<svg") == 3
    assert "Drop of ROC-AUC of 2 networks under 2 deformations" in page
    assert page.count("not measured") == 2


def test_unknown_deformation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'hum_50': there is no such deformation"):
        config(tmp_path, deformations=["hum_50"])


def test_confusions_and_groups_of_a_row(evaluations: list[Evaluation], tmp_path: Path) -> None:
    best = make_rows(config(tmp_path), evaluations)[0]
    pairs = confusions(best)
    assert len(pairs) == 6
    assert [pair["more"] for pair in pairs] == sorted((pair["more"] for pair in pairs), reverse=True)
    assert {group["group"] for group in group_rows(best)} == {"genre", "instrument", "mood"}
