"""An output of ``autotag tag`` that outlives the call that writes it: ``--out OUT --resume``.

Rows go, as files are done, into ``OUT.part`` beside ``OUT``, which takes its place when all are done. A call that finds
``OUT.part`` goes on there, one that finds ``OUT`` alone adds to it; neither tags a file again that is in there with the
size and the time of change that it has now. Each row therefore says, besides what was heard:

| | |
|---|---|
| ``size``, ``modified`` | of the file before it was decoded: bytes, and nanoseconds since 1970 |
| ``settings`` | the model's identity and what was asked of it, session.describe |

Rows of failed files have none of these; such files are tried again. Of a row that is half written, as a killed process
leaves it, nothing is kept. At the end rows stand in the order of the files, as in an undisturbed call, those of files
that this call does not name before them.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, Literal, NamedTuple

from preprocessing.errors import AutotagError, BadInputError
from preprocessing.names import escaped, lossless
from preprocessing.whole_files import open_whole
from serving.tagging.output import ESCAPED

SUFFIX: Final = ".part"
"""Of the name under which an output grows."""

Form = Literal["json", "csv"]


class FileStamp(NamedTuple):
    """By what a file is known to be as it was."""

    size: int
    modified: int


def file_stamp(path: Path) -> FileStamp | None:
    """Return a file's size and time of change; None where the system does not say."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return FileStamp(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Row:
    """A row of an output.

    Attributes:
        begin, end: bytes of the output.
        file: its name, as preprocessing.names.lossless has it.
        model: what people call the model; empty where rows name none, or no model answered.
        settings: empty of a failed file.
        stamp: None of a failed file.
        incomplete: the file was not heard whole.
        silent: there is nothing to hear in it.
    """

    begin: int
    end: int
    file: str
    model: str
    settings: str
    stamp: FileStamp | None
    incomplete: bool
    silent: bool


@dataclass
class Written:
    """What is in an output.

    Attributes:
        rows: whole ones, in their order.
        header: of CSV, its columns; empty where there is none.
        begin: where the rows begin.
        end: where the last whole one ends; what follows is half written.
    """

    rows: list[Row] = field(default_factory=list)
    header: tuple[str, ...] = ()
    begin: int = 0
    end: int = 0

    def of_files(self) -> dict[str, dict[str, Row]]:
        """Return file -> model -> its last row; a failure and answers take the place of each other."""
        files: dict[str, dict[str, Row]] = {}
        for row in self.rows:
            mine = files.setdefault(row.file, {})
            if row.stamp is None or any(earlier.stamp is None for earlier in mine.values()):
                mine.clear()
            mine[row.model] = row
        return files


def read_written(stream: BinaryIO, form: Form, name: str) -> Written:
    """Read an output, one row in memory at a time.

    Raises:
        BadInputError: it is no output of this form, or was made without --resume.
    """
    written = Written()
    try:
        for begin, text in _records(stream, form):
            end = begin + len(text)
            if form == "csv" and not written.header:
                written.header, written.begin = tuple(_cells(text)), end
                if "settings" not in written.header or written.header[0] != "file":
                    raise ValueError
            else:
                values = _of_json(text) if form == "json" else _of_csv(text, written.header)
                written.rows.append(_row(begin, end, values))
            written.end = end
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, csv.Error):
        number = len(written.rows) + 1
        kind = "JSON" if form == "json" else "CSV"
        raise BadInputError(
            f"{name} row {number} is none of `autotag tag --{form} --resume`: only {kind} that was begun with --resume "
            "can be continued; give another --out"
        ) from None
    return written


def _records(stream: BinaryIO, form: Form) -> Iterator[tuple[int, bytes]]:
    """Yield where each whole row begins, and the row; in CSV a line may end inside of quotes."""
    begin, held = 0, b""
    for line in stream:
        held += line
        if line.endswith(b"\n") and (form == "json" or held.count(b'"') % 2 == 0):
            yield begin, held
            begin, held = begin + len(held), b""
    if held and not _begins_a_row(held, begin, form):
        raise ValueError("a line that is none of ours")


def _begins_a_row(held: bytes, begin: int, form: Form) -> bool:
    """Whether a half row, the first of the file, can be what a killed process left: nothing of others is cut off."""
    first = b'{"file": ' if form == "json" else b"file,"
    return begin > 0 or first.startswith(held) or held.startswith(first)


def _cells(text: bytes) -> list[str]:
    return next(csv.reader(io.StringIO(text.decode("utf-8", "surrogateescape"), newline="")))


def _of_json(text: bytes) -> dict[str, Any]:
    values = json.loads(text)
    incomplete = values.get("complete") is False
    return {"model": "", "settings": "", **values, "incomplete": incomplete, "silent": values.get("silent") is True}


