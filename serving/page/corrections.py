"""What people say of tags: right, wrong or missing; kept as a table that `autotag run` trains from.

One CSV file (RFC 4180, UTF-8), a row a song, in the format of the data set `table`:

| column | what it holds |
|---|---|
| path | the song, below the folder |
| tags | its labels, separated by ``|``: what was shown but for what is wrong, and what is right or was added |
| right, wrong, added | the tags that somebody marked so |
| shown, model | the tags over their thresholds when the first of them was marked, and what the model is called |

Whoever marks a tag has looked at the others too: a tag that was shown and not marked counts as right. Other columns
and rows that somebody put there are kept, and a row whose last mark is taken back is as it was.
"""

from __future__ import annotations

import csv
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from preprocessing.errors import AutotagError, BadInputError
from preprocessing.locks import wait_for
from preprocessing.names import escaped
from preprocessing.whole_files import write_whole
from serving.page.answers import PageError

MARKS: Final = ("right", "wrong", "added")
PATH: Final = "path"
TAGS: Final = "tags"
SHOWN: Final = "shown"
MODEL: Final = "model"
COLUMNS: Final = (PATH, TAGS, *MARKS, SHOWN, MODEL)
DELIMITERS: Final = (",", "\t", ";")
SEPARATORS: Final = ("|", ";", ",")
"""Of tags in a cell: the first of them that any cell has, as the data set `table` reads them."""
NOTHING_SHOWN: Final = "none"
"""For a model, where a tag was added to a song that nobody had tagged."""
LONGEST_TAG: Final = 100
MOST_SHOWN: Final = 2_000
"""Songs of which is remembered what was shown."""

Row = dict[str, str]


@dataclass
class Table:
    """A file's rows.

    Attributes:
        header: its columns.
        rows: column -> cell.
        delimiter: between cells.
    """

    header: list[str]
    rows: list[Row]
    delimiter: str = ","

    def find(self, path: str) -> Row | None:
        """Return a song's row."""
        return next((row for row in self.rows if row[PATH].strip() == path), None)


class Corrections:
    """The marks in one file. May be shared by threads, and the file by processes.

    Args:
        file: where it lies, or will.

    Raises:
        BadInputError: a file is there that is no such table.
    """

    def __init__(self, file: Path) -> None:
        self.file = Path(os.path.realpath(file))
        if self.file.is_dir() or not self.file.parent.is_dir():
            raise BadInputError(f"corrections: {file} is no file, and cannot become one")
        self._shown: OrderedDict[str, dict[str, tuple[str, ...]]] = OrderedDict()
        self._lock = threading.Lock()
        self._read()

    def show(self, path: str, model: str, tags: Sequence[str]) -> None:
        """Remember what a model hears in a song: the tags over their thresholds."""
        with self._lock:
            models = self._shown.setdefault(path, {})
            models.pop(model, None)
            models[model] = tuple(tags)
            self._shown.move_to_end(path)
            while len(self._shown) > MOST_SHOWN:
                self._shown.popitem(last=False)

    def marks(self, path: str) -> dict[str, str]:
        """Return tag -> mark of a song.

        Raises:
            BadInputError: the file is no such table any more.
        """
        row = self._read().find(path)
        return {} if row is None else _marks(row)

    def mark(self, path: str, tag: str, mark: str | None, model: str | None = None) -> dict[str, str]:
        """Mark a song's tag, or take its mark back; returns the song's marks as marks() does.

        Args:
            path: of the song, below the folder.
            tag: which.
            mark: one of MARKS; None for none.
            model: whose tags are looked at; None for those of the last one that was asked.

        Raises:
            PageError: there is no such mark, the tag or path cannot stand in a table, or it is not known what the model
                hears in the song, so that its other tags would count as wrong.
            AutotagError: the file cannot be written.
        """
        tag = " ".join(tag.split())
        _check(path, tag, mark)
        try:
            with wait_for(self.file.with_name(f".{self.file.name}.lock"), lambda: None):
                table = self._read()
                row = self._marked(table, path, tag, mark, model)
                _write(self.file, table)
        except OSError as error:
            raise AutotagError(f"{self.file}: {(error.strerror or str(error)).lower()}: nothing was kept") from error
        return _marks(row)

    def _marked(self, table: Table, path: str, tag: str, mark: str | None, model: str | None) -> Row:
        """Put a mark into a table; returns the song's row, which is in the table no more where it has no mark left."""
        table.header += [column for column in COLUMNS if column not in table.header]
        for row in table.rows:
            for column in COLUMNS:
                row.setdefault(column, "")
        found = table.find(path)
        if found is None and mark is None:
            return dict.fromkeys(table.header, "")
        if found is None:
            found = {**dict.fromkeys(table.header, ""), PATH: path, **self._what_was_shown(path, model)}
            table.rows.append(found)
        elif not _marks(found):
            found[SHOWN], found[MODEL] = found[TAGS], ""
        marks = {**_marks(found), tag: mark}
        for kind in MARKS:
            found[kind] = _joined([name for name, said in marks.items() if said == kind])
        shown = _split(found[SHOWN])
        labels = [
            *(name for name in shown if marks.get(name) != "wrong"),
            *_split(found["right"]),
            *_split(found["added"]),
        ]
        found[TAGS] = _joined(list(dict.fromkeys(labels)))
        if not _marks(found):
            self._end(table, found)
        return found

    def _what_was_shown(self, path: str, model: str | None) -> Row:
        with self._lock:
            models = self._shown.get(path, {})
            known = next(reversed(models), NOTHING_SHOWN) if model is None else model
            if model is not None and model not in models:
                raise PageError(
                    409, f"what {escaped(model[:80])} hears in this song is not known here yet, or no more: let it "
                    "hear the whole song, then mark"
                )  # fmt: skip
            shown = models.get(known, ())
        return {SHOWN: _joined([tag for tag in shown if _may_stand(tag)]), MODEL: known}

    def _end(self, table: Table, row: Row) -> None:
        """Let a row be as it was before its first mark."""
        if row[MODEL] and not any(value for column, value in row.items() if column not in COLUMNS):
            table.rows.remove(row)
        row[SHOWN] = row[MODEL] = ""

    def _read(self) -> Table:
        try:
            data = self.file.read_bytes()
        except FileNotFoundError:
            return Table(list(COLUMNS), [])
        except OSError as error:
            raise BadInputError(f"{self.file}: {(error.strerror or str(error)).lower()}") from error
        return parse(data, str(self.file))


