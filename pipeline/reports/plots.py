"""Training curves as SVG that goes into a page's text: text stays text, colours follow the page's style sheet."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

History = Mapping[str, Any]
"""Of components.trained_network.write_history: name, precision, best_epoch, history (a mapping for each epoch)."""

INK: Final = "#010101"
MUTED: Final = "#020202"
GRID: Final = "#030303"
SERIES: Final = ("#040404", "#050505", "#060606", "#070707")
CSS_COLOURS: Final = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)},
}
"""Colours that stand for the style sheet's custom properties, so that the curves suit a light and a dark page."""

STYLE: Final = {
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
PIXELS_AN_INCH: Final = 96
MEASURES: Final = (("loss", "training loss"), ("valid_roc_auc", "validation ROC-AUC"))


def network_curves(histories: Sequence[History], titles: Sequence[str]) -> str:
    """Draw one column for each network: loss above, validation ROC-AUC below, a dot at the epoch that was kept."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(histories) + 0.2, 4.8), layout="constrained")
        grid = figure.subplots(2, len(histories), squeeze=False, sharex="col")
        for column, (history, title) in enumerate(zip(histories, titles, strict=True)):
            grid[0][column].set_title(title)
            for axes, (key, label) in zip(grid[:, column], MEASURES, strict=True):
                _draw(axes, history, key, SERIES[column % len(SERIES)])
                if column == 0:
                    axes.set_ylabel(label)
            grid[1][column].set_xlabel("epoch")
        return svg(figure, f"Loss and validation ROC-AUC for each epoch of {', '.join(titles)}")


def combiner_curves(histories: Sequence[History], titles: Sequence[str]) -> str:
    """Draw all combiners together: loss left, validation ROC-AUC right, a dot at the epochs that were kept."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.4), layout="constrained")
        for axes, (key, label) in zip(figure.subplots(1, 2), MEASURES, strict=True):
            for history, title, colour in zip(histories, titles, _colours(len(histories)), strict=True):
                _draw(axes, history, key, colour, label=title)
            axes.set_title(label)
            axes.set_xlabel("epoch")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=len(histories))
        return svg(figure, f"Training loss and validation ROC-AUC for each epoch of the combiners {', '.join(titles)}")


def robustness_bars(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Draw ROC-AUC under each deformation as bars, that of the ``clean`` test split as a line."""
    names = [name for name in scores if name != "clean"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(5.0, 1.2 + 0.8 * len(names)), 3.4), layout="constrained")
        axes = figure.subplots()
        axes.bar(range(len(names)), [scores[name]["roc_auc"] for name in names], 0.6, color=SERIES[0])
        axes.axhline(scores["clean"]["roc_auc"], color=SERIES[1], linestyle="--", label="clean")
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.set_ylabel("test ROC-AUC")
        lowest = min((one["roc_auc"] for one in scores.values() if math.isfinite(one["roc_auc"])), default=0.5)
        axes.set_ylim(min(0.5, math.floor(10 * lowest) / 10), 1)
        axes.grid(visible=False, axis="x")
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper left")
        return svg(figure, f"ROC-AUC under {', '.join(names)}, beside the clean test split")


def _colours(count: int) -> list[str]:
    return [SERIES[number % len(SERIES)] for number in range(count)]


def _draw(axes: Axes, history: History, key: str, colour: str, label: str | None = None) -> None:
    epochs = [epoch["epoch"] for epoch in history["history"]]
    values = [epoch[key] if math.isfinite(epoch[key]) else math.nan for epoch in history["history"]]
    axes.plot(epochs, values, color=colour, label=label)
    kept = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if epoch == history["best_epoch"]]
    if kept:
        axes.plot(*zip(*kept, strict=True), "o", color=colour, markersize=5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    axes.margins(x=0.03)


def svg(figure: Figure, description: str) -> str:
    """Return a figure as an SVG element without ids, prologue, metadata and sizes in points."""
    file = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": description}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", file.getvalue(), flags=re.DOTALL)
    text = text[text.index("<svg") :]
    for colour, variable in CSS_COLOURS.items():
        text = text.replace(colour, variable)
    used = set(re.findall(r"#([\w-]+)[\")]", text))
    text = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", text)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    width = f"max-width: {figure.get_figwidth() * PIXELS_AN_INCH:.0f}px"
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(description)}" style="{width}"', 1)