def _of_csv(text: bytes, header: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = dict(zip(header, _cells(text), strict=True))
    silent = bool(values["settings"]) and values["silent_windows"] == values["windows"]
    return {"model": "", **values, "incomplete": bool(values["shortfall"]), "silent": silent}


def _row(begin: int, end: int, values: Mapping[str, Any]) -> Row:
    settings, model = values["settings"], values["model"] if values["settings"] else ""
    if not settings and not values["error"]:
        raise ValueError("made without --resume")
    stamp = FileStamp(int(values["size"]), int(values["modified"])) if settings else None
    file = values["file"]
    if not isinstance(file, str):
        raise TypeError("a name is text")
    return Row(begin, end, file, model, settings, stamp, values["incomplete"], values["silent"])


@dataclass
class Resumed:
    """An output that is being continued.

    Attributes:
        stream: takes further rows.
        header: of CSV, the columns that it has; empty where none is written yet.
        done: files that are in it as they are now -> their rows.
    """

    stream: IO[str]
    header: tuple[str, ...]
    done: dict[Path, list[Row]]


@contextlib.contextmanager
def resumed(
    out: Path, form: Form, files: Sequence[Path], missing: Sequence[Path], settings: Mapping[str, str]
) -> Iterator[Resumed]:
    """Continue an output, or begin one; it has its name when the block ends without an error.

    Args:
        out: its name.
        form: what it is made of.
        files: that are named in this call, in the order of their rows.
        missing: names of this call of which there is no file; their rows come first.
        settings: model's name -> session.describe. CSV of one model names it ``""``.

    Raises:
        BadInputError: it is no such output, is of another model or other settings, or another process writes it.
        AutotagError: it cannot be written: a full disk, say. The rows so far are kept.
    """
    if out.exists() and not out.is_file():
        raise BadInputError(f"--resume: {escaped(out)} is no file whose rows could be read again")
    out = Path(os.path.realpath(out))
    part = out.with_name(out.name + SUFFIX)
    with contextlib.ExitStack() as stack:
        try:
            binary = stack.enter_context(_open_part(part, out, form, settings))
        except OSError as error:
            raise BadInputError(f"--out {escaped(part)}: {error.strerror or error}") from error
        written = _checked(binary, form, part, settings)
        if not any(row.stamp for row in written.rows):
            written = Written()
        try:
            binary.truncate(written.end)
            binary.seek(written.end)
            stream = io.TextIOWrapper(binary, encoding="utf-8", errors=ESCAPED, newline="", write_through=True)
            try:
                yield Resumed(stream, written.header, _done(written, files, settings))
                stream.flush()
            finally:
                with contextlib.suppress(OSError):
                    stream.detach()
            _finish(binary, form, part, out, [*map(lossless, missing), *map(lossless, files)])
        except OSError as error:
            raise AutotagError(
                f"{escaped(part)} cannot be written: {error.strerror or error}; the rows so far are there, and the "
                "same call goes on behind them"
            ) from error


@contextlib.contextmanager
def _open_part(part: Path, out: Path, form: Form, settings: Mapping[str, str]) -> Iterator[BinaryIO]:
    """Open the growing output for this process alone; one that is finished is copied first."""
    if not part.exists() and out.exists():
        with out.open("rb") as finished:
            end = _checked(finished, form, out, settings).end
            with open_whole(part) as copy:
                _copy(finished, copy, 0, end)
    binary = open(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "r+b")  # noqa: SIM115 closed below
    try:
        try:
            fcntl.flock(binary, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInputError(f"{escaped(part)}: another call of autotag is writing it") from None
        if not part.exists() or not os.path.samestat(os.fstat(binary.fileno()), part.stat()):
            raise BadInputError(f"{escaped(part)}: another call of autotag has just finished it")
        yield binary
    finally:
        with contextlib.suppress(OSError):  # what a full disk did not take has been said
            binary.close()


def _checked(stream: BinaryIO, form: Form, path: Path, settings: Mapping[str, str]) -> Written:
    stream.seek(0)
    written = read_written(stream, form, escaped(path))
    for row in written.rows:
        now = settings.get(row.model)
        if row.settings and row.settings != now:
            asked = "which is not asked now" if now is None else f"now it would be {escaped(now)!r}"
            raise BadInputError(
                f"{escaped(path)} is of another model or other settings: {escaped(row.settings)!r}, {asked}; ask "
                "as before, or give another --out"
            )
    return written


def _done(written: Written, files: Sequence[Path], settings: Mapping[str, str]) -> dict[Path, list[Row]]:
    rows = written.of_files()
    done = {}
    for file in files:
        mine = rows.get(lossless(file), {})
        if mine.keys() == settings.keys():
            stamp = file_stamp(file)
            if stamp is not None and all(row.stamp == stamp for row in mine.values()):
                done[file] = list(mine.values())
    return done


def _finish(binary: BinaryIO, form: Form, part: Path, out: Path, names: Sequence[str]) -> None:
    """Give the output its name: as it is where its rows are in order, else with each file's last rows in order."""
    binary.seek(0)
    written = read_written(binary, form, escaped(part))
    files = written.of_files()
    named = dict.fromkeys(names)
    rows = [row for name in files if name not in named for row in files[name].values()]
    rows += [row for name in named for row in files.get(name, {}).values()]
    if rows == written.rows:  # the part has a name of its own, by which a killed call is gone on with
        os.replace(part, out)
        return
    with open_whole(out) as whole:
        _copy(binary, whole, 0, written.begin)
        for row in rows:
            _copy(binary, whole, row.begin, row.end)
    part.unlink()


def _copy(source: BinaryIO, target: BinaryIO, begin: int, end: int) -> None:
    source.seek(begin)
    while begin < end:
        piece = source.read(min(1 << 20, end - begin))
        if not piece:
            raise OSError("the file became shorter")
        begin += target.write(piece)
