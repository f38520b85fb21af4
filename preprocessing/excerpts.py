"""Which parts of a track become clips: one excerpt or several, each of a clip's length, all of one track."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from preprocessing.clip_format import ClipFormat
from preprocessing.errors import BadInputError

ExcerptPlace = Literal["first", "centre", "even"]

EXCERPTS: Final[dict[ExcerptPlace, str]] = {
    "first": "one after another from the track's beginning",
    "centre": "one after another around the track's middle",
    "even": "evenly spread from the track's beginning to its end; a single one in the middle",
}
"""Name of a rule -> a line of help."""


@dataclass(frozen=True)
class ExcerptRule:
    """Where a track's excerpts lie.

    No two overlap, and only a track shorter than a clip is repeated: a track has as many as whole clips fit into it,
    one at least, ``count`` at most.

    Attributes:
        name: one of EXCERPTS.
        count: of a track that is long enough.

    Raises:
        BadInputError: there is no such rule, or no such count.
    """

    name: str = "first"
    count: int = 1

    def __post_init__(self) -> None:
        if self.name not in EXCERPTS:
            raise BadInputError(f"excerpts {self.name!r}: expected one of {', '.join(EXCERPTS)}")
        if self.count < 1:
            raise BadInputError(f"excerpts of a track {self.count}: expected 1 or more")

    def starts(self, samples: int, clip: ClipFormat) -> tuple[int, ...]:
        """Where the excerpts of so many samples at the clip's rate begin; one at least."""
        count = min(self.count, max(1, samples // clip.samples))
        if self.name == "even" and count > 1:
            return tuple(number * (samples - clip.samples) // (count - 1) for number in range(count))
        first = 0 if self.name == "first" else max(0, samples - count * clip.samples) // 2
        return tuple(first + number * clip.samples for number in range(count))


def excerpt_id(clip_id: str, seconds: float) -> str:
    """Return the id of one of several excerpts, which says where in the file it begins, such as ``17@29.1``."""
    return f"{clip_id}@{seconds:.3f}".rstrip("0").rstrip(".")


FIRST: Final = ExcerptRule()
"""The track's beginning: of MagnaTagATune's clips, nearly all there is."""


@dataclass(frozen=True)
class Excerpt:
    """One excerpt of a file, or of a part of it.

    Attributes:
        rule: where the excerpts lie.
        index: which of them, from 0.
        start: seconds into the file at which the part begins that the rule is about.
        seconds: length of that part; None for all that follows.
    """

    rule: ExcerptRule = FIRST
    index: int = 0
    start: float = 0.0
    seconds: float | None = None

    @property
    def is_beginning(self) -> bool:
        """Whether it begins where the file does and ends where the clip or the file does, whatever the length."""
        return self.rule.name == "first" and self.index == 0 and self.start == 0 and self.seconds is None


BEGINNING: Final = Excerpt()
