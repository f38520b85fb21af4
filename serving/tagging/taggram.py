"""Tags over time of one file: a picture (PNG), a page (HTML, all in one file, needs no network) or data (JSON).

The picture and the page show twelve tags, ordered by their mean over the windows: the eight with the highest mean and,
of the others, the four that reach highest in any window. JSON has all tags::

    {"format": "autotag taggram", "version": 1, "file": "song.mp3", "model": "...", "seconds": 612.4,
     "window_seconds": 29.1, "tags": ["guitar", ...], "thresholds": [0.31, ...], "mean": [0.62, ...],
     "windows": [{"start": 0.0, "end": 29.1, "silent": false, "probabilities": [0.58, ...]}, ...]}

Of a part of a file there are ``part_start`` and ``file_seconds`` besides, ``seconds`` is the part's length, and windows
begin and end where they do in the file. Windows in which there is nothing to hear are marked: ``silent`` in JSON, where
their probabilities are 0, and grey in the picture and on the page. A column of several windows is the mean of those
that are not silent.

Times are seconds; thresholds, means and probabilities are in the order of the tags.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from preprocessing.errors import AutotagError, BadInputError
from preprocessing.names import escaped, lossless, to_json
from preprocessing.whole_files import write_whole
from serving.tagging.sources import Probabilities
from serving.tagging.tagged_files import TaggedFile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPLATES: Final = Path(__file__).parent / "templates"
SUFFIXES: Final = (".png", ".html", ".json")
MOST_TAGS: Final = 12
TAGS_BY_MEAN: Final = 8
MOST_COLUMNS: Final = 600
"""More windows than this are averaged in groups: a screen could not show them apart."""

TICK_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
MOST_TICKS: Final = 9
COLOURS: Final = ("#eef1f4", "#c3d6e8", "#82b0d4", "#3f7fb8", "#1b4f8a", "#0a2450")
"""From probability 0 to the top of the scale, equally far apart in lightness."""
SILENCE_COLOUR: Final = "#b3b0ab"


@dataclass(frozen=True)
class Taggram:
    """What is drawn.

    Attributes:
        title: the file's name.
        subtitle: length, windows, and how many of them a column holds.
        begin, end: seconds from the file's beginning at which that begins and ends which was heard.
        edges: float64 [columns + 1], seconds at which the columns begin and end.
        tags: names, the highest mean first.
        cells: float32 [tags, columns], probabilities; NaN where all is silent.
        mean: float32 [tags].
        above: bool [tags], the mean reaches the tag's threshold.
        top: of the colour scale, a multiple of 0.1.
    """

    title: str
    subtitle: str
    begin: float
    end: float
    edges: npt.NDArray[np.float64]
    tags: tuple[str, ...]
    cells: Probabilities
    mean: Probabilities
    above: npt.NDArray[np.bool_]
    top: float


def write_taggram(path: Path, tagged: TaggedFile, model: str) -> None:
    """Write a taggram, whole or not at all; its suffix says which kind.

    Args:
        path: where to; folders that are not there are made.
        tagged: the file's windows.
        model: what answered, for the JSON and the page.

    Raises:
        BadInputError: another suffix.
        AutotagError: it cannot be written.
    """
    kind = check_suffix(path)
    if kind == ".json":
        content = taggram_json(tagged, model).encode()
    elif kind == ".html":
        content = taggram_html(summarise(tagged), tagged, model).encode()
    else:
        content = taggram_png(summarise(tagged))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise AutotagError(f"the taggram {path} cannot be written: {error.strerror}") from error


def check_suffix(path: Path) -> str:
    """Return the suffix in small letters.

    Raises:
        BadInputError: it is none of those that can be drawn.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInputError(f"a taggram's name ends with {', '.join(SUFFIXES)}, got {path}")
    return suffix


def summarise(tagged: TaggedFile) -> Taggram:
    """Choose and order the tags, and put windows into at most 600 columns."""
    rows = tagged.window_probabilities
    order = choose_tags(tagged)
    group = math.ceil(len(rows) / MOST_COLUMNS)
    firsts = np.arange(0, len(rows), group)
    sums = np.add.reduceat(rows[:, order].astype(np.float64), firsts, axis=0)
    counts = np.add.reduceat((~tagged.silences).astype(np.float64), firsts)
    cells = (sums / np.where(counts, counts, np.nan)[:, None]).T.astype(np.float32)
    return Taggram(
        title=shorten(escaped(tagged.path.name), 90),
        subtitle=_subtitle(tagged, group),
        begin=tagged.begin,
        end=tagged.end,
        edges=column_edges(tagged.starts, tagged.begin, tagged.end, tagged.window_seconds)[[*firsts, len(rows)]],
        tags=tuple(tagged.tags[i] for i in order),
        cells=cells,
        mean=tagged.probabilities[order],
        above=tagged.above[order],
        top=max(0.1, math.ceil(round(float(np.nan_to_num(cells).max()) * 10, 6)) / 10),
    )


