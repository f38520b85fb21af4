"""Where the index of a folder is: in the folder itself, or where somebody said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from preprocessing.errors import BadInputError
from preprocessing.names import escaped

INDEX_NAME: Final = "autotag-index.sqlite"


def find_index(folder: Path) -> Path | None:
    """Return the index that lies in a folder; None where there is none."""
    index = folder / INDEX_NAME
    return index if index.is_file() else None


def nearest_index(start: Path) -> Path | None:
    """Return the index in a folder or, going up, in the first one above it that has one; None where none has."""
    here = Path(os.path.abspath(start))
    return next((index for folder in (here, *here.parents) if (index := find_index(folder)) is not None), None)


def index_to_write(folder: Path, given: Path | None) -> Path:
    """Return where the index of a folder goes: where somebody said, else into the folder.

    Raises:
        BadInputError: the folder cannot be written to, or there is no folder for the file that was given.
    """
    if given is not None:
        if given.is_dir():
            raise BadInputError(f"--index {escaped(given)} is a folder: name a file in it, as {INDEX_NAME}")
        if not given.absolute().parent.is_dir():
            raise BadInputError(f"--index {escaped(given)}: there is no folder {escaped(given.absolute().parent)}")
        return given
    index = folder / INDEX_NAME
    if not os.access(index if index.exists() else folder, os.W_OK):
        raise BadInputError(
            f"{escaped(folder)} is read-only, and its index {INDEX_NAME} would lie in it: say with --index FILE "
            "where else that is to be"
        )
    return index


def index_to_read(given: Path | None, start: Path) -> Path:
    """Return the index that is meant: a file, the one in a folder, or the nearest one from ``start`` upwards.

    Raises:
        BadInputError: there is none.
    """
    if given is None:
        found, where = nearest_index(start), f"{escaped(start)} or a folder above it"
    elif given.is_dir():
        found, where = find_index(given), escaped(given)
    else:
        found, where = given if given.is_file() else None, escaped(given)
    if found is None:
        raise BadInputError(f"no index at {where}: make one with `autotag index FOLDER`, or name it with --index")
    return found
