"""The index of a folder: one SQLite file with what a model heard in each of its files.

================  ==================================================================================================
table             rows
================  ==================================================================================================
``about``         key, value: the model (name, digest, tags, thresholds, heads, size of an embedding), the folder,
                  ``revision`` (one more with each change of songs), ``complete`` (1: the last run came to its end)
``songs``         one a file: path below the folder (bytes, as the file system has it), size, time of change in ns,
                  BLAKE2b digest of the content, seconds, silent, shortfall, float32 embedding (mean over the windows
                  that are not silent), float32 probabilities, the decisions as bits, fingerprint (uint32 steps)
``failures``      one a file that could not be used: path, size, time of change, kind and reason
``derived``       name, revision of the songs that it was made of, content: what takes long to work out anew
================  ==================================================================================================

Changes are made in short transactions with a rollback journal: the file is one file, whole after a kill, and others
may read it while it is written to.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.heads import Heads
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.names import escaped
from serving.library.fingerprints import Fingerprint
from serving.tagging.resuming import FileStamp, file_stamp

APPLICATION_ID: Final = 0x41544758
"""'ATGX', in the file's header: what tells an index from other SQLite files."""
FORMAT: Final = 1
"""Of the tables; in ``user_version``."""
PATIENCE_SECONDS: Final = 30.0
"""How long is waited for another process's transaction."""
NOWHERE: Final = FileStamp(-1, -1)
"""Of a file that is not there any more, or never was, as behind a link that leads nowhere."""

Floats = npt.NDArray[np.float32]
Booleans = npt.NDArray[np.bool_]

