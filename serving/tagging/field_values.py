"""What a field of a file is to hold: what was heard, by a rule, beside what somebody else has written there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from models.heads import Heads
from serving.tagging.file_tags import HeldField
from serving.tagging.tag_fields import COMMENT, GENRE, genre_names

if TYPE_CHECKING:
    from serving.tagging.mapping import FieldRule

OLD_SEPARATOR: Final = "/"
"""Between values in ID3v2.3, which has one alone: what mutagen and MusicBrainz Picard put there."""
COMMENT_SEPARATOR: Final = ", "


@dataclass(frozen=True)
class Heard:
    """A tag that was heard in a file."""

    tag: str
    probability: float
    head: str


def heard_tags(chosen: Iterable[tuple[str, float]], tags: Sequence[str], heads: Heads | None) -> list[Heard]:
    """Return tags and probabilities with the heads that they are of, in the same order.

    Args:
        chosen: tags with their probability.
        tags: all of the model's, in the order of its heads.
        heads: the model's; None for one with all tags.
    """
    head_of = {tags[at]: head.name for head, part in (heads or Heads.of_tags(len(tags))).slices() for at in _of(part)}
    return [Heard(tag, probability, head_of[tag]) for tag, probability in chosen]


def _of(part: slice) -> range:
    return range(part.start, part.stop)


@dataclass(frozen=True)
class Ours:
    """What we have put into a field.

    Attributes:
        field: its name.
        text: a value, or what stands behind somebody else's in one.
        behind: the latter.
    """

    field: str
    text: str
    behind: bool = False

    def __str__(self) -> str:
        return f"{self.field}{'+' if self.behind else ''}={self.text}"

    @classmethod
    def read(cls, lines: Iterable[str]) -> Iterator[Ours]:
        """Yield what lines of ``str`` say; others are passed over."""
        for line in lines:
            parts = re.fullmatch(r"([^=+]+)(\+?)=(.+)", line, re.DOTALL)
            if parts is not None:
                yield cls(parts[1], parts[3], behind=bool(parts[2]))


def without_ours(values: Sequence[str], ours: Iterable[Ours]) -> tuple[str, ...]:
    """Return what is left of a field's values without what we have put there and is there still."""
    left = list(values)
    for one in ours:
        if not one.behind and one.text in left:
            left.remove(one.text)
        at = next((at for at in reversed(range(len(left))) if one.behind and left[at].endswith(one.text)), None)
        if at is not None:
            left[at : at + 1] = [left[at].removesuffix(one.text)] if left[at] != one.text else []
    return tuple(left)


def new_values(
    field: str, rule: FieldRule | None, heard: Sequence[Heard], held: HeldField, ours: Sequence[Ours]
) -> tuple[tuple[str, ...], tuple[Ours, ...]]:
    """Return what a field is to hold, and what of it is ours.

    Args:
        field: its name.
        rule: of the field; None where no rule is for it any more, and only what is ours goes.
        heard: in the file.
        held: what the field holds.
        ours: what of that is ours, from an earlier run.
    """
    theirs = without_ours(held.values, ours)
    values = rule.values(heard) if rule is not None else ()
    taken = any(value.strip() for value in theirs)
    if rule is None or not values or (rule.mode == "fill" and taken):
        return theirs, ()
    if rule.mode == "replace" or not taken:
        theirs = ()
    else:
        theirs = genre_names(theirs) if field == GENRE else theirs
        known = {part.strip().casefold() for value in theirs for part in (value, *re.split("[/;,]", value))}
        values = tuple(value for value in values if value.casefold() not in known)
        if not values:
            return without_ours(held.values, ours), ()
    return _put(field, theirs, values, _separator(field, rule, held))


def _separator(field: str, rule: FieldRule, held: HeldField) -> str | None:
    if rule.separator is not None or held.several:
        return rule.separator
    return COMMENT_SEPARATOR if field == COMMENT else OLD_SEPARATOR


def _put(
    field: str, theirs: tuple[str, ...], values: tuple[str, ...], separator: str | None
) -> tuple[tuple[str, ...], tuple[Ours, ...]]:
    if separator is None:
        return (*theirs, *values), tuple(Ours(field, value) for value in values)
    joined = separator.join(values)
    if not theirs:
        return (joined,), (Ours(field, joined),)
    behind = separator + joined
    return (*theirs[:-1], theirs[-1] + behind), (Ours(field, behind, behind=True),)
