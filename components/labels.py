"""Which of a clip's tags are learnt: heads as a configuration asks for them, before their tags are known.

A head takes a list of tags as it is given, or the most frequent ones of the training split, of all tags or of those
that begin with a prefix (``genre---`` in MTG-Jamendo).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from models.heads import MULTI_LABEL, Head, Heads, Kind

ANY: Final = "*"
"""Behind a prefix: all tags that begin so."""


@dataclass(frozen=True)
class HeadSettings:
    """One head.

    Attributes:
        name: of the head.
        kind: "multi-label" or "one-of".
        top: how many of the training split's most frequent tags it takes, where ``tags`` is None.
        tags: the tags it takes, in this order.
        prefix: of the tags it takes; "" for any.
        others: tags, and prefixes followed by ANY, that belong to other heads and are not counted for ``top``.

    Raises:
        ValueError: it has neither a list nor a number of tags.
    """

    name: str = "tags"
    kind: Kind = MULTI_LABEL
    top: int | None = None
    tags: tuple[str, ...] | None = None
    prefix: str = ""
    others: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.top is None) == (self.tags is None):
            raise ValueError(f"head {self.name!r}: give either tags (a list) or top (how many)")

    @property
    def size(self) -> int:
        """Number of its tags."""
        return len(self.tags) if self.tags is not None else self.top or 0

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON has them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> HeadSettings:
        """Read what ``to_json`` gave."""
        tags = values.get("tags")
        return cls(
            **{**values, "tags": None if tags is None else tuple(tags), "others": tuple(values.get("others", ()))}
        )


def heads_of(settings: Sequence[HeadSettings]) -> Heads:
    """Return the heads: their kinds and sizes are known before their tags."""
    return Heads(tuple(Head(head.name, head.kind, head.size) for head in settings))


def read_settings(config: Sequence[dict[str, Any]]) -> tuple[HeadSettings, ...]:
    """Read the heads of a component's configuration, which is JSON."""
    return tuple(HeadSettings.from_json(head) for head in config)
