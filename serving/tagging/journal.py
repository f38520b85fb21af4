"""What was written into fields of files, so that it can be taken back: ``.autotag-journal.jsonl`` beside the library.

The journal of a file is the nearest one in its folder or above, on the same file system; where there is none, it is
made in the folder that was named, or in the file's own. It says where files lie from its own folder, so that a library
is moved with it. One JSON object a line:

- ``{"run", "at", "file", "fields": {field: {"before": [...], "after": [...]}}, "size", "sha256"}``: flushed to the disk
  **before** the file is changed. A process that is killed in between leaves a line of which nothing was done, which
  taking back finds out by itself.
- ``{"undone": run, "at", "file", "size", "sha256"}``: taken back, flushed after it was done.

``size`` and ``sha256`` are the file's with the change in it, by which it is found again under another name. Names are
as in JSON elsewhere (preprocessing.names). One process at a time writes: the journal is the lock.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from preprocessing.errors import ClipError
from preprocessing.locks import wait_for
from preprocessing.names import lossless, to_json

JOURNAL_NAME: Final = ".autotag-journal.jsonl"
READ_AT_ONCE: Final = 1 << 20


@dataclass(frozen=True)
class FieldChange:
    """What a field held, and what it holds then."""

    field: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Print:
    """A file's bytes, told from others."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Print:
        """Read a file.

        Raises:
            OSError: it cannot be read.
        """
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while part := file.read(READ_AT_ONCE):
                digest.update(part)
            return cls(file.tell(), digest.hexdigest())


@dataclass(frozen=True)
class Entry:
    """One file's change in one run.

    Attributes:
        at: when, of which later ones sort behind earlier ones, in one journal whatever the clock says.
        run: its name.
        file: its path from the journal's folder.
        changes: of its fields.
    """

    at: str
    run: str
    file: str
    changes: tuple[FieldChange, ...]


@dataclass
class History:
    """What a journal says.

    Attributes:
        changes: (run, file) -> what was done and not taken back, the oldest first.
        prints: file -> what its bytes were after each line.
        damaged: numbers of lines that are none of a journal.
        newest: when the newest line was written.
    """

    changes: dict[tuple[str, str], Entry] = field(default_factory=dict)
    prints: dict[str, list[Print]] = field(default_factory=dict)
    damaged: list[int] = field(default_factory=list)
    newest: str = ""


def new_run() -> str:
    """Return a name for a run: its time, in UTC, and what tells it from another one of that time."""
    return f"{datetime.datetime.now(datetime.timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def find_journal(file: Path) -> Path | None:
    """Return the journal that is nearest above a file or folder, in itself first; None where there is none."""
    place = Path(os.path.realpath(file))
    folder = place if place.is_dir() else place.parent
    try:
        device = folder.stat().st_dev
        for above in (folder, *folder.parents):
            if above.stat().st_dev != device:
                return None
            if (above / JOURNAL_NAME).is_file():
                return above / JOURNAL_NAME
    except OSError:
        return None
    return None


def journal_for(file: Path, named: Sequence[Path]) -> Path:
    """Return the journal that a change of a file goes into, which need not be there yet.

    Args:
        file: that is to be changed.
        named: files and folders that a person named; the outermost folder with the file in it is the library.
    """
    found = find_journal(file)
    if found is not None:
        return found
    place = os.path.realpath(file)
    folders = [folder for folder in map(os.path.realpath, named) if os.path.isdir(folder) and within(place, folder)]
    folder = min(folders, key=lambda path: len(path), default=os.path.dirname(place))
    return Path(folder) / JOURNAL_NAME


def within(place: str, folder: str) -> bool:
    """Whether a real path is a folder's or below it."""
    return place == folder or place.startswith(folder.rstrip(os.sep) + os.sep)


class Journal:
    """A journal that this process may write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from writing this journal, and the files that it is for, while the block runs.

        Raises:
            ClipError: ``unwritable``: the journal cannot be made or written.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(wait_for(self.path, lambda: None))
            except OSError as error:
                raise self._unwritable(error) from error
            yield

    def add_change(self, run: str, file: Path, changes: Sequence[FieldChange], now: Print) -> None:
        """Write down what is about to be done; on the disk when this returns.

        Raises:
            ClipError: ``unwritable``.
        """
        fields = {one.field: {"before": one.before, "after": one.after} for one in changes}
        self._add({"run": run, "at": _now(), "file": self._name(file), "fields": fields, **vars(now)})

    def add_undone(self, entry: Entry, now: Print) -> None:
        """Write down that a change was taken back.

        Raises:
            ClipError: ``unwritable``.
        """
        self._add({"undone": entry.run, "at": _now(), "file": lossless(entry.file), **vars(now)})

    def _name(self, file: Path) -> str:
        return lossless(os.path.relpath(os.path.realpath(file), os.path.realpath(self.path.parent)))

    def _add(self, line: Mapping[str, Any]) -> None:
        try:
            with self.path.open("r+b") as file:
                file.truncate(_whole_lines(file))
                file.seek(0, os.SEEK_END)
                file.write(to_json(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ClipError:
        return ClipError(
            "unwritable",
            f"the journal {self.path}, by which --undo takes changes back, cannot be written "
            f"({error.strerror}): nothing was written without it. Make its folder writable, or name a folder below",
        )


def _whole_lines(file: IO[bytes]) -> int:
    """Bytes without the line that a killed process has left unfinished, if there is one: its change was not made."""
    end: int = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - READ_AT_ONCE)
        file.seek(begin)
        last = file.read(end - begin).rfind(b"\n")
        if last >= 0:
            return int(begin + last + 1)
        end = begin
    return 0


def read_journal(path: Path) -> History:
    """Read a journal; a line that was not finished is none.

    Raises:
        ClipError: ``unreadable``.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise ClipError("unreadable", f"{path}: {error.strerror}") from error
    history = History()
    for number, line in enumerate(lines, 1):
        try:
            _take(history, json.loads(line))
        except (ValueError, LookupError, TypeError, AttributeError):
            history.damaged.append(number)
    return history


def _take(history: History, line: Mapping[str, Any]) -> None:
    file, now = os.fsdecode(line["file"].encode("utf-8", "surrogateescape")), Print(line["size"], line["sha256"])
    history.newest = max(history.newest, line["at"])
    if "undone" in line:
        history.changes.pop((line["undone"], file), None)
    else:
        changes = tuple(
            FieldChange(name, tuple(values["before"]), tuple(values["after"]))
            for name, values in line["fields"].items()
        )
        history.changes[line["run"], file] = Entry(history.newest, line["run"], file, changes)
    history.prints.setdefault(file, []).append(now)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
