"""Songs of the folder that sound alike or have some tags, duplicates and maps: what an index knows, for the page."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from preprocessing.errors import AutotagError, BadInputError
from preprocessing.names import escaped, lossless
from serving.library.library import Library, Match, Song
from serving.library.listening import SongListener
from serving.page.answers import PageError
from serving.page.models import Models
from serving.page.songs import FILE
from serving.page.songs import Song as NamedSong
from serving.page.turns import InTurns, Turns
from serving.page.work import Check
from serving.pretrained.cache import cached_version
from serving.tagging.sources import LocalModel, model_digest

STALE_SECONDS: Final = 60.0
"""How long what was seen of the folder counts."""
DIGITS: Final = 4


class Finder:
    """An index, which may be made while the page is open.

    Args:
        index: its file.
        folder: where the songs lie.
        models: among which the index's is looked for, to hear what is not in the index.
        turns: at computing.

    Raises:
        BadInputError: a file is there that is no index.
        AutotagError: it cannot be read.
    """

    def __init__(self, index: Path, folder: Path, models: Models, turns: Turns) -> None:
        self._index, self._folder, self._models, self._turns = index, folder, models, turns
        self._lock = threading.Lock()
        self._library = Library(index, folder) if index.is_file() else None
        self._loading = threading.Lock()
        self._loaded: LocalModel | None = None
        self._stale: tuple[float, int] | None = None

    def close(self) -> None:
        """Let go of the index."""
        with self._lock:
            if self._library is not None:
                self._library.close()
                self._library = None

    def state(self) -> dict[str, Any] | None:
        """Return whose the index is and how far, as the page takes it; what is wrong with it; None where is none."""
        if not self._index.is_file():
            return None
        try:
            library = self.library()
            state = library.state()
            return {"model": state.model, "files": state.files, "stale": self._not_indexed(library)}
        except AutotagError as error:
            return {"error": escaped(str(error))}

    def library(self) -> Library:
        """Return the index.

        Raises:
            PageError: there is none.
            AutotagError: it cannot be read.
        """
        with self._lock:
            if not self._index.is_file():
                self._library = None
                raise PageError(404, "this folder has no index: call `autotag index` on it, and come back")
            if self._library is None:
                self._library = Library(self._index, self._folder)
            return self._library

    def _not_indexed(self, library: Library) -> int:
        """How many files are not in the index as they are now."""
        now = time.monotonic()
        if self._stale is None or now - self._stale[0] > STALE_SECONDS:
            stale = library.stale()
            self._stale = now, stale.new + stale.changed + stale.vanished
        return self._stale[1]

    def similar(self, song: NamedSong, second: float | None, count: int, tags: str, check: Check) -> dict[str, Any]:
        """Return songs that sound like a song, or like what is heard around one of its seconds.

        Raises:
            BadInputError: it is silent there, has no such second, or the query is none.
            PageError: there is no index, or its model is not here.
            ClipError: the song cannot be decoded.
            GoneError: nobody waits any more.
        """
        library, path = self.library(), song.below_folder
        own = None if path is None else lossless(path)
        if own is not None and second is None and library.is_current(own):
            found = library.similar(own, count, tags)
        else:
            model = self._model(library)
            listener = SongListener(model, library.card, self._index, InTurns(model, self._turns, check))
            heard = listener.listen(song.path, second, song.name)
            found = library.similar_to(heard.embedding, count, tags, own)
        return {"songs": [_match(match) for match in found]}

    def search(self, query: str, count: int, page: int) -> dict[str, Any]:
        """Return songs that have some tags and not others; errors as of Library.search."""
        found = self.library().search(query, count, (page - 1) * count)
        return {
            "songs": [_match(match) for match in found.matches],
            "total": found.total,
            "page": page,
            "pages": max(1, -(-found.total // count)),
        }

    def duplicates(self) -> dict[str, Any]:
        """Return groups of songs that are one recording; errors as of Library.duplicates."""
        return {"groups": [[_song(song) for song in group] for group in self.library().duplicates()]}

    def playlist(self, songs: Sequence[str]) -> bytes:
        """Return songs of the folder as M3U8, with whole paths.

        Raises:
            PageError: one of them is none of the folder.
            BadInputError: one of them is not in the index.
        """
        for song in songs:
            if not song.startswith(FILE):
                raise PageError(400, "a playlist is of songs of the folder")
        return self.library().playlist([song.removeprefix(FILE) for song in songs])

    def song_map(self, method: Literal["pca", "tsne"], tag: str | None) -> dict[str, Any]:
        """Return the songs as points, or how probable a tag is in each, 255 for 1; errors as of Library.song_map."""
        drawn = self.library().song_map(method)
        if tag is not None and tag not in drawn.tags:
            raise PageError(404, f"the index's model has no tag {tag!r}")
        if tag is not None:
            return {"tag": tag, "probabilities": drawn.probabilities[:, drawn.tags.index(tag)].tolist()}
        return {
            "method": drawn.method,
            "points": drawn.points.astype(float).round(DIGITS).tolist(),
            "songs": [FILE + path for path in drawn.paths],
            "names": [_name(path) for path in drawn.paths],
            "tags": list(drawn.tags),
            "top": drawn.top.tolist(),
            "note": drawn.note,
        }

    def tag_map(self) -> tuple[tuple[str, ...], Any]:
        """Return the tags and their points; errors as of Library.tag_map."""
        drawn = self.library().tag_map()
        return drawn.tags, drawn.points.astype(float).round(DIGITS).tolist()

    def _model(self, library: Library) -> LocalModel:
        """The index's model, loaded with its embeddings."""
        card = library.card
        with self._loading:
            if self._loaded is None or self._loaded.digest != card.digest:
                self._loaded = LocalModel(self._model_folder(library), name=card.model, embeddings=True)
            return self._loaded

    def _model_folder(self, library: Library) -> Path:
        card = library.card
        folders = [model.folder for model in self._models.listed() if model.folder is not None]
        for folder in (*folders, cached_version(card.model), Path(card.model)):
            try:
                if folder is not None and model_digest(folder) == card.digest:
                    return folder
            except OSError:
                continue
        raise BadInputError(
            f"only songs of the index can be asked for, and whole ones: its model {card.model} is not here"
        )


def _match(match: Match) -> dict[str, Any]:
    return {**_song(match.song), "similarity": round(match.score, DIGITS)}


def _song(song: Song) -> dict[str, Any]:
    return {
        "song": FILE + song.path,
        "name": _name(song.path),
        "bytes": song.bytes,
        "seconds": round(song.seconds, 3),
        "tags": [[tag, round(probability, DIGITS)] for tag, probability in song.tags],
    }


def _name(path: str) -> str:
    return path.rpartition(os.sep)[2]
