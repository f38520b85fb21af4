"""A run of the pipeline and its nodes: state, scores, blessing, push. Read by pipeline.runs.run_history."""

from __future__ import annotations

import datetime
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.runs.evaluation import GateFigures, gate_failures, gate_figures

IMPORTED_MODEL = "ImportedModel"
"""The node that brings a model which was not trained here."""

ROBUSTNESS_GATE = "RobustnessGate"
"""The node that has the last word on a model where the gate asks for robustness."""

CLIP_COUNTS = ("clips", "examples", "rejected")


@dataclass(frozen=True)
class NodeRun:
    """One node in one run.

    Attributes:
        state: ``done``, ``cached``, ``failed``, ``running`` or ``canceled``.
        seconds: how long it took; 0 where it came from the cache.
        outputs: output key -> artifact folder.
        properties: output key -> the artifact's custom properties.
    """

    node: str
    state: str
    seconds: float
    outputs: dict[str, str]
    properties: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """One run of the pipeline.

    Attributes:
        run_id: as TFX names it.
        started: when the run's first node began.
        nodes: in the order in which they ran.
        ended: when its last node ended so far; None where no node began.
        kept: what pipeline.runs.run_metrics kept of it, there when its files are gone.
    """

    run_id: str
    started: datetime.datetime
    nodes: tuple[NodeRun, ...] = field(default=())
    ended: datetime.datetime | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)

    def node(self, name: str) -> NodeRun | None:
        """Return a node's part, None where it did not run."""
        return next((node for node in self.nodes if node.node == name), None)

    def output(self, node: str, key: str) -> Path | None:
        """Return the folder of a node's output, None where there is none."""
        run = self.node(node)
        return Path(run.outputs[key]) if run and key in run.outputs else None

    @property
    def state(self) -> str:
        """``done``, ``failed`` or ``unfinished``."""
        states = {node.state for node in self.nodes}
        return "failed" if "failed" in states else "unfinished" if states & {"running", "new"} else "done"

    @property
    def scores(self) -> dict[str, Any] | None:
        """What the combiner's node scored on the test split (components.model_scores), None before it ran."""
        folder = self.output("EnsembleTrainer", "model_run")
        return _read_json(folder / "scores.json") if folder else None

    @property
    def ensemble(self) -> str | None:
        """Name of the exported network or ensemble, or of the model that was imported."""
        for name, key in (("EnsembleTrainer", "model"), (IMPORTED_MODEL, "result")):
            if node := self.node(name):
                return node.properties.get(key, {}).get("ensemble")
        return None

    @property
    def roc_auc(self) -> float | None:
        """Macro ROC-AUC of the exported combination on the test split, None where it was not measured."""
        return self._score("roc_auc")

    @property
    def pr_auc(self) -> float | None:
        """Macro average precision of the exported combination on the test split, None where it was not measured."""
        return self._score("pr_auc")

    def _score(self, key: str) -> float | None:
        scores = self.scores
        rows = scores["models"] if scores else []
        kept = self.kept.get(key, math.nan) if scores is None else math.nan
        value = next((float(row[key]) for row in rows if row["name"] == self.ensemble), kept)
        if not math.isfinite(value) and self.node(IMPORTED_MODEL):
            measured: float | None = getattr(self.gate, key)
            return measured
        return value if math.isfinite(value) else None

    @property
    def finished(self) -> bool:
        """Whether it was a whole run that ended well: the last node, the Pusher, was reached."""
        return self.state == "done" and self.node("Pusher") is not None

    @property
    def seconds(self) -> float | None:
        """From the first node's start to the last one's end."""
        return (self.ended - self.started).total_seconds() if self.ended else None

    @property
    def clips(self) -> dict[str, int]:
        """Clips that went in, examples made of them, clips rejected: those of CLIP_COUNTS that are known."""
        node = self.node("ClipExampleGen")
        known = node.properties.get("examples", {}) if node else {}
        return {name: int(known[name]) for name in CLIP_COUNTS if name in known}

    @property
    def blessed(self) -> bool | None:
        """Whether the model passed the gate, None before it was measured."""
        node, key = self.node(ROBUSTNESS_GATE), "robust_blessing"
        if node is None:
            node, key = self.node("Evaluator"), "blessing"
        value = node.properties.get(key, {}).get("blessed") if node else None
        return None if value is None else bool(value)

    @property
    def gate(self) -> GateFigures:
        """What the gate measured and asked."""
        folder = self.output("Evaluator", "evaluation")
        return gate_figures(folder) if folder else GateFigures()

    @property
    def gate_reasons(self) -> list[str]:
        """Why the gate refused the model: a line with the figures for each threshold that it missed."""
        folder = self.output("Evaluator", "evaluation")
        if self.blessed is not False or not folder:
            return []
        kept = self.kept.get("gate_reasons", "")
        return [*gate_failures(folder), *self._robustness_reasons()] or (kept.split("\n") if kept else [])

    def _robustness_reasons(self) -> list[str]:
        node = self.node(ROBUSTNESS_GATE)
        reasons = node.properties.get("robust_blessing", {}).get("gate_reasons", "") if node else ""
        return str(reasons).split("\n") if reasons else []

    @property
    def robustness(self) -> dict[str, dict[str, float]]:
        """Scores of the exported model on the ``clean`` test split and under each deformation; {} where none was
        measured (components.robustness)."""
        folder = self.output("RobustnessScorer", "robustness")
        return (_read_json(folder / "robustness.json") if folder else None) or {}

    @property
    def pushed(self) -> str | None:
        """Folder that the model was pushed to, None where it was not."""
        node = self.node("Pusher")
        properties = node.properties.get("pushed_model", {}) if node else {}
        return str(properties["pushed_destination"]) if properties.get("pushed") else None

    @property
    def pushed_version(self) -> str | None:
        """Name of the pushed version, None where the model was not pushed."""
        return os.path.basename(self.pushed) if self.pushed else None

    @property
    def short_id(self) -> str:
        """The run's id to the second, which find_run understands."""
        return re.sub(r"(?<=T\d\d:\d\d:\d\d)\.\d+$", "", self.run_id)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return values
    except FileNotFoundError:
        return None


def describe_run(run: Run) -> str:
    """Say in a few lines what came of a run."""
    made = [node for node in run.nodes if node.state == "done" and node.seconds]
    cached = sum(node.state == "cached" for node in run.nodes)
    lines = [f"run {run.run_id}: {run.state}; {len(made)} nodes ran, {cached} taken from earlier runs"]
    if run.roc_auc is not None:
        lines.append(f"{run.ensemble}: test ROC-AUC {run.roc_auc:.4f}, PR-AUC {run.pr_auc:.4f}")
    if run.blessed is False:
        lines.append("refused by the gate, not pushed: " + "; ".join(run.gate_reasons))
    elif run.pushed:
        lines.append(f"blessed and pushed: {run.pushed}")
    return "\n".join(lines)
