"""Which model somebody means who names one, or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from preprocessing.errors import BadInputError
from serving.model_versions import find_model
from serving.pretrained.catalogue import CATALOGUE, DEFAULT


def default_model(folder: Path) -> str:
    """Return the folder of pushed models, where there is one in it; else the name of a trained model that is listed."""
    try:
        find_model(folder)
    except BadInputError:
        return DEFAULT
    return str(folder)


def model_folder(name: str, say: Callable[[str], None]) -> Path:
    """Return the folder of a model.

    Args:
        name: a folder, or the name of a listed model, which is fetched and converted if it is not there; a folder of
            that name stands before it.
        say: takes the line that says what is fetched.

    Raises:
        BadInputError: it is neither.
        AutotagError: a listed model cannot be fetched or converted.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if name in CATALOGUE:
        from serving.pretrained.ready import ready_version

        return ready_version(name, say)
    raise BadInputError(
        f"no model at {name}: no such folder, and no trained model of that name (`autotag pretrained` lists them). "
        "Name one of these, or train and push one with `autotag run`"
    )
