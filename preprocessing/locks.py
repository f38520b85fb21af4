"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

from preprocessing.errors import AutotagError


@contextlib.contextmanager
def hold(path: str | os.PathLike[str], refusal: AutotagError) -> Iterator[None]:
    """Hold a lock file while the block runs; a killed holder leaves it free.

    Args:
        path: of the lock file; made where it is not there, and left there.
        refusal: what is raised where another process holds it.
    """
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal from None
        yield


@contextlib.contextmanager
def wait_for(path: str | os.PathLike[str], on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file while the block runs, after whoever holds it now; a killed holder leaves it free.

    Args:
        path: of the lock file; made where it is not there, and left there.
        on_wait: called once where another process holds it.
    """
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
