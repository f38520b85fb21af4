"""``autotag compare`` on a small corpus: real trainings, a network that fails, a second call that trains nothing."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command_runner import autotag

from components.kept_answers import read_answers
from pipeline.compare.config import load_comparison
from pipeline.compare.run import train_and_read
from pipeline.reports.leaderboards import MetadataLeaderboards
from serving.page.answers import PageError
from serving.page.work import Check


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    autotag("make-corpus", folder / "corpus", "--clips", 48, "--seed", 3)
    settings = {
        "name": "small",
        "root": str(folder / "run"),
        "data": {
            "made": {
                "dataset": "synthetic",
                "audio_dir": str(folder / "corpus"),
                "ratio": [8, 4, 4],
                "shard_clips": 20,
                "heads": {"tags": {"top": 8}},
            }
        },
        "networks": {
            "dieleman_mel": {"epochs": 2, "precision": "float32"},
            "mfcc_cnn_shallow": {"epochs": 1},
            "lost": {"network": "dieleman_mel", "weights": "nowhere.keras"},
        },
        "ensembles": {
            "both": {"of": ["dieleman_mel", "mfcc_cnn_shallow"], "combiner": "logistic", "fit": "out_of_fold"},
            "with_lost": {"of": ["dieleman_mel", "lost"], "combiner": "mean"},
        },
        "combiner": {"folds": 2},
        "deformations": ["noise_0.4", "gain_-20"],
        "recipes": {"paper": {"recipe": "paper"}},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(settings))
    return folder / "small.yaml"


def test_networks_are_trained_scored_and_read_back_from_ml_metadata(comparison: Path, tmp_path: Path) -> None:
    first = autotag("compare", comparison, "--out", tmp_path / "first", code=1)
    assert "lost, paper, seed 0, on made: failed: " in first.stderr
    assert "nowhere.keras" in first.stderr
    values = json.loads((tmp_path / "first" / "comparison.json").read_text())
    rows = {row["network"]: row for row in values["rows"]}
    assert set(rows) == {"dieleman_mel", "mfcc_cnn_shallow", "both"}
    row = rows["dieleman_mel"]
    assert (row["recipe"], row["current"]) == ("paper", True)
    assert 0 <= row["figures"]["roc_auc"]["value"] <= 1
    assert row["costs"]["seconds_for_1000_clips"] > 0
    assert row["costs"]["training_minutes"] > 0
    assert len(row["tags"]) == 8
    assert set(row["deformed"]) == {"noise_0.4", "gain_-20"}
    drop = row["deformed"]["noise_0.4"]["drop"]["roc_auc"]["value"]
    assert drop == row["figures"]["roc_auc"]["value"] - row["deformed"]["noise_0.4"]["figures"]["roc_auc"]["value"]
    assert "Robustness</h3>" in (tmp_path / "first" / "comparison.html").read_text()
    reasons = {failure["entry"]["network"]: failure["reason"] for failure in values["failed"]}
    assert reasons.keys() == {"lost", "with_lost"}
    assert reasons["with_lost"] == "there is no lost, paper, seed 0, on made"
    check_ensembles(comparison, rows)
    check_board(comparison, rows)
    again = autotag("compare", comparison, "--report-only", "--out", tmp_path / "again")
    assert "5 trainings: 3 are there, 2 to do" in again.stderr
    assert "dieleman_mel" in again.stdout
    csv = "comparison.csv"
    assert (tmp_path / "again" / csv).read_bytes() == (tmp_path / "first" / csv).read_bytes()


def check_board(comparison: Path, rows: dict[str, Any]) -> None:
    """The page shows the same figures, read in a process of its own, and curves of any tag that some clips carry."""
    boards = MetadataLeaderboards([comparison])
    shown = boards.read(Check())
    (board,) = shown["boards"]
    assert shown["runs"] == []
    (data,) = board["data"]
    assert {row["network"] for row in data["rows"]} == set(rows)
    for row in data["rows"]:
        known = rows[row["network"]]
        assert row["figures"]["roc_auc"]["value"] == pytest.approx(known["figures"]["roc_auc"]["value"])
        assert row["costs"]["seconds_per_1000"] == pytest.approx(known["costs"]["seconds_for_1000_clips"])
        assert row["deformed"]["noise_0.4"]["drop"] == pytest.approx(
            known["deformed"]["noise_0.4"]["drop"]["roc_auc"]["value"]
        )
        assert row["current"]
    drawn = 0
    for tag in data["tags"]:
        with contextlib.suppress(PageError):
            curve = boards.curve(board["name"], data["name"], data["rows"][0]["name"], tag, Check())
            assert curve["clips"] == data["clips"]
            drawn += 1
    assert drawn


def check_ensembles(comparison: Path, rows: dict[str, Any]) -> None:
    """An ensemble answers otherwise than its networks, clean and deformed, and costs both and its combiner."""
    config = load_comparison(str(comparison))
    _, found = train_and_read(config, comparison, 0, lambda _: None)
    answers = {entry.network: read_answers(one.folder) for entry, one in found.items()}
    members = [answers[name] for name in ("dieleman_mel", "mfcc_cnn_shallow")]
    for member in members:
        assert np.abs(answers["both"].predictions - member.predictions).max() > 1e-4
        np.testing.assert_array_equal(answers["both"].clip_ids, member.clip_ids)
    assert set(answers["both"].deformed) == {"noise_0.4", "gain_-20"}
    costs = {name: row["costs"] for name, row in rows.items()}
    together = {cost: costs["dieleman_mel"][cost] + costs["mfcc_cnn_shallow"][cost] for cost in costs["both"]}
    assert costs["both"]["training_minutes"] == pytest.approx(together["training_minutes"])
    assert costs["both"]["parameters"] == together["parameters"] + 3 * 8
    assert costs["both"]["seconds_for_1000_clips"] > together["seconds_for_1000_clips"]
