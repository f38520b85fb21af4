"""Playlists as M3U8: ``#EXTM3U``, and for each song a line with its length and name and one with its path.

Text is UTF-8 (https://www.rfc-editor.org/rfc/rfc8216#section-4.1); a path stands there byte for byte as the file system
has it, so that players on this system find a file whose name is no UTF-8. A name with a line break in it cannot stand
in a line and is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from preprocessing.errors import BadInputError
from preprocessing.names import escaped


@dataclass(frozen=True)
class Entry:
    """One song of a playlist.

    Attributes:
        path: absolute.
        seconds: its length.
    """

    path: Path
    seconds: float


def m3u(entries: Iterable[Entry], base: Path | None = None) -> bytes:
    """Return a playlist.

    Args:
        entries: in their order.
        base: folder that the playlist is to lie in, for paths that are seen from there; None for absolute ones.

    Raises:
        BadInputError: a name has a line break in it.
    """
    lines = [b"#EXTM3U"]
    for entry in entries:
        path = os.fspath(entry.path) if base is None else os.path.relpath(entry.path, base)
        if "\n" in path or "\r" in path:
            raise BadInputError(f"{escaped(path)} has a line break in its name: no playlist can name it")
        if path.startswith("#"):
            path = os.path.join(os.curdir, path)  # a comment otherwise
        title = " ".join(entry.path.stem.split())
        lines += [f"#EXTINF:{round(entry.seconds)},{escaped(title)}".encode(), os.fsencode(path)]
    return b"\n".join(lines) + b"\n"
