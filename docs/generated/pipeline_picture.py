"""The picture of the pipeline, drawn from what ``create_pipeline`` makes of the demo's configuration.

Rows are components, coloured lines the channels between them. ``.venv/bin/python docs/generated/pipeline_picture.py``
writes docs/images/pipeline-light.svg and -dark.svg. They lie in the repository, for README shows them;
tests/pipeline/test_pipeline_picture.py holds them to the components.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

ROOT: Final = Path(__file__).parents[2]
IMAGES: Final = ROOT / "docs" / "images"
CONFIG: Final = ROOT / "pipeline" / "configs" / "demo.yaml"

WORDS: Final = {
    "ClipExampleGen": "decodes audio, makes log-mels, divides clips",
    "CuratedSchema": "what an example must have",
    "StatisticsGen": "counts silent, short and incomplete clips",
    "ShareValidator": "holds the counts against their limits",
    "SchemaGen": "a schema as a proposal",
    "RequireNoAnomalies": "stops the run where the data are broken",
    "Transform": "learns mean and deviation, normalises",
    "Trainer": "trains a network each",
    "EnsembleTrainer": "fits the combiners, scores all, exports one",
    "Baseline": "finds the newest pushed model",
    "BaselineEvaluator": "scores both from the waveform: the gate",
    "Pusher": "copies a blessed model to where it is served",
}
"""Class of a component -> what it does."""


@dataclass(frozen=True)
class Row:
    """One component, or several of a kind side by side.

    Attributes:
        title: for people.
        members: names of those that stand side by side; empty for one.
        words: what it does.
        outputs: names of its channels that somebody reads.
        inputs: (row of the producer, channel) of all that it reads.
    """

    title: str
    members: tuple[str, ...]
    words: str
    outputs: tuple[str, ...]
    inputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Theme:
    """Colours of one picture; ``lanes`` are those of channels."""

    ink: str
    soft: str
    box: str
    edge: str
    lanes: tuple[str, ...]


LIGHT: Final = Theme(
    ink="#1f2328",
    soft="#59636e",
    box="#f6f8fa",
    edge="#b6bfc9",
    lanes=("#1f6feb", "#bf5700", "#8250df", "#1a7f37", "#b3261e", "#0a7a80", "#9a6700", "#a0338a", "#4d5560"),
)
DARK: Final = Theme(
    ink="#e6edf3",
    soft="#9198a1",
    box="#1c222b",
    edge="#4a525d",
    lanes=("#6cb0ff", "#ffa657", "#c9a6ff", "#56d364", "#ff8f86", "#4fd1d9", "#e3b341", "#f39ad9", "#b4bcc6"),
)

WIDTH: Final = 760
ROW: Final = 50
BOX: Final = 40
LANE: Final = 20
MARGIN: Final = 12
BOX_WIDTH: Final = 290


def rows_of(components: Sequence[Any]) -> list[Row]:
    """Return the rows of a pipeline's components, in their order; those of one class stand in one row."""
    title_of = {one.id: one.id.partition("_")[0] for one in components}
    read = {(title_of[channel.producer_component_id], channel.output_key) for channel in _inputs(components)}
    rows: dict[str, Row] = {}
    for one in components:
        title, _, member = one.id.partition("_")
        before = rows.get(title)
        inputs = [(title_of[channel.producer_component_id], channel.output_key) for channel in _inputs([one])]
        rows[title] = Row(
            title,
            (*(before.members if before else ()), *([member] if member else [])),
            WORDS[type(one).__name__],
            tuple(key for key in one.outputs if (title, key) in read),
            tuple(dict.fromkeys([*(before.inputs if before else ()), *inputs])),
        )
    return list(rows.values())


def _inputs(components: Sequence[Any]) -> list[Any]:
    return [channel for one in components for channel in one.inputs.values()]


def lanes_of(rows: Sequence[Row]) -> dict[tuple[str, str], int]:
    """Return for each channel the column of its line; two lines in one column never overlap."""
    at = {row.title: number for number, row in enumerate(rows)}
    ends: dict[tuple[str, str], int] = {}
    for row in rows:
        for channel in row.inputs:
            ends[channel] = max(ends.get(channel, 0), at[row.title])
    columns: dict[tuple[str, str], int] = {}
    for channel in sorted(ends, key=lambda one: at[one[0]] - ends[one]):
        taken = {columns[other] for other in columns if at[other[0]] <= ends[channel] and at[channel[0]] <= ends[other]}
        columns[channel] = next(number for number in range(len(ends)) if number not in taken)
    return columns


