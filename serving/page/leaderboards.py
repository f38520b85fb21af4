"""What the page shows of comparisons and runs, whoever reads them."""

from __future__ import annotations

from typing import Any, Protocol

from serving.page.work import Check


class Leaderboards(Protocol):
    """Comparisons and runs."""

    def read(self, check: Check) -> dict[str, Any]:
        """Return ``{"boards": [...], "runs": [...]}`` as the page takes them.

        Raises:
            AutotagError: they cannot be read.
            GoneError: nobody waits any more.
        """
        ...

    def curve(self, board: str, data: str, row: str, tag: str, check: Check) -> dict[str, Any]:
        """Return a tag's curves, its threshold and how its probabilities lie, of a row of a board.

        Raises:
            PageError: there is no such row or tag, or no curve of it.
            AutotagError, GoneError: as read.
        """
        ...