def parse(data: bytes, name: str) -> Table:
    """Read a file of corrections, or another table with the columns path and tags.

    Args:
        data: the file's bytes.
        name: for messages.

    Raises:
        BadInputError: it is none; with the line of what is wrong.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInputError(f"{name} line {line}: not UTF-8 text") from None
    if not text.strip():
        return Table(list(COLUMNS), [])
    first = text.lstrip("\r\n").splitlines()[0]
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, line) for line in reader if line]
    except csv.Error as error:
        raise BadInputError(f"{name} line {reader.line_num}: {error}") from None
    header = [column.strip() for column in lines[0][1]]
    if not {PATH, TAGS} <= set(header) or len(set(header)) != len(header):
        raise BadInputError(
            f"{name} line 1: corrections need the columns {PATH} and {TAGS}, each column once; found "
            f"{escaped(', '.join(header))}. Name another file with --corrections"
        )
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            raise BadInputError(f"{name} line {number}: {len(cells)} cells where the header has {len(header)}")
    rows = [dict(zip(header, cells, strict=True)) for _, cells in lines[1:]]
    _to_bars(rows)
    return Table(header, rows, delimiter)


def _to_bars(rows: list[Row]) -> None:
    """Let the tags of all rows be separated alike: a reader takes one separator for a whole file."""
    separator = next((one for one in SEPARATORS if any(one in row[TAGS] for row in rows)), "|")
    if separator != "|":
        for row in rows:
            row[TAGS] = _joined([tag for part in row[TAGS].split(separator) if (tag := part.strip())])


def _write(file: Path, table: Table) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=table.delimiter, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows([row[column] for column in table.header] for row in table.rows)
    write_whole(file, text.getvalue())


def _marks(row: Row) -> dict[str, str]:
    return {tag: mark for mark in MARKS for tag in _split(row.get(mark, ""))}


def _split(cell: str) -> list[str]:
    return [tag for part in cell.split("|") if (tag := part.strip())]


def _joined(tags: Sequence[str]) -> str:
    """One cell; a bar at the end of a tag that stands alone and has what could be another separator."""
    cell = "|".join(tags)
    return f"{cell}|" if len(tags) == 1 and any(separator in cell for separator in SEPARATORS) else cell


def _may_stand(tag: str) -> bool:
    return bool(tag) and len(tag) <= LONGEST_TAG and "|" not in tag and tag.isprintable()


def _check(path: str, tag: str, mark: str | None) -> None:
    if mark is not None and mark not in MARKS:
        raise PageError(400, f"a tag is marked {', '.join(MARKS)} or null, got {mark[:40]!r}")
    if not _may_stand(tag):
        raise PageError(400, f"a tag has 1 to {LONGEST_TAG} characters on one line, and no |")
    if not path.isprintable() or path != path.strip() or any(0xDC80 <= ord(letter) <= 0xDCFF for letter in path):
        raise PageError(
            409, f"{escaped(path)} cannot stand in a table: its name is not UTF-8, or has spaces or control "
            "characters where none may be. Rename the file first"
        )  # fmt: skip
