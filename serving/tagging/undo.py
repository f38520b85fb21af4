"""What was written into files taken back: ``autotag tag --undo``.

Of the files that are named, the newest run's changes are taken back, or those of all runs, the newest first. A field
that holds what we have written gets what it held before. One that somebody else has changed since is left as it is, and
that is said. A file that was moved or renamed, and not changed, is found by its bytes among those that are named.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from preprocessing.errors import BadInputError, ClipError
from preprocessing.names import escaped
from serving.tagging.file_tags import check_writable, read_fields, write_fields
from serving.tagging.journal import (
    JOURNAL_NAME,
    Entry,
    FieldChange,
    History,
    Journal,
    Print,
    find_journal,
    read_journal,
    within,
)
from serving.tagging.tagged_files import FailedFile


@dataclass(frozen=True)
class Change:
    """One file's change in one run, and where that file is now.

    Attributes:
        journal: that says so.
        entry: of the journal.
        path: of the file; None where it is not there any more.
        covered: another run, that stays, has written the same fields since.
    """

    journal: Path
    entry: Entry
    path: Path | None
    covered: bool = False

    @property
    def named(self) -> Path:
        """The file as it is to be called."""
        return self.path if self.path is not None else self.journal.parent / self.entry.file


@dataclass(frozen=True)
class Undone:
    """What became of one change.

    Attributes:
        path: the file.
        run: that had made it.
        back: the fields that hold again what they held, ``before`` being what they held until now.
        left: the fields that somebody else has changed since: what we wrote, and what is there now.
        failed: why nothing could be done; None where it could.
    """

    path: Path
    run: str
    back: tuple[FieldChange, ...] = ()
    left: tuple[FieldChange, ...] = ()
    failed: FailedFile | None = None


@dataclass(frozen=True)
class Undoing:
    """What is to be taken back.

    Attributes:
        changes: the newest first.
        other_runs: that stay and could be taken back, too.
        damaged: journal -> numbers of lines that cannot be read.
    """

    changes: tuple[Change, ...]
    other_runs: int
    damaged: Mapping[Path, Sequence[int]]


def plan_undo(files: Sequence[Path], named: Sequence[Path], all_runs: bool = False) -> Undoing:
    """Find what is to be taken back.

    Args:
        files: audio files that are meant.
        named: files and folders that a person named; of a folder all is meant that its journals know below it.
        all_runs: all, not the newest alone.

    Raises:
        BadInputError: there is no journal, or nothing in it for these files.
        ClipError: ``unreadable``: a journal cannot be read.
    """
    journals = sorted({journal for place in (*named, *files) if (journal := find_journal(place)) is not None})
    if not journals:
        raise BadInputError(
            f"no journal ({JOURNAL_NAME}) is in or above {escaped(named[0])}: nothing was written there that could "
            "be taken back"
        )
    places = {os.path.realpath(file): file for file in files}
    folders = [os.path.realpath(folder) for folder in named if os.path.isdir(folder)]
    damaged, changes = dict[Path, list[int]](), list[Change]()
    for journal in journals:
        history = read_journal(journal)
        if history.damaged:
            damaged[journal] = history.damaged
        changes += _meant(journal, history, places, folders)
    if not changes:
        raise BadInputError(f"the journal {escaped(journals[0])} has nothing to take back for these files")
    changes.sort(key=lambda change: change.entry.at, reverse=True)
    runs = dict.fromkeys(change.entry.run for change in sorted(changes, key=lambda change: change.path is None))
    chosen = runs if all_runs else list(runs)[:1]
    return Undoing(tuple(_of_runs(changes, chosen)), len(runs) - len(chosen), damaged)


def _of_runs(changes: Sequence[Change], chosen: Collection[str]) -> Iterator[Change]:
    """Yield the changes of the chosen runs, out of all, the newest first."""
    written_since = defaultdict[Path | None, set[str]](set)  # fields, by runs that stay
    for change in changes:
        fields = {one.field for one in change.entry.changes}
        if change.entry.run in chosen:
            yield replace(change, covered=not fields.isdisjoint(written_since[change.path]))
        else:
            written_since[change.path] |= fields


def _meant(journal: Path, history: History, places: Mapping[str, Path], folders: Sequence[str]) -> Iterator[Change]:
    """Yield the changes of the files that are meant, the oldest first."""
    folder = os.path.realpath(journal.parent)
    known = {os.path.join(folder, entry.file) for entry in history.changes.values()}
    lost = {place for place in known if not os.path.exists(place)}
    moved = _find_moved(history, folder, lost, [place for place in places if place not in known])
    for entry in history.changes.values():
        place = os.path.join(folder, entry.file)
        if place in lost:
            now = moved.get(place)
            if now is not None or any(within(place, named) for named in folders):
                yield Change(journal, entry, places[now] if now is not None else None)
        elif place in places:
            yield Change(journal, entry, places[place])


def _find_moved(history: History, folder: str, lost: Collection[str], others: Sequence[str]) -> dict[str, str]:
    """Return for files that are not there any more where their bytes are, each in one place alone."""
    prints = {now: place for place in lost for now in history.prints[os.path.relpath(place, folder)]}
    sizes = {now.size for now in prints}
    found = defaultdict(list)
    for other in others:
        if sizes and os.path.isfile(other) and os.path.getsize(other) in sizes:
            place = prints.get(Print.of(Path(other)))
            if place is not None:
                found[place].append(other)
    return {place: where[0] for place, where in found.items() if len(where) == 1}


def take_back(change: Change, dry_run: bool = False) -> Undone:
    """Give the fields of one file what they held, where they hold what we have written.

    Args:
        change: of ``plan_undo``.
        dry_run: say what would be done, and do nothing.
    """
    try:
        if change.path is None:
            raise ClipError(
                "unreadable", f"{change.named}: is not there any more, nor a file with its bytes among those named"
            )
        if change.covered:
            raise ClipError(
                "unwritable", f"{change.named}: was written again since: take that back first (--undo again)"
            )
        if dry_run:
            done = _look(change, change.path)
            if done.back:
                check_writable(change.path)
            return done
        journal = Journal(change.journal)
        with journal.held():
            done = _look(change, change.path)
            if done.back:
                write_fields(change.path, {one.field: one.after for one in done.back})
            journal.add_undone(change.entry, Print.of(change.path))
        return done
    except OSError as error:
        failed = ClipError("unreadable", f"{change.named}: {error.strerror}")
    except ClipError as error:
        failed = error
    return Undone(change.named, change.entry.run, failed=FailedFile(change.named, failed))


def _look(change: Change, path: Path) -> Undone:
    """Return what is to be done with a file's fields; those that hold what they held before need nothing."""
    held = read_fields(path, [one.field for one in change.entry.changes])
    back, left = [], []
    for one in change.entry.changes:
        now = held[one.field].values
        if now == one.after:
            back.append(FieldChange(one.field, now, one.before))
        elif now != one.before:
            left.append(FieldChange(one.field, one.after, now))
    return Undone(path, change.entry.run, tuple(back), tuple(left))
