"""Whether a text is a whole number: names of versions' folders, process ids, ports, seconds of a header.

``str.isdigit`` and ``str.isdecimal`` let more pass: ``int("²")`` raises, and ``"٣"`` is a 3 that TensorFlow Serving,
which reads ASCII digits alone, does not take for a version.
"""

from __future__ import annotations


def is_number(text: str) -> bool:
    """Whether a text has ASCII digits alone, one at least."""
    return text.isascii() and text.isdigit()