def picture(rows: Sequence[Row], theme: Theme) -> str:
    """Return the SVG."""
    columns = lanes_of(rows)
    left = MARGIN + LANE * (1 + max(columns.values())) + 14
    at = {row.title: number for number, row in enumerate(rows)}
    colours = {channel: theme.lanes[number % len(theme.lanes)] for number, channel in enumerate(columns)}
    places = _places(rows)
    parts = [_end(theme, left, ROW // 2, "audio and annotations")]
    for channel, column in columns.items():
        x, colour = MARGIN + LANE * column + LANE / 2, colours[channel]
        heights = [places[row.title, channel] for row in rows if channel in row.inputs]
        start = places[channel[0], channel]
        parts.append(f'<path d="M{x} {start}V{max(heights)}" stroke="{colour}" stroke-width="2.5" fill="none"/>')
        parts.append(f'<path d="M{x} {start}H{left}" stroke="{colour}" stroke-width="2.5"/>')
        parts.append(f'<circle cx="{x}" cy="{start}" r="4" fill="{colour}"/>')
        for height in heights:
            parts.append(f'<path d="M{x} {height}H{left - 6}" stroke="{colour}" stroke-width="1.5"/>')
            parts.append(f'<path d="M{left} {height}l-8 -3.5v7z" fill="{colour}"/>')
    parts += [_box(row, theme, left, _top(at[row.title]), colours) for row in rows]
    parts.append(
        _end(theme, left, _top(len(rows)) + BOX // 2, "a version that TensorFlow Serving and autotag tag read")
    )
    height = _top(len(rows)) + BOX + MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join([f'{head} font-family="system-ui, sans-serif" role="img">', *parts, "</svg>"]) + "\n"


def _top(number: int) -> int:
    return ROW + ROW * number


def _places(rows: Sequence[Row]) -> Mapping[tuple[str, tuple[str, str]], float]:
    """Return the height at which a channel's line meets a row's box: inputs from above, outputs below them."""
    found = {}
    for number, row in enumerate(rows):
        lines = [*row.inputs, *((row.title, key) for key in row.outputs)]
        for place, channel in enumerate(lines):
            found[row.title, channel] = _top(number) + BOX * (place + 1) / (len(lines) + 1)
    return found


def _end(theme: Theme, left: int, y: int, words: str) -> str:
    style = f'font-size="13" font-style="italic" fill="{theme.soft}"'
    return f'<text x="{left + 12}" y="{y + 5}" {style}>{escape(words)}</text>'


def _box(row: Row, theme: Theme, left: int, top: int, colours: Mapping[tuple[str, str], str]) -> str:
    card = f'width="{BOX_WIDTH}" height="{BOX}" rx="6" fill="{theme.box}" stroke="{theme.edge}"'
    behind = [f'<rect x="{left + 4 * n}" y="{top + 3 * n}" {card}/>' for n in range(len(row.members) - 1, 0, -1)]
    names = f"  {', '.join(row.members)}" if row.members else ""
    channels = "".join(
        f'<tspan dx="{8 if number else 0}" fill="{colours[row.title, key]}">● {key}</tspan>'
        for number, key in enumerate(row.outputs)
    )
    title_y = top + (17 if channels else 25)
    return "\n".join(
        [
            *behind,
            f'<rect x="{left}" y="{top}" {card}/>',
            f'<text x="{left + 12}" y="{title_y}" font-size="13.5" font-weight="600" fill="{theme.ink}">{row.title}'
            f'<tspan font-weight="400" font-size="12" fill="{theme.soft}" xml:space="preserve">{names}</tspan></text>',
            *([f'<text x="{left + 12}" y="{top + 33}" font-size="11.5">{channels}</text>'] if channels else []),
            f'<text x="{left + BOX_WIDTH + 18}" y="{top + 25}" font-size="13" fill="{theme.soft}">'
            f"{escape(row.words)}</text>",
        ]
    )


def pictures() -> dict[Path, str]:
    """Return both pictures of the demo's pipeline: file -> its text."""
    from pipeline.create import create_pipeline
    from pipeline.entry_keys import Inputs
    from pipeline.settings.config import load_config

    config = load_config(str(CONFIG))
    rows = rows_of(create_pipeline(config, Inputs(manifest=None, data_version="", schema="", push_token="")).components)
    return {
        IMAGES / "pipeline-light.svg": picture(rows, LIGHT),
        IMAGES / "pipeline-dark.svg": picture(rows, DARK),
    }


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for path, text in pictures().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
