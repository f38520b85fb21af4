"""Tags written into files: the field of our own, players' fields by a mapping, and a journal of it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from preprocessing.errors import ClipError
from serving.tagging.field_values import Heard, Ours, heard_tags, new_values
from serving.tagging.file_tags import (
    DEFAULT_FIELD,
    MODEL_SUFFIX,
    NO_TAGS,
    FileTags,
    check_writable,
    read_fields,
    write_fields,
)
from serving.tagging.journal import FieldChange, Journal, Print, journal_for, new_run
from serving.tagging.tagged_files import FailedFile, TaggedFile

if TYPE_CHECKING:
    from serving.tagging.mapping import FieldMapping

OURS_SUFFIX: Final = "_FIELDS"
"""Of the field that says what of other fields is ours."""


@dataclass(frozen=True)
class WriteChoices:
    """How tags are written into files.

    Attributes:
        field: the tags' own field.
        dry_run: show alone.
        force: write into files that are done, too.
        mapping: which tags go into which fields besides; None for into no others.
        mapping_name: what people call that.
    """

    field: str = DEFAULT_FIELD
    dry_run: bool = False
    force: bool = False
    mapping: FieldMapping | None = None
    mapping_name: str = ""

    @property
    def own_fields(self) -> tuple[str, str, str]:
        """Fields for the tags, what wrote them, and what of others' fields is ours."""
        return self.field, self.field + MODEL_SUFFIX, self.field + OURS_SUFFIX


@dataclass(frozen=True)
class Writing:
    """What happens to the tags in one file.

    Attributes:
        old: what our own field held.
        new: what it is to hold.
        done: it was written; not where --dry-run only shows it, or where nothing is written into a silent file.
        failed: why it could not be written; None where it could.
        fields: of a mapping and what becomes of them, changed or not.
    """

    old: FileTags
    new: FileTags
    done: bool
    failed: FailedFile | None = None
    fields: tuple[FieldChange, ...] = ()

    @property
    def error(self) -> str:
        """Why it could not be written, in words; else empty."""
        return self.failed.reason if self.failed is not None else ""


class FileWriter:
    """Writes tags into files, with a line in a journal before each.

    Args:
        choices: how.
        named: files and folders that a person named (serving.tagging.journal).
    """

    def __init__(self, choices: WriteChoices, named: Sequence[Path] = ()) -> None:
        self._choices, self._named = choices, named
        self._run = new_run()
        self._checked: set[str] = set()

    def write(self, file: TaggedFile, chosen: Sequence[tuple[str, float]], model: str) -> Writing:
        """Write what was chosen of a file's tags into it, or look whether that could be done.

        Args:
            file: what was heard.
            chosen: tags with their probability, the most probable first.
            model: what heard them, with its settings.

        Returns:
            What was done; where it could not be, ``failed`` says why, and the file is as it was.

        Raises:
            BadInputError: the mapping does not fit the model.
        """
        self._check(file)
        heard = heard_tags(chosen, file.tags, file.heads)
        new = FileTags(self._own_values(heard), model)
        old, fields = NO_TAGS, tuple[FieldChange, ...]()
        try:
            old, plan = self._plan(file.path, heard, new)
            fields = self._others(plan)
            if file.silent and not old.tags and all(one.before == one.after for one in fields):
                return Writing(old, NO_TAGS, done=False)
            check_writable(file.path)
            if not self._choices.dry_run:
                journal = Journal(journal_for(file.path, self._named))
                with journal.held():
                    old, plan = self._plan(file.path, heard, new)
                    fields = self._others(plan)
                    self._write(file.path, [one for one in plan if one.before != one.after], journal)
        except ClipError as error:
            return Writing(old, new, done=False, failed=FailedFile(file.path, error), fields=fields)
        return Writing(old, new, done=not self._choices.dry_run, fields=fields)

    def _check(self, file: TaggedFile) -> None:
        if self._choices.mapping is not None and file.model not in self._checked:
            self._choices.mapping.check_tags(file.tags, file.heads, f"--fields {self._choices.mapping_name}")
            self._checked.add(file.model)

    def _own_values(self, heard: Sequence[Heard]) -> tuple[str, ...]:
        mapping = self._choices.mapping
        rule = mapping.root.get(self._choices.field) if mapping is not None else None
        return rule.values(heard) if rule is not None else tuple(one.tag for one in heard)

    def _others(self, plan: Sequence[FieldChange]) -> tuple[FieldChange, ...]:
        return tuple(one for one in plan if one.field not in self._choices.own_fields)

    def _plan(self, path: Path, heard: Sequence[Heard], new: FileTags) -> tuple[FileTags, list[FieldChange]]:
        """Return what a file holds in our field, and what becomes of each field."""
        own, model_field, ours_field = self._choices.own_fields
        mapping = self._choices.mapping
        held = read_fields(path, self._choices.own_fields)
        after: dict[str, tuple[str, ...]] = {own: new.tags, model_field: (new.model,)}
        if mapping is not None:
            ours = list(Ours.read(held[ours_field].values))
            named = dict.fromkeys((*mapping.root, *(one.field for one in ours)))
            fields = [name for name in named if name not in self._choices.own_fields]
            held |= read_fields(path, fields)
            now_ours: list[Ours] = []
            for name in fields:
                of_field = [one for one in ours if one.field == name]
                after[name], put = new_values(name, mapping.root.get(name), heard, held[name], of_field)
                now_ours += put
            after[ours_field] = tuple(map(str, now_ours))
        old = FileTags(held[own].values, "".join(held[model_field].values[:1]))
        return old, [FieldChange(name, held[name].values, values) for name, values in after.items()]

    def _write(self, path: Path, changes: Sequence[FieldChange], journal: Journal) -> None:
        if changes:
            new = {one.field: one.after for one in changes}
            write_fields(path, new, lambda copy: journal.add_change(self._run, path, changes, Print.of(copy)))
