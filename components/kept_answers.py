"""What the scorer of a comparison's entry keeps of it: answers in a file, figures and costs as properties.

Read without TFX and TensorFlow, by what makes tables of many entries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

ANSWERS_FILE: Final = "answers.npz"
KEY: Final = "comparison_key"
"""Property of the evaluation: what it was made of."""
COSTS: Final = ("parameters", "megabytes_float32", "megabytes_int8", "seconds_for_1000_clips", "training_minutes")
"""What a network costs: properties of the evaluation."""
DEFORMED: Final = "deformed/"
"""Begins the name of an array of predictions under a deformation."""


@dataclass(frozen=True)
class Answers:
    """What a network said, and of what.

    Attributes:
        tags: in the order of the columns.
        clip_ids: bytes [clips] of the test split.
        tracks: bytes [clips] of the test split.
        labels: 0 or 1, float32 [clips, tags], of the test split.
        predictions: float32 [clips, tags], of the test split.
        thresholds: float32 [tags], of the best F1 on the validation split.
        deformed: deformation -> predictions, float32 [clips, tags], of the test split under it.
    """

    tags: tuple[str, ...]
    clip_ids: npt.NDArray[np.bytes_]
    tracks: npt.NDArray[np.bytes_]
    labels: npt.NDArray[np.float32]
    predictions: npt.NDArray[np.float32]
    thresholds: npt.NDArray[np.float32]
    deformed: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)


def read_answers(folder: str) -> Answers:
    """Read what a NetworkScorer kept.

    Raises:
        FileNotFoundError: it is not there.
    """
    with np.load(os.path.join(folder, ANSWERS_FILE)) as arrays:
        return Answers(
            tuple(arrays["tags"].tolist()),
            arrays["test/clip_ids"],
            arrays["test/tracks"],
            arrays["test/labels"],
            arrays["test/predictions"],
            arrays["thresholds"],
            {name.removeprefix(DEFORMED): arrays[name] for name in arrays.files if name.startswith(DEFORMED)},
        )
