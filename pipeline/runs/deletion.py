"""What a garbage collection deletes, how much becomes free, and how it is deleted."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pipeline.runs.run_record import Run
from preprocessing.errors import AutotagError

DELETING: Final = ".deleted-"
RUN: Final = "artifacts of old runs"
KILLED: Final = "left by killed runs"
CHECKPOINTS: Final = "checkpoints of runs that are done"
SHARDS: Final = "shards of old code"
INPUTS: Final = "inputs of old runs"
VERSION: Final = "old pushed versions"


@dataclass(frozen=True)
class Item:
    """One file or folder to be deleted.

    Attributes:
        path: of it.
        kind: why: RUN, KILLED, CHECKPOINTS, SHARDS, INPUTS or VERSION.
        run: id of the run that made it, where it is known.
        size: bytes that become free, so without what has a hard link that stays.
    """

    path: str
    kind: str
    run: str = ""
    size: int = 0


@dataclass(frozen=True)
class Plan:
    """What a collection deletes.

    Attributes:
        kept: runs that are kept whole.
        removed: the other runs; of them settings, metadata and metrics stay.
        artifacts: ids in ML Metadata of what is to be marked DELETED.
        items: files and folders.
    """

    kept: tuple[Run, ...]
    removed: tuple[Run, ...]
    artifacts: tuple[int, ...]
    items: tuple[Item, ...]

    @property
    def size(self) -> int:
        """Bytes that become free."""
        return sum(item.size for item in self.items)


def delete_item(item: Item) -> None:
    """Delete it; what others look for by its name is seen whole or not at all.

    Raises:
        AutotagError: it cannot be deleted.
    """
    path = item.path
    try:
        if item.kind in (VERSION, SHARDS, CHECKPOINTS):
            path = os.path.join(os.path.dirname(path), DELETING + os.path.basename(path))
            os.rename(item.path, path)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise AutotagError(f"{item.path} cannot be deleted: {error.strerror or error}; call again") from None


def with_sizes(items: Iterable[Item]) -> list[Item]:
    """Return the items that are there, each once, with the bytes that become free.

    A file with several names, such as a shard and its link in an artifact, counts at the last name to go.
    """
    there = {item.path: item for item in items if os.path.lexists(item.path)}
    links: Counter[tuple[int, int]] = Counter()
    sized = []
    for item in there.values():
        size = 0
        for status in _files(item.path):
            inode = (status.st_dev, status.st_ino)
            links[inode] += 1
            size += status.st_size if links[inode] == status.st_nlink else 0
        sized.append(Item(item.path, item.kind, item.run, size))
    return sized


def _files(path: str) -> Iterator[os.stat_result]:
    if not os.path.isdir(path) or os.path.islink(path):
        yield os.lstat(path)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            yield os.lstat(os.path.join(folder, name))


def entries(folder: str) -> list[str]:
    """Return the paths in a folder, in order; [] where there is none."""
    try:
        return sorted(os.path.join(folder, name) for name in os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def last_change(path: str) -> float:
    """Return when a file, or any in a folder, was written last, in seconds since 1970."""
    return max((status.st_mtime for status in _files(path)), default=os.stat(path).st_mtime)


def is_below(path: str, folder: str) -> bool:
    """Whether a path lies in a folder."""
    return os.path.abspath(path).startswith(folder.rstrip("/") + "/")
