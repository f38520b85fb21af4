"""``autotag compare`` on a small corpus: real trainings, a network that fails, a second call that trains nothing."""

import json
from pathlib import Path

import pytest
import yaml
from command_runner import autotag


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    autotag("make-corpus", folder / "corpus", "--clips", 40, "--seed", 4)
    settings = {
        "name": "small",
        "root": str(folder / "run"),
        "data": {
            "made": {
                "dataset": "synthetic",
                "audio_dir": str(folder / "corpus"),
                "ratio": [6, 5, 5],
                "shard_clips": 20,
                "heads": {"tags": {"top": 8}},
            }
        },
        "networks": {"dieleman_mel": {"epochs": 2, "precision": "float32"}},
        "deformations": ["noise_0.4", "gain_-20"],
        "recipes": {"paper": {"recipe": "paper"}, "lost": {"weights": "nowhere.keras"}},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(settings))
    return folder / "small.yaml"


def test_networks_are_trained_scored_and_read_back_from_ml_metadata(comparison: Path, tmp_path: Path) -> None:
    first = autotag("compare", comparison, "--out", tmp_path / "first", code=1)
    assert "dieleman_mel, lost, seed 0, on made: failed: " in first.stderr
    assert "nowhere.keras" in first.stderr
    values = json.loads((tmp_path / "first" / "comparison.json").read_text())
    (row,) = values["rows"]
    assert (row["network"], row["recipe"], row["current"]) == ("dieleman_mel", "paper", True)
    assert 0 <= row["figures"]["roc_auc"]["value"] <= 1
    assert row["costs"]["seconds_for_1000_clips"] > 0
    assert row["costs"]["training_minutes"] > 0
    assert len(row["tags"]) == 8
    assert set(row["deformed"]) == {"noise_0.4", "gain_-20"}
    drop = row["deformed"]["noise_0.4"]["drop"]["roc_auc"]["value"]
    assert drop == row["figures"]["roc_auc"]["value"] - row["deformed"]["noise_0.4"]["figures"]["roc_auc"]["value"]
    assert "Robustness</h3>" in (tmp_path / "first" / "comparison.html").read_text()
    assert [failure["entry"]["recipe"] for failure in values["failed"]] == ["lost"]
    again = autotag("compare", comparison, "--report-only", "--out", tmp_path / "again")
    assert "2 trainings: 1 are there, 1 to do" in again.stderr
    assert "dieleman_mel" in again.stdout
    csv = "comparison.csv"
    assert (tmp_path / "again" / csv).read_bytes() == (tmp_path / "first" / csv).read_bytes()
