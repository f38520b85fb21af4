"""The gate on drops under deformations: what it blesses, and what it says of what it does not bless."""

from __future__ import annotations

import json
import math
from pathlib import Path

from tfx.types import standard_artifacts

from components.robustness import (
    CLEAN,
    REASONS,
    ROBUSTNESS_FILE,
    RobustnessGateExecutor,
    Scores,
    excessive_drops,
)

SCORES: Scores = {
    CLEAN: {"roc_auc": 0.80, "pr_auc": 0.4},
    "noise_0.1": {"roc_auc": 0.71, "pr_auc": 0.3},
    "mp3_32": {"roc_auc": 0.81, "pr_auc": 0.4},
}


def gate(folder: Path, limits: dict[str, float], before: int) -> standard_artifacts.ModelBlessing:
    robustness = standard_artifacts.ModelEvaluation()
    robustness.uri = str(folder)
    (folder / ROBUSTNESS_FILE).write_text(json.dumps(SCORES))
    blessing, after = standard_artifacts.ModelBlessing(), standard_artifacts.ModelBlessing()
    blessing.set_int_custom_property("blessed", before)
    after.uri = str(folder / "after")
    RobustnessGateExecutor().Do(
        {"robustness": [robustness], "blessing": [blessing]},
        {"robust_blessing": [after]},
        {"limits": json.dumps(limits)},
    )
    return after


def test_drop_within_the_limit_keeps_the_evaluators_blessing(tmp_path: Path) -> None:
    blessing = gate(tmp_path, {"noise_0.1": 0.1, "mp3_32": 0.0}, 1)
    assert blessing.get_int_custom_property("blessed") == 1
    assert [path.name for path in (tmp_path / "after").iterdir()] == ["BLESSED"]


def test_larger_drop_takes_the_blessing_away_and_says_the_figures(tmp_path: Path) -> None:
    blessing = gate(tmp_path, {"noise_0.1": 0.05, "mp3_32": 0.05}, 1)
    assert blessing.get_int_custom_property("blessed") == 0
    said = "ROC-AUC under noise_0.1 is 0.7100, 0.0900 below the clean 0.8000; at most 0.0500 is allowed"
    assert blessing.get_string_custom_property(REASONS) == said
    assert (tmp_path / "after" / "NOT_BLESSED").read_text() == said


def test_robust_model_that_the_evaluator_refused_stays_refused(tmp_path: Path) -> None:
    blessing = gate(tmp_path, {"mp3_32": 0.05}, 0)
    assert blessing.get_int_custom_property("blessed") == 0
    assert blessing.get_string_custom_property(REASONS) == ""


def test_what_cannot_be_measured_is_refused() -> None:
    scores = {**SCORES, "noise_0.1": {"roc_auc": math.nan, "pr_auc": math.nan}}
    (line,) = excessive_drops(scores, {"noise_0.1": 1.0})
    assert line.startswith("noise_0.1: nothing was measured")
