"""The same recording in several files: other bitrates and formats, or some seconds cut off.

Candidates are songs whose embeddings are nearly the same; whether two are one recording, their fingerprints say
(serving.library.fingerprints): laid on each other where they fit best, few of their bits differ. Files that are parts
of a much longer one do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.library.fingerprints import BITS, Fingerprint
from serving.library.neighbours import Neighbours

CANDIDATES: Final = 20
"""Neighbours of a song that are looked at."""
LEAST_COSINE: Final = 0.8
"""Of candidates. Of 360 copies of 60 clips none was below 0.89 (MP3, Ogg, FLAC, up to 7 of 29 s cut off;
``musicnn-msd``, benchmarks/similar.py)."""
MOST_DIFFERENT: Final = 0.32
"""Share of bits that may differ. Of those copies up to 0.20 did, of 2,000 random pairs of clips 0.47 and more."""
LEAST_OVERLAP: Final = 0.5
"""Of the longer fingerprint."""
FEWEST_STEPS: Final = 32
"""That tell anything: two seconds."""
LONGEST_RATIO: Final = 2.0
"""Between two lengths."""

Pairs = npt.NDArray[np.intp]


def difference(first: Fingerprint, second: Fingerprint) -> float:
    """Return the share of bits that differ where two fingerprints fit best, 0 to 1; 1 where none can be said.

    Steps in which both are silent (no bit is set) do not count.
    """
    shorter, longer = sorted((len(first), len(second)))
    least = max(FEWEST_STEPS, round(LEAST_OVERLAP * longer))
    if shorter < least:
        return 1.0
    agreements = _by_offset(_signs(first) @ _signs(second).T)
    offset = np.arange(len(agreements))
    heard = np.minimum(np.minimum(offset, offset[::-1]) + 1, shorter).astype(np.float32)
    silent = first == 0, second == 0
    if silent[0].any() and silent[1].any():
        both_silent = _by_offset(np.outer(*silent).astype(np.float32))
        agreements, heard = agreements - BITS * both_silent, heard - both_silent
    told = heard >= least
    if not told.any():
        return 1.0
    return float((1 - (agreements[told] / (BITS * heard[told])).max()) / 2)


def _signs(fingerprint: Fingerprint) -> npt.NDArray[np.float32]:
    """Uint32 [steps] -> float32 [steps, BITS], 1 and -1."""
    bits = np.unpackbits(fingerprint.astype("<u4").view(np.uint8).reshape(-1, 4), axis=1)
    return bits.astype(np.float32) * 2 - 1


def _by_offset(table: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Sums along the diagonals of float32 [n, m] -> float32 [n + m - 1]."""
    rows, columns = table.shape
    skewed = np.zeros((rows, rows + columns), np.float32)
    skewed[:, :columns] = table[:, ::-1]
    sums: npt.NDArray[np.float32] = skewed.reshape(-1)[: rows * (rows + columns - 1)].reshape(rows, -1).sum(axis=0)
    return sums


def find_duplicates(
    neighbours: Neighbours, fingerprints: Sequence[Fingerprint], seconds: npt.NDArray[np.float64]
) -> list[list[int]]:
    """Return groups of rows that are one recording, the largest first, each in the order of the rows.

    Args:
        neighbours: the songs' embeddings.
        fingerprints: of the songs.
        seconds: float64 [songs].
    """
    same = []
    for first, second in neighbours.pairs(CANDIDATES, LEAST_COSINE):
        short, long = sorted((seconds[first], seconds[second]))
        if long <= LONGEST_RATIO * short and difference(fingerprints[first], fingerprints[second]) <= MOST_DIFFERENT:
            same.append((int(first), int(second)))
    return _groups(same)


def _groups(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Rows that are connected."""
    leader: dict[int, int] = {}

    def find(row: int) -> int:
        while leader.setdefault(row, row) != row:
            leader[row] = row = leader[leader[row]]
        return row

    for first, second in pairs:
        leader[find(second)] = find(first)
    groups: dict[int, list[int]] = {}
    for row in sorted(leader):
        groups.setdefault(find(row), []).append(row)
    return sorted(groups.values(), key=lambda group: (-len(group), group))
