"""The songs of a library as points on paper, near each other where they sound alike; and its tags as a map.

Songs: principal components, or t-SNE (serving.library.layout) of the embeddings. t-SNE takes minutes for ten thousand
songs, so that of more than MOST_BY_TSNE a part is laid out, evenly spread over the paths, and each other song is put
between those of the part that are most like it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from preprocessing.errors import BadInputError
from serving.library.layout import Method, lay_out
from serving.library.neighbours import Neighbours, Vectors, unit

MOST_BY_TSNE: Final = 3_000
BETWEEN: Final = 5
"""Songs of the part between which another one is put."""
FEWEST_SONGS: Final = 3
FEWEST_TAGS: Final = 3
SMALLEST: Final = 1e-6
"""Probabilities are kept so far from 0 and 1 before their log-odds are taken."""


@dataclass(frozen=True)
class Points:
    """Where songs stand.

    Attributes:
        points: float32 [songs, 2].
        note: how they were found, in words.
    """

    points: npt.NDArray[np.float32]
    note: str

    def to_bytes(self) -> bytes:
        """As the index keeps it."""
        buffer = io.BytesIO()
        np.savez(buffer, points=self.points, note=np.array(self.note))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Points:
        """Read what ``to_bytes`` gave."""
        with np.load(io.BytesIO(content)) as arrays:
            return cls(arrays["points"], str(arrays["note"]))


def map_songs(vectors: Vectors, method: Method, most: int = MOST_BY_TSNE) -> Points:
    """Find a place for each song; the same ones for the same vectors.

    Args:
        vectors: float32 [songs, size], of length 1.
        method: how.
        most: songs that t-SNE takes at once.

    Raises:
        BadInputError: they are too few.
    """
    count = len(vectors)
    if count < FEWEST_SONGS:
        raise BadInputError(
            f"a map needs {FEWEST_SONGS} songs in which there is something to hear, the index has {count}"
        )
    if method == "pca" or count <= most:
        layout = lay_out(vectors, method)
        return Points(layout.places.astype(np.float32), layout.method)
    part = np.unique(np.linspace(0, count - 1, most).round().astype(np.intp))
    layout = lay_out(vectors[part], method)
    points = np.zeros((count, 2), np.float32)
    points[part] = layout.places
    laid_out = Neighbours(vectors[part])
    for row in np.setdiff1d(np.arange(count), part):
        near = laid_out.nearest(vectors[row], BETWEEN)
        weights = np.maximum(near.cosines, 0) + SMALLEST
        points[row] = np.average(layout.places[near.places], axis=0, weights=weights)
    return Points(points, f"{layout.method}, of {len(part):,} songs; the other {count - len(part):,} between these")


def map_tags(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Place tags near those that are heard in the same songs.

    A tag's direction is that of its log-odds over the songs, about their mean, so that a cosine is a correlation.

    Args:
        probabilities: float32 [songs, n_tags].

    Returns:
        Float64 [n_tags, 2], t-SNE.

    Raises:
        BadInputError: songs or tags are too few.
    """
    songs, tags = probabilities.shape
    if songs < FEWEST_SONGS or tags < FEWEST_TAGS:
        raise BadInputError(
            f"a map of tags needs {FEWEST_SONGS} songs and {FEWEST_TAGS} tags, there are {songs} and {tags}"
        )
    kept = np.clip(probabilities.astype(np.float64), SMALLEST, 1 - SMALLEST)
    odds = np.log(kept) - np.log(1 - kept)
    odds -= odds.mean(axis=0)
    lengths = np.linalg.norm(odds, axis=0)
    correlations = (odds.T @ odds) / np.maximum(np.outer(lengths, lengths), SMALLEST)
    values, directions = np.linalg.eigh(correlations)
    return lay_out(unit(directions * np.sqrt(np.maximum(values, 0)))).places
