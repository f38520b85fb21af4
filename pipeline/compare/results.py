"""What a comparison found: read back from ML Metadata, put together over seeds, with intervals.

A row is a network trained by a recipe on a data set; the predictions of its seeds are averaged for the row's interval,
and the spread over seeds stands beside it. Rows of one data set are compared on the same draws of tracks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np

from components.comparison_metrics import (
    METRICS,
    Figure,
    Weights,
    areas,
    areas_drawn,
    differences,
    measure,
    measure_drawn,
    over_draws,
)
from components.kept_answers import COSTS, KEY, Answers, read_answers
from components.tag_scores import PR_AUC, ROC_AUC
from models.registry import Published, find_network
from pipeline.compare.config import ComparisonConfig, Entry, row_name
from pipeline.reports.report_rows import PAPER_TABLE
from pipeline.runs.metadata import custom_properties, open_store, readable_errors
from pipeline.settings.config import PipelineConfig
from preprocessing.errors import BadInputError

AREAS: Final = (ROC_AUC, PR_AUC)
"""Measures that are also taken of deformed clips."""


@dataclass(frozen=True)
class Evaluation:
    """What ML Metadata knows of one trained entry.

    Attributes:
        entry: which.
        folder: of the answers.
        figures: METRICS on the test split.
        costs: COSTS.
        current: whether it was made of the data, settings and code of now.
    """

    entry: Entry
    folder: str
    figures: Mapping[str, float]
    costs: Mapping[str, float]
    current: bool

    @classmethod
    def of(cls, entry: Entry, folder: str, properties: Mapping[str, Any], *, current: bool) -> Evaluation:
        """Return an evaluation with its figures and costs out of its artifact's properties, by name."""
        figures, costs = ({name: float(properties[name]) for name in names} for names in (METRICS, COSTS))
        return cls(entry, folder, figures, costs, current)


@dataclass(frozen=True)
class Deformed:
    """A row's figures under one deformation.

    Attributes:
        figures: AREAS.
        drop: AREAS, how far below those of the clean test split, on the same draws of tracks.
    """

    figures: Mapping[str, Figure]
    drop: Mapping[str, Figure]


