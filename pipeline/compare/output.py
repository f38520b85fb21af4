"""A comparison's results as CSV, JSON and one self-contained HTML page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
from markupsafe import Markup

from components.comparison_metrics import DRAWS, LOWER_IS_BETTER, METRICS, Figure
from components.kept_answers import COSTS
from components.tag_scores import score_tags
from datasets.tag_groups import tag_group
from pipeline.compare.config import ComparisonConfig
from pipeline.compare.plots import calibration, drops, score_against_cost
from pipeline.compare.results import AREAS, Row
from pipeline.compare.runner import Progress
from pipeline.reports.report import TEMPLATES
from preprocessing.whole_files import write_whole

NAMES: Final = ("comparison.csv", "comparison.json", "comparison.html")
CONFUSIONS: Final = 12


def write_results(folder: Path, config: ComparisonConfig, rows: Sequence[Row], progress: Progress) -> list[Path]:
    """Write the three files, each whole or not at all; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = (as_csv(rows, config.deformations), as_json(config, rows, progress), as_html(config, rows, progress))
    paths = [folder / name for name in NAMES]
    for path, text in zip(paths, texts, strict=True):
        write_whole(str(path), text)
    return paths


def as_csv(rows: Sequence[Row], deformations: Sequence[str] = ()) -> str:
    """One line a row, figures with their intervals and the spread over seeds; for each deformation figures and drops,
    empty where they were not measured."""
    of_metrics = [
        f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high", "_mean_of_seeds", "_deviation_of_seeds")
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    of_deformations = [
        f"{area}{what}_{name}{end}"
        for name in deformations
        for area in AREAS
        for what in ("", "_drop")
        for end in ("", "_low", "_high")
    ]
    writer.writerow(["data", "network", "recipe", "seeds", *of_metrics, *COSTS, *of_deformations])
    for row in rows:
        cells: list[Any] = [row.data, row.network, row.recipe, " ".join(map(str, row.seeds))]
        for metric in METRICS:
            figure, (mean, deviation) = row.figures[metric], row.spread[metric]
            cells += [figure.value, figure.low, figure.high, mean, "" if deviation is None else deviation]
        cells += [row.costs[cost] for cost in COSTS]
        for name in deformations:
            one = row.deformed.get(name)
            for area in AREAS:
                figures = (None, None) if one is None else (one.figures[area], one.drop[area])
                cells += [cell for figure in figures for cell in _cells(figure)]
        writer.writerow(cells)
    return text.getvalue()


def _cells(figure: Figure | None) -> list[float | str]:
    return ["", "", ""] if figure is None else [figure.value, figure.low, figure.high]


def as_json(config: ComparisonConfig, rows: Sequence[Row], progress: Progress) -> str:
    """Everything but the predictions."""
    values = {
        "comparison": config.model_dump(mode="json"),
        "metrics": METRICS,
        "rows": [_row_as_json(row) for row in rows],
        "failed": [{"entry": asdict(one.entry), "reason": one.reason} for one in progress.failed],
        "left": [asdict(entry) for entry in progress.left],
    }
    return json.dumps(values, indent=1, allow_nan=True)


def _row_as_json(row: Row) -> dict[str, Any]:
    above = row.to_reference
    return {
        "data": row.data,
        "network": row.network,
        "recipe": row.recipe,
        "seeds": row.seeds,
        "figures": _figures_as_json(row.figures),
        "mean_and_deviation_of_seeds": row.spread,
        "above_reference": None
        if above is None
        else {metric: {**asdict(one), "distinguishable": one.distinguishable} for metric, one in above.items()},
        "deformed": {
            name: {"figures": _figures_as_json(one.figures), "drop": _figures_as_json(one.drop)}
            for name, one in row.deformed.items()
        },
        "costs": row.costs,
        "tags": tag_rows(row),
        "confusions": confusions(row),
        "current": row.current,
        "published": [asdict(one) for one in row.published],
    }


def _figures_as_json(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: asdict(figure) for name, figure in figures.items()}


def tag_rows(row: Row) -> list[dict[str, Any]]:
    """Tag by tag: group, clips, ROC-AUC and average precision."""
    answers = row.answers
    scores = score_tags(answers.labels, answers.predictions, answers.tags)
    clips = answers.labels.sum(axis=0).astype(int)
    return [
        {"tag": tag, "group": tag_group(tag), "clips": int(count), "roc_auc": roc, "pr_auc": precision}
        for (tag, (roc, precision)), count in zip(scores.per_tag.items(), clips, strict=True)
    ]


def group_rows(row: Row) -> list[dict[str, Any]]:
    """Means of the tags' scores by group, largest group first."""
    tags = [one for one in tag_rows(row) if not np.isnan(one["roc_auc"])]
    groups = sorted({one["group"] for one in tags}, key=lambda name: (-sum(one["group"] == name for one in tags), name))
    found = []
    for name in groups:
        of_group = [one for one in tags if one["group"] == name]
        means = {metric: float(np.mean([one[metric] for one in of_group])) for metric in ("roc_auc", "pr_auc")}
        found.append({"group": name, "tags": len(of_group), **means})
    return found


def confusions(row: Row) -> list[dict[str, Any]]:
    """Pairs of tags that are taken for each other most.

    Of clips that carry the first tag and not the second: how much more probable the second is held there than in clips
    that carry neither.
    """
    labels, predictions, tags = row.answers.labels > 0.5, row.answers.predictions, row.answers.tags
    pairs: list[dict[str, Any]] = []
    for first in range(len(tags)):
        for second in range(len(tags)):
            there = labels[:, first] & ~labels[:, second]
            neither = ~labels[:, first] & ~labels[:, second]
            if first != second and there.any() and neither.any():
                more = float(predictions[there, second].mean() - predictions[neither, second].mean())
                pairs.append({"carried": tags[first], "heard": tags[second], "clips": int(there.sum()), "more": more})
    return sorted(pairs, key=lambda pair: -pair["more"])[:CONFUSIONS]


def as_html(config: ComparisonConfig, rows: Sequence[Row], progress: Progress) -> str:
    """The page; it needs no network and no script."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["interval"] = _interval
    by_data: dict[str, list[Row]] = {}
    for row in rows:
        by_data.setdefault(row.data, []).append(row)
    return environment.get_template("comparison.html").render(
        config=config,
        by_data=by_data,
        card={name: data.name or data.reader.card.title for name, data in config.data.items()},
        split={name: data.split for name, data in config.data.items()},
        metrics=METRICS,
        lower=LOWER_IS_BETTER,
        draws=DRAWS,
        progress=progress,
        cost_svg={name: Markup(score_against_cost(of_data)) for name, of_data in by_data.items()},
        drops_svg={
            name: Markup(drops(of_data, config.deformations))
            for name, of_data in by_data.items()
            if any(row.deformed for row in of_data)
        },
        calibration_svg={name: Markup(calibration(of_data)) for name, of_data in by_data.items()},
        groups={name: group_rows(of_data[0]) for name, of_data in by_data.items()},
        tags={name: _tags_side_by_side(of_data) for name, of_data in by_data.items()},
        confusions={name: confusions(of_data[0]) for name, of_data in by_data.items()},
    )


def _tags_side_by_side(rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    """The best row's tags by group and score."""
    tags = [one for one in tag_rows(rows[0]) if not np.isnan(one["roc_auc"])]
    return sorted(tags, key=lambda one: (one["group"], -one["pr_auc"]))


def _interval(figure: Figure, digits: int = 3) -> str:
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"
