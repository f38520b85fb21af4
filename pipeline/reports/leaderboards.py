"""The page's leaderboards: read in a process of their own and kept until the configuration or ML Metadata changes."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pipeline.reports.leaderboard_rows import Standing, curve, load, read_standing
from preprocessing.errors import AutotagError
from serving.page.answers import PageError
from serving.page.apart import run_apart
from serving.page.work import Check

SERVER_SECONDS: Final = 300.0
"""A server of ML Metadata is asked again after so long: nothing tells that it changed."""
Stamp = tuple[Any, ...]
_log = logging.getLogger(__name__)


class MetadataLeaderboards:
    """The comparisons and pipelines of some configurations. May be shared by threads.

    Args:
        configs: files, each of `autotag compare` or of `autotag run`.

    Raises:
        BadInputError: one of them is neither.
    """

    def __init__(self, configs: Sequence[Path]) -> None:
        for config in configs:
            load(str(config))
        self._configs = tuple(str(config) for config in configs)
        self._lock = threading.Lock()
        self._standing: Standing | None = None
        self._stamp: Stamp = ()
        self._reading = False

    def read(self, check: Check) -> dict[str, Any]:
        """See serving.page.leaderboards; what changed since is shown at the next call, for it takes a while."""
        return self._current(check).shown

    def curve(self, board: str, data: str, row: str, tag: str, check: Check) -> dict[str, Any]:
        """See serving.page.leaderboards."""
        answers = self._current(check).answers.get((board, data, row))
        if answers is None:
            raise PageError(404, f"there is no row {row!r} of {data!r} on the board {board!r}")
        if tag not in answers.tags:
            raise PageError(404, f"{row} has no tag {tag!r}")
        return curve(answers, answers.tags.index(tag))

    def _current(self, check: Check) -> Standing:
        stamp = tuple(self._stamps())
        with self._lock:
            if self._standing is None:
                self._standing, self._stamp = self._read(check), stamp
            elif stamp != self._stamp and not self._reading:
                self._reading = True
                threading.Thread(target=self._read_again, args=(stamp,), daemon=True).start()
            return self._standing

    def _read(self, check: Check) -> Standing:
        return run_apart(read_standing, self._configs, say=_log.info, check=check)

    def _read_again(self, stamp: Stamp) -> None:
        try:
            standing = self._read(Check())
            with self._lock:
                self._standing, self._stamp = standing, stamp
        except AutotagError as error:
            _log.warning("leaderboards: %s", error)
        finally:
            self._reading = False

    def _stamps(self) -> list[Any]:
        stamps: list[Any] = []
        for path in self._configs:
            stamps.append(_changed(path))
            for pipeline in load(path)[1]:
                kept = pipeline.metadata.kind == "sqlite"
                stamps.append(_changed(pipeline.metadata_file) if kept else time.monotonic() // SERVER_SECONDS)
        return stamps


def _changed(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
