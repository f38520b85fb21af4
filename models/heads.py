"""Heads: what a network answers. Named slices of one probability vector; imports no Keras.

A head of the kind ``multi-label`` gives each of its tags a probability of its own (sigmoid), and each has a threshold.
A head of the kind ``one-of`` divides one probability among its tags (softmax), and the largest is its answer. The
probability vector, the tags' names and whatever stands tag for tag are in the order of the heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["multi-label", "one-of"]
MULTI_LABEL: Final = "multi-label"
ONE_OF: Final = "one-of"


@dataclass(frozen=True)
class Head:
    """One head.

    Attributes:
        name: of the head; one word.
        kind: see the module.
        size: number of its tags.

    Raises:
        ValueError: it has no tags, or one alone where one of several is asked for.
    """

    name: str
    kind: Kind
    size: int

    def __post_init__(self) -> None:
        least = 2 if self.kind == ONE_OF else 1
        if self.size < least:
            raise ValueError(f"head {self.name!r} ({self.kind}) has {self.size} tags; expected at least {least}")


@dataclass(frozen=True)
class Heads:
    """All heads of a network, in the order of its outputs."""

    heads: tuple[Head, ...]

    @classmethod
    def of_tags(cls, count: int) -> Heads:
        """One multi-label head called ``tags``: nearly everybody's."""
        return cls((Head("tags", MULTI_LABEL, count),))

    @property
    def size(self) -> int:
        """Number of outputs."""
        return sum(head.size for head in self.heads)

    def slices(self) -> Iterator[tuple[Head, slice]]:
        """Yield each head and where its outputs stand."""
        start = 0
        for head in self.heads:
            yield head, slice(start, start + head.size)
            start += head.size

    @property
    def thresholded(self) -> npt.NDArray[np.bool_]:
        """Bool [outputs]: whether an output has a threshold of its own, which those of multi-label heads have."""
        return np.concatenate([np.full(head.size, head.kind == MULTI_LABEL) for head in self.heads])

    def decide(self, probabilities: npt.NDArray[Any], thresholds: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return which tags count as heard.

        Args:
            probabilities: [..., outputs].
            thresholds: [outputs]; those of one-of heads are not looked at.

        Returns:
            Bool [..., outputs]: a multi-label head's from their thresholds on, a one-of head's most probable alone (the
            first of several).
        """
        heard: npt.NDArray[np.bool_] = probabilities >= np.asarray(thresholds)
        for head, at in self.slices():
            if head.kind == ONE_OF:
                heard[..., at] = np.arange(head.size) == probabilities[..., at].argmax(axis=-1)[..., None]
        return heard

    def to_json(self) -> list[dict[str, Any]]:
        """Return the heads as JSON has them, for a model's card."""
        return [{"name": head.name, "kind": head.kind, "size": head.size} for head in self.heads]

    @classmethod
    def from_json(cls, heads: Sequence[dict[str, Any]]) -> Heads:
        """Read what ``to_json`` gave."""
        return cls(tuple(Head(**head) for head in heads))
