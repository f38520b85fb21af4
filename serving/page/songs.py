"""Which file somebody means who names a song: ``file:`` and its path below the folder, or ``upload:`` and its id."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from preprocessing.names import escaped
from serving.page.answers import PageError
from serving.page.folder import Folder
from serving.page.uploads import Uploads

FILE: Final = "file:"
UPLOAD: Final = "upload:"


@dataclass(frozen=True)
class Song:
    """A file to be heard.

    Attributes:
        song: by which the page names it.
        name: for people.
        path: where its bytes lie, without links.
    """

    song: str
    name: str
    path: Path

    @property
    def below_folder(self) -> str | None:
        """Its path below the folder; None where it does not lie there."""
        return self.song.removeprefix(FILE) if self.song.startswith(FILE) else None

    def stamp(self) -> tuple[str, int, int]:
        """What changes when its bytes do: place, size and time of the last change.

        Raises:
            PageError: it is there no more.
        """
        try:
            status = os.stat(self.path)
        except OSError:
            raise PageError(404, f"{self.name} is no longer there") from None
        return str(self.path), status.st_size, status.st_mtime_ns


class Songs:
    """All songs that may be named.

    Args:
        folder: the library; None for none.
        uploads: what people brought.
    """

    def __init__(self, folder: Folder | None, uploads: Uploads) -> None:
        self.folder = folder
        self.uploads = uploads

    def find(self, song: str) -> Song:
        """Return a song.

        Raises:
            PageError: there is none of that name.
        """
        if song.startswith(UPLOAD):
            upload = self.uploads.find(song.removeprefix(UPLOAD))
            return Song(song, upload.name, upload.path)
        if song.startswith(FILE):
            path = song.removeprefix(FILE)
            return Song(song, escaped(path.rpartition("/")[2]), self.library().find(path))
        raise PageError(404, f"a song is named {FILE}PATH or {UPLOAD}ID, got {escaped(song[:60])!r}")

    def library(self) -> Folder:
        """Return the folder.

        Raises:
            PageError: there is none.
        """
        if self.folder is None:
            raise PageError(404, "the page was started without a folder: autotag page FOLDER")
        return self.folder
