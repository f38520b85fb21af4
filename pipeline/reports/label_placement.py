"""Labels of a picture's marks, each near its mark and none over another, by the boxes that matplotlib measures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MARK_POINTS: Final = 6.5
FONT_POINTS: Final = 9.0
GAPS: Final = (2.0, 6.0, 14.0, 24.0, 38.0, 56.0, 80.0, 110.0)
"""Points between a mark and its label, the nearest place with room first."""
LED_FROM: Final = 14.0
"""From this gap on a line leads from a label to its mark."""
DIRECTIONS: Final = (0, 180, 90, 270, 45, 135, 315, 225, 22, 158, 202, 338, 67, 113, 247, 293)
"""Degrees in which a label stands from its mark, the best first."""

Box = npt.NDArray[np.float64]
"""Left, bottom, right, top, in points."""


@dataclass(frozen=True)
class Label:
    """Where a mark's label goes.

    Attributes:
        box: left, bottom, right, top, in points; None where there is no room near the mark.
        led: whether a line leads to its mark.
    """

    box: Box | None
    led: bool = False


def place_labels(
    marks: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], page: Box, bars: Box | None = None
) -> list[Label]:
    """Find a place for each label near its mark where it covers no mark, no bar, no other label and not the edge.

    Lines from labels to marks neither cross labels nor are covered by such. Those labels go first that have the most
    marks near them.

    Args:
        marks: float64 [labels, 2], centres of the marks, in points.
        sizes: float64 [labels, 2], width and height of the labels.
        page: in which they have to be.
        bars: float64 [n, 4], boxes of what else is drawn.
    """
    half = MARK_POINTS / 2
    taken = np.concatenate([marks - half, marks + half], axis=1)
    taken = taken if bars is None else np.concatenate([taken, bars])
    written = np.zeros((0, 4))
    near = (np.abs(marks[:, None] - marks[None]) < 4 * FONT_POINTS).all(axis=2).sum(axis=1)
    labels: list[Label] = [Label(None)] * len(marks)
    for at in np.argsort(-near, kind="stable"):
        for gap, box in _boxes(marks[at], sizes[at]):
            line = _line(marks[at], box) if gap >= LED_FROM else np.zeros((0, 4))
            inside = (box[:2] >= page[:2]).all() and (box[2:] <= page[2:]).all()
            if inside and not _overlaps(box, taken).any() and not any(_overlaps(dot, written).any() for dot in line):
                labels[at] = Label(box, gap >= LED_FROM)
                taken = np.concatenate([taken, box[None], line])
                written = np.concatenate([written, box[None]])
                break
    return labels


def _line(mark: npt.NDArray[np.float64], box: Box) -> npt.NDArray[np.float64]:
    """The line from a mark to the nearest point of a label's box, as small boxes one behind another."""
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


def write_labels(
    figure: Figure,
    axes: Axes,
    labels: Sequence[str],
    places: npt.NDArray[np.float64],
    spans: Sequence[tuple[float, float]] | None = None,
) -> list[int]:
    """Write labels beside marks in axes that have their final size and limits.

    Args:
        figure: has an Agg canvas.
        axes: of the figure.
        labels: one for each mark.
        places: float64 [labels, 2], of the marks, in the data's units.
        spans: lower and upper end of the error bar of each mark.

    Returns:
        Indices of the labels for which there was no room.
    """
    points = 72 / figure.dpi
    marks = axes.transData.transform(places) * points
    texts = [axes.text(0, 0, label, fontsize=FONT_POINTS, va="center", ha="center") for label in labels]
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined,unused-ignore]
    boxes = [text.get_window_extent(renderer) for text in texts]
    sizes = np.array([[box.width, box.height] for box in boxes]) * points
    edges = axes.get_window_extent(renderer)
    page = np.array([edges.x0, edges.y0, edges.x1, edges.y1]) * points
    bars = None if spans is None else _bars(axes, places[:, 0], spans, points)
    to_data = axes.transData.inverted()
    left_out = []
    for at, label in enumerate(place_labels(marks, sizes, page, bars)):
        if label.box is None:
            texts[at].remove()
            left_out.append(at)
            continue
        centre = (label.box[:2] + label.box[2:]) / 2
        x, y = to_data.transform(centre / points)
        texts[at].set_position((x, y))
        if label.led:
            end = np.clip(marks[at], label.box[:2], label.box[2:])
            line = to_data.transform(np.array([marks[at], end]) / points)
            axes.plot(*line.T, color=mpl.rcParams["axes.labelcolor"], linewidth=0.5, zorder=0.5)
    return left_out


def _bars(
    axes: Axes, across: npt.NDArray[np.float64], spans: Sequence[tuple[float, float]], points: float
) -> npt.NDArray[np.float64]:
    """Boxes of error bars, in points."""
    low, high = np.array(spans).T
    ends = [axes.transData.transform(np.stack([across, end], axis=1)) * points for end in (low, high)]
    return np.concatenate([ends[0] - 1, ends[1] + 1], axis=1)
