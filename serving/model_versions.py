"""The folder that models are pushed to: a folder for each version, named by its number, with a SavedModel in it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from preprocessing.digits import is_number
from preprocessing.errors import BadInputError

SAVED_MODEL_NAME: Final = "saved_model.pb"
"""In each folder of a SavedModel."""


def version_folders(folder: Path, *, whole: bool = True) -> list[Path]:
    """Return the numbered folders in a folder, the lowest number first.

    Args:
        folder: which is there.
        whole: those that have a SavedModel alone.

    Raises:
        OSError: the folder cannot be read.
    """
    numbered = (path for path in folder.iterdir() if is_number(path.name))
    found = [path for path in numbered if not whole or (path / SAVED_MODEL_NAME).is_file()]
    return sorted(found, key=lambda path: int(path.name))


def find_model(directory: Path) -> Path:
    """Return the directory of a SavedModel: ``directory`` itself or, as TF Serving does, its highest numbered version.

    Raises:
        BadInputError: there is none.
    """
    if (directory / SAVED_MODEL_NAME).is_file():
        return directory
    if not directory.is_dir():
        raise BadInputError(
            f"no model at {directory}: no such folder. Train and push one with `autotag run`, or name another model"
        )
    versions = version_folders(directory)
    if not versions:
        raise BadInputError(
            f"no model at {directory}: neither {SAVED_MODEL_NAME} nor a numbered version with one in it. "
            "If the last run was not blessed, nothing was pushed: see `autotag runs`"
        )
    return versions[-1]


def version_numbers(model_dir: Path) -> list[int]:
    """Return the numbers of the versions in a folder, in order.

    Raises:
        BadInputError: there is no such folder.
    """
    if not model_dir.is_dir():
        raise BadInputError(f"no model at {model_dir}: no such folder. Train and push one with `autotag run`")
    return [int(path.name) for path in version_folders(model_dir)]
