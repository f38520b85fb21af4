"""Pictures of a comparison as SVG that goes into its page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter
from sklearn.calibration import calibration_curve

from pipeline.compare.results import Row
from pipeline.reports.label_placement import write_labels
from pipeline.reports.plots import GRID, MUTED, SERIES, STYLE, svg

CURVES: Final = 4
"""Rows whose calibration is drawn."""
BINS: Final = 10
HATCHES: Final = (None, "///", "...", "xxx")
"""Of bars whose colour an earlier row has."""
NARROW: Final = 10
"""Times: costs that lie nearer together have a label at each tick of a logarithmic axis."""


def score_against_cost(rows: Sequence[Row]) -> str:
    """Draw macro ROC-AUC with its interval against seconds for 1,000 clips: the plane of the paper's argument."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        scores = [row.figures["roc_auc"] for row in rows]
        places = np.array(
            [(row.costs["seconds_for_1000_clips"], score.value) for row, score in zip(rows, scores, strict=True)]
        )
        spans = [(score.low, score.high) for score in scores]
        for number, ((seconds, value), (low, high)) in enumerate(zip(places, spans, strict=True)):
            colour = SERIES[number % len(SERIES)]
            axes.errorbar([seconds], [value], yerr=[[value - low], [high - value]], fmt="o", color=colour, capsize=3)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(ScalarFormatter() if _spread(rows) < NARROW else NullFormatter())
        axes.set_xlabel("CPU seconds for 1,000 clips, one core (LiteRT, int8 weights)")
        axes.set_ylabel("test ROC-AUC")
        axes.margins(x=0.18, y=0.08)
        figure.draw_without_rendering()
        write_labels(figure, axes, [f"{row.network}, {row.recipe}" for row in rows], places, spans)
        return svg(figure, f"ROC-AUC against seconds for 1,000 clips of {len(rows)} networks")


def _spread(rows: Sequence[Row]) -> float:
    seconds = [row.costs["seconds_for_1000_clips"] for row in rows]
    return max(seconds) / min(seconds)


def drops(rows: Sequence[Row], deformations: Sequence[str]) -> str:
    """Draw how far macro ROC-AUC falls under each deformation, with its interval, networks side by side."""
    shown = [row for row in rows if row.deformed]
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(max(7.0, 0.7 + 0.25 * len(deformations) * (len(shown) + 2)), 4.4), layout="constrained"
        )
        axes = figure.subplots()
        axes.axhline(0, color=MUTED, linewidth=0.8)
        width = 0.8 / len(shown)
        for number, row in enumerate(shown):
            there = [
                (at, row.deformed[name].drop["roc_auc"]) for at, name in enumerate(deformations) if name in row.deformed
            ]
            values = [drop.value for _, drop in there]
            spread = np.array(
                [[max(0.0, drop.value - drop.low), max(0.0, drop.high - drop.value)] for _, drop in there]
            ).T
            axes.bar(
                [at + (number - (len(shown) - 1) / 2) * width for at, _ in there],
                values,
                0.9 * width,
                yerr=spread,
                color=SERIES[number % len(SERIES)],
                hatch=HATCHES[number // len(SERIES) % len(HATCHES)],
                edgecolor=GRID,
                linewidth=0,
                error_kw={"elinewidth": 0.8, "ecolor": MUTED},
                label=f"{row.network}, {row.recipe}",
            )
        axes.set_xticks(range(len(deformations)), deformations, rotation=30, ha="right")
        axes.set_ylabel("drop of test ROC-AUC")
        axes.grid(visible=False, axis="x")
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper left", ncols=min(4, len(shown)), fontsize=9)
        return svg(figure, f"Drop of ROC-AUC of {len(shown)} networks under {len(deformations)} deformations")


def calibration(rows: Sequence[Row]) -> str:
    """Draw how often tags are there that were given a probability: on the diagonal where it can be taken as said."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.5, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=GRID, linestyle="--")
        for row, colour in zip(rows[:CURVES], SERIES, strict=False):
            truth, said = row.answers.labels.ravel() > 0.5, row.answers.predictions.ravel()
            there, mean = calibration_curve(truth, np.clip(said, 0, 1), n_bins=BINS)
            axes.plot(mean, there, "o-", color=colour, markersize=4, label=f"{row.network}, {row.recipe}")
        axes.set_xlabel("probability that was given")
        axes.set_ylabel("share of clips with the tag")
        axes.tick_params(colors=MUTED)
        axes.legend(loc="upper left", fontsize=9)
        return svg(figure, "Calibration: share of clips with a tag against its probability")
