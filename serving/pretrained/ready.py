"""A listed model by name, ready to tag with: from the user's cache, or fetched and converted first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from preprocessing.errors import AutotagError
from preprocessing.locks import wait_for
from serving.pretrained.cache import cached_version, versions_folder, weights_file
from serving.pretrained.catalogue import TrainedModel, find_trained
from serving.pretrained.fetch import fetch_weights
from serving.pretrained.importing import check_conversion, import_weights, weights_of

LOCK_NAME = ".convert.lock"


def ready_version(name: str, say: Callable[[str], None]) -> Path:
    """Return the version of a listed model, fetched and converted if it is not there.

    Args:
        name: in serving.pretrained.catalogue.
        say: takes the line that says what is fetched or converted.

    Raises:
        BadInputError: no model has that name.
        AutotagError: it cannot be fetched, or what converts it is not installed.
    """
    model = find_trained(name)
    cached = cached_version(name)
    if cached is not None:
        return cached
    check_conversion()
    fetched = not all(weights_file(remote).is_file() for remote in model.files)
    path = fetch_weights(model, say)
    return _convert(model, path, (lambda line: None) if fetched else say)


def _convert(model: TrainedModel, path: Path, say: Callable[[str], None]) -> Path:
    """Make the version, unless another process has made it meanwhile."""
    folder = versions_folder(model.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with wait_for(folder / LOCK_NAME, lambda: say(f"another autotag converts {model.name}: waiting for it")):
            cached = cached_version(model.name)
            if cached is not None:
                return cached
            say(f"converting {model.name}, once")
            return import_weights(weights_of(model, path), folder)
    except OSError as error:
        raise AutotagError(f"{error.filename or folder}: {error.strerror or error}") from error
