"""Tables as text: decoding, rows with their line numbers, and what every annotation table must not do."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from preprocessing.errors import BadInputError


def decode(data: bytes, name: str) -> str:
    """Decode UTF-8, with or without a byte order mark.

    Args:
        data: the file's bytes.
        name: the file's name, for messages.

    Raises:
        BadInputError: with the line of the first byte that is no UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInputError(f"{name} line {line}: not UTF-8 text (byte {error.object[error.start]:#04x})") from None


def read_rows(text: str, name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of each line that is not empty.

    Raises:
        BadInputError: with the line that is no row of such a table.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise BadInputError(f"{name} line {reader.line_num}: {error}") from None


def check_doubled(header: Sequence[str], name: str) -> None:
    """Raise BadInputError where a column stands twice in the header."""
    doubled = [column for column, count in Counter(header).items() if count > 1]
    if doubled:
        raise BadInputError(f"{name} line 1: the column {doubled[0]!r} stands there twice")


def check_width(row: Sequence[str], header: Sequence[str], where: str) -> None:
    """Raise BadInputError where a row has more or fewer cells than the header."""
    if len(row) != len(header):
        raise BadInputError(f"{where}: {len(row)} cells where the header has {len(header)}")


def check_identity(clip_id: str, path: str, seen: Mapping[str, int], where: str) -> None:
    """Check a clip's id and path.

    Args:
        clip_id: which must be there, and new.
        path: which must lie inside the audio folder.
        seen: ids so far, with their lines.
        where: the file and line, for messages.

    Raises:
        BadInputError: says what is wrong with which.
    """
    if not clip_id:
        raise BadInputError(f"{where}: no clip_id")
    if clip_id in seen:
        raise BadInputError(f"{where}: clip {clip_id} stands on line {seen[clip_id]} already")
    check_path(path, where)


def check_new(clip_id: str, seen: Mapping[str, str], where: str) -> None:
    """Raise BadInputError where a clip stands in a data set's files already; ``seen`` has the clips' file and line."""
    if clip_id in seen:
        raise BadInputError(f"{where}: {clip_id} stands in {seen[clip_id]} already")


def check_path(path: str, where: str) -> None:
    """Raise BadInputError where a path does not lie inside the audio folder."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise BadInputError(f"{where}: {path!r} is no path inside the audio folder")


def read_lines(text: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield (file and line, text) of each line that is not empty, without spaces round it.

    Raises:
        BadInputError: there is none.
    """
    lines = [(f"{name} line {number}", line.strip()) for number, line in enumerate(re.split("\r\n|[\r\n]", text), 1)]
    if not any(line for _, line in lines):
        raise BadInputError(f"{name} line 1: the file is empty")
    yield from ((where, line) for where, line in lines if line)
