"""How ``autotag tag`` says what it heard: a table for people, JSON lines or CSV for programs."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal, Protocol

from preprocessing.errors import AutotagError, BadInputError
from preprocessing.names import escaped, is_utf8, keep_bytes, lossless, to_json
from preprocessing.whole_files import open_whole
from serving.tagging.file_tags import FileTags
from serving.tagging.journal import FieldChange
from serving.tagging.tagged_files import FailedFile, Selection, TaggedFile
from serving.tagging.writing import Writing

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

BAR_WIDTH: Final = 30
TABLE_WIDTH: Final = 100
"""Characters a line of a table in a file."""

Form = Literal["table", "json", "csv"]

DECIMALS: Final = 5
ESCAPED: Final = "backslashreplace"
"""What text for people does with what is none; JSON and CSV see to it themselves."""


Stamp = Callable[[TaggedFile], Mapping[str, "int | str"]]
"""What a row has besides, by which serving.tagging.resuming knows that a file is done."""
STAMP_COLUMNS: Final = ("size", "modified", "settings")


@dataclass(frozen=True)
class SkippedFile:
    """A file that this model with these settings has already written its tags into."""

    path: Path
    held: FileTags


class Output(Protocol):
    """Where results go, in the order of the files."""

    def tagged(self, file: TaggedFile, writing: Writing | None) -> None:
        """Say what was heard in a file, and what happens to the tags in it where they are to be written."""
        ...

    def failed(self, file: FailedFile) -> None:
        """Say that a file could not be tagged; the person is told on the terminal besides."""
        ...

    def skipped(self, file: SkippedFile) -> None:
        """Say that a file was left as it is."""
        ...

    def end(self) -> None:
        """Write what is still held back."""
        ...


class TableOutput:
    """A table a file, or the changes to its tags."""

    def __init__(self, stream: IO[str], selection: Selection) -> None:
        self._selection = selection
        self._bar, self._arrow = ("█", "→") if is_utf8(stream) else ("#", "->")
        self._console = table_console(stream)

    def tagged(self, file: TaggedFile, writing: Writing | None) -> None:
        """Print tag, probability, threshold and bar; with ``writing``, the tags that go, stay and come."""
        from rich.markup import escape

        name = escape(escaped(file.path))
        untouched = writing is not None and not writing.new.model
        if writing is not None and not untouched:
            self._print_changes(name, writing, file.silent)
            return
        chosen = file.select(self._selection)
        heard_by = escape(escaped(file.source))
        length = f"only {file.shortfall}" if file.shortfall else f"{file.seconds:.1f} s{_where(file)}"
        self._console.print(f"[bold]{name}[/bold]  [dim]{length}  {heard_by}[/dim]", soft_wrap=True)
        if chosen:
            self._console.print(self._table(file, chosen))
        elif file.silent:
            self._console.print(f"silence: no tag{', and nothing is written' if untouched else ''}")
        else:
            self._console.print(f"no tag {_reaches(self._selection)}")

    def _table(self, file: TaggedFile, chosen: Sequence[tuple[str, float]]) -> Table:
        from rich.markup import escape
        from rich.table import Table

        thresholds = dict(zip(file.tags, file.thresholds, strict=True))
        above = dict(zip(file.tags, file.above, strict=True))
        table = Table(box=None, pad_edge=False)
        table.add_column("tag")
        table.add_column("probability", justify="right")
        table.add_column("threshold", justify="right", style="dim")
        table.add_column("", no_wrap=True)
        for tag, probability in chosen:
            style = None if above[tag] else "dim"
            bar = self._bar * round(BAR_WIDTH * probability)
            table.add_row(escape(tag), f"{probability:.3f}", f"{thresholds[tag]:.3f}", bar, style=style)
        return table

    def _print_changes(self, name: str, writing: Writing, silent: bool) -> None:
        from rich.markup import escape

        state = "written" if writing.done else "not written" if writing.error else "would be written"
        self._console.print(f"[bold]{name}[/bold]  [dim]{state}[/dim]", soft_wrap=True)
        lines = [(" ", tag) for tag in writing.new.tags if tag in writing.old.tags]
        lines += [("-", tag) for tag in writing.old.tags if tag not in writing.new.tags]
        lines += [("+", tag) for tag in writing.new.tags if tag not in writing.old.tags]
        for sign, tag in lines:
            colour = {"-": "red", "+": "green", " ": "dim"}[sign]
            self._console.print(f"  [{colour}]{sign} {escape(escaped(tag))}[/{colour}]", soft_wrap=True)
        if writing.fields:
            self._console.print(field_table(writing.fields, self._arrow))
        if not writing.new.tags:
            self._console.print("  silence: no tag" if silent else f"  no tag {_reaches(self._selection)}")

    def failed(self, file: FailedFile) -> None:
        """Nothing here: the terminal has it."""

    def skipped(self, file: SkippedFile) -> None:
        """Print one line."""
        from rich.markup import escape

        self._console.print(
            f"[bold]{escape(escaped(file.path))}[/bold]  [dim]already done (--force writes again)[/dim]",
            soft_wrap=True,
        )

    def end(self) -> None:
        """Nothing is held back."""


def table_console(stream: IO[str]) -> Console:
    """Return a rich console for tables: as wide as the terminal, or as TABLE_WIDTH where there is none."""
    from rich.console import Console

    return Console(file=stream, highlight=False, width=None if stream.isatty() else TABLE_WIDTH)


def field_table(fields: Sequence[FieldChange], arrow: str) -> Table:
    """Return a rich table of fields with what they hold before and after; those that do not change are dim."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in fields:
        before, after = (escape(escaped(joined(values))) or "-" for values in (one.before, one.after))
        if one.before == one.after:
            table.add_row(f"  {one.field}", before, "", "stays", style="dim")
        else:
            table.add_row(f"  {one.field}", before, arrow, after)
    return table


