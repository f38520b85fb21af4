"""The tags that a model and another data set share, by name: a model is then scored where it never was trained.

The 2020 comparison (Won, Ferraro, Bogdanov and Serra) and its re-runs score a network of one data set on the clips of
another by the tags that both have. Names are compared without category, letter case and punctuation, so that
``genre---electronic`` of MTG-Jamendo is ``electronic`` of MagnaTagATune and ``hiphop`` is ``Hip-Hop``. Different words
for one thing (``vocal``, ``instrument---voice``) are not guessed: a table of synonyms can say so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

CATEGORY: Final = "---"
"""What divides category and name in a tag."""


def normal_name(tag: str) -> str:
    """Return a tag without category, in lower case, its letters and digits alone; the tag where none is left."""
    name = "".join(character for character in tag.rpartition(CATEGORY)[2].casefold() if character.isalnum())
    return name or tag


@dataclass(frozen=True)
class SharedTags:
    """Which tags of the data answer for each of a model's tags.

    Attributes:
        tags: the model's, in the order of its outputs.
        answers: for each of these, the tags of the data that mean the same; () where the data has none.
    """

    tags: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]

    @property
    def scored(self) -> tuple[str, ...]:
        """The model's tags that the data has too."""
        return tuple(tag for tag, names in zip(self.tags, self.answers, strict=True) if names)

    @property
    def same_names(self) -> bool:
        """Whether each tag is called the same where the data has it, so that nothing has to be translated."""
        return all(names in ((tag,), ()) for tag, names in zip(self.tags, self.answers, strict=True))

    def __str__(self) -> str:
        """Say which tags are shared, and how many."""
        pairs = [
            tag if names == (tag,) else f"{tag} ({', '.join(names)})"
            for tag, names in zip(self.tags, self.answers, strict=True)
            if names
        ]
        others = [tag for tag, names in zip(self.tags, self.answers, strict=True) if not names]
        rest = f"; not in the data: {', '.join(others)}" if others else ""
        return f"{len(pairs)} of the model's {len(self.tags)} tags are the data's too: {', '.join(pairs)}{rest}"

    def labels(self, clips: Iterable[Iterable[str]]) -> npt.NDArray[np.float32]:
        """Return what clips with these tags are to the model: 0 or 1, float32 [clips, tags]; 0 for tags not shared."""
        rows = [[float(not own.isdisjoint(names)) for names in self.answers] for own in map(frozenset, clips)]
        return np.array(rows, np.float32).reshape(-1, len(self.tags))

    def to_json(self) -> dict[str, Any]:
        """Return the tags as JSON has them."""
        return {"tags": list(self.tags), "answers": [list(names) for names in self.answers]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SharedTags:
        """Read what ``to_json`` gave."""
        return cls(tuple(values["tags"]), tuple(map(tuple, values["answers"])))


def find_shared_tags(
    model: Sequence[str], data: Iterable[str], synonyms: Mapping[str, str] | None = None
) -> SharedTags:
    """Find the tags of the data that mean the same as each of a model's.

    Args:
        model: the model's tags.
        data: the data's.
        synonyms: tag -> tag that it means (preprocessing.tags.parse_synonyms), of either side.

    Returns:
        For each tag of the model the data's tags of its name, in alphabetical order: several where the data has the
        name in two categories or spellings.
    """
    means = {normal_name(tag): normal_name(kept) for tag, kept in (synonyms or {}).items()}

    def meaning(tag: str) -> str:
        name = normal_name(tag)
        return means.get(name, name)

    called: dict[str, set[str]] = defaultdict(set)
    for tag in data:
        called[meaning(tag)].add(tag)
    return SharedTags(tuple(model), tuple(tuple(sorted(called[meaning(tag)])) for tag in model))
