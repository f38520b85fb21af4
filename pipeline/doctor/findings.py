"""What a look at this machine gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        name: of it, by which jobs name what they need.
        section: under which it is shown.
        state: ``ok``; ``missing``; ``broken``, which is there and does not work.
        detail: its version, place or size; of what is broken, why.
        remedy: command or package that brings it; empty where nothing has to be done.
    """

    name: str
    section: str
    state: State
    detail: str = ""
    remedy: str = ""


def install(extra: str) -> str:
    """Return the command that brings an extra."""
    return f"pip install 'autotag[{extra}]'"
