"""Where fetched weights and the models made of them lie: the user's cache, as the operating system has it.

``weights/`` has files as they were published, ``models/NAME/`` numbered versions, whole or not there. AUTOTAG_CACHE
names another folder.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

from preprocessing.errors import BadInputError
from serving.model_info import read_model_info
from serving.model_versions import find_model
from serving.pretrained.catalogue import GitFile, PackageFile, Remote

VARIABLE: Final = "AUTOTAG_CACHE"


def cache_folder() -> Path:
    """The user's folder for what can be fetched again.

    Raises:
        BadInputError: no variable and no entry in the list of users says where it is, as in a container under any id.
    """
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given).absolute()
    folder = user_cache_path("autotag", appauthor=False)
    if folder.is_absolute():
        return folder
    try:  # XDG Base Directory Specification: a relative XDG_CACHE_HOME is ignored; platformdirs takes it.
        return Path.home() / ".cache" / "autotag"
    except RuntimeError:
        raise BadInputError(
            f"this user has no home folder (HOME), in which fetched models would lie: name a folder in {VARIABLE}"
        ) from None


def weights_file(remote: Remote) -> Path:
    """Where a file lies when it is fetched; the person may put it there instead."""
    folder = cache_folder() / "weights"
    if isinstance(remote, PackageFile):
        return folder / f"{remote.package}-{remote.version}" / remote.name
    assert isinstance(remote, GitFile)
    return folder.joinpath(*remote.repository.split("/"), *remote.path.split("/"))


def versions_folder(name: str) -> Path:
    """Where the versions of a trained model lie."""
    return cache_folder() / "models" / name


def cached_version(name: str) -> Path | None:
    """Return the version of a model that is in the cache; None where there is none that this autotag reads."""
    with contextlib.suppress(BadInputError):
        version = find_model(versions_folder(name))
        read_model_info(version)
        return version
    return None
