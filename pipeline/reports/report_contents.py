"""All that a run's report shows, read from what the run left; what is missing, and why."""

from __future__ import annotations

import functools
import itertools
import json
import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from components.anomalies import anomalies_file, describe_anomalies
from pipeline.reports.report_rows import ModelRow, TagRow, TagScale, model_rows, tag_rows
from pipeline.runs.run_record import Run
from pipeline.settings.config import PipelineConfig
from preprocessing.constants import SPLITS

REJECTS_SHOWN: Final = 20
CONFIG_BEFORE_RUN: Final = timedelta(minutes=5)
"""A configuration is saved just before its run begins; an older one is another run's."""
TRAINER: Final = "Trainer_"
"""Begins the name of a network's node."""


@dataclass(frozen=True)
class Data:
    """What went into the run.

    Attributes:
        summary: summary.json of the examples (preprocessing.output_folder.summarise).
        rejects: the first lines of rejected.jsonl.
        anomalies: what ExampleValidator found, one line each; None where it did not run.
    """

    summary: dict[str, Any] | None = None
    rejects: tuple[dict[str, str], ...] = ()
    anomalies: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Report:
    """All that the page shows."""

    run: Run
    models: tuple[ModelRow, ...]
    tags: tuple[TagRow, ...]
    data: Data
    network_histories: tuple[dict[str, Any], ...]
    combiner_histories: tuple[dict[str, Any], ...]
    configuration: str | None
    missing: dict[str, str] = field(default_factory=dict)
    """Node -> why it has nothing to show."""

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration's values, empty where it is not known."""
        return yaml.safe_load(self.configuration) or {} if self.configuration else {}

    @property
    def robustness_limits(self) -> dict[str, float]:
        """Deformation -> drop of ROC-AUC that the gate allows."""
        return dict((self.settings.get("gate") or {}).get("robustness") or {})

    @property
    def exported(self) -> ModelRow:
        """The exported model's row, without figures where none was exported."""
        return next((row for row in self.models if row.exported), ModelRow("", "", (), None, False))

    @property
    def scored_tags(self) -> list[TagRow]:
        """Tags with both classes in the test split, the best first."""
        scored = [row for row in self.tags if row.roc_auc is not None]
        return sorted(scored, key=lambda row: -(row.roc_auc or 0))

    @property
    def scored_heads(self) -> dict[str, list[TagRow]]:
        """Scored tags by head, in the order of the heads; one group without a name where there is one head."""
        groups: dict[str, list[TagRow]] = {row.head: [] for row in self.tags}
        for row in self.scored_tags:
            groups[row.head].append(row)
        return groups if len(groups) > 1 else {"": self.scored_tags}

    @property
    def unscored_tags(self) -> list[TagRow]:
        """Tags of which the test split has one class only."""
        return [row for row in self.tags if row.roc_auc is None]

    @property
    def tag_scale(self) -> TagScale:
        """The scale on which all scored tags find room."""
        lowest = min([0.5, *(row.roc_auc for row in self.tags if row.roc_auc is not None)])
        return TagScale(math.floor(lowest * 10) / 10)


def collect(run: Run, root: Path) -> Report:
    """Read what a run left.

    Args:
        run: of ML Metadata.
        root: the pipeline's root, where its configurations lie.
    """
    data = _read_data(run)
    shown = existing_output(run, "EnsembleTrainer", "model_run")
    configuration = find_configuration(root, run.run_id)
    config = _parsed(configuration)
    trained = [node.node.removeprefix(TRAINER) for node in run.nodes if node.node.startswith(TRAINER)]
    networks = list(dict.fromkeys([*(config.networks if config else ()), *trained]))
    histories = [(name, _read(run, f"{TRAINER}{name}", "model_run", "history.json")) for name in networks]
    combiners = _read(run, "EnsembleTrainer", "model_run", "history.json") or {}
    found = {
        "ClipExampleGen": data.summary,
        "ExampleValidator": data.anomalies,
        "EnsembleTrainer": run.scores if shown else None,
        **{f"{TRAINER}{name}": history for name, history in histories},
        "Evaluator": run.blessed,
        **({"RobustnessScorer": run.robustness or None} if _asks_robustness(run, config) else {}),
        "Pusher": run.node("Pusher"),
    }
    return Report(
        run=run,
        models=tuple(model_rows(run, config)),
        tags=tuple(tag_rows(run, data.summary)),
        data=data,
        network_histories=tuple(history for _, history in histories if history),
        combiner_histories=tuple(combiners.get("combiners", ())),
        configuration=configuration,
        missing={node: why_missing(run, node) for node, value in found.items() if value is None},
    )


def _asks_robustness(run: Run, config: PipelineConfig | None) -> bool:
    return bool(config and config.deformations) or run.node("RobustnessScorer") is not None


def existing_output(run: Run, node: str, key: str) -> Path | None:
    """Return the folder of a node's output, None where it is not there any more."""
    folder = run.output(node, key)
    return folder if folder and folder.is_dir() else None


def _read(run: Run, node: str, key: str, name: str) -> dict[str, Any] | None:
    folder = existing_output(run, node, key)
    if folder is None or not (folder / name).exists():
        return None
    values: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return values


def _read_data(run: Run) -> Data:
    folder = existing_output(run, "ClipExampleGen", "examples")
    rejects: list[dict[str, str]] = []
    if folder and (folder / "rejected.jsonl").exists():
        with (folder / "rejected.jsonl").open(encoding="utf-8") as file:
            rejects = [json.loads(line) for line in itertools.islice(file, REJECTS_SHOWN)]
    return Data(_read(run, "ClipExampleGen", "examples", "summary.json"), tuple(rejects), _read_anomalies(run))


def _read_anomalies(run: Run) -> tuple[str, ...] | None:
    folder = existing_output(run, "ExampleValidator", "anomalies")
    if folder is None:
        return None
    files = {split: Path(anomalies_file(str(folder), split)) for split in SPLITS}
    return tuple(describe_anomalies({split: path.read_bytes() for split, path in files.items() if path.exists()}))


def why_missing(run: Run, node: str) -> str:
    """Say why a node has nothing to show."""
    found = run.node(node)
    if found is None:
        return f"{node} did not run"
    endings = {"failed": "failed", "running": "has not finished", "canceled": "was stopped"}
    if found.state in endings:
        return f"{node} {endings[found.state]}"
    return f"what {node} wrote is no longer there"


def _parsed(configuration: str | None) -> PipelineConfig | None:
    """The settings of a run; None where they are not known or another version of autotag wrote them."""
    try:
        return PipelineConfig.model_validate(yaml.safe_load(configuration)) if configuration else None
    except ValidationError:
        return None


def find_configuration(root: Path, run_id: str) -> str | None:
    """Return the YAML that a run was made from, None where it was not kept.

    It is saved under the time at which the run was asked for, a little before TFX gives the run its own id.
    """
    folder = root / "configs"
    exact = folder / f"{run_id}.yaml"
    if exact.is_file():
        return exact.read_text(encoding="utf-8")
    began = _time(run_id)
    times = {path: _time(path.stem) for path in folder.glob("*.yaml")}
    before = {path: time for path, time in times.items() if time and began and time <= began}
    newest = max(before, key=lambda path: before[path], default=None)
    if newest is None or began is None or began - before[newest] > CONFIG_BEFORE_RUN:
        return None
    return newest.read_text(encoding="utf-8")


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
