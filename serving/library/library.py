"""What an index is asked: songs that sound alike, songs by their tags, duplicates, maps, playlists.

A ``Library`` may be asked by several threads, and while ``autotag index`` writes: every answer is of one whole state of
the index, which is read anew when it has changed (at most every REFRESH_SECONDS while it is written to). What takes
long (duplicates, maps) is kept in the index, where that may be written to.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from preprocessing.errors import AutotagError, BadInputError
from preprocessing.folders import walk_audio
from preprocessing.names import escaped, lossless
from serving.library import queries
from serving.library.duplicates import find_duplicates
from serving.library.index_file import IndexCard, IndexFile, kept_stamp
from serving.library.layout import Method
from serving.library.neighbours import GRAPH, Neighbours, Places, Vectors, embeddings_of, unit
from serving.library.playlists import Entry, m3u
from serving.library.song_map import Points, map_songs, map_tags
from serving.tagging.resuming import FileStamp

log = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 5.0
TOP_TAGS: Final = 5
DUPLICATES: Final = "duplicates"


@dataclass(frozen=True)
class Song:
    """A file of the index.

    Attributes:
        path: below the folder, POSIX; bytes that are no UTF-8 as surrogateescape has them.
        seconds: its length.
        bytes: its size when it was heard.
        silent: there is nothing to hear in it.
        tags: the TOP_TAGS most probable ones with their probability, the most probable first; none of a silent song.
        above: all that count as heard, in the order of the model's outputs.
    """

    path: str
    seconds: float
    bytes: int
    silent: bool
    tags: tuple[tuple[str, float], ...]
    above: tuple[str, ...]


@dataclass(frozen=True)
class Match:
    """A song that was found.

    Attributes:
        song: it.
        score: of similar songs the cosine of the embeddings, -1 to 1; of a query how clearly it fits, 0.5 to 1
            (serving.library.queries).
    """

    song: Song
    score: float


@dataclass(frozen=True)
class Found:
    """Some of the songs that fit a query, the clearest first, and how many there are."""

    total: int
    matches: list[Match]


@dataclass(frozen=True)
class LibraryState:
    """How far an index is.

    Attributes:
        model: what people call it.
        files: in the index.
        silent: of these.
        failed: files that could not be used.
        revision: one more with each change.
        complete: whether the last run came to its end.
    """

    model: str
    files: int
    silent: int
    failed: int
    revision: int
    complete: bool


@dataclass(frozen=True)
class Stale:
    """How many files of the folder are not in the index as they are now."""

    new: int
    changed: int
    vanished: int


@dataclass(frozen=True)
class SongMap:
    """Songs as points; silent ones have no place.

    Attributes:
        method: "pca" or "tsne".
        points: float32 [songs, 2].
        paths: of the songs.
        tags: the model's.
        probabilities: uint8 [songs, n_tags], 255 for 1.
        top: int [songs], which tag is the most probable one.
        note: how the points were found, in words.
    """

    method: Method
    points: npt.NDArray[np.float32]
    paths: tuple[str, ...]
    tags: tuple[str, ...]
    probabilities: npt.NDArray[np.uint8]
    top: Places
    note: str


@dataclass(frozen=True)
class TagMap:
    """Tags as points, float64 [n_tags, 2], near those that are heard in the same songs."""

    tags: tuple[str, ...]
    points: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _State:
    """All of an index that is asked often, in the order of the paths.

    Attributes:
        inode: of the index's file.
        revision: of the index.
        paths: as the file system has them.
        modified: int64 [songs], ns since 1970 of the files that were heard.
        heard: what the model says.
        silent: bool [songs].
        neighbours: the embeddings.
        derived: what was worked out of them.
    """

    inode: int
    revision: int
    paths: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    modified: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]
    silent: npt.NDArray[np.bool_]
    heard: queries.Heard
    neighbours: Neighbours
    derived: dict[str, bytes] = field(default_factory=dict)

    @functools.cached_property
    def row_of(self) -> dict[str, int]:
        """Path as Song has it -> row."""
        return {lossless(path): row for row, path in enumerate(self.paths)}

    @functools.cached_property
    def audible(self) -> Places:
        """Rows of the songs that are not silent."""
        return np.flatnonzero(~self.silent)

    def fitting(self, text: str) -> tuple[queries.Query, Places]:
        """A query, its tags called as the model calls them, and the rows of the songs that fit it, no silent ones."""
        query = queries.check_tags(queries.parse_query(text), self.heard.tags)
        return query, np.flatnonzero(queries.fits(query, self.heard) & ~self.silent)

    def song(self, row: int) -> Song:
        """What is known of a song."""
        probabilities, tags = self.heard.probabilities[row], self.heard.tags
        order = np.argsort(-probabilities, kind="stable")[: 0 if self.silent[row] else TOP_TAGS]
        return Song(
            path=lossless(self.paths[row]),
            seconds=float(self.seconds[row]),
            bytes=int(self.sizes[row]),
            silent=bool(self.silent[row]),
            tags=tuple((tags[at], float(probabilities[at])) for at in order),
            above=tuple(tags[at] for at in np.flatnonzero(self.heard.above[row])),
        )


class Library:
    """An index, open for questions.

    Args:
        index: the file.
        folder: where the songs lie; None for where the index says.

    Raises:
        BadInputError: there is no index, or it is of a later version of autotag.
        AutotagError: it cannot be read.
    """

    def __init__(self, index: Path, folder: Path | None = None) -> None:
        self.index = index
        self._folder = folder
        self._lock = threading.RLock()
        self._deriving = threading.Lock()
        self._file = IndexFile.open(index)
        self._inode = os.stat(index).st_ino
        self._state: _State | None = None
        self._looked = 0.0

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """Where the songs lie."""
        return self._folder or self._file.folder

    @property
    def card(self) -> IndexCard:
        """Whose answers are in the index."""
        return self._file.card

    def state(self) -> LibraryState:
        """Return how far the index is."""
        with self._lock:
            self._reopen()
            file = self._file
            with file.one_state():
                return LibraryState(
                    model=file.card.model,
                    files=file.count(),
                    silent=file.count("silent"),
                    failed=len(file.failed_stamps()),
                    revision=file.revision,
                    complete=file.complete,
                )

    def stale(self) -> Stale:
        """Look through the folder for files that are not in the index as they are now."""
        with self._lock:
            self._reopen()
            with self._file.one_state():
                known = {**self._file.failed_stamps(), **self._file.stamps()}
        folder = self.folder
        there = {os.path.relpath(path, folder): Path(path) for path in walk_audio(str(folder)).files}
        changed = sum(kept_stamp(path) != known[name] for name, path in there.items() if name in known)
        return Stale(
            new=sum(name not in known for name in there),
            changed=changed,
            vanished=sum(name not in there for name in known),
        )

    def song(self, path: str) -> Song | None:
        """Return a song by its path as Song has it; None where the index has none."""
        state = self._now()
        row = state.row_of.get(path)
        return None if row is None else state.song(row)

    def is_current(self, path: str) -> bool:
        """Whether the index has a file, by its path as Song has it, and has heard it as it is now."""
        state = self._now()
        row = state.row_of.get(path)
        heard = None if row is None else FileStamp(int(state.sizes[row]), int(state.modified[row]))
        return row is not None and kept_stamp(self.folder / state.paths[row]) == heard

    def similar(self, path: str, count: int = 10, tags: str = "") -> list[Match]:
        """Return the songs that sound most like one of the index, without itself.

        Args:
            path: as Song has it.
            count: at most so many.
            tags: a query that they fit; empty for all.

        Raises:
            BadInputError: the song is not in the index or silent, or the query is none.
        """
        state = self._now()
        row = state.row_of.get(path)
        if row is None:
            raise BadInputError(
                f"{escaped(path)} is not in the index {escaped(self.index)}: call `autotag index` again"
            )
        if state.silent[row]:
            raise BadInputError(f"{escaped(path)} is silent: nothing is like it")
        return self._alike(state, state.neighbours.vectors[row], count, tags, row)

    def similar_to(self, vector: Vectors, count: int = 10, tags: str = "", without: str | None = None) -> list[Match]:
        """Return the songs whose embeddings are most like one.

        Args:
            vector: float32 [embedding_size], as SongListener gives it.
            count: at most so many.
            tags: a query that they fit; empty for all.
            without: path of a song that is not to be among them; None for none.

        Raises:
            BadInputError: the query is none.
        """
        state = self._now()
        return self._alike(state, unit(vector), count, tags, state.row_of.get(without or ""))

    def _alike(self, state: _State, vector: Vectors, count: int, tags: str, without: int | None) -> list[Match]:
        among = None
        if tags.strip():
            _, among = state.fitting(tags)
        elif not state.neighbours.approximate:
            among = state.audible
        near = state.neighbours.nearest(vector, count + (without is not None), among)
        found = [
            Match(state.song(row), float(cosine))
            for row, cosine in zip(near.places.tolist(), near.cosines, strict=True)
            if row != without
        ]
        return found[:count]

    def search(self, query: str, count: int = 50, offset: int = 0) -> Found:
        """Return songs that fit a query of tags (serving.library.queries), the clearest first; no silent ones.

        Args:
            query: such as ``piano, not vocal``.
            count: at most so many.
            offset: of the first one.

        Raises:
            BadInputError: it is no query, or names a tag that the model does not know.
        """
        state = self._now()
        asked, fitting = state.fitting(query)
        scores = queries.scores(asked, state.heard)[fitting]
        order = np.argsort(-scores, kind="stable")[offset : offset + count]
        return Found(len(fitting), [Match(state.song(int(fitting[at])), float(scores[at])) for at in order])

    def duplicates(self) -> list[list[Song]]:
        """Return groups of songs that are the same recording, the largest group first.

        Raises:
            AutotagError: the index cannot be read.
        """
        state = self._now()
        content = self._derived(state, DUPLICATES, lambda: json.dumps(self._find_duplicates(state)).encode())
        return [[state.song(row) for row in group] for group in json.loads(content)]

    def _find_duplicates(self, state: _State) -> list[list[int]]:
        with self._lock, self._file.one_state():
            rows = self._file.select(["fingerprint"])
            if self._file.revision != state.revision:
                raise AutotagError("the index is being written to: ask for duplicates when that is done")
        prints = [np.frombuffer(row[0], "<u4") for row in rows]
        return find_duplicates(state.neighbours, prints, state.seconds)

    def song_map(self, method: Method = "pca") -> SongMap:
        """Return the songs as points.

        Raises:
            BadInputError: there are too few.
        """
        state = self._now()
        rows = state.audible
        content = self._derived(
            state, f"map-{method}", lambda: map_songs(state.neighbours.vectors[rows], method).to_bytes()
        )
        placed = Points.from_bytes(content)
        probabilities = state.heard.probabilities[rows]
        return SongMap(
            method=method,
            points=placed.points,
            paths=tuple(lossless(state.paths[row]) for row in rows),
            tags=state.heard.tags,
            probabilities=np.round(probabilities * 255).astype(np.uint8),
            top=probabilities.argmax(axis=1),
            note=placed.note,
        )

    def tag_map(self) -> TagMap:
        """Return the tags as points.

        Raises:
            BadInputError: there are too few songs or tags.
        """
        state = self._now()
        heard = state.heard.probabilities[state.audible]
        content = self._derived(state, "tag-map", lambda: map_tags(heard).astype("<f8").tobytes())
        return TagMap(state.heard.tags, np.frombuffer(content, "<f8").reshape(-1, 2))

    def playlist(self, paths: Sequence[str], base: Path | None = None) -> bytes:
        """Return songs as M3U8 (serving.library.playlists), in their order.

        Args:
            paths: as Song has them.
            base: folder that the playlist is to lie in, for relative paths; None for absolute ones.

        Raises:
            BadInputError: a song is not in the index, or its name cannot stand in a playlist.
        """
        state = self._now()
        entries = []
        for path in paths:
            row = state.row_of.get(path)
            if row is None:
                raise BadInputError(f"{escaped(path)} is not in the index {escaped(self.index)}")
            entries.append(Entry(Path(os.path.abspath(self.folder / state.paths[row])), float(state.seconds[row])))
        return m3u(entries, None if base is None else Path(os.path.abspath(base)))

    def _reopen(self) -> None:
        """Take the file that has taken the place of the one that was open."""
        try:
            inode = os.stat(self.index).st_ino
        except OSError as error:
            raise AutotagError(f"the index {escaped(self.index)} is gone: {error.strerror}") from error
        if inode != self._inode:
            file = IndexFile.open(self.index)
            self._file.close()
            self._file, self._inode, self._state = file, inode, None

    def _now(self) -> _State:
        with self._lock:
            self._reopen()
            state, now = self._state, time.monotonic()
            if state is not None and (now - self._looked < REFRESH_SECONDS or self._file.revision == state.revision):
                return state
            with self._file.one_state():
                self._state = _read_state(self._file, self._inode)
            self._looked = now
            return self._state

    def _derived(self, state: _State, name: str, make: Callable[[], bytes]) -> bytes:
        """Return what is kept of these songs, or make it, once for all who ask, and let the index keep it."""
        with self._deriving:
            if name not in state.derived:
                state.derived[name] = self._kept(state, name) or self._made(state, name, make)
            return state.derived[name]

    def _kept(self, state: _State, name: str) -> bytes | None:
        with self._lock, self._file.one_state():
            same = (self._inode, self._file.revision) == (state.inode, state.revision)
            return self._file.derived(name) if same else None

    def _made(self, state: _State, name: str, make: Callable[[], bytes]) -> bytes:
        content = make()
        try:
            with IndexFile.open(self.index, write=True) as file:
                if os.stat(self.index).st_ino == state.inode:
                    file.keep_derived(name, state.revision, content)
        except (AutotagError, OSError) as error:
            log.info("%s is not kept: %s", name, error)
        return content


def _read_state(file: IndexFile, inode: int) -> _State:
    rows = file.select(["path", "size", "modified", "seconds", "silent", "probabilities", "above"])
    columns = zip(*rows, strict=True) if rows else ((),) * 7
    paths, sizes, modified, seconds, silent, probabilities, above = columns
    card = file.card
    n_tags = len(card.tags)
    bits = np.frombuffer(b"".join(above), np.uint8).reshape(len(rows), -1 if rows else 0)
    heard = queries.Heard(
        tags=card.tags,
        thresholds=card.thresholds,
        heads=card.heads,
        probabilities=np.frombuffer(b"".join(probabilities), "<f4").reshape(-1, n_tags),
        above=np.unpackbits(bits, axis=1, count=n_tags).astype(bool) if rows else np.zeros((0, n_tags), bool),
    )
    return _State(
        inode=inode,
        revision=file.revision,
        paths=tuple(os.fsdecode(path) for path in paths),
        sizes=np.array(sizes, np.int64),
        modified=np.array(modified, np.int64),
        seconds=np.array(seconds, np.float64),
        silent=np.array(silent, bool),
        heard=heard,
        neighbours=Neighbours(embeddings_of(file), file.derived(GRAPH)),
    )
