"""Labels of marks: near them, over nothing, none where there is no room."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.reports.label_placement import FONT_POINTS, MARK_POINTS, place_labels, write_labels


@settings(max_examples=40, deadline=None)
@given(
    marks=st.lists(st.tuples(st.floats(0, 400), st.floats(0, 300)), min_size=1, max_size=40),
    widths=st.lists(st.floats(5, 90), min_size=40, max_size=40),
    tall=st.floats(0, 60),
)
def test_labels_cover_neither_each_other_nor_marks_nor_the_edge(
    marks: list[tuple[float, float]], widths: list[float], tall: float
) -> None:
    places = np.array(marks)
    sizes = np.array([[width, FONT_POINTS] for width in widths[: len(marks)]])
    page = np.array([-100.0, -100.0, 500.0, 400.0])
    labels = place_labels(places, sizes, page, np.concatenate([places - 1, places + 1 + np.array([0, tall])], axis=1))
    boxes = [label.box for label in labels if label.box is not None]
    half = MARK_POINTS / 2
    drawn = [np.r_[place - half, place + half] for place in places]
    drawn += [np.r_[place - 1, place + 1 + np.array([0, tall])] for place in places]
    for number, box in enumerate(boxes):
        assert box[0] >= page[0] and box[1] >= page[1] and box[2] <= page[2] and box[3] <= page[3]  # noqa: PT018
        for left, bottom, right, top in (*boxes[:number], *drawn):
            assert box[2] <= left or right <= box[0] or box[3] <= bottom or top <= box[1]


def test_a_lone_marks_label_is_beside_it_and_one_without_room_has_none() -> None:
    marks, page = np.array([[50.0, 50.0]]), np.array([0.0, 0.0, 200.0, 100.0])
    (label,) = place_labels(marks, np.array([[40.0, 10.0]]), page)
    assert label.box is not None
    assert not label.led
    assert label.box[0] == pytest.approx(50 + MARK_POINTS / 2 + 2)
    (none,) = place_labels(marks, np.array([[400.0, 10.0]]), page)
    assert none.box is None


def test_a_picture_tells_which_labels_had_no_room() -> None:
    figure = Figure(figsize=(3, 2))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 3), ylim=(0, 2))
    places = np.array([[0.5, 1.0], [0.5, 0.5]])
    left_out = write_labels(figure, axes, ["near", "far too long " * 9], places, [(0.9, 1.1), (0.4, 0.6)])
    assert left_out == [1]
    (text,) = axes.texts
    assert text.get_text() == "near"
    assert text.get_position()[0] > 0.5
