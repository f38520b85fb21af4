"""A picture of tags at their places: marks in colours and shapes of groups, and names that do not cover each other.

The colours are Okabe and Ito's (2008), which people with the usual kinds of colour blindness tell apart; shapes say the
same.
"""

from __future__ import annotations

import contextlib
import io
import math
import textwrap
import warnings
from collections.abc import Iterator
from typing import Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from datasets.tag_groups import GROUPS, OTHER, tag_group
from pipeline.reports.label_placement import MARK_POINTS, write_labels
from pipeline.reports.plots import GRID, INK, MUTED, STYLE, svg
from pipeline.tag_map.vectors import TagVectors
from serving.library.layout import Layout

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SHAPES: Final = ("o", "s", "^", "D", "v", "P")
OTHER_MARK: Final = ("#999999", "X")
MARKS: Final = {**dict(zip(GROUPS, zip(COLOURS, SHAPES, strict=True), strict=True)), OTHER: OTHER_MARK}
"""Group -> colour and shape."""
PAPER: Final = {INK: "#1c1e21", MUTED: "#5c636b", GRID: "#d9dcdf"}
"""Colours of a picture of its own, in place of those that a page's style sheet gives."""

DOTS_AN_INCH: Final = 150

ROOM: Final = (1.25, 1.12)
"""Width and height of the picture, of those that the marks take."""


def draw(vectors: TagVectors, layout: Layout) -> tuple[Figure, list[str]]:
    """Draw the map in the style in use; returns it and the tags for whose names there was no room."""
    side = max(6.5, 0.95 * math.sqrt(len(vectors.tags)))
    width, height = 1.25 * side, side
    figure = Figure(figsize=(width, height), dpi=DOTS_AN_INCH)
    FigureCanvasAgg(figure)
    title = textwrap.wrap(f"Tags as a map: {vectors.source}; {layout.method}", int(12 * width))
    top, bottom = (0.3 + 0.2 * len(title)) / height, (0.35 if any(layout.axes) else 0.12) / height
    left = (0.35 if any(layout.axes) else 0.12) / width
    legend = 0.3 / height
    axes = figure.add_axes((left, bottom, 1 - left - 0.12 / width, 1 - top - bottom - legend))
    figure.text(left, 1 - 0.1 / height, "\n".join(title), va="top", fontsize=11)
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(layout.axes[0])
    axes.set_ylabel(layout.axes[1])
    groups = [tag_group(tag) for tag in vectors.tags]
    for group, (colour, shape) in MARKS.items():
        places = layout.places[[one == group for one in groups]]
        if len(places):
            edge = mpl.rcParams["text.color"]
            across, up = places.T
            size = MARK_POINTS**2
            axes.scatter(across, up, size, colour, marker=shape, edgecolors=edge, linewidths=0.6, label=group)
    figure.legend(
        loc="upper left", bbox_to_anchor=(left, 1 - top + 0.08 / height), ncols=len(MARKS), fontsize=9, borderaxespad=0,
        handletextpad=0.1, columnspacing=1.2,
    )  # fmt: skip
    _fit(axes, layout.places)
    names = [" ".join(tag.split()) for tag in vectors.tags]
    left_out = write_labels(figure, axes, names, layout.places)
    return figure, [vectors.tags[at] for at in left_out]


def _fit(axes: Axes, places: npt.NDArray[np.float64]) -> None:
    """Let a unit be as long in both directions, with room for names at the edges."""
    low, high = places.min(axis=0), places.max(axis=0)
    middle, reach = (low + high) / 2, (high - low) / 2 * ROOM
    box = axes.get_window_extent()
    unit = max(reach[0] / box.width, reach[1] / box.height) or 1.0
    axes.set_xlim(middle[0] - unit * box.width, middle[0] + unit * box.width)
    axes.set_ylim(middle[1] - unit * box.height, middle[1] + unit * box.height)


@contextlib.contextmanager
def _boxes_for_glyphs() -> Iterator[None]:
    """Let a box stand for a letter that the font has not, without a word."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def page_picture(vectors: TagVectors, layout: Layout) -> str:
    """The map as SVG for a page, in the colours of its style sheet."""
    with mpl.rc_context(STYLE), _boxes_for_glyphs():
        figure, _ = draw(vectors, layout)
        return svg(figure, f"Tags as a map: {vectors.source}; {layout.method}")


def own_pictures(vectors: TagVectors, layout: Layout) -> tuple[bytes, bytes, list[str]]:
    """The map as PNG and as SVG, the same bytes for the same map, and the tags that have a mark and no name."""
    style = {key: PAPER.get(value, value) if isinstance(value, str) else value for key, value in STYLE.items()}
    with mpl.rc_context({**style, "svg.hashsalt": "tag-map"}), _boxes_for_glyphs():
        figure, left_out = draw(vectors, layout)
        png, vector = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", metadata={"Software": None})
        figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None})
    return png.getvalue(), vector.getvalue(), left_out
