"""The front ends as Keras layers: models.front_ends.settings says what each computes."""

from __future__ import annotations

from typing import Any

from models.front_ends.settings import FrontEnd


def layer_for(settings: FrontEnd) -> Any:
    """Return the layer that computes a front end."""
    raise NotImplementedError(settings)
