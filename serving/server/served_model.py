"""Which versions a server on this machine is to serve: those of a folder with its labels, or one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import Message

from preprocessing.digits import is_number
from preprocessing.errors import BadInputError
from serving.model_versions import SAVED_MODEL_NAME, version_numbers
from serving.server.labels import LABELS_NAME, Labels, read_labels
from serving.server.model_config import server_config


@dataclass(frozen=True)
class Model:
    """What is served.

    Attributes:
        base_path: the folder of versions, absolute.
        config: the ModelServerConfig.
        awaited: versions that must be available before the server counts as ready; () for any one.
    """

    base_path: Path
    config: Message
    awaited: tuple[int, ...]


def choose_model(model_dir: Path) -> Model:
    """Take a folder of versions, with the labels that `autotag promote` wrote there, or one version.

    Raises:
        BadInputError: there is no model, a version's folder is no number, or a labelled version is gone.
    """
    folder = model_dir.absolute()
    if (folder / SAVED_MODEL_NAME).is_file():
        if not is_number(folder.name):
            raise BadInputError(
                f"{model_dir} is one version of a model, and TensorFlow Serving wants its folder's name to be a "
                "number: copy it to a folder named 1, or give the folder of versions"
            )
        version = int(folder.name)
        return Model(folder.parent, server_config(Labels(), str(folder.parent), [version]), (version,))
    versions = version_numbers(folder)
    if not versions:
        raise BadInputError(
            f"no model at {model_dir}: no numbered version with {SAVED_MODEL_NAME} in it. "
            "If the last run was not blessed, nothing was pushed: see `autotag runs`"
        )
    labels = read_labels(folder)
    for label, version in labels.current.items():
        if version not in versions:
            raise BadInputError(
                f"{folder / LABELS_NAME} has {label} at version {version}, which is not there; there are "
                f"{', '.join(map(str, versions))}. Name another: autotag promote VERSION {model_dir} --label {label} "
                "--no-server"
            )
    config = server_config(labels, str(folder), labels.loaded(versions))
    return Model(folder, config, tuple(sorted(set(labels.current.values()))))