def joined(values: Sequence[str]) -> str:
    """Return a field's values as one text."""
    return "; ".join(values)


def fields_to_json(fields: Sequence[FieldChange]) -> dict[str, Any]:
    """Return field -> what it holds before and after, as JSON has it."""
    return {one.field: {"before": one.before, "after": one.after} for one in fields}


class JsonOutput:
    """One object a line, names as preprocessing.names says; one with ``error`` for each file that was not tagged."""

    def __init__(self, stream: IO[str], selection: Selection, stamp: Stamp | None = None) -> None:
        self._stream, self._selection, self._stamp = stream, selection, stamp

    def tagged(self, file: TaggedFile, writing: Writing | None) -> None:
        """Write file, model, seconds, windows, no_tag and tags with probability and threshold, most probable first.

        ``complete`` says whether nothing is known to be missing; else there are ``claimed_seconds`` and ``shortfall``.
        ``silent`` says that nothing is to be heard, ``silent_windows`` in how many windows that is so. Of a part there
        is ``part`` with ``start``, ``end`` and ``file_seconds`` (null where nothing asked for it).
        """
        thresholds = dict(zip(file.tags, file.thresholds, strict=True))
        above = dict(zip(file.tags, file.above, strict=True))
        line: dict[str, Any] = {
            "file": lossless(file.path),
            "model": lossless(file.source),
            "identity": file.model,
            "seconds": round(file.seconds, 3),
            **_part(file),
            **_heard(file),
            **(self._stamp(file) if self._stamp is not None else {}),
            "windows": file.windows,
            "silent_windows": int(file.silences.sum()),
            "silent": file.silent,
            "no_tag": not file.above.any(),
            "tags": [
                {
                    "tag": tag,
                    "probability": round(probability, DECIMALS),
                    "threshold": round(float(thresholds[tag]), DECIMALS),
                    "above_threshold": bool(above[tag]),
                }
                for tag, probability in file.select(self._selection)
            ],
        }
        if writing is not None:
            line |= {"old": writing.old.tags, "new": writing.new.tags, "written": writing.done}
            if writing.fields:
                line["fields"] = fields_to_json(writing.fields)
            if writing.error:
                line["error"] = writing.error
        write_json_line(self._stream, line)

    def failed(self, file: FailedFile) -> None:
        """Write file, the kind of error and the error in words."""
        write_json_line(self._stream, {"file": lossless(file.path), "error": file.reason, "kind": file.error.kind})

    def skipped(self, file: SkippedFile) -> None:
        """Write file and the tags that it holds."""
        write_json_line(self._stream, {"file": lossless(file.path), "skipped": "already done", "old": file.held.tags})

    def end(self) -> None:
        """Nothing is held back."""


