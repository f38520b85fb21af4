"""Which split a clip belongs to: a function of the clip's identity and the seed alone, never of the input's order.

Rules that fit any data set stand here; a data set's own, such as a published one, stand in its module (datasets).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from preprocessing.clips import AnnotatedClip
from preprocessing.constants import SPLITS
from preprocessing.errors import BadInputError

PAPER_RATIO = (13, 1, 2)
"""train : valid : test (Bengani et al. 2019, 'Dataset')."""


def unit_hash(*parts: object) -> float:
    """Hash the parts to a number in [0, 1), the same on every machine and in every process."""
    text = "\0".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64


@dataclass(frozen=True)
class Draw:
    """How seeded rules divide.

    Attributes:
        seed: another one gives another division.
        ratio: train : valid : test.

    Raises:
        BadInputError: there is no split by that ratio.
    """

    seed: int = 0
    ratio: tuple[int, int, int] = PAPER_RATIO

    def __post_init__(self) -> None:
        if len(self.ratio) != 3 or min(self.ratio) < 0 or self.ratio[0] < 1:
            raise BadInputError(f"split ratio {self.ratio}: expected train:valid:test such as 13:1:2")

    def divide(self, key: str) -> str:
        """Return the split that the seeded hash of the key falls into."""
        at = unit_hash("split", self.seed, key) * sum(self.ratio)
        train, valid, _ = self.ratio
        return SPLITS[0] if at < train else SPLITS[1] if at < train + valid else SPLITS[2]


@dataclass(frozen=True)
class SplitRule:
    """One way to divide the clips of a data set.

    Attributes:
        title: a line of help.
        split_of: gives a clip's split, ``train``, ``valid`` or ``test``; raises BadInputError where it cannot.
        tagged_only: whether clips that carry none of the model's tags are left out.
    """

    title: str
    split_of: Callable[[AnnotatedClip, Draw], str]
    tagged_only: bool = False


def _by_artist(clip: AnnotatedClip, draw: Draw) -> str:
    if not clip.artist:
        raise BadInputError(f"clip {clip.clip_id}, {clip.path}: split 'artist' needs each clip's artist")
    return draw.divide(clip.artist)


def _as_published(clip: AnnotatedClip, draw: Draw) -> str:
    if clip.split is None:
        raise BadInputError(f"clip {clip.clip_id}, {clip.path}: split 'published' needs each clip's split")
    return clip.split


SEEDED_RULES: Final = {
    "track": SplitRule(
        "seeded, no track on two sides (the default: shuffled clips of one track leak)",
        lambda clip, draw: draw.divide(clip.track),
    ),
    "artist": SplitRule("seeded, no artist on two sides", _by_artist),
    "paper": SplitRule("seeded, each clip on its own: the paper's", lambda clip, draw: draw.divide(clip.clip_id)),
}
"""Rules for any data set."""

PUBLISHED: Final = SplitRule("as the annotations say of each clip", _as_published)


@dataclass(frozen=True)
class Split:
    """A rule with its seed and ratio: clip -> split."""

    rule: SplitRule
    draw: Draw

    def __call__(self, clip: AnnotatedClip) -> str:
        """Return ``train``, ``valid`` or ``test``.

        Raises:
            BadInputError: the rule cannot place the clip.
        """
        return self.rule.split_of(clip, self.draw)


def parse_ratio(text: str) -> tuple[int, int, int]:
    """Parse ``13:1:2``.

    Raises:
        BadInputError: it is not three whole numbers; which numbers they may be, Draw checks.
    """
    try:
        train, valid, test = map(int, text.split(":"))
    except ValueError:
        raise BadInputError(f"split ratio {text!r}: expected train:valid:test such as 13:1:2") from None
    return train, valid, test


def check_splits(splits: Iterable[str]) -> None:
    """Check that every split has a clip.

    Args:
        splits: each clip's.

    Raises:
        BadInputError: a split has none.
    """
    used = set(splits)
    empty = [split for split in SPLITS if split not in used]
    if empty:
        raise BadInputError(f"the split {empty[0]!r} has no clips: give more clips, another seed or another ratio")
