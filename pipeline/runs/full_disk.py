"""A disk that fills while a node works: found behind what libraries make of it, and said in one line.

Python says it with an errno, Beam's workers, TensorFlow, HDF5 and SQLite in a text alone.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Sequence
from typing import Final

from rich.filesize import decimal

from preprocessing.errors import AutotagError, error_chain

ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT)
FULL: Final = "No space left on device"
_TEXT: Final = re.compile(rf"{FULL}|Disk quota exceeded|database or disk is full")
_PATH: Final = re.compile(
    r"(?P<before>/[^\s'\":;,]+)['\":;, ]+(?:No space left on device|Disk quota exceeded)"
    r"|(?:No space left on device|Disk quota exceeded): '(?P<after>[^']+)'"
)


class FullDiskError(AutotagError):
    """A node could not write because a disk, or a quota, is full."""


def full_disk_error(node: str, error: BaseException, places: Sequence[str], remedy: str) -> FullDiskError | None:
    """Return what to say of a node's error, None where no full disk is behind it.

    Args:
        node: its name.
        error: what it raised.
        places: folders that the node writes to, whose file systems' free space is named.
        remedy: what to do.
    """
    behind = [found for found in error_chain(error) if _is_full(found)]
    if not behind:
        return None
    path = next((path for found in behind if (path := _path(found))), None)
    free = ", ".join(f"{decimal(shutil.disk_usage(place).free)} at {place}" for place in map(_existing, places))
    return FullDiskError(f"{node}: {FULL}{f' ({path})' if path else ''}; free now: {free}; {remedy}")


def _is_full(error: BaseException) -> bool:
    return (isinstance(error, OSError) and error.errno in ERRNOS) or names_full_disk(str(error))


def names_full_disk(text: str) -> bool:
    """Whether a library's text says that a disk is full."""
    return bool(_TEXT.search(text))


def _path(error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno in ERRNOS and error.filename:
        return str(error.filename)
    found = _PATH.search(str(error))
    return (found["before"] or found["after"]) if found else None


def _existing(place: str) -> str:
    """Return a folder, or the nearest above it that is there."""
    place = os.path.abspath(place)
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    return place