def write_json_line(stream: IO[str], line: Mapping[str, Any]) -> None:
    """Write an object as a line of JSON that readers see at once."""
    stream.write(to_json(line, ascii_only=not is_utf8(stream)) + "\n")
    stream.flush()


class CsvOutput:
    """One row a file: file, seconds, windows, tags (chosen ones, joined by '; '), error, shortfall, silences, tags.

    The columns of the tags hold all probabilities, whatever is chosen, so that a program sees the same columns always;
    those of a silent file, whose windows are all silent, are empty. Where tags are written by a mapping, each of its
    fields has two columns besides, ``genre (before)`` and ``genre (after)``, several values joined as the tags are.
    Files that fail before the first answer (which tells the tags) are held back until then. UTF-8, in which a name has
    the bytes that it has on the disk, whatever they are.

    Args:
        stream: takes the text.
        selection: which tags stand in the column ``tags``.
        several: where several models answer, the tags of all of them: each file then has a row of each model, which is
            named in a column after the file's, and the columns of tags that a model does not have are empty.
        of_parts: whether only a part of each file is heard: part_start and file_seconds then stand before the tags.
        stamp: gives size, modified and settings, which then stand before the tags, too.
        header: columns that stand in the file already; empty where there are none.
        fields: of a mapping.
    """

    def __init__(
        self,
        stream: IO[str],
        selection: Selection,
        several: Sequence[str] | None = None,
        of_parts: bool = False,
        stamp: Stamp | None = None,
        header: Sequence[str] = (),
        fields: Sequence[str] = (),
    ) -> None:
        self._stream, self._selection, self._of_parts, self._fields = stream, selection, of_parts, fields
        keep_bytes(stream)
        self._tags: tuple[str, ...] | None = None
        self._held_back: list[list[str]] = []
        self._names_model, self._stamp = several is not None, stamp
        if header:
            about = self._about()
            if list(header[: len(about)]) != about:
                raise BadInputError(f"the file that is continued has other columns than {', '.join(about)}")
            self._columns, self._tags = list(header), tuple(header[len(about) :])
        elif several is not None:
            self._begin(tuple(several))

    def tagged(self, file: TaggedFile, writing: Writing | None) -> None:
        """Write a row."""
        if self._tags is None:
            self._begin(file.tags)
        assert self._tags is not None
        error = writing.error if writing is not None else ""
        chosen = "; ".join(tag for tag, _ in file.select(self._selection))
        row = [*self._named(file.path, file.source), f"{file.seconds:.3f}", str(file.windows), chosen, error]
        row += [file.shortfall, str(file.silences.sum())]
        if self._of_parts:
            whole = file.part.file_seconds if file.part is not None else None
            row += [f"{file.begin:.3f}", "" if whole is None else f"{whole:.3f}"]
        if self._stamp is not None:
            row += map(str, self._stamp(file).values())
        if not set(file.tags) <= set(self._tags):
            raise AutotagError(f"{escaped(file.source)} has other tags than the file that is continued")
        changes = {one.field: one for one in (writing.fields if writing is not None else ())}
        for name in self._fields:
            row += [joined(changes[name].before), joined(changes[name].after)] if name in changes else ["", ""]
        heard = {} if file.silent else dict(zip(file.tags, file.probabilities, strict=True))
        self._row(row + [f"{heard[tag]:.{DECIMALS}f}" if tag in heard else "" for tag in self._tags])

    def failed(self, file: FailedFile) -> None:
        """Write a row without figures."""
        self._row([*self._named(file.path, ""), "", "", "", f"{file.error.kind}: {file.reason}"])

    def skipped(self, file: SkippedFile) -> None:
        """Write a row with the tags that the file holds."""
        self._row([*self._named(file.path, ""), "", "", "; ".join(file.held.tags), ""])

    def end(self) -> None:
        """Write the rows of a list where nothing could be tagged."""
        if self._tags is None:
            self._begin(())

    def _begin(self, tags: tuple[str, ...]) -> None:
        self._tags = tags
        self._columns = [*self._about(), *tags]
        self._stream.write(csv_line(self._columns))
        for row in self._held_back:
            self._row(row)

    def _about(self) -> list[str]:
        """Columns before those of the tags."""
        model = ["model"] if self._names_model else []
        part = ["part_start", "file_seconds"] if self._of_parts else []
        stamp = STAMP_COLUMNS if self._stamp is not None else ()
        about = ["seconds", "windows", "tags", "error", "shortfall", "silent_windows"]
        fields = [f"{name} ({when})" for name in self._fields for when in ("before", "after")]
        return ["file", *model, *about, *part, *stamp, *fields]

    def _row(self, row: list[str]) -> None:
        if self._tags is None:
            self._held_back.append(row)
            return
        self._stream.write(csv_line(row + [""] * (len(self._columns) - len(row))))
        self._stream.flush()

    def _named(self, path: Path, model: str) -> list[str]:
        return [lossless(path), *([lossless(model)] if self._names_model else [])]


