"""What the Evaluator's folder says of the gate: the figures, the thresholds, and why a model was refused.

Importing tensorflow_model_analysis takes five seconds and prints warnings, so the few messages that are read here are
built from descriptors, wire-compatible with its validation_result.proto and metrics_for_slice.proto, in a descriptor
pool of their own (the default pool may hold TFMA's).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from preprocessing.examples import read_records

VALIDATIONS_FILE: Final = "validations.tfrecord"
METRICS_FILES: Final = "metrics-*.tfrecord"
EVAL_CONFIG_FILE: Final = "eval_config.json"
ROC_AUC: Final = "roc_auc"
PR_AUC: Final = "pr_auc"
BASELINE: Final = "baseline"

_MESSAGES: Final = {
    "Double": {"value": (1, "double")},
    "MetricKey": {"name": (1, "string"), "model_name": (4, "string"), "is_diff": (5, "bool")},
    "MetricValue": {"double_value": (1, "Double")},
    "ValueThreshold": {"lower_bound": (1, "Double"), "upper_bound": (2, "Double")},
    "ChangeThreshold": {"absolute": (1, "Double")},
    "MetricThreshold": {"value_threshold": (1, "ValueThreshold"), "change_threshold": (2, "ChangeThreshold")},
    "Failure": {
        "metric_key": (1, "MetricKey"),
        "metric_threshold": (2, "MetricThreshold"),
        "metric_value": (3, "MetricValue"),
        "message": (4, "string"),
    },
    "ValidationsForSlice": {"failures": (3, "repeated Failure")},
    "ValidationResult": {
        "validation_ok": (1, "bool"),
        "metric_validations_per_slice": (2, "repeated ValidationsForSlice"),
    },
    "MetricKeyAndValue": {"key": (1, "MetricKey"), "value": (2, "MetricValue")},
    "MetricsForSlice": {"metric_keys_and_values": (51, "repeated MetricKeyAndValue")},
}
"""Message -> field -> (number, type), of TFMA's messages as far as they are read."""


def _message_classes() -> dict[str, Any]:
    field = descriptor_pb2.FieldDescriptorProto
    scalars = {"double": field.TYPE_DOUBLE, "string": field.TYPE_STRING, "bool": field.TYPE_BOOL}
    file = descriptor_pb2.FileDescriptorProto(name="autotag/evaluation.proto", package="autotag", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            repeated, type_name = kind.startswith("repeated "), kind.removeprefix("repeated ")
            message.field.add(
                name=field_name,
                number=number,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
                type=scalars.get(type_name, field.TYPE_MESSAGE),
                type_name=None if type_name in scalars else f".autotag.{type_name}",
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptors = {name: pool.FindMessageTypeByName(f"autotag.{name}") for name in _MESSAGES}
    if hasattr(message_factory, "GetMessageClass"):  # protobuf 4.22 and later
        return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in descriptors.items()}
    factory = message_factory.MessageFactory(pool)
    return {name: factory.GetPrototype(descriptor) for name, descriptor in descriptors.items()}


MESSAGES: Final = _message_classes()


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
    for message in _messages("MetricsForSlice", *sorted(evaluation.glob(METRICS_FILES))):
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
    for result in _messages("ValidationResult", evaluation / VALIDATIONS_FILE):
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


def _messages(kind: str, *paths: Path) -> Iterator[Any]:
    for path in paths:
        if path.exists():
            with path.open("rb") as file:
                for record in read_records(file):
                    yield MESSAGES[kind].FromString(record)


def _threshold(evaluation: Path) -> dict[str, Any]:
    try:
        config = json.loads((evaluation / EVAL_CONFIG_FILE).read_text(encoding="utf-8"))["evalConfig"]
    except (FileNotFoundError, KeyError):
        return {}
    specs = [spec["thresholds"][ROC_AUC] for spec in config.get("metricsSpecs", ()) if "thresholds" in spec]
    return specs[0] if specs else {}
