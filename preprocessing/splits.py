"""Which split a clip belongs to: a function of the clip's identity and the seed alone, never of the input's order.

Rules that fit any data set stand here; a data set's own, such as a published one, stand in its module (datasets).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
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


SEEDS_TRIED: Final = 1_000
"""Seeds that are looked through for one by which no split is empty."""


def check_splits(clips: Sequence[AnnotatedClip], split: Split) -> None:
    """Check that every split has a clip.

    Args:
        clips: those that are not left out.
        split: the rule.

    Raises:
        BadInputError: a split has none; with what would help for these clips.
    """
    used = {split(clip) for clip in clips}
    empty = next((name for name in SPLITS if name not in used), None)
    if empty is not None:
        raise BadInputError(f"the split {empty!r} has no clips: {_what_helps(clips, split)}")


def _what_helps(clips: Sequence[AnnotatedClip], split: Split) -> str:
    name = next((name for name, rule in SEEDED_RULES.items() if rule is split.rule), None)
    if name is None:
        return "the annotations put none there; the split rule 'track' divides them anew (--split track)"
    parts = dict(zip(SPLITS, split.draw.ratio, strict=True))
    if 0 in parts.values():
        return f"the ratio {':'.join(map(str, split.draw.ratio))} gives it none; give one such as 13:1:2"
    kinds, field = {"track": ("tracks", "track"), "artist": ("artists", "artist"), "paper": ("clips", "clip_id")}[name]
    groups = sorted({str(getattr(clip, field)) for clip in clips})
    if len(groups) < len(SPLITS):
        shown = ", ".join(map(repr, groups)) or "none"
        if name == "paper" or len(clips) < len(SPLITS):
            return f"{len(clips)} clips cannot be divided into {len(SPLITS)}: give more"
        return (
            f"the {len(clips)} clips are of {len(groups)} {kinds} ({shown}), and no {name} is divided. If they are of "
            f"more, let the annotations say so (of a table: --column {name}=COLUMN, or no column {name!r}, and each "
            "file is a track); the split rule 'paper' divides clip by clip (--split paper)"
        )
    for seed in range(SEEDS_TRIED):
        draw = Draw(seed, split.draw.ratio)
        if {draw.divide(group) for group in groups} == set(SPLITS):
            tried = split.draw.seed
            return (
                f"by seed {tried} none of the {len(groups)} {kinds} falls there; take --seed {seed}, by which some do"
            )
    ratio = ":".join(map(str, split.draw.ratio))
    return f"{len(groups)} {kinds} are few for {ratio}: give another ratio, such as 2:1:1"
