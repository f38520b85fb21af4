"""Comparisons and runs for the page, read from ML Metadata: rows with intervals, and curves of single tags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.reports.report_rows import measured
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.settings_file import read_settings_file
from serving.page.answers import PageError

if TYPE_CHECKING:
    from pipeline.compare.config import ComparisonConfig
    from pipeline.compare.results import Evaluation, Row
    from pipeline.settings.config import PipelineConfig

MOST_POINTS: Final = 200
"""Of a curve."""
BINS: Final = 20

Say = Callable[[str], None]
Place = tuple[str, str, str]
"""Board, data set and row."""


@dataclass(frozen=True)
class RowAnswers:
    """What a row's networks said of the test split.

    Attributes:
        tags: in the order of the columns.
        labels: bool [clips, tags].
        predictions: float32 [clips, tags].
        thresholds: float32 [tags].
    """

    tags: tuple[str, ...]
    labels: npt.NDArray[np.bool_]
    predictions: npt.NDArray[np.float32]
    thresholds: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Standing:
    """All that was read.

    Attributes:
        shown: as the page takes it.
        answers: of each row.
    """

    shown: dict[str, Any]
    answers: dict[Place, RowAnswers]


def load(path: str) -> tuple[ComparisonConfig | None, list[PipelineConfig]]:
    """Read a configuration of `autotag compare`, or of `autotag run`, and return the pipelines in it.

    Raises:
        BadInputError: it is neither.
    """
    from pipeline.compare.config import is_comparison, load_comparison
    from pipeline.settings.config import load_config

    if is_comparison(read_settings_file(path)):
        comparison = load_comparison(path)
        return comparison, [comparison.pipeline(name) for name in comparison.data]
    return None, [load_config(path, ())]


def read_standing(say: Say, configs: Sequence[str]) -> Standing:
    """Read all comparisons and runs.

    Args:
        say: takes a line of what is being done.
        configs: files.

    Raises:
        AutotagError: ML Metadata cannot be read.
    """
    boards: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    answers: dict[Place, RowAnswers] = {}
    for path in configs:
        comparison, (pipeline, *_) = load(path)
        if comparison is None:
            runs += _runs(path, pipeline)
            continue
        say(f"reading {path}")
        name = _unique(comparison.name, [board["name"] for board in boards])
        rows = _rows(comparison)
        boards.append({"name": name, "data": _data_sets(comparison, rows)})
        answers |= {(name, row.data, row.name): _answers_of(row) for row in rows}
    runs.sort(key=lambda run: run["started"], reverse=True)
    return Standing({"boards": boards, "runs": runs}, answers)


def _unique(name: str, taken: Sequence[str]) -> str:
    number = 2
    unique = name
    while unique in taken:
        unique, number = f"{name} ({number})", number + 1
    return unique


def _runs(path: str, pipeline: PipelineConfig) -> list[dict[str, Any]]:
    from pipeline.runs.run_history import list_runs

    try:
        found = list_runs(pipeline)
    except BadInputError:  # no run yet
        return []
    return [
        {
            "config": path,
            "run": run.short_id,
            "started": run.started.isoformat(timespec="seconds"),
            "state": run.state,
            "roc_auc": measured(run.roc_auc),
            "pr_auc": measured(run.pr_auc),
            "pushed": run.pushed_version is not None,
        }
        for run in found
    ]


def _rows(comparison: ComparisonConfig) -> list[Row]:
    from pipeline.compare.results import make_rows

    found: list[Evaluation] = []
    for data in comparison.data:
        found += _evaluations(comparison, data)
    return make_rows(comparison, found)


def _evaluations(comparison: ComparisonConfig, data: str) -> list[Evaluation]:
    """Those of a data set; none counts as current where its audio or annotations are not here to be looked at."""
    from pipeline.compare.results import find_evaluations
    from pipeline.compare.run import entry_keys

    pipeline = comparison.pipeline(data)
    try:
        keys = entry_keys(comparison, data)
    except AutotagError:
        keys = {f"?{entry.name}": entry for entry in comparison.entries() if entry.data == data}
    return list(find_evaluations(pipeline, keys).values())


def _data_sets(comparison: ComparisonConfig, rows: Sequence[Row]) -> list[dict[str, Any]]:
    sets = []
    for data in comparison.data:
        own = [row for row in rows if row.data == data]
        if own:
            clips, tags = len(own[0].answers.labels), list(own[0].answers.tags)
            sets.append({"name": data, "clips": clips, "tags": tags, "rows": [_row(row) for row in own]})
    return sets


def _row(row: Row) -> dict[str, Any]:
    costs = row.costs
    return {
        "name": row.name,
        "network": row.network,
        "recipe": row.recipe,
        "seeds": list(row.seeds),
        "figures": {name: _figure(figure) for name, figure in row.figures.items()},
        "costs": {
            "parameters": measured(costs["parameters"]),
            "megabytes": measured(costs["megabytes_float32"]),
            "seconds_per_1000": measured(costs["seconds_for_1000_clips"]),
            "training_minutes": measured(costs["training_minutes"]),
        },
        "published": [
            {"source": one.source, "split": f"{one.data}, {one.split}", "roc_auc": one.roc_auc, "pr_auc": one.pr_auc}
            for one in row.published
        ],
        "deformed": {
            name: {"roc_auc": measured(one.figures["roc_auc"].value), "drop": measured(one.drop["roc_auc"].value)}
            for name, one in row.deformed.items()
        },
        "current": row.current,
    }


def _figure(figure: Any) -> dict[str, float | None]:
    return {"value": measured(figure.value), "low": measured(figure.low), "high": measured(figure.high)}


def _answers_of(row: Row) -> RowAnswers:
    answers = row.answers
    return RowAnswers(answers.tags, answers.labels > 0.5, answers.predictions, answers.thresholds)


def curve(answers: RowAnswers, tag: int) -> dict[str, Any]:
    """Return a tag's curves (scikit-learn), its threshold, and how many clips with and without it have which score.

    Raises:
        PageError: all clips carry the tag, or none.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    truth, scores = answers.labels[:, tag], answers.predictions[:, tag].astype(np.float64)
    if truth.all() or not truth.any():
        raise PageError(422, f"no curve: {'all clips carry' if truth.all() else 'no clip carries'} {answers.tags[tag]}")
    false_positive, true_positive, roc_at = roc_curve(truth, scores)
    precision, recall, pr_at = precision_recall_curve(truth, scores)
    edges = np.linspace(0, 1, BINS + 1)
    return {
        "roc": _thinned(false_positive_rate=false_positive, true_positive_rate=true_positive, thresholds=roc_at),
        "pr": _thinned(recall=recall, precision=precision, thresholds=np.append(pr_at, 1.0)),
        "threshold": float(answers.thresholds[tag]),
        "positives": int(truth.sum()),
        "clips": len(truth),
        "histogram": {
            "edges": edges.tolist(),
            "positive": np.histogram(scores[truth], edges)[0].tolist(),
            "negative": np.histogram(scores[~truth], edges)[0].tolist(),
        },
    }


def _thinned(**columns: npt.NDArray[np.float64]) -> Mapping[str, list[float]]:
    """Points of a curve, its ends among them; a threshold that nothing reaches is 1."""
    length = len(next(iter(columns.values())))
    kept = np.unique(np.linspace(0, length - 1, min(length, MOST_POINTS)).round().astype(int))
    return {name: np.round(np.minimum(values[kept], 1), 6).tolist() for name, values in columns.items()}
