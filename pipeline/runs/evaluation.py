"""What the Evaluator's folder says of the gate: the figures, the thresholds, and why a model was refused.

Importing tensorflow_model_analysis takes seconds and prints warnings, so the few messages that are read here are
described in ``protos/``, compatible with its validation_result.proto and metrics_for_slice.proto (see
preprocessing.protobuf).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from preprocessing.examples import read_records
from preprocessing.protobuf import message_classes

VALIDATIONS_FILE: Final = "validations.tfrecord"
METRICS_FILES: Final = "metrics-*.tfrecord"
EVAL_CONFIG_FILE: Final = "eval_config.json"
ROC_AUC: Final = "roc_auc"
PR_AUC: Final = "pr_auc"
BASELINE: Final = "baseline"

_MESSAGES: Final = message_classes(Path(__file__).with_name("protos"))
ValidationResult: Final = _MESSAGES["autotag.ValidationResult"]
MetricsForSlice: Final = _MESSAGES["autotag.MetricsForSlice"]


@dataclass(frozen=True)
class GateFigures:
    """What the gate measured and asked; None where there is no such figure.

    Attributes:
        roc_auc: the candidate's macro ROC-AUC on the test split.
        baseline_roc_auc: that of the latest blessed model.
        min_roc_auc: at least this is asked.
        allowed_change: against the latest blessed model; negative, as TFMA has it.
        pr_auc: the candidate's macro average precision on the test split.
    """

    roc_auc: float | None = None
    baseline_roc_auc: float | None = None
    min_roc_auc: float | None = None
    allowed_change: float | None = None
    pr_auc: float | None = None

    def __str__(self) -> str:
        """Say the figures in one line, empty where nothing was measured."""
        if self.roc_auc is None:
            return ""
        asked = f" (at least {self.min_roc_auc:.4f} is asked)" if self.min_roc_auc is not None else ""
        line = f"ROC-AUC {self.roc_auc:.4f}{asked}"
        if self.baseline_roc_auc is None:
            return f"{line}; no blessed model before it to compare with"
        allowed = f" ({self.allowed_change:+.4f} is allowed)" if self.allowed_change is not None else ""
        return f"{line}; {self.roc_auc - self.baseline_roc_auc:+.4f} against the latest blessed model{allowed}"


def gate_figures(evaluation: Path) -> GateFigures:
    """Read what was measured and asked from the Evaluator's output folder."""
    scores: dict[tuple[str, bool], float] = {}
    for message in _messages(MetricsForSlice, *sorted(evaluation.glob(METRICS_FILES))):
        for metric in message.metric_keys_and_values:
            if not metric.key.is_diff:
                scores[metric.key.name, metric.key.model_name == BASELINE] = metric.value.double_value.value
    threshold = _threshold(evaluation)
    return GateFigures(
        roc_auc=scores.get((ROC_AUC, False)),
        baseline_roc_auc=scores.get((ROC_AUC, True)),
        min_roc_auc=threshold.get("valueThreshold", {}).get("lowerBound"),
        allowed_change=threshold.get("changeThreshold", {}).get("absolute"),
        pr_auc=scores.get((PR_AUC, False)),
    )


def gate_failures(evaluation: Path) -> list[str]:
    """Say why the gate refused a model: a line with the figures for each threshold that it missed."""
    lines = []
    for result in _messages(ValidationResult, evaluation / VALIDATIONS_FILE):
        failures = [failure for slice_ in result.metric_validations_per_slice for failure in slice_.failures]
        lines += [_failure_line(failure) for failure in failures]
        if not failures and not result.validation_ok:
            lines.append("nothing was measured: the test split gave no figures")
    return lines


def _failure_line(failure: Any) -> str:
    name = failure.metric_key.name.replace(ROC_AUC, "ROC-AUC")
    value = failure.metric_value.double_value.value
    threshold = failure.metric_threshold
    if failure.message.strip():
        return f"{name}: {failure.message.strip()}"
    if failure.metric_key.is_diff:
        allowed = threshold.change_threshold.absolute.value
        return f"{name} changed by {value:+.4f} against the latest blessed model; allowed {allowed:+.4f}"
    return f"{name} is {value:.4f}; at least {threshold.value_threshold.lower_bound.value:.4f} is asked"


def _messages(kind: Any, *paths: Path) -> Iterator[Any]:
    for path in paths:
        if path.exists():
            with path.open("rb") as file:
                for record in read_records(file):
                    yield kind.FromString(record)


def _threshold(evaluation: Path) -> dict[str, Any]:
    try:
        config = json.loads((evaluation / EVAL_CONFIG_FILE).read_text(encoding="utf-8"))["evalConfig"]
    except (FileNotFoundError, KeyError):
        return {}
    specs = [spec["thresholds"][ROC_AUC] for spec in config.get("metricsSpecs", ()) if "thresholds" in spec]
    return specs[0] if specs else {}
