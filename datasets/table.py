"""Any folder of audio with a table: a row a clip, with its path and its tags.

The table is text in UTF-8 with a header, its cells separated by commas, tabs or semicolons, whichever divides the
header into most cells. Columns by role, each of which ``--column ROLE=NAME`` can give another name:

| role | found under the names | what it holds |
|---|---|---|
| path | path, file, filename, mp3_path | path of the audio in the audio folder; needed |
| tags | tags | the clip's tags, separated by ``|``, else by ``;``, else by ``,`` |
| tag | every column of no other role, where there is no column `tags` | 1 where the clip carries the tag, else 0 |
| id | clip_id | unique; the path unless given |
| track | track | clips of one track are kept together; a file is a track of its own unless given |
| artist | artist | for the split rule `artist` |
| split | split | train, valid (validation, val, dev) or test; for the split rule `published` |
| start, seconds | start, seconds | the part of the file that the clip is |

Source, licence and citation are those of whoever made the folder.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from datasets.dataset import Card, Dataset, Source
from datasets.delimited import check_doubled, check_identity, check_width, decode, read_rows
from preprocessing.clips import AnnotatedClip, track_of_path
from preprocessing.errors import BadInputError
from preprocessing.splits import PUBLISHED, SEEDED_RULES

CARD: Final = Card(
    title="A folder with a table",
    sources=("whoever made the folder",),
    licence="not stated",
    counts={},
    citation="",
)

DELIMITERS: Final = (",", "\t", ";")
TAG_SEPARATORS: Final = ("|", ";", ",")
NAMES: Final = {
    "path": ("path", "file", "filename", "mp3_path"),
    "tags": ("tags",),
    "id": ("clip_id",),
    "track": ("track",),
    "artist": ("artist",),
    "split": ("split",),
    "start": ("start",),
    "seconds": ("seconds",),
}
"""Role -> names under which its column is found."""
BLANKS: Final = " \t\r\n"
"""What is no part of a path where it begins or ends with it; other spaces (U+00A0, U+3000) are a name's own."""
TAG: Final = "tag"
"""Role of a column with 0 and 1, which several columns may have."""
ROLES: Final = (*NAMES, TAG)
SPLITS: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What a table may call a split -> its name here."""


@dataclass(frozen=True)
class _Columns:
    """Where a table's columns stand: role -> index, and the tag columns' indices."""

    header: Sequence[str]
    at: Mapping[str, int]
    tag_columns: Sequence[int] = field(default=())

    def cell(self, row: Sequence[str], role: str) -> str:
        """The row's cell of a role, '' where there is no such column."""
        if role not in self.at:
            return ""
        return row[self.at[role]].strip(BLANKS if role == "path" else None)


def read(source: Source) -> list[AnnotatedClip]:
    """Read a table.

    Raises:
        BadInputError: it cannot be read, or is no such table; with the line of the first thing that is wrong.
    """
    return parse_table(source.read(), source.annotations, source.columns)


def parse_table(data: bytes, name: str, roles: Sequence[tuple[str, str]] = ()) -> list[AnnotatedClip]:
    """Parse a table.

    Args:
        data: the file's bytes, UTF-8.
        name: the file's name, for messages.
        roles: (role, column) pairs, see the module's docstring.

    Raises:
        BadInputError: with the line number, on the first thing that is wrong.
    """
    text = decode(data, name)
    rows = read_rows(text, name, find_delimiter(text))
    _, header = next(rows, (1, []))
    if not header:
        raise BadInputError(f"{name} line 1: the file is empty; expected a header with path, tags")
    header = [column.strip() for column in header]
    columns = _find_columns(header, name, roles)
    lines = list(rows)
    if not lines:
        raise BadInputError(f"{name}: the table has a header and no clip")
    separator = _tag_separator([columns.cell(row, "tags") for _, row in lines if len(row) == len(header)])
    clips: list[AnnotatedClip] = []
    seen: dict[str, int] = {}
    for line, row in lines:
        clip = _clip(row, columns, separator, f"{name} line {line}", seen)
        seen[clip.clip_id] = line
        clips.append(clip)
    return clips


def parse_column(text: str) -> tuple[str, str]:
    """Parse ``ROLE=NAME``, such as ``path=file name``.

    Raises:
        BadInputError: it is no such pair, or there is no such role.
    """
    role, equals, column = text.partition("=")
    if not equals or role not in ROLES or not column.strip():
        raise BadInputError(f"column {text!r}: expected ROLE=NAME with one of the roles {', '.join(ROLES)}")
    return role, column.strip()