def choose_tags(tagged: TaggedFile) -> npt.NDArray[np.intp]:
    """Indices of the tags to be shown, intp [at most 12], the highest mean first."""
    by_mean = np.argsort(-tagged.probabilities, kind="stable")
    others = by_mean[TAGS_BY_MEAN:]
    peaks = others[np.argsort(-tagged.window_probabilities.max(axis=0)[others], kind="stable")]
    chosen = [*by_mean[:TAGS_BY_MEAN], *peaks[: MOST_TAGS - TAGS_BY_MEAN]]
    return by_mean[np.isin(by_mean, chosen)]


def column_edges(
    starts: npt.NDArray[np.float64], begin: float, end: float, window_seconds: float
) -> npt.NDArray[np.float64]:
    """Where windows meet on the time axis: half way between the middles of two that follow each other.

    Args:
        starts: float64 [windows], seconds.
        begin, end: seconds at which the first one begins and the last one ends.
        window_seconds: length of a window.

    Returns:
        float64 [windows + 1], from ``begin`` to ``end``, ascending.
    """
    middles = starts + window_seconds / 2
    return np.concatenate([[begin], (middles[1:] + middles[:-1]) / 2, [end]])


def clock(seconds: float, hours: bool) -> str:
    """Seconds as ``m:ss``, or as ``h:mm:ss`` where the axis has hours."""
    minutes, rest = divmod(math.floor(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def time_ticks(begin: float, end: float) -> list[float]:
    """At most nine round times in what was heard, in seconds."""
    length = end - begin
    step = next((step for step in TICK_STEPS if length / step < MOST_TICKS), 86400 * math.ceil(length / 86400 / 8))
    return [float(second) for second in np.arange(math.ceil(begin / step) * step, end + 1e-9, step)]


def shorten(text: str, most: int) -> str:
    """At most so many characters, the middle left out of what is longer."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[len(text) - (most - most // 2 - 1) :]}"


def _subtitle(tagged: TaggedFile, group: int) -> str:
    windows = "1 window" if tagged.windows == 1 else f"{tagged.windows:,} windows"
    hours = tagged.end >= 3600
    text = "" if tagged.part is None else f"{clock(tagged.begin, hours)} to "
    text += f"{clock(tagged.end, hours)}, {windows} of {tagged.window_seconds} s"
    hop = tagged.starts[1] - tagged.starts[0] if tagged.windows > 2 else tagged.window_seconds
    if hop < tagged.window_seconds:
        text += f" every {hop:.4g} s"
    return text + (f", a column is the mean of {group}" if group > 1 else "")


def taggram_json(tagged: TaggedFile, model: str) -> str:
    """The taggram as JSON text, all tags and windows; see the module's own words for the keys."""
    ends = np.minimum(tagged.starts + tagged.window_seconds, tagged.end)
    part = {} if tagged.part is None else {"part_start": tagged.begin, "file_seconds": tagged.part.file_seconds}
    data = {
        "format": "autotag taggram",
        "version": 1,
        "file": lossless(tagged.path),
        "model": model,
        "seconds": round(tagged.seconds, 4),
        **{key: None if value is None else round(value, 4) for key, value in part.items()},
        "window_seconds": tagged.window_seconds,
        "tags": tagged.tags,
        "thresholds": _rounded(tagged.thresholds),
        "mean": _rounded(tagged.probabilities),
        "windows": [
            {
                "start": round(float(start), 4),
                "end": round(float(end), 4),
                "silent": bool(silent),
                "probabilities": _rounded(row),
            }
            for start, end, silent, row in zip(
                tagged.starts, ends, tagged.silences, tagged.window_probabilities, strict=True
            )
        ],
    }
    return to_json(data) + "\n"


def _rounded(values: Probabilities) -> list[float]:
    return [round(float(value), 5) for value in values]


def taggram_png(taggram: Taggram) -> bytes:
    """The taggram as a PNG picture, 1,650 pixels wide."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = len(taggram.tags)
    style = {"font.size": 11, "text.parse_math": False, "axes.titlelocation": "left"}
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box stands for it
        figure = Figure(figsize=(11, 1.7 + 0.34 * rows), layout="constrained")
        axes = figure.add_subplot()
        _draw_cells(axes, taggram)
        axes.set_title(taggram.title, fontsize=13, fontweight="bold", pad=24)
        axes.text(0, 1.02, taggram.subtitle, transform=axes.transAxes, color="#5c636b", va="bottom")
        axes.text(1.008, 1.02, "mean", transform=axes.transAxes, color="#5c636b", va="bottom")
        for row, (mean, above) in enumerate(zip(taggram.mean, taggram.above, strict=True)):
            axes.text(
                1.008, row + 0.5, f"{mean:.2f}", transform=axes.get_yaxis_transform(), va="center",
                fontweight="bold" if above else "normal", color="#1c1e21" if above else "#5c636b",
            )  # fmt: skip
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()


def _draw_cells(axes: Axes, taggram: Taggram) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    few = taggram.cells.shape[1] <= 60
    axes.set_facecolor(SILENCE_COLOUR)
    mesh = axes.pcolormesh(
        taggram.edges, np.arange(len(taggram.tags) + 1), taggram.cells, vmin=0, vmax=taggram.top,
        cmap=LinearSegmentedColormap.from_list("taggram", COLOURS), rasterized=True, antialiased=False,
    )  # fmt: skip
    for row in range(1, len(taggram.tags)):
        axes.axhline(row, color="white", linewidth=2)
    if few:
        for edge in taggram.edges[1:-1]:
            axes.axvline(edge, color="white", linewidth=1)
    axes.set_ylim(len(taggram.tags), 0)
    axes.set_yticks(np.arange(len(taggram.tags)) + 0.5, [shorten(escaped(tag), 28) for tag in taggram.tags])
    axes.tick_params(axis="y", length=0)
    ticks, hours = time_ticks(taggram.begin, taggram.end), taggram.end >= 3600
    axes.set_xlim(taggram.begin, taggram.end)
    axes.set_xticks(ticks, [clock(tick, hours) for tick in ticks])
    axes.set_xlabel(f"time ({'hours:' if hours else ''}minutes:seconds)", color="#5c636b")
    silence = "; grey: silence" if np.isnan(taggram.cells).any() else ""
    axes.annotate(
        f"bold: reaches its threshold{silence}", (1, 0), xycoords="axes fraction",
        xytext=(0, -38), textcoords="offset points", ha="right", color="#5c636b", fontsize=9,
    )  # fmt: skip
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.07, aspect=14, shrink=0.9)
    bar.set_label("probability of the tag", color="#5c636b")
    bar.outline.set_visible(False)  # type: ignore[operator]  # matplotlib's stub says otherwise


def taggram_html(taggram: Taggram, tagged: TaggedFile, model: str) -> str:
    """The taggram as a page in one file: a picture, a table of all tags, and by script a read-out at the pointer."""
    import jinja2

    hours, length = taggram.end >= 3600, taggram.end - taggram.begin
    data = {
        "edges": [round(float(edge), 2) for edge in taggram.edges],
        "tags": taggram.tags,
        "cells": [[None if np.isnan(cell) else round(float(cell), 3) for cell in row] for row in taggram.cells],
        "hours": hours,
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("taggram.html").render(
        taggram=taggram,
        colours=COLOURS,
        rows=[_row(taggram, row) for row in range(len(taggram.tags))],
        ticks=[
            {"place": 100 * (tick - taggram.begin) / length, "time": clock(tick, hours)}
            for tick in time_ticks(taggram.begin, taggram.end)
        ],
        hours=hours,
        marks=[taggram.top * part / 2 for part in range(3)],
        table=[_table_row(tagged, tag, hours) for tag in np.argsort(-tagged.probabilities, kind="stable")],
        model=model,
        data=to_json(data).replace("<", "\\u003c"),
    )


def _row(taggram: Taggram, row: int) -> dict[str, Any]:
    cells = zip(taggram.edges[:-1], taggram.edges[1:], taggram.cells[row], strict=True)
    return {
        "tag": escaped(taggram.tags[row]),
        "above": bool(taggram.above[row]),
        "mean": float(taggram.mean[row]),
        "cells": [
            {"left": left, "width": right - left, "fill": _fill(value / taggram.top)} for left, right, value in cells
        ],
    }


def _table_row(tagged: TaggedFile, tag: int, hours: bool) -> dict[str, Any]:
    best = int(np.argmax(tagged.window_probabilities[:, tag]))
    return {
        "tag": escaped(tagged.tags[tag]),
        "above": bool(tagged.above[tag]),
        "mean": float(tagged.probabilities[tag]),
        "highest": float(tagged.window_probabilities[best, tag]),
        "at": clock(float(tagged.starts[best]), hours),
        "threshold": float(tagged.thresholds[tag]),
    }


def _fill(share: float) -> str:
    return SILENCE_COLOUR if np.isnan(share) else colour(share)


def colour(share: float) -> str:
    """``#rrggbb`` at 0 to 1 of the colour scale."""
    points = np.array([[int(text[at : at + 2], 16) for at in (1, 3, 5)] for text in COLOURS])
    place = min(max(float(share), 0.0), 1.0) * (len(points) - 1)
    rgb = [round(float(np.interp(place, range(len(points)), points[:, part]))) for part in range(3)]
    return "#" + "".join(f"{value:02x}" for value in rgb)
