"""Where the musicnn package's wheel lies on this machine. Nothing is downloaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.pretrained.cache import weights_file
from serving.pretrained.catalogue import find_trained
from serving.pretrained.musicnn_wheel import WHEEL

VARIABLE = "AUTOTAG_MUSICNN_WHEEL"
PLACES = (
    Path(__file__).parents[2] / "shared" / "weights" / WHEEL,
    weights_file(find_trained("musicnn-mtt").files[0]),
)


def find_wheel() -> Path:
    """Return the wheel's path, or skip the test."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    for place in PLACES:
        if place.is_file():
            return place
    pytest.skip(f"{WHEEL} is neither in {' nor '.join(str(place.parent) for place in PLACES)} nor named by {VARIABLE}")
