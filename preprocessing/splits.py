"""Which split a clip belongs to: a function of the clip's identity and the seed alone, never of the input's order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from preprocessing.annotations import AnnotatedClip
from preprocessing.constants import SPLITS
from preprocessing.errors import BadInputError

PAPER_RATIO = (13, 1, 2)
"""train : valid : test (Bengani et al. 2019, 'Dataset')."""

FOLDER_SPLITS = {**dict.fromkeys("0123456789ab", "train"), "c": "valid", **dict.fromkeys("def", "test")}
"""The split by folder that most published results use: 12 : 1 : 3."""

RULES = {
    "track": "seeded, no track on two sides (the default: shuffled clips of one track leak)",
    "paper": "seeded, each clip on its own: the paper's",
    "folder": "folders 0-b / c / d-f: the usual published one",
    "clean": "folder, without the clips that carry none of the training split's most frequent tags",
}


def unit_hash(*parts: object) -> float:
    """Hash the parts to a number in [0, 1), the same on every machine and in every process."""
    text = "\0".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64


@dataclass(frozen=True)
class SplitRule:
    """How clips are divided.

    Attributes:
        name: one of RULES.
        seed: of the seeded rules.
        ratio: train : valid : test of the seeded rules.

    Raises:
        BadInputError: there is no rule of that name, or no split by that ratio.
    """

    name: str = "track"
    seed: int = 0
    ratio: tuple[int, int, int] = PAPER_RATIO

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise BadInputError(f"split {self.name!r}: expected one of {', '.join(RULES)}")
        if len(self.ratio) != 3 or min(self.ratio) < 0 or self.ratio[0] < 1:
            raise BadInputError(f"split ratio {self.ratio}: expected train:valid:test such as 13:1:2")

    def split_of(self, clip: AnnotatedClip) -> str:
        """Return ``train``, ``valid`` or ``test``.

        Raises:
            BadInputError: a rule by folder meets a clip outside the folders 0 to f.
        """
        return _BY_RULE[self.name](self, clip)

    def divide(self, key: str) -> str:
        """Return the split that the seeded hash of the key falls into."""
        at = unit_hash("split", self.seed, key) * sum(self.ratio)
        train, valid, _ = self.ratio
        return SPLITS[0] if at < train else SPLITS[1] if at < train + valid else SPLITS[2]


def _by_folder(rule: SplitRule, clip: AnnotatedClip) -> str:
    if clip.folder not in FOLDER_SPLITS:
        raise BadInputError(
            f"clip {clip.clip_id}, {clip.path}: split {rule.name!r} needs the folders 0 to f; use --split track instead"
        )
    return FOLDER_SPLITS[clip.folder]


_BY_RULE: dict[str, Callable[[SplitRule, AnnotatedClip], str]] = {
    "track": lambda rule, clip: rule.divide(clip.track),
    "paper": lambda rule, clip: rule.divide(clip.clip_id),
    "folder": _by_folder,
    "clean": _by_folder,
}


def parse_ratio(text: str) -> tuple[int, int, int]:
    """Parse ``13:1:2``.

    Raises:
        BadInputError: it is not three whole numbers; which numbers they may be, SplitRule checks.
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
