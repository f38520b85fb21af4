"""A picture of tags at their places: marks in colours and shapes of groups, and names that do not cover each other.

The colours are Okabe and Ito's (2008), which people with the usual kinds of colour blindness tell apart; shapes say the
same. Names are put where there is room near their marks, by the boxes that matplotlib measures.
"""

from __future__ import annotations

import contextlib
import io
import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from datasets.tag_groups import GROUPS, OTHER, tag_group
from pipeline.plots import GRID, INK, MUTED, STYLE, svg
from pipeline.tag_map.vectors import TagVectors
from serving.library.layout import Layout

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SHAPES: Final = ("o", "s", "^", "D", "v", "P")
OTHER_MARK: Final = ("#999999", "X")
MARKS: Final = {**dict(zip(GROUPS, zip(COLOURS, SHAPES, strict=True), strict=True)), OTHER: OTHER_MARK}
"""Group -> colour and shape."""
PAPER: Final = {INK: "#1c1e21", MUTED: "#5c636b", GRID: "#d9dcdf"}
"""Colours of a picture of its own, in place of those that a page's style sheet gives."""

MARK_POINTS: Final = 6.5
FONT_POINTS: Final = 9.0
DOTS_AN_INCH: Final = 150
GAPS: Final = (2.0, 6.0, 14.0, 24.0, 38.0, 56.0, 80.0, 110.0)
"""Points between a mark and its name, the nearest place with room first."""
LED_FROM: Final = 14.0
"""From this gap on a line leads from a name to its mark."""
DIRECTIONS: Final = (0, 180, 90, 270, 45, 135, 315, 225, 22, 158, 202, 338, 67, 113, 247, 293)
"""Degrees in which a name stands from its mark, the best first."""

ROOM: Final = (1.25, 1.12)
"""Width and height of the picture, of those that the marks take."""

Box = npt.NDArray[np.float64]
"""Left, bottom, right, top, in points."""


@dataclass(frozen=True)
class Name:
    """Where a tag's name goes.

    Attributes:
        box: left, bottom, right, top, in points; None where there is no room near the mark.
        led: whether a line leads to its mark.
    """

    box: Box | None
    led: bool = False


def place_names(marks: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], page: Box) -> list[Name]:
    """Find a place for each name near its mark where it covers no mark, no other name and not the edge.

    Lines from names to marks neither cross names nor are covered by such. Those names go first that have the most marks
    near them.

    Args:
        marks: float64 [names, 2], centres of the marks, in points.
        sizes: float64 [names, 2], width and height of the names.
        page: in which they have to be.
    """
    half = MARK_POINTS / 2
    taken = np.concatenate([marks - half, marks + half], axis=1)
    written = np.zeros((0, 4))
    near = (np.abs(marks[:, None] - marks[None]) < 4 * FONT_POINTS).all(axis=2).sum(axis=1)
    names: list[Name] = [Name(None)] * len(marks)
    for at in np.argsort(-near, kind="stable"):
        for gap, box in _boxes(marks[at], sizes[at]):
            line = _line(marks[at], box) if gap >= LED_FROM else np.zeros((0, 4))
            inside = (box[:2] >= page[:2]).all() and (box[2:] <= page[2:]).all()
            if inside and not _overlaps(box, taken).any() and not any(_overlaps(dot, written).any() for dot in line):
                names[at] = Name(box, gap >= LED_FROM)
                taken = np.concatenate([taken, box[None], line])
                written = np.concatenate([written, box[None]])
                break
    return names


def _line(mark: npt.NDArray[np.float64], box: Box) -> npt.NDArray[np.float64]:
    """The line from a mark to the nearest point of a name's box, as small boxes one behind another."""
    end = np.clip(mark, box[:2], box[2:])
    dots = mark + (end - mark) * np.linspace(0, 1, 2 + int(np.linalg.norm(end - mark)), endpoint=False)[1:, None]
    return np.concatenate([dots - 0.5, dots + 0.5], axis=1)


def _boxes(mark: npt.NDArray[np.float64], size: npt.NDArray[np.float64]) -> Iterator[tuple[float, Box]]:
    """Yield gap and box of the places round a mark, the best first."""
    for gap in GAPS:
        for degrees in DIRECTIONS:
            towards = np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]).round(6)
            centre = mark + towards * (MARK_POINTS / 2 + gap) + np.sign(towards) * size / 2 * (np.abs(towards) > 0.2)
            yield gap, np.concatenate([centre - size / 2, centre + size / 2])


def _overlaps(box: Box, others: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    covers: npt.NDArray[np.bool_] = ((box[:2] < others[:, 2:]) & (others[:, :2] < box[2:])).all(axis=1)
    return covers


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
    return figure, _write_names(figure, axes, vectors.tags, layout.places)


def _fit(axes: Axes, places: npt.NDArray[np.float64]) -> None:
    """Let a unit be as long in both directions, with room for names at the edges."""
    low, high = places.min(axis=0), places.max(axis=0)
    middle, reach = (low + high) / 2, (high - low) / 2 * ROOM
    box = axes.get_window_extent()
    unit = max(reach[0] / box.width, reach[1] / box.height) or 1.0
    axes.set_xlim(middle[0] - unit * box.width, middle[0] + unit * box.width)
    axes.set_ylim(middle[1] - unit * box.height, middle[1] + unit * box.height)


def _write_names(figure: Figure, axes: Axes, tags: Sequence[str], places: npt.NDArray[np.float64]) -> list[str]:
    points = 72 / figure.dpi
    marks = axes.transData.transform(places) * points
    texts = [axes.text(0, 0, " ".join(tag.split()), fontsize=FONT_POINTS, va="center", ha="center") for tag in tags]
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined,unused-ignore]
    boxes = [text.get_window_extent(renderer) for text in texts]
    sizes = np.array([[box.width, box.height] for box in boxes]) * points
    edges = axes.get_window_extent(renderer)
    page = np.array([edges.x0, edges.y0, edges.x1, edges.y1]) * points
    to_data = axes.transData.inverted()
    left_out = []
    for tag, text, mark, name in zip(tags, texts, marks, place_names(marks, sizes, page), strict=True):
        if name.box is None:
            text.remove()
            left_out.append(tag)
            continue
        centre = (name.box[:2] + name.box[2:]) / 2
        x, y = to_data.transform(centre / points)
        text.set_position((x, y))
        if name.led:
            end = np.clip(mark, name.box[:2], name.box[2:])
            line = to_data.transform(np.array([mark, end]) / points)
            axes.plot(*line.T, color=mpl.rcParams["axes.labelcolor"], linewidth=0.5, zorder=0.5)
    return left_out


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
