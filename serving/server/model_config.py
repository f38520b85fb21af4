"""TensorFlow Serving's model configuration: which versions are loaded, and which label names which."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from google.protobuf import text_format
from google.protobuf.message import Message

from preprocessing import whole_files
from preprocessing.errors import BadInputError
from serving.client import messages
from serving.server.labels import Labels

MODEL_NAME: Final = "autotag"
FOLLOWED_VERSIONS: Final = 2
"""How many of the newest versions are loaded where nothing was promoted yet."""


def server_config(labels: Labels, base_path: str, loaded: Collection[int] | None = None) -> Message:
    """Return the ModelServerConfig for these labels.

    Args:
        base_path: the folder of versions as the server sees it.
        loaded: versions to be loaded; None takes those of the labels.
    """
    config = messages.ModelServerConfig()
    model = config.model_config_list.config.add(name=MODEL_NAME, base_path=base_path, model_platform="tensorflow")
    versions = sorted(labels.loaded() if loaded is None else loaded)
    if versions:
        model.model_version_policy.specific.versions.extend(versions)
    else:
        model.model_version_policy.latest.num_versions = FOLLOWED_VERSIONS
    for label, version in labels.current.items():
        model.version_labels[label] = version
    return config


def config_text(config: Message) -> str:
    """Return a ModelServerConfig as text, as ``--model_config_file`` reads it."""
    return str(text_format.MessageToString(config))


def read_config(path: Path) -> Message:
    """Read a model configuration file with one model, ``autotag``.

    Raises:
        BadInputError: it cannot be read, or is something else.
    """
    config = messages.ModelServerConfig()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read: {error}") from error
    except text_format.ParseError as error:
        raise BadInputError(f"{path} is no model configuration of TensorFlow Serving: {error}") from error
    models = config.model_config_list.config
    if [model.name for model in models] != [MODEL_NAME]:
        raise BadInputError(f"{path} must have one model, {MODEL_NAME}; it has {[model.name for model in models]}")
    return config


def write_whole(path: Path, text: str) -> None:
    """Write a text file that is there whole or not at all.

    Raises:
        BadInputError: it cannot be written.
    """
    try:
        whole_files.write_whole(path, text)
    except OSError as error:
        raise BadInputError(f"{path} cannot be written: {error.strerror}") from error
