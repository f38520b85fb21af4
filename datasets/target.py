"""The folder that a data set is downloaded into, the address that it comes from, and what a download leaves."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets.inventory import OnDisk
from preprocessing.errors import BadInputError

OnBytes = Callable[[str, int, "int | None"], None]
"""Called with what is being done, the bytes done and the bytes in all (None: unknown)."""


@dataclass(frozen=True)
class Downloaded:
    """What a finished download left.

    Attributes:
        folder: where the data set lies.
        on_disk: the annotated clips that are there, and that are not.
        unwanted: entries of archives that are no clips and were not unpacked.
    """

    folder: Path
    on_disk: OnDisk
    unwanted: tuple[str, ...] = ()


def local_folder(folder: str | Path) -> Path:
    """Make the folder.

    Raises:
        BadInputError: it is no folder of this machine, or cannot be made.
    """
    if "://" in str(folder):
        raise BadInputError(f"{folder}: give a folder on this machine; archives are unpacked in place")
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise BadInputError(f"{path} is a file: give a folder") from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be made: {error.strerror}") from error
    return path


def folder_address(base_url: str, example: str) -> str:
    """Return a mirror's address without a slash at its end.

    Args:
        base_url: as a person gave it.
        example: a file that lies there, for the message.

    Raises:
        BadInputError: it is no http or https address.
    """
    if not re.fullmatch(r"https?://[^/\s]+\S*", base_url):
        raise BadInputError(f"--base-url {base_url!r}: give the http(s) address of the folder that holds {example}")
    return base_url.rstrip("/")
