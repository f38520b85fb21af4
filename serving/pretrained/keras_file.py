"""Weights in Keras 3's own files, ``.keras`` and ``.weights.h5``, into the network that they were saved from.

Keras keeps weights by the kind and number of a layer, so a file fits the network alone that it was saved from. Nothing
that a file describes is built or run: the network is built from the registry, and the file gives its weights.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Final

import h5py
import keras

from preprocessing.errors import BadInputError

WHOLE: Final = ".keras"
WEIGHTS: Final = ".weights.h5"
_MEMBERS: Final = frozenset({"config.json", "metadata.json", "model.weights.h5"})


def is_keras_3_file(path: Path) -> bool:
    """Whether a file has one of Keras 3's endings and what such a file holds."""
    try:
        if path.name.endswith(WHOLE):
            with zipfile.ZipFile(path) as archive:
                return set(archive.namelist()) >= _MEMBERS
        if path.name.endswith(WEIGHTS):
            with h5py.File(path, "r") as file:
                return "layers" in file
    except (OSError, RuntimeError, zipfile.BadZipFile):
        return False
    return False


def load_keras_3(model: keras.Model, path: Path) -> None:
    """Set a built network's weights.

    Raises:
        BadInputError: the file cannot be read, or holds another network's weights or such for other tags.
    """
    name = _saved_name(path)
    if name not in (None, model.name):
        raise BadInputError(f"{path}: holds weights of {name}, not of {model.name}")
    try:
        model.load_weights(path)
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise BadInputError(f"{path}: the weights are not those of {model.name}: {_reason(error)}") from error


def _saved_name(path: Path) -> str | None:
    """Name of the network that a ``.keras`` file was saved from; None of other files, which do not say."""
    if not path.name.endswith(WHOLE):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("config.json"))["config"]["name"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
        raise BadInputError(f"{path}: cannot be read: {error}") from error


def _reason(error: Exception) -> str:
    """What Keras says of the first layer, in one line and without the values that it shows."""
    text = " ".join(str(error).split()).partition(" Target variable")[0]
    return text.rpartition("Example error message for object ")[2] or type(error).__name__
