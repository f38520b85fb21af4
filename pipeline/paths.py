"""Paths that TFX, TensorFlow and ML Metadata can have, looked at before the first node.

TensorFlow and TFX find a node's files by patterns made of its folder's path (``tf.io.gfile.glob``, Beam's
``ReadFromTFRecord``), without escaping it; ML Metadata keeps paths as UTF-8.
"""

from __future__ import annotations

import os
from typing import Final

from pipeline.settings.config import PipelineConfig
from preprocessing.errors import BadInputError

PATTERN: Final = "*?[\\"
"""Characters that are more than themselves in TensorFlow's patterns."""


def check_paths(config: PipelineConfig) -> None:
    """Look at all paths of a configuration.

    Raises:
        BadInputError: root has a character that TensorFlow takes for a pattern, or a path is no UTF-8, or is empty.
    """
    data = config.data
    check_text("root", config.root)
    check_root("root", os.path.abspath(config.root))
    for setting, path in (
        ("push_dir", config.pushed),
        ("data.audio_dir", data.audio_dir),
        ("data.annotations", data.annotations_file),
        ("data.schema_file", data.schema_file),
        ("data.synonyms", data.synonyms),
        *((f"networks.{name}.weights", network.weights) for name, network in config.networks.items()),
    ):
        if path is not None:
            check_text(setting, path)


def check_root(setting: str, path: str) -> None:
    """Look at the folder that artifacts go to.

    Raises:
        BadInputError: see check_paths.
    """
    found = [character for character in PATTERN if character in path]
    if found:
        raise BadInputError(
            f"{setting} {path}: TensorFlow takes {' and '.join(found)} in a path for a pattern and would not find its "
            f"own files there: choose a folder without {' '.join(PATTERN)} in its path, or a link to this one"
        )


def check_text(setting: str, path: str) -> None:
    """Look at a path that is kept in ML Metadata.

    Raises:
        BadInputError: it is empty or no UTF-8.
    """
    if not path:
        raise BadInputError(f"{setting} is empty: give a path")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise BadInputError(
            f"{setting} {path}: the name has bytes that are no UTF-8, which ML Metadata cannot keep: rename it, or "
            "give a link to it"
        ) from None
