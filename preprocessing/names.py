"""Names of files as text: nothing lost in what programs read, nothing that moves the cursor in what people read.

A name on Linux is bytes, any but NUL and ``/``, and need not be UTF-8. This is how it stands in what is written:

| where | how |
|---|---|
| JSON | UTF-8 text; a byte that is no UTF-8 is a lone surrogate, ``\\udce9`` for 0xE9 (surrogateescape, PEP 383) |
| CSV | the name's own bytes, quoted where the format asks for it |
| terminal, messages | as it is; control characters and bytes that are no UTF-8 as ``\\n``, ``\\x1b``, ``\\xe9`` |

``os.fsencode`` of a name out of JSON gives back the file's own, byte for byte; CSV is read by
``open(..., encoding="utf-8", errors="surrogateescape", newline="")``.
"""

from __future__ import annotations

import io
import json
import os
import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SHORT: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_HIDDEN: Final = frozenset({"Cc", "Zl", "Zp"})
"""Unicode's categories of what moves the cursor."""
_TURNING: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
"""Format characters that turn the direction of what follows, or are not seen; joiners of emoji are none of them."""


def lossless(name: os.PathLike[str] | str) -> str:
    """Return a name as text from which its bytes can be had again, whatever the locale: ``os.fsencode`` in UTF-8."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def escaped(name: os.PathLike[str] | str) -> str:
    """Return a name, or a message with names in it, as one line that moves no cursor: such characters are escaped."""
    try:
        text = lossless(name)
    except UnicodeEncodeError:  # no name: a surrogate that stands for no byte
        text = str(name)
    return text if text.isascii() and text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) not in _HIDDEN and character not in _TURNING and not 0xD800 <= code <= 0xDFFF:
        return character
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}")


def is_utf8(stream: Any) -> bool:
    """Whether a text stream is in UTF-8; one in memory counts as such."""
    name = (getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-")
    return name in ("utf-8", "utf8", "utf-8-sig")


def keep_bytes(stream: Any) -> None:
    """Let a text stream write names' own bytes and all else as UTF-8, whatever the locale; one in memory stays."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="surrogateescape", newline="")


def to_json(
    value: Any,
    indent: int | None = None,
    sort_keys: bool = False,
    ascii_only: bool = False,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """Serialise as JSON in UTF-8 that any stream takes: lone surrogates as ``\\udcxx``, all else as it is.

    Args:
        value: what json.dumps takes.
        indent: as json.dumps has it.
        sort_keys: as json.dumps has it.
        ascii_only: everything beyond ASCII escaped, for streams that hold nothing else.
        default: as json.dumps has it.
    """
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent, sort_keys=sort_keys, default=default)
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
