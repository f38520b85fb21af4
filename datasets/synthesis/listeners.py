"""Annotation: which tags a clip deserves, and which of them listeners write down.

As in MagnaTagATune most true tags are missing somewhere, each of several synonyms is used now and then, and a few tags
are wrong. What is written depends on a clip's own generator alone, but for two repairs on the whole table: a tag that
would become too rare to be learnt gets some of its true clips back, and the rare 138 stay rarer than the top 50.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np

from datasets.mtat import ALL_TAGS, TOP_50
from datasets.synthesis.styles import (
    FAST_FROM,
    INSTRUMENT_TAGS,
    LOUD_FROM,
    MEN,
    QUIET_BELOW,
    SLOW_BELOW,
    SOFT_BELOW,
    WOMEN,
    Part,
)

KEPT: Final = 0.7
"""Probability that a true tag is written."""
KEPT_OF_RARE: Final = 0.14
"""The same for the 138 other tags."""
SILENT: Final = 0.03
"""Share of the clips on which no two listeners agreed: no tag at all."""
WRONG: Final = 0.002
"""Probability that a tag is written without reason."""
FEWEST: Final = 0.04
"""Share of the clips that each of the top 50 carries at least."""
MOST_OF_RARE: Final = 0.03
"""Share of the clips that each of the others carries at most."""

CHOSEN: Final[Mapping[str, float]] = {
    "classical": 0.62,
    "classic": 0.25,
    "slow": 0.66,
    "fast": 0.66,
    "vocal": 0.56,
    "singing": 0.46,
    "vocals": 0.45,
    "voice": 0.36,
    "no vocals": 0.42,
    "no vocal": 0.38,
    "no voice": 0.34,
    "synth": 0.55,
    "beats": 0.5,
    "strings": 0.66,
    "drums": 0.46,
    "solo": 0.55,
    "soft": 0.5,
    "loud": 0.6,
}
"""How readily listeners choose some words: those with synonyms and those that nearly any clip would deserve."""


@dataclass(frozen=True)
class Heard:
    """What is heard in one clip.

    Attributes:
        parts: who plays in the passage.
        genres: the style's tags that the track deserves.
        tempo: beats a minute.
        level: RMS of the master, dB.
    """

    parts: tuple[Part, ...]
    genres: tuple[str, ...]
    tempo: float
    level: float


def deserved_tags(heard: Heard) -> dict[str, float]:
    """Return the clip's true tags, each with the probability that listeners write it."""
    players = {part.instrument for part in heard.parts}
    true = {tag: 1.0 for player in sorted(players) for tag in INSTRUMENT_TAGS.get(player, ())}
    true |= dict.fromkeys((*heard.genres, *_manner(heard, players)), 1.0)
    chosen = {tag: CHOSEN.get(tag, KEPT if tag in TOP_50 else KEPT_OF_RARE) for tag in true}
    return chosen | _voices(players)


def _manner(heard: Heard, players: set[str]) -> list[str]:
    """Tempo, loudness, and a player alone."""
    manner = {
        "slow": heard.tempo < SLOW_BELOW,
        "fast": heard.tempo >= FAST_FROM,
        "loud": heard.level >= LOUD_FROM,
        "quiet": heard.level < QUIET_BELOW,
        "soft": heard.level < SOFT_BELOW and heard.tempo < 100,
        "solo": len(players) == 1 and not players & {"men_choir", "women_choir", "synth_pad", "siren"},
    }
    return [tag for tag, holds in manner.items() if holds]


def _voices(players: set[str]) -> dict[str, float]:
    men = players & {"male", "tenor", "shouter", "men_choir"}
    women = players & {"female", "soprano", "women_choir"}
    chosen: dict[str, float] = {}
    if men or women:
        chosen |= {tag: CHOSEN[tag] for tag in ("vocal", "singing", "vocals", "voice")}
    elif players & {"acoustic_kit", "electronic_kit"}:
        chosen |= {tag: CHOSEN[tag] for tag in ("no vocals", "no vocal", "no voice")}
    return chosen | (MEN if men else {}) | (WOMEN if women else {})


def write_tags(deserved: Mapping[str, float], rng: np.random.Generator) -> set[str]:
    """Leave true tags out by their probability and add the odd wrong one; now and then write nothing."""
    if rng.random() < SILENT:
        return set()
    luck = rng.random((2, len(ALL_TAGS)))
    wrong = WRONG * np.array([tag in TOP_50 for tag in ALL_TAGS])
    return {
        tag
        for index, tag in enumerate(ALL_TAGS)
        if luck[0, index] < deserved.get(tag, 0.0) or luck[1, index] < wrong[index]
    }


def balance(written: Sequence[set[str]], deserved: Sequence[Mapping[str, float]], rng: np.random.Generator) -> None:
    """Give each of the top 50 at least FEWEST of the clips, where true, and each other tag at most MOST_OF_RARE.

    Args:
        written: each clip's tags, changed in place.
        deserved: each clip's true tags.
        rng: chooses the clips.
    """
    for tag in TOP_50:
        spare = [index for index, tags in enumerate(deserved) if tag in tags and tag not in written[index]]
        missing = max(0, ceil(FEWEST * len(written)) - _count(tag, written))
        tagged_first = sorted(rng.permutation(spare), key=lambda index: not written[index])
        for index in tagged_first[:missing]:
            written[index].add(tag)
    most = min(int(MOST_OF_RARE * len(written)), min(_count(tag, written) for tag in TOP_50) - 1)
    for tag in (tag for tag in ALL_TAGS if tag not in TOP_50):
        carrying = [index for index, tags in enumerate(written) if tag in tags]
        for index in rng.permutation(carrying)[: max(0, len(carrying) - max(0, most))]:
            written[index].discard(tag)


def _count(tag: str, written: Sequence[set[str]]) -> int:
    return sum(tag in tags for tags in written)
