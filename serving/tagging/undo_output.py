"""How ``autotag tag --undo`` says what it took back: a table for people, JSON lines or CSV for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import IO, Any, Final

from preprocessing.names import escaped, is_utf8, keep_bytes, lossless
from serving.tagging.audio_files import find_audio, fixed_part
from serving.tagging.file_tags import MODEL_SUFFIX
from serving.tagging.output import Form, csv_line, field_table, fields_to_json, joined, table_console, write_json_line
from serving.tagging.undo import Undone, plan_undo, take_back
from serving.tagging.writing import OURS_SUFFIX

COLUMNS: Final = ("file", "run", "field", "before", "after", "state", "error")


class UndoOutput:
    """Takes what became of each change, the newest first. The table leaves out the fields that say what is ours.

    A row of CSV is a field, or a file of which nothing could be done; its state is undone, would be undone, left or
    failed. ``before`` is what the field held until now, and of a field that is left what we had written.

    Args:
        stream: takes the text.
        form: of it.
        dry_run: nothing is done.
    """

    def __init__(self, stream: IO[str], form: Form, dry_run: bool) -> None:
        self._stream, self._form = stream, form
        self._state = "would be undone" if dry_run else "undone"
        self._console = table_console(stream)
        self._arrow = "→" if is_utf8(stream) else "->"
        if form == "csv":
            keep_bytes(stream)
            stream.write(csv_line(COLUMNS))

    def add(self, undone: Undone) -> None:
        """Say what became of one change."""
        if self._form == "json":
            write_json_line(self._stream, self._json(undone))
        elif self._form == "csv":
            self._csv(undone)
        else:
            self._print(undone)
        self._stream.flush()

    def _json(self, undone: Undone) -> dict[str, Any]:
        state = "failed" if undone.failed is not None else self._state
        line: dict[str, Any] = {"file": lossless(undone.path), "run": undone.run, "state": state}
        line |= {"fields": fields_to_json(undone.back), "left": fields_to_json(undone.left)}
        if undone.failed is not None:
            line["error"] = undone.failed.reason
        return line

    def _csv(self, undone: Undone) -> None:
        about = [lossless(undone.path), undone.run]
        for state, fields in ((self._state, undone.back), ("left", undone.left)):
            for one in fields:
                self._row(*about, one.field, joined(one.before), joined(one.after), state, "")
        if undone.failed is not None:
            self._row(*about, "", "", "", "failed", undone.failed.reason)

    def _row(self, *cells: str) -> None:
        self._stream.write(csv_line(cells))

    def _print(self, undone: Undone) -> None:
        from rich.markup import escape

        state = f"not {self._state}" if undone.failed is not None else self._state
        self._console.print(f"[bold]{escape(escaped(undone.path))}[/bold]  [dim]{state}[/dim]", soft_wrap=True)
        shown = [one for one in undone.back if not one.field.endswith((MODEL_SUFFIX, OURS_SUFFIX))]
        if shown:
            self._console.print(field_table(shown, self._arrow))
        for one in undone.left:
            now = escape(escaped(joined(one.after))) or "nothing"
            self._console.print(f"  {escape(one.field)} was changed since and stays: {now}", soft_wrap=True)


def take_back_all(
    paths: Sequence[str],
    listed: Iterable[str],
    all_runs: bool,
    dry_run: bool,
    form: Form,
    stream: IO[str],
    say: Callable[[str], None],
) -> bool:
    """Take back what was written into files, and say so.

    Args:
        paths: files, folders and patterns.
        listed: files and folders out of a list.
        all_runs: of all, not the newest alone.
        dry_run: say what would be done, and do nothing.
        form: of the output.
        stream: takes it.
        say: takes what a person is to know besides.

    Returns:
        Whether all could be taken back.

    Raises:
        BadInputError: there is no journal, or nothing in it for these files.
        ClipError: a journal cannot be read.
    """
    found = find_audio(paths, listed)
    for failed in found.missing:
        say(f"{escaped(failed.path)} was left out: {failed.reason}")
    undoing = plan_undo(found.files, [fixed_part(path) for path in paths] or found.files, all_runs)
    for journal, lines in undoing.damaged.items():
        numbers = ", ".join(map(str, lines))
        say(f"{escaped(journal)} is damaged in line {numbers}: what was written by it cannot be taken back")
    output = UndoOutput(stream, form, dry_run)
    done, complete = 0, not undoing.damaged and not found.missing
    for change in undoing.changes:
        undone = take_back(change, dry_run)
        if undone.failed is not None:
            say(f"{escaped(undone.path)} {'would not be' if dry_run else 'was not'} undone: {undone.failed.reason}")
        for one in undone.left:
            say(f"{escaped(undone.path)}: {one.field} was changed since and stays as it is")
        done += undone.failed is None
        complete = complete and undone.failed is None and not undone.left
        output.add(undone)
    verb = "would be undone" if dry_run else "undone"
    others = f"; other runs that can be undone: {undoing.other_runs}" if undoing.other_runs else ""
    say(f"{done} of {len(undoing.changes)} changes {verb}{others}")
    return complete