@dataclass(frozen=True)
class Row:
    """A network, trained by a recipe, on a data set.

    Attributes:
        data: name of the data set.
        network: name in the comparison.
        recipe: name.
        seeds: of its trainings.
        figures: of the mean of the seeds' predictions for METRICS; with one seed, of that.
        spread: metric -> the seeds' own mean and deviation; no deviation for one seed.
        to_reference: metric -> how far above the reference; none for the reference itself.
        costs: COSTS, means over the seeds.
        answers: mean predictions.
        current: whether all of it was made of the data, settings and code of now.
        published: figures of others.
        deformed: deformation -> figures; without those that not all seeds were scored under.
    """

    data: str
    network: str
    recipe: str
    seeds: tuple[int, ...]
    figures: Mapping[str, Figure]
    spread: Mapping[str, tuple[float, float | None]]
    to_reference: Mapping[str, Figure] | None
    costs: Mapping[str, float]
    answers: Answers
    current: bool
    published: tuple[Published, ...]
    deformed: Mapping[str, Deformed] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of network and recipe."""
        return row_name(self.network, self.recipe)


def find_evaluations(config: PipelineConfig, keys: Mapping[str, Entry]) -> dict[Entry, Evaluation]:
    """Ask a data set's ML Metadata which entries have an evaluation whose files are there.

    Args:
        config: of the data set's pipeline.
        keys: pipeline.entry_keys.entry_key -> entry.

    Returns:
        Entry -> its evaluation: the one with its key, or else the newest one that was made of other data, settings or
        code.
    """
    try:
        store = open_store(config)
    except BadInputError:
        return {}
    by_name = {entry.name: entry for entry in keys.values()}
    found: dict[Entry, Evaluation] = {}
    with readable_errors(config):
        artifacts = store.get_artifacts_by_type("ModelEvaluation")
    for artifact in sorted(artifacts, key=lambda one: one.create_time_since_epoch):
        values = custom_properties(artifact)
        entry = by_name.get(str(values.get("entry")))
        if entry is None or not {*METRICS, *COSTS} <= values.keys() or not os.path.isdir(artifact.uri):
            continue
        current = keys.get(str(values.get(KEY))) == entry
        if current or entry not in found or not found[entry].current:
            found[entry] = Evaluation.of(entry, artifact.uri, values, current=current)
    return found


def make_rows(config: ComparisonConfig, evaluations: Iterable[Evaluation]) -> list[Row]:
    """Put evaluations together, data set by data set, the best ROC-AUC of each first.

    Args:
        config: the comparison.
        evaluations: of its entries.

    Raises:
        BadInputError: two networks of one data set were scored on different clips or tags.
    """
    groups: dict[str, dict[str, list[Evaluation]]] = {}
    for one in evaluations:
        groups.setdefault(one.entry.data, {}).setdefault(one.entry.row, []).append(one)
    rows: list[Row] = []
    for data, by_name in groups.items():
        rows += _rows_of(config, data, by_name)
    return rows


@dataclass(frozen=True)
class _Scored:
    answers: Answers
    figures: Mapping[str, float]
    drawn: Mapping[str, Weights]


def _rows_of(config: ComparisonConfig, data: str, by_name: Mapping[str, Sequence[Evaluation]]) -> list[Row]:
    scored: dict[str, _Scored] = {}
    clips = None
    for name, group in by_name.items():
        answers = _mean_answers([read_answers(one.folder) for one in group])
        clips = clips or (answers.tags, answers.clip_ids.tolist())
        if (answers.tags, answers.clip_ids.tolist()) != clips:
            raise BadInputError(f"{name} on {data} was scored on other clips or tags than the others: run it again")
        said = (answers.labels, answers.predictions, answers.thresholds)
        drawn = over_draws(answers.tracks, partial(measure_drawn, *said))
        scored[name] = _Scored(answers, measure(*said), drawn)
    best_first = sorted(scored, key=lambda name: -scored[name].figures["roc_auc"])
    reference = config.reference if config.reference in scored else best_first[0]
    rows = []
    for name in best_first:
        one, group = scored[name], by_name[name]
        base = scored[reference]
        rows.append(
            Row(
                data=data,
                network=group[0].entry.network,
                recipe=group[0].entry.recipe,
                seeds=tuple(sorted(evaluation.entry.seed for evaluation in group)),
                figures={metric: Figure.of(one.figures[metric], one.drawn[metric]) for metric in METRICS},
                spread={metric: _spread([evaluation.figures[metric] for evaluation in group]) for metric in METRICS},
                to_reference=(
                    None if name == reference else differences(one.figures, one.drawn, base.figures, base.drawn)
                ),
                costs={cost: float(np.mean([evaluation.costs[cost] for evaluation in group])) for cost in COSTS},
                answers=one.answers,
                current=all(evaluation.current for evaluation in group),
                published=_published(config, group[0].entry),
                deformed=_deformed(config.deformations, one),
            )
        )
    return rows


def _published(config: ComparisonConfig, entry: Entry) -> tuple[Published, ...]:
    """Figures of others for a network, or for an ensemble that is one of the paper's."""
    if entry.network in config.networks:
        return find_network(config.settings(entry).network or entry.network).published
    of = frozenset(config.networks[name].get("network", name) for name in config.ensembles[entry.network].of)
    paper = PAPER_TABLE.get(of)
    return () if paper is None else (paper.published,)


def _mean_answers(seeds: Sequence[Answers]) -> Answers:
    first = seeds[0]
    predictions = np.mean([one.predictions for one in seeds], axis=0, dtype=np.float64).astype(np.float32)
    thresholds = np.mean([one.thresholds for one in seeds], axis=0, dtype=np.float64).astype(np.float32)
    deformed = {
        name: np.mean([one.deformed[name] for one in seeds], axis=0, dtype=np.float64).astype(np.float32)
        for name in first.deformed
        if all(name in one.deformed for one in seeds)
    }
    return Answers(first.tags, first.clip_ids, first.tracks, first.labels, predictions, thresholds, deformed)


def _deformed(names: Sequence[str], scored: _Scored) -> dict[str, Deformed]:
    answers, found = scored.answers, {}
    clean = {area: scored.figures[area] for area in AREAS}
    for name in names:
        if name not in answers.deformed:
            continue
        figures = areas(answers.labels, answers.deformed[name])
        drawn = over_draws(answers.tracks, partial(areas_drawn, answers.labels, answers.deformed[name]))
        found[name] = Deformed(
            {area: Figure.of(figures[area], drawn[area]) for area in AREAS},
            differences(clean, scored.drawn, figures, drawn),
        )
    return found


def _spread(values: Sequence[float]) -> tuple[float, float | None]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
