"""The folder that the page was started with: what is in it, and no file that is not.

A file is told by its path below the folder. It is given out where that path, and the one that is left when all links
are followed, lie in the folder, have no hidden part and an audio file's suffix, and it is a regular file.
"""

from __future__ import annotations

import os
import stat
import threading
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from preprocessing.errors import BadInputError
from preprocessing.folders import AUDIO_SUFFIXES, walk_audio
from serving.page.answers import PageError

FRESH_SECONDS: Final = 5.0
"""A listing is taken anew when it is older than this, or than twenty times what it took."""
LONGEST_PATH: Final = 4096

OUTSIDE: Final = "that is not in the folder that the page was started with"


@dataclass(frozen=True)
class Listing:
    """What is in the folder.

    Attributes:
        files: paths below it, in the order of their parts' names.
        folded: the same, for comparing without regard to case, and to how an accent is written.
    """

    files: tuple[str, ...]
    folded: tuple[str, ...]


@dataclass(frozen=True)
class FolderFile:
    """One file on a page of the listing.

    Attributes:
        path: below the folder.
        size: bytes.
        modified: seconds since 1970.
    """

    path: str
    size: int
    modified: float


@dataclass(frozen=True)
class Found:
    """A page of a listing: all files there are, and those on the page; and the folders directly below the one asked."""

    total: int
    files: list[FolderFile]
    folders: list[str]


class Folder:
    """A folder of songs.

    Args:
        root: where it lies.

    Raises:
        BadInputError: it is none, or cannot be read.
    """

    def __init__(self, root: Path) -> None:
        try:
            os.scandir(root).close()
        except OSError as error:
            raise BadInputError(f"{root}: {(error.strerror or str(error)).lower()}: give a folder of songs") from error
        self.root = Path(os.path.realpath(root))
        self._given = Path(os.path.abspath(root))
        self._lock = threading.Lock()
        self._listing: Listing | None = None
        self._due = 0.0
        self._walking = False

    @property
    def name(self) -> str:
        """What people call it."""
        return self.root.name or str(self.root)

    def find(self, path: str) -> Path:
        """Return where a file lies, without links.

        Args:
            path: below the folder, with ``/``.

        Raises:
            PageError: there is none that may be given out.
        """
        parts = path.split("/")
        if not _presentable(parts) or len(path) > LONGEST_PATH:
            raise PageError(404, f"there is no song {_short(path)} in the folder")
        try:
            real = os.path.realpath(os.path.join(self.root, path), strict=True)
            status = os.stat(real)
        except (OSError, ValueError):
            raise PageError(404, f"there is no song {_short(path)} in the folder") from None
        if not (self._holds(real) and stat.S_ISREG(status.st_mode)):
            raise PageError(404, f"there is no song {_short(path)} in the folder")
        return Path(real)

    def pasted(self, text: str) -> str:
        """Return the path below the folder of a file that a person named: a path of this machine, or a file: address.

        Raises:
            PageError: it lies outside, whether it is there or not; or it is none that may be given out.
        """
        text = _plain(text)
        if text.startswith("~") and not text.startswith("~/"):  # somebody's: whether there is such a person is not told
            raise PageError(403, OUTSIDE)
        path = os.path.normpath(os.path.join(self.root, os.path.expanduser(text)))
        for root in (self.root, self._given):
            inside = path.removeprefix(str(root).rstrip("/") + "/")
            if inside != path:
                try:
                    self.find(inside)
                except PageError:
                    if self._leads_outside(inside):
                        raise PageError(403, OUTSIDE) from None
                    raise
                return inside
        raise PageError(403, OUTSIDE)

    def listing(self) -> Listing:
        """Return what is in the folder, as it was a few seconds ago at most; of very many files, a little longer."""
        with self._lock:
            listing, old = self._listing, time.monotonic() >= self._due
            if listing is not None and (not old or self._walking):
                return listing
            self._walking = True
            if listing is None:
                return self._walk()
        threading.Thread(target=self._walk_again, daemon=True).start()
        return listing

    def _walk_again(self) -> None:
        self._walk()

    def _walk(self) -> Listing:
        begin = time.monotonic()
        try:
            files = tuple(self._presentable_files())
            self._listing = Listing(files, tuple(map(_folded, files)))
            return self._listing
        finally:
            took = time.monotonic() - begin
            self._due = begin + took + max(FRESH_SECONDS, 20 * took)
            self._walking = False

    def _presentable_files(self) -> list[str]:
        root = str(self.root).rstrip("/") + "/"
        real: dict[str, bool] = {}
        kept = []
        for file in walk_audio(str(self.root)).files:
            folder, name = os.path.split(file)
            if folder not in real:
                real[folder] = self._holds(os.path.join(os.path.realpath(folder), "any.mp3"))
            if real[folder] and (not os.path.islink(file) or self._holds(os.path.realpath(file))):
                kept.append(file[len(root) :] if file.startswith(root) else name)
        return kept

    def search(self, query: str, folder: str, page: int, size: int) -> Found:
        """Return a page of the files below a folder whose paths have all words of a query, in any case.

        Args:
            query: words.
            folder: below the folder; empty for all.
            page: from 1 on.
            size: files on a page.
        """
        listing, words = self.listing(), _folded(query).split()
        below = f"{folder.strip('/')}/" if folder.strip("/") else ""
        inside = [number for number, path in enumerate(listing.files) if path.startswith(below)]
        chosen = [number for number in inside if all(word in listing.folded[number] for word in words)]
        tails = (listing.files[number][len(below) :] for number in inside)
        folders = dict.fromkeys(below + tail.partition("/")[0] for tail in tails if "/" in tail)
        shown = [listing.files[number] for number in chosen[(page - 1) * size : page * size]]
        return Found(len(chosen), [file for path in shown if (file := self._described(path))], list(folders))

    def _described(self, path: str) -> FolderFile | None:
        try:
            status = os.stat(self.root / path)
        except (OSError, ValueError):
            return None
        return FolderFile(path, status.st_size, status.st_mtime)

    def _holds(self, real: str) -> bool:
        """Whether a path without links is one of a file that may be given out."""
        inside = real.removeprefix(str(self.root).rstrip("/") + "/")
        return inside != real and _presentable(inside.split("/"))

    def _leads_outside(self, path: str) -> bool:
        """Whether links on the way of a path lead out of the folder."""
        real = os.path.realpath(os.path.join(self.root, path))
        return not real.startswith(str(self.root).rstrip("/") + "/")


def _presentable(parts: list[str]) -> bool:
    """Whether the parts of a path below the folder are those of an audio file's, none hidden."""
    if any(not part or part.startswith(".") or "\0" in part for part in parts):
        return False
    return os.path.splitext(parts[-1])[1].lower() in AUDIO_SUFFIXES


def _folded(text: str) -> str:
    """For comparing: systems write an accent with its letter as one character, or as two."""
    return unicodedata.normalize("NFC", text.casefold())


def _plain(text: str) -> str:
    """A path out of what was pasted: in quotes, or as a file: address.

    Raises:
        PageError: it is none.
    """
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        data = b""
    if data[:5].lower() == b"file:":
        data = b"/" + unquote_to_bytes(data[5:]).removeprefix(b"//localhost").lstrip(b"/")
    if not data or len(text) > LONGEST_PATH or b"\0" in data:
        raise PageError(400, "paste the path of a file")
    return os.fsdecode(data)


def _short(path: str) -> str:
    return repr(path if len(path) <= 80 else f"{path[:77]}...")
