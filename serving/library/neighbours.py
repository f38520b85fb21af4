"""Nearest neighbours among embeddings, by the cosine of the angle between them: exact, and approximate where many are.

Exact is a product of all vectors with the one that is asked for. Beyond EXACT_UP_TO songs a graph of USearch (HNSW,
Malkov and Yashunin 2016) is walked, which is kept in the index; where a query leaves only some songs over, or there is
no graph of the songs as they are now, the answer is exact too.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from serving.library.index_file import IndexFile

log = logging.getLogger(__name__)

EXACT_UP_TO: Final = 20_000
"""Songs. An exact answer among 50,000 takes 2.4 ms, and the graph that gives one in 0.2 ms takes 9 s to build
(docs/explanation/measurements.md; benchmarks/similar.py --made-up)."""
GRAPH: Final = "neighbours"
"""Its name in the index."""
ROWS_AT_ONCE: Final = 1024
_SMALLEST: Final = 1e-12

Vectors = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]


def unit(vectors: npt.ArrayLike) -> Vectors:
    """Bring float [..., size] to length 1; vectors of zeros stay."""
    rows = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    scaled: Vectors = rows / np.maximum(lengths, np.float32(_SMALLEST))
    return scaled


@dataclass(frozen=True)
class Nearest:
    """Those that are most alike, the most alike first.

    Attributes:
        places: int [n], rows among the vectors.
        cosines: float32 [n], -1 to 1.
    """

    places: Places
    cosines: Vectors


class Neighbours:
    """Vectors that can be asked.

    Args:
        vectors: float32 [n, size], of length 1; of zeros for what is like nothing.
        graph: that build_graph made of them; None for none.
    """

    def __init__(self, vectors: Vectors, graph: bytes | None = None) -> None:
        self.vectors = vectors
        self._graph = _load_graph(vectors, graph) if graph is not None else None

    @property
    def approximate(self) -> bool:
        """Whether a graph is asked where all may answer."""
        return self._graph is not None

    def nearest(self, vector: Vectors, count: int, among: Places | None = None) -> Nearest:
        """Return at most ``count`` of them.

        Args:
            vector: float32 [size], of length 1.
            count: how many.
            among: rows that may answer; None for all.
        """
        if among is None and self._graph is not None:
            found = self._graph.search(vector, count)
            return Nearest(found.keys.astype(np.intp), (1 - found.distances).astype(np.float32))
        rows = np.arange(len(self.vectors)) if among is None else among
        cosines = (self.vectors if among is None else self.vectors[among]) @ vector
        order = _largest(cosines, count)
        return Nearest(rows[order], cosines[order])

    def pairs(self, count: int, least: float) -> npt.NDArray[np.intp]:
        """Return pairs of rows, int [pairs, 2], the first below the second: each with its nearest.

        Args:
            count: neighbours looked at of each.
            least: cosine of a pair.
        """
        found = []
        for first in range(0, len(self.vectors), ROWS_AT_ONCE):
            block = self.vectors[first : first + ROWS_AT_ONCE]
            cosines = block @ self.vectors.T
            cosines[np.arange(len(block)), first + np.arange(len(block))] = -2
            kept = min(count, len(self.vectors))
            near = np.argpartition(-cosines, kept - 1, axis=1)[:, :kept]
            rows, at = np.nonzero(np.take_along_axis(cosines, near, axis=1) >= least)
            found.append(np.stack([rows + first, near[rows, at]], axis=1))
        pairs = np.sort(np.concatenate([np.zeros((0, 2), np.intp), *found]), axis=1)
        return cast("Places", np.unique(pairs, axis=0))


def _largest(values: Vectors, count: int) -> Places:
    """Places of the largest, the largest first; of equals the first."""
    if count < len(values):
        least = np.partition(values, len(values) - count)[len(values) - count]
        above = np.flatnonzero(values >= least)
        return cast("Places", above[np.argsort(-values[above], kind="stable")][:count])
    return cast("Places", np.argsort(-values, kind="stable"))


def build_graph(vectors: Vectors) -> bytes:
    """Return a graph of float32 [n, size], of those that are not zeros."""
    graph = _new_graph(vectors.shape[1])
    rows = np.flatnonzero(vectors.any(axis=1))
    graph.add(rows.astype(np.uint64), vectors[rows])
    return bytes(graph.save() or b"")


def _load_graph(vectors: Vectors, content: bytes) -> Any:
    graph = _new_graph(vectors.shape[1])
    graph.load(content)
    return graph


def _new_graph(size: int) -> Any:
    from usearch.index import Index

    return Index(ndim=size, metric="cos", dtype="f32")


def embeddings_of(file: IndexFile) -> Vectors:
    """Return the embeddings in an index, float32 [songs, size], of length 1, in the order of the paths."""
    rows = file.select(["embedding"])
    return unit(np.frombuffer(b"".join(row[0] for row in rows), "<f4").reshape(-1, file.card.embedding_size))


def keep_neighbours(file: IndexFile) -> None:
    """Make the graph of an index anew where it has so many songs that it needs one, and they have changed.

    Raises:
        AutotagError: it cannot be written.
    """
    if file.count() > EXACT_UP_TO and file.derived(GRAPH) is None:
        log.info("a graph of the neighbours of %d songs is made", file.count())
        file.keep_derived(GRAPH, file.revision, build_graph(embeddings_of(file)))
