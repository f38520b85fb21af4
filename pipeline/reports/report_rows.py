"""Rows of a report's tables: the run's models beside published figures, and the exported model's tags.

The table of models has the form of Bengani, Vadivel and Jothi, 'Efficient Music Auto-Tagging with Convolutional Neural
Networks' (2019), Table 5, with the networks of the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from models.heads import Heads
from models.registry import NETWORKS, Published
from pipeline.runs.run_record import Run
from pipeline.settings.config import PipelineConfig


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper's Table 5: macro ROC-AUC, seconds for 1,000 clips on a V100, MB where it is stated."""

    roc_auc: float
    seconds: float
    megabytes: float | None = None

    @property
    def published(self) -> Published:
        """Its score, as those of other papers stand beside a network."""
        return Published("MTAT", "paper", self.roc_auc, None, "Bengani, Vadivel and Jothi (2019), Table 5")


PAPER_TABLE: Final = {
    frozenset({"mel_1d"}): PaperRow(0.857, 0.48, 13.59),
    frozenset({"mel_2d"}): PaperRow(0.891, 1.76, 8.14),
    frozenset({"waveform_1d"}): PaperRow(0.783, 9.03, 3.09),
    frozenset({"mel_1d", "mel_2d"}): PaperRow(0.894, 2.07),
    frozenset({"mel_1d", "waveform_1d"}): PaperRow(0.883, 9.24),
    frozenset({"mel_2d", "waveform_1d"}): PaperRow(0.905, 9.78),
    frozenset({"mel_1d", "mel_2d", "waveform_1d"}): PaperRow(0.910, 10.61),
}
"""By the networks' names in the registry."""


@dataclass(frozen=True)
class ModelRow:
    """One row of the table: figures of a network or an ensemble, None where they were not measured, and published ones.

    Attributes:
        name: as the configuration calls it.
        what: which networks, and how they are combined.
        published: figures of the network, each with its data and split.
        paper: the paper's row for the same networks, if it has one.
        exported: whether it is what is pushed.
    """

    name: str
    what: str
    published: tuple[Published, ...]
    paper: PaperRow | None
    exported: bool
    roc_auc: float | None = None
    pr_auc: float | None = None
    accuracy: tuple[tuple[str, float | None], ...] = ()
    seconds: float | None = None
    megabytes: float | None = None

    def published_figures(self, key: str) -> list[str]:
        """Return the published ``roc_auc`` or ``pr_auc``, each with its data and split."""
        figures = [(getattr(one, key), one.data, one.split) for one in self.published]
        return [f"{value:.3f} ({data}, {split})" for value, data, split in figures if value is not None]


@dataclass(frozen=True)
class TagRow:
    """How well one tag is told apart by the exported model; positives in the test split where that is known."""

    tag: str
    roc_auc: float | None
    pr_auc: float | None
    test_positives: int | None
    head: str = ""


@dataclass(frozen=True)
class TagScale:
    """Where the bars of ROC-AUC begin and end; they start from 0.5, which is chance."""

    lowest: float

    def place(self, value: float) -> float:
        """Per cent of the scale's width."""
        return 100 * (value - self.lowest) / (1 - self.lowest)

    def bar(self, value: float) -> tuple[float, float]:
        """Left edge and width, in per cent."""
        left, right = sorted((self.place(0.5), self.place(value)))
        return left, right - left


def measured(value: float | None) -> float | None:
    """Return a figure, None where it is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


def model_rows(run: Run, config: PipelineConfig | None) -> list[ModelRow]:
    """What was scored, in the order of the scores; before that what the configuration asks for."""
    rows = (run.scores or {}).get("models")
    if rows is None and config is not None:
        rows = [{"name": name, "networks": [name], "network": config.network(name).name} for name in config.networks]
        rows += [
            {"name": name, "networks": list(one.of), "combiner": one.combiner, "fit": one.fit}
            for name, one in config.all_combinations().items()
        ]
    entries = {row["name"]: row["network"] for row in rows or () if "network" in row}
    return [_model_row(row, entries, run.ensemble) for row in rows or ()]


def _model_row(row: Mapping[str, Any], entries: Mapping[str, str], exported: str | None) -> ModelRow:
    """``entries``: the configuration's name of a network -> its name in the registry."""
    networks = [entries.get(name, name) for name in row["networks"]]
    paper = PAPER_TABLE.get(frozenset(networks)) if len(set(networks)) == len(networks) else None
    if "combiner" in row:
        what = f"{' + '.join(row['networks'])}; {row['combiner']}"
        published: tuple[Published, ...] = () if paper is None else (paper.published,)
    else:
        known = NETWORKS.get(networks[0])
        what, published = (networks[0], ()) if known is None else (known.title, known.published)
    return ModelRow(
        row["name"],
        what,
        published,
        paper,
        exported=row["name"] == exported,
        roc_auc=measured(row.get("roc_auc")),
        pr_auc=measured(row.get("pr_auc")),
        accuracy=tuple((head, measured(value)) for head, value in row.get("accuracy", {}).items()),
        seconds=measured(row.get("seconds_for_1000_clips")),
        megabytes=measured(row.get("megabytes")),
    )


def tag_rows(run: Run, summary: dict[str, Any] | None) -> list[TagRow]:
    """The exported model's tags, in the vocabulary's order."""
    models = (run.scores or {}).get("models", ())
    per_tag: dict[str, list[float]] = next((row["per_tag"] for row in models if row["name"] == run.ensemble), {})
    counts = summary["tags"] if summary else {}
    heads = _heads_of_tags(run.scores or {})
    return [
        TagRow(tag, measured(roc_auc), measured(pr_auc), counts.get(tag, {}).get("test"), heads.get(tag, ""))
        for tag, (roc_auc, pr_auc) in per_tag.items()
    ]


def _heads_of_tags(scores: Mapping[str, Any]) -> dict[str, str]:
    """Tag -> its head, in the words of the page; empty for scores without heads."""
    tags = scores.get("tags", [])
    return {
        tag: f"{head.name} ({head.kind})"
        for head, at in Heads.from_json(scores.get("heads", [])).slices()
        for tag in tags[at]
    }