def find_delimiter(text: str) -> str:
    """Return what divides the first line that is not empty into most cells; the comma where nothing does."""
    first = next((line for line in re.split("[\r\n]", text) if line.strip()), "")
    return max(DELIMITERS, key=lambda delimiter: _cells(first, delimiter))


def _cells(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:  # said with its line when the rows are read
        return 0


def _find_columns(header: Sequence[str], name: str, roles: Sequence[tuple[str, str]]) -> _Columns:
    check_doubled(header, name)
    at: dict[str, int] = {}
    chosen: list[int] = []
    for role, column in roles:
        if column not in header:
            raise BadInputError(f"{name} line 1: there is no column {column!r}; found {', '.join(header)}")
        if role == TAG:
            chosen.append(header.index(column))
        elif at.setdefault(role, header.index(column)) != header.index(column):
            raise BadInputError(f"column {role}={column}: the role {role} has the column {header[at[role]]!r} already")
    taken = {*at.values(), *chosen}
    for role, names in NAMES.items():
        found = [index for index, column in enumerate(header) if column.lower() in names and index not in taken]
        if role not in at and found and not (role == "tags" and chosen):
            at[role] = found[0]
    if "path" not in at:
        raise BadInputError(
            f"{name} line 1: no column is called {', '.join(NAMES['path'])}: say which has the paths with "
            f"--column path=NAME; found {', '.join(header)}"
        )
    if "tags" in at:
        if chosen:
            raise BadInputError("columns: give one with lists of tags (tags=NAME) or some of 0 and 1 (tag=NAME)")
        return _Columns(header, at)
    tags = chosen or [index for index in range(len(header)) if index not in at.values()]
    if not tags:
        raise BadInputError(f"{name} line 1: there is no tag column")
    return _Columns(header, at, tags)


def _tag_separator(cells: Sequence[str]) -> str:
    return next((separator for separator in TAG_SEPARATORS if any(separator in cell for cell in cells)), ",")


def _clip(row: Sequence[str], columns: _Columns, separator: str, where: str, seen: Mapping[str, int]) -> AnnotatedClip:
    check_width(row, columns.header, where)
    path = columns.cell(row, "path")
    start, seconds = _seconds(row, columns, "start", where), _seconds(row, columns, "seconds", where)
    if seconds == 0:
        raise BadInputError(f"{where}: a clip of 0 seconds")
    clip_id = columns.cell(row, "id") if "id" in columns.at else path if start is None else f"{path}@{start:g}"
    if path:
        check_identity(clip_id, path, seen, where)
    else:
        raise BadInputError(f"{where}: '' is no path inside the audio folder")
    split = columns.cell(row, "split")
    if split and split.lower() not in SPLITS:
        raise BadInputError(f"{where}: {split!r} is no split; expected train, valid or test")
    return AnnotatedClip(
        clip_id=clip_id,
        path=path,
        tags=_tags(row, columns, separator, where),
        track=columns.cell(row, "track") or track_of_path(path),
        artist=columns.cell(row, "artist"),
        split=SPLITS[split.lower()] if split else None,
        start=start or 0.0,
        seconds=seconds,
    )


def _tags(row: Sequence[str], columns: _Columns, separator: str, where: str) -> tuple[str, ...]:
    if "tags" in columns.at:
        return tuple(dict.fromkeys(filter(None, map(str.strip, columns.cell(row, "tags").split(separator)))))
    for index in columns.tag_columns:
        if row[index].strip() not in ("0", "1"):
            raise BadInputError(
                f"{where}: {row[index]!r} for the tag {columns.header[index]!r}; expected 0 or 1. Say which columns "
                "are tags with --column tag=NAME for each, or --column tags=NAME for one with lists of tags"
            )
    return tuple(columns.header[index] for index in columns.tag_columns if row[index].strip() == "1")


def _seconds(row: Sequence[str], columns: _Columns, role: str, where: str) -> float | None:
    text = columns.cell(row, role)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise BadInputError(f"{where}: {text!r} for {role}; expected seconds")
    return value


DATASET: Final = Dataset(
    "table",
    CARD,
    read,
    {**SEEDED_RULES, "published": PUBLISHED},
    takes_columns=True,
    not_offered="it is your own folder",
)