_TABLES: Final = """
CREATE TABLE about (key TEXT PRIMARY KEY, value);
CREATE TABLE songs (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, modified INTEGER NOT NULL, digest BLOB NOT NULL,
    seconds REAL NOT NULL, silent INTEGER NOT NULL, shortfall TEXT NOT NULL, embedding BLOB NOT NULL,
    probabilities BLOB NOT NULL, above BLOB NOT NULL, fingerprint BLOB NOT NULL
);
CREATE INDEX songs_by_digest ON songs (digest);
CREATE TABLE failures (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, modified INTEGER NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL
);
CREATE TABLE derived (name TEXT PRIMARY KEY, revision INTEGER NOT NULL, content BLOB NOT NULL);
"""
_INSERT: Final = "INSERT OR REPLACE INTO songs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class IndexCard:
    """Whose answers are in an index.

    Attributes:
        model: what people call it: a listed name, or the folder of a version.
        digest: 16 hexadecimal digits, of serving.tagging.sources.model_digest.
        tags: in the order of the probabilities.
        thresholds: float32 [n_tags].
        heads: by which decisions are made.
        embedding_size: numbers in an embedding.
    """

    model: str
    digest: str
    tags: tuple[str, ...]
    thresholds: Floats
    heads: Heads
    embedding_size: int

    def to_json(self) -> str:
        """As it stands in the table ``about``."""
        return json.dumps(
            {
                "model": self.model,
                "digest": self.digest,
                "tags": list(self.tags),
                "thresholds": [float(value) for value in self.thresholds],
                "heads": self.heads.to_json(),
                "embedding_size": self.embedding_size,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> IndexCard:
        """Read what ``to_json`` gave."""
        values = json.loads(text)
        return cls(
            **{
                **values,
                "tags": tuple(values["tags"]),
                "thresholds": np.asarray(values["thresholds"], np.float32),
                "heads": Heads.from_json(values["heads"]),
            }
        )

    def check_same(self, digest: str, model: str, index: Path) -> None:
        """Refuse another model.

        Raises:
            BadInputError: it is another one.
        """
        if digest != self.digest:
            raise BadInputError(
                f"the index {escaped(index)} was made with {escaped(self.model)} ({self.digest}), and "
                f"{escaped(model)} ({digest}) is another model: their embeddings cannot be compared. Give "
                f"--model {escaped(self.model)}, or index anew with `autotag index --anew`"
            )


def kept_stamp(path: Path) -> FileStamp:
    """Return by which the index knows that a file has not changed."""
    return file_stamp(path) or NOWHERE


@dataclass(frozen=True)
class SongRow:
    """What was heard in one file.

    Attributes:
        path: below the folder.
        stamp: of the file before it was read.
        digest: of its content.
        seconds: decoded.
        silent: there is nothing to hear.
        shortfall: as TaggedFile has it.
        embedding: float32 [embedding_size].
        probabilities: float32 [n_tags].
        above: bool [n_tags].
        fingerprint: uint32 [steps].
    """

    path: str
    stamp: FileStamp
    digest: bytes
    seconds: float
    silent: bool
    shortfall: str
    embedding: Floats
    probabilities: Floats
    above: Booleans
    fingerprint: Fingerprint

    def to_sql(self) -> tuple[Any, ...]:
        """Values in the order of the columns."""
        return (
            os.fsencode(self.path),
            self.stamp.size,
            self.stamp.modified,
            self.digest,
            self.seconds,
            self.silent,
            self.shortfall,
            self.embedding.astype("<f4").tobytes(),
            self.probabilities.astype("<f4").tobytes(),
            np.packbits(self.above).tobytes(),
            self.fingerprint.astype("<u4").tobytes(),
        )


@dataclass(frozen=True)
class FailureRow:
    """Why a file could not be used."""

    path: str
    stamp: FileStamp
    kind: str
    reason: str


@contextlib.contextmanager
def readable_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into one line.

    Raises:
        BadInputError: the file is no index.
        AutotagError: it cannot be read or written.
    """
    try:
        yield
    except sqlite3.Error as error:
        text, name = str(error), f"the index {escaped(path)}"
        if "not a database" in text:
            raise BadInputError(f"{escaped(path)} is no index of autotag's: name another with --index") from error
        if "malformed" in text:
            raise AutotagError(f"{name} is damaged ({text}): delete it and index anew") from error
        if "disk is full" in text:
            raise AutotagError(
                f"{name}: No space left on device; what is in it is whole. Make room and call again"
            ) from error
        if "locked" in text:
            raise AutotagError(f"{name} is held by another program for more than {PATIENCE_SECONDS:g} s") from error
        raise AutotagError(f"{name}: {text}") from error


def begun(path: Path) -> bool:
    """Whether there is a file in which an index may be: who waits to write to one leaves it empty."""
    return path.exists() and path.stat().st_size > 0


class IndexFile:
    """An open index; for one thread at a time.

    Args:
        path: of the file.
        connection: to it.

    Attributes:
        card: whose answers are in it.
        folder: absolute, whose files are in it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        with readable_errors(path):
            about = dict(connection.execute("SELECT key, value FROM about").fetchall())
            if not {"card", "folder", "revision", "complete"} <= set(about):
                raise BadInputError(f"the index {escaped(path)} was never begun: delete it")
        try:
            self.card = IndexCard.from_json(about["card"])
            self.folder = Path(os.path.abspath(path.absolute().parent / os.fsdecode(about["folder"])))
        except (ValueError, TypeError, KeyError) as error:
            raise AutotagError(f"the index {escaped(path)} is damaged ({error}): delete it and index anew") from error

    @classmethod
    def open(cls, path: Path, write: bool = False) -> IndexFile:
        """Open an index that is there.

        Raises:
            BadInputError: there is none, or it is of a later version of autotag.
            AutotagError: it cannot be read.
        """
        if not path.is_file():
            raise BadInputError(f"no index at {escaped(path)}: make one with `autotag index FOLDER`")
        with readable_errors(path):
            return cls(path, _connect(path, write))

    @classmethod
    def create(cls, path: Path, card: IndexCard, folder: Path) -> IndexFile:
        """Begin an index in a file that is not there, or empty.

        Raises:
            AutotagError: it cannot be written.
        """
        with readable_errors(path):
            connection = _connect(path, write=True, new=True)
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")
                about = {
                    "card": card.to_json(),
                    "folder": _folder_seen_from(path, folder),
                    "revision": 0,
                    "complete": 0,
                }
                connection.executemany("INSERT INTO about VALUES (?, ?)", list(about.items()))
            return cls(path, connection)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def __enter__(self) -> IndexFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def revision(self) -> int:
        """One more with each change of the songs."""
        return int(self._about("revision"))

    @property
    def complete(self) -> bool:
        """Whether the last run came to its end."""
        return bool(self._about("complete"))

    def _about(self, key: str) -> Any:
        with readable_errors(self.path):
            row = self._connection.execute("SELECT value FROM about WHERE key = ?", (key,)).fetchone()
            if row is None:
                raise sqlite3.DatabaseError(f"malformed: there is no {key}")
            return row[0]

    @contextlib.contextmanager
    def one_state(self) -> Iterator[None]:
        """What is read while the block runs is of one revision, whatever others write meanwhile."""
        with readable_errors(self.path):
            self._connection.execute("BEGIN")
            try:
                self._connection.execute("SELECT count(*) FROM about").fetchone()
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def stamps(self) -> dict[str, FileStamp]:
        """Return path -> stamp of all songs."""
        return self._stamps("songs")

    def failed_stamps(self) -> dict[str, FileStamp]:
        """Return path -> stamp of all files that failed."""
        return self._stamps("failures")

    def _stamps(self, table: str) -> dict[str, FileStamp]:
        with readable_errors(self.path):
            rows = self._connection.execute(f"SELECT path, size, modified FROM {table}")
            return {os.fsdecode(path): FileStamp(size, modified) for path, size, modified in rows}

    def failures(self) -> list[FailureRow]:
        """Return the files that could not be used, in the order of their paths."""
        with readable_errors(self.path):
            rows = self._connection.execute("SELECT path, size, modified, kind, reason FROM failures ORDER BY path")
            return [
                FailureRow(os.fsdecode(path), FileStamp(size, modified), kind, reason)
                for path, size, modified, kind, reason in rows
            ]

    def select(self, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return columns of all songs, in the order of the paths' bytes."""
        with readable_errors(self.path):
            return self._connection.execute(f"SELECT {', '.join(columns)} FROM songs ORDER BY path").fetchall()

    def count(self, where: str = "1") -> int:
        """Return how many songs there are."""
        with readable_errors(self.path):
            return int(self._connection.execute(f"SELECT count(*) FROM songs WHERE {where}").fetchone()[0])

    def same_content(self, digest: bytes, size: int) -> SongRow | None:
        """Return a song of this content; None where there is none."""
        with readable_errors(self.path):
            row = self._connection.execute(
                "SELECT * FROM songs WHERE digest = ? AND size = ?", (digest, size)
            ).fetchone()
        return self._row(row) if row is not None else None

    def _row(self, values: Sequence[Any]) -> SongRow:
        path, size, modified, digest, seconds, silent, shortfall, embedding, probabilities, above, fingerprint = values
        return SongRow(
            path=os.fsdecode(path),
            stamp=FileStamp(size, modified),
            digest=digest,
            seconds=seconds,
            silent=bool(silent),
            shortfall=shortfall,
            embedding=np.frombuffer(embedding, "<f4"),
            probabilities=np.frombuffer(probabilities, "<f4"),
            above=np.unpackbits(np.frombuffer(above, np.uint8), count=len(self.card.tags)).astype(bool),
            fingerprint=np.frombuffer(fingerprint, "<u4"),
        )

    def write(
        self, songs: Iterable[SongRow] = (), failures: Iterable[FailureRow] = (), vanished: Iterable[str] = ()
    ) -> None:
        """Put rows in place of those of the same paths, and take vanished ones away, in one transaction.

        Raises:
            AutotagError: that cannot be written; nothing of it is then in the file.
        """
        gone = [(os.fsencode(path),) for path in vanished]
        new = [song.to_sql() for song in songs]
        bad = [(os.fsencode(row.path), row.stamp.size, row.stamp.modified, row.kind, row.reason) for row in failures]
        with self._transaction() as connection:
            paths = [(row[0],) for row in (*new, *bad)]
            connection.executemany("DELETE FROM failures WHERE path = ?", [*paths, *gone])
            connection.executemany("DELETE FROM songs WHERE path = ?", [*paths, *gone])
            connection.executemany(_INSERT, new)
            connection.executemany("INSERT INTO failures VALUES (?, ?, ?, ?, ?)", bad)
            connection.execute("UPDATE about SET value = value + 1 WHERE key = 'revision'")

    def set_complete(self, complete: bool) -> None:
        """Say whether a run is over."""
        with self._transaction() as connection:
            connection.execute("UPDATE about SET value = ? WHERE key = 'complete'", (int(complete),))

    def derived(self, name: str) -> bytes | None:
        """Return what was worked out of the songs as they are now; None where it was not."""
        with readable_errors(self.path):
            row = self._connection.execute(
                "SELECT content FROM derived WHERE name = ? "
                "AND revision = (SELECT value FROM about WHERE key = 'revision')",
                (name,),
            ).fetchone()
        return row[0] if row is not None else None

    def keep_derived(self, name: str, revision: int, content: bytes) -> None:
        """Keep what was worked out of the songs of a revision.

        Raises:
            AutotagError: it cannot be written, as on a read-only disk.
        """
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO derived VALUES (?, ?, ?)", (name, revision, content))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with readable_errors(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection


def _connect(path: Path, write: bool, new: bool = False) -> sqlite3.Connection:
    # who reads may have to end what a killed writer had begun; SQLite opens what is read-only as such
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if new else 'rw'}"
    connection = sqlite3.connect(uri, PATIENCE_SECONDS, isolation_level=None, check_same_thread=False, uri=True)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA query_only = {'OFF' if write else 'ON'}")
        application, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if new:
            return connection
        if application != APPLICATION_ID:
            raise BadInputError(f"{escaped(path)} is no index of autotag's: name another file with --index")
        if version != FORMAT:
            raise BadInputError(
                f"the index {escaped(path)} has format {version} and this version of autotag reads {FORMAT}: index "
                "anew with `autotag index --anew`"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _folder_seen_from(index: Path, folder: Path) -> bytes:
    """The folder as it stands in the index: relative where the index lies in it, so that both may be moved together."""
    where, folder = Path(os.path.abspath(index)).parent, Path(os.path.abspath(folder))
    return os.fsencode(os.path.relpath(folder, where) if where.is_relative_to(folder) else folder)
