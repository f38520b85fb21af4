"""A stretch of a recording in a few letters: so many seconds, from where.

``WHERE:SECONDS``, where WHERE is ``start``, ``middle``, ``end``, or a time from the beginning in seconds,
``minutes:seconds`` or ``hours:minutes:seconds``. The last number is always the stretch's length: ``30:60`` is the
minute from 0:30 on, ``1:30:60`` the minute from 1:30 on, ``1:02:30:60`` the minute from 1:02:30 on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from preprocessing.errors import BadInputError

SHORTEST_SECONDS: Final = 1.0
START: Final = "start"
MIDDLE: Final = "middle"
END: Final = "end"

_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?"
_WHERE: Final = rf"{START}|{MIDDLE}|{END}|(?:(?:[0-9]+:)?[0-9]+:)?{_NUMBER}"
_FORM: Final = re.compile(rf"(?P<where>{_WHERE}):(?P<seconds>{_NUMBER})")


@dataclass(frozen=True)
class Stretch:
    """So many seconds of a recording.

    Attributes:
        where: ``start``, ``middle`` or ``end``, or seconds from the beginning.
        seconds: its length.
    """

    where: str | float
    seconds: float

    @property
    def needs_length(self) -> bool:
        """Whether only the recording's length tells where it begins, or whether it is there at all."""
        return self.where not in (START, 0)

    def begin(self, length: float) -> float:
        """Return where it begins in a recording, both in seconds; of one that is shorter, ``middle`` and ``end`` at 0.

        A time may lie beyond the length: nothing of such a stretch is there.
        """
        if isinstance(self.where, float):
            return self.where
        rest = max(0.0, length - self.seconds)
        return {START: 0.0, MIDDLE: rest / 2, END: rest}[self.where]

    def __str__(self) -> str:
        """As parse_stretch reads it."""
        where = self.where if isinstance(self.where, str) else f"{self.where:.12g}"
        return f"{where}:{self.seconds:.12g}"


def parse_stretch(text: str) -> Stretch:
    """Parse such as ``middle:60``, ``30:60`` or ``1:30:60``.

    Raises:
        BadInputError: it is none, or shorter than a second.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise BadInputError(
            f"{text!r} is no part of a file: expected WHERE:SECONDS, where WHERE is start, middle, end or a time such "
            "as 30 or 1:30; middle:60 is the minute in the middle, 1:30:60 the minute from 1:30 on"
        )
    seconds = float(match["seconds"])
    if seconds < SHORTEST_SECONDS:
        raise BadInputError(f"{text!r}: a part has {SHORTEST_SECONDS:g} s at least")
    return Stretch(_where(match["where"], text), seconds)


def _where(where: str, text: str) -> str | float:
    if where in (START, MIDDLE, END):
        return where
    *larger, seconds = map(float, where.split(":"))
    scale = 1
    if any(value >= 60 for value in [*larger[1:], seconds][: len(larger)]):
        raise BadInputError(f"{text!r}: after a colon of a time come less than 60 minutes or seconds")
    for value in reversed(larger):
        scale *= 60
        seconds += scale * value
    return seconds
