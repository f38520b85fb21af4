"""How ML Metadata is reached: a SQLite file under the run's root, or a MySQL, MariaDB or PostgreSQL server.

What ML Metadata 1.16 has built in (docs/how-to/runbook.md says how it was tried):

- the client of MariaDB, with ``mysql_native_password`` alone: no ``caching_sha2_password`` (MySQL 8's default), no
  ``ed25519``, and none of it can be added. No TLS was built in either way that a password could rely on.
- PostgreSQL's libpq, with ``scram-sha-256``, ``md5`` and ``trust``.

It makes its tables itself, and the database where the user may do so.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pipeline.settings.config import MetadataConfig, PipelineConfig
from preprocessing.errors import AutotagError, BadInputError

PORTS: Final = {"mysql": 3306, "postgresql": 5432}
LOCK_SECONDS: Final = 5.0
"""So long a lock on the SQLite file is waited for: a transaction of another run takes less."""
RETRIES: Final = 5
"""Times that ML Metadata tries a transaction again that another run's got in the way of."""


def connection(config: PipelineConfig) -> Any:
    """Return ML Metadata's ConnectionConfig, with the password in it: not to be logged or saved.

    Raises:
        BadInputError: the password is not where the settings say.
    """
    from ml_metadata.proto import metadata_store_pb2

    settings = config.metadata
    message = metadata_store_pb2.ConnectionConfig()
    if settings.kind == "sqlite":
        message.sqlite.filename_uri = config.metadata_file
        message.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        return message
    message.retry_options.max_num_retries = RETRIES
    port = settings.port or PORTS[settings.kind]
    password = read_password(settings)
    if settings.kind == "mysql":
        mysql = message.mysql
        mysql.database, mysql.port = settings.database, port
        mysql.host, mysql.user, mysql.password = settings.host, settings.user, password
    else:
        postgresql = message.postgresql
        postgresql.dbname, postgresql.port = settings.database, str(port)
        postgresql.host, postgresql.user = _quoted(settings.host), _quoted(settings.user)
        postgresql.password = _quoted(password)
    return message


def _quoted(value: str | None) -> str:
    """Quote a value of libpq's connection string, which ML Metadata puts together as it is given."""
    escaped = (value or "").replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def read_password(settings: MetadataConfig) -> str:
    """Return the password of the metadata's server.

    Raises:
        BadInputError: file or variable is not there.
    """
    if settings.password_file:
        try:
            return Path(settings.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"metadata.password_file {settings.password_file}: {error}") from None
    if settings.password_env is None:
        return ""
    if settings.password_env not in os.environ:
        raise BadInputError(
            f"the password of {describe(settings)} is not set: put it into the variable {settings.password_env}, "
            "or name a file in metadata.password_file (metadata.password_env=null where the server asks for none)"
        )
    return os.environ[settings.password_env]


def describe(settings: MetadataConfig) -> str:
    """Name the server, without the password."""
    port = settings.port or PORTS.get(settings.kind)
    return f"{settings.kind}://{settings.user}@{settings.host}:{port}/{settings.database}"


HINTS: Final = {
    "mysql": "Is the server there, has the user the password and the rights on the database, and is it identified by "
    "mysql_native_password? ML Metadata's client knows no other way",
    "postgresql": "Is the server there, has the user the password, and may it connect to the database (and to "
    "`postgres`, or make the database, if it is not there yet)?",
}
"""What to look at: ML Metadata passes on little of what the server said."""


def open_store(config: PipelineConfig) -> Any:
    """Open ML Metadata.

    Raises:
        BadInputError: there is no run yet (SQLite), or no password.
        AutotagError: the server cannot be reached, or refuses.
    """
    from ml_metadata.metadata_store import metadata_store

    settings = config.metadata
    if settings.kind == "sqlite" and not os.path.exists(config.metadata_file):
        raise BadInputError(f"{config.metadata_file}: no run yet; `autotag run` makes one")
    if settings.kind == "sqlite":
        check_file(config.metadata_file)
    try:
        return metadata_store.MetadataStore(connection(config))
    except RuntimeError as error:
        if settings.kind == "sqlite":
            said = locked_message(config.metadata_file) if LOCKED in str(error) else f"{config.metadata_file}: {error}"
            raise AutotagError(said) from None
        raise AutotagError(f"{describe(settings)}: {str(error).strip()}. {HINTS[settings.kind]}") from None


def check_file(path: str, *, for_writing: bool = False) -> None:
    """Look whether a SQLite file of ML Metadata can be used now: ML Metadata itself waits for half a minute and more.

    Args:
        path: of the file; one that is not there is no error.
        for_writing: whether it is to be written to.

    Raises:
        AutotagError: another program has it locked, or it is no such file.
    """
    if not os.path.exists(path):
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE" if for_writing else "BEGIN")
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            database.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise AutotagError(locked_message(path)) from None
        raise AutotagError(f"{path}: SQLite cannot use it: {error}") from None
    except sqlite3.DatabaseError as error:
        raise AutotagError(
            f"{path} is damaged or no database of ML Metadata ({error}): put back a copy, or move it away and run anew"
        ) from None


def locked_message(path: str) -> str:
    """Say that a SQLite file is locked, and what to do."""
    return (
        f"{path} is locked by another program (`fuser {shlex.quote(path)}` names it): end that, or wait for it, "
        "and call again"
    )


LOCKED: Final = "Concurrent writes aborted"
"""What ML Metadata says of a SQLite file that stays locked."""


def custom_properties(message: Any) -> dict[str, Any]:
    """Return the custom properties of an artifact, an execution or a context of ML Metadata: name -> value."""
    return {name: getattr(value, value.WhichOneof("value")) for name, value in message.custom_properties.items()}


@contextlib.contextmanager
def readable_errors(config: PipelineConfig) -> Iterator[None]:
    """Turn what ML Metadata raises while the block runs (its server went away, its disk is full) into one message.

    Raises:
        AutotagError: with ML Metadata's own words.
    """
    from ml_metadata import errors

    try:
        yield
    except errors.StatusError as error:
        if config.metadata.kind == "sqlite" and LOCKED in str(error):
            raise AutotagError(locked_message(config.metadata_file)) from error
        where = config.metadata_file if config.metadata.kind == "sqlite" else describe(config.metadata)
        raise AutotagError(f"{where}: ML Metadata cannot be read or written: {' '.join(str(error).split())}") from error


def check_server(config: PipelineConfig) -> None:
    """Look whether a server of ML Metadata answers, or its file can be written to, before any work.

    Raises:
        BadInputError: there is no password.
        AutotagError: the server cannot be reached, or refuses; the file is locked or damaged.
    """
    if config.metadata.kind != "sqlite":
        open_store(config)
    else:
        check_file(config.metadata_file, for_writing=True)