def _where(file: TaggedFile) -> str:
    """Where a part lies, for people; nothing of a whole file."""
    if file.part is None:
        return ""
    of = "" if file.part.file_seconds is None else f", of {file.part.file_seconds:.1f} s"
    return f" from {file.begin:.1f} s on{of}"


def _part(file: TaggedFile) -> dict[str, Any]:
    """Where a part lies, for JSON; nothing of a whole file."""
    if file.part is None:
        return {}
    whole = file.part.file_seconds
    whole = None if whole is None else round(whole, 3)
    return {"part": {"start": round(file.begin, 3), "end": round(file.end, 3), "file_seconds": whole}}


def _heard(file: TaggedFile) -> dict[str, Any]:
    """How much of the file was heard, for JSON."""
    if not file.shortfall:
        return {"complete": True}
    assert file.heard is not None
    claimed = file.heard.claimed
    claimed = None if claimed is None else round(claimed, 3)
    return {"complete": False, "claimed_seconds": claimed, "shortfall": file.shortfall}


def csv_line(cells: Sequence[str]) -> str:
    """A row that ends with a newline; csv.writer (3.10) quotes a carriage return in it only where rows end with one."""
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


def _reaches(selection: Selection) -> str:
    return "reaches its threshold" if selection.threshold == "model" else f"reaches {selection.threshold}"


@contextlib.contextmanager
def whole_file(path: Path, option: str = "--out") -> Iterator[IO[str]]:
    """A text file that is there whole at the end, and not at all (or as it was) after an error or Ctrl-C.

    Raises:
        BadInputError: it cannot be written there.
        AutotagError: it cannot be written to its end: a full disk, say.
    """
    try:
        with contextlib.ExitStack() as stack:
            try:
                stream = stack.enter_context(_open_text(path))
            except OSError as error:
                raise BadInputError(f"{option} {path}: {error.strerror}") from error
            yield stream
    except OSError as error:
        raise AutotagError(f"{path} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _open_text(path: Path) -> Iterator[IO[str]]:
    if path.exists() and not path.is_file():  # /dev/stdout: nothing can take its place
        with open(os.open(path, os.O_WRONLY), "w", encoding="utf-8", errors=ESCAPED, newline="") as stream:
            yield stream
    else:
        with open_whole(os.path.realpath(path)) as file, _text(file) as stream:
            yield stream


def _text(file: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding="utf-8", errors=ESCAPED, newline="")
