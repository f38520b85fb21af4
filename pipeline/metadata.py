"""How ML Metadata is reached: a SQLite file under the run's root, or a MySQL, MariaDB or PostgreSQL server.

What ML Metadata 1.16 has built in (docs/runbook.md says how it was tried):

- the client of MariaDB, with ``mysql_native_password`` alone: no ``caching_sha2_password`` (MySQL 8's default), no
  ``ed25519``, and none of it can be added. No TLS was built in either way that a password could rely on.
- PostgreSQL's libpq, with ``scram-sha-256``, ``md5`` and ``trust``.

It makes its tables itself, and the database where the user may do so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pipeline.config import MetadataConfig, PipelineConfig
from preprocessing.errors import AutotagError, BadInputError

PORTS: Final = {"mysql": 3306, "postgresql": 5432}
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
    try:
        return metadata_store.MetadataStore(connection(config))
    except RuntimeError as error:
        if settings.kind == "sqlite":
            raise AutotagError(f"{config.metadata_file}: {error}") from None
        raise AutotagError(f"{describe(settings)}: {str(error).strip()}. {HINTS[settings.kind]}") from None


@contextlib.contextmanager
def errors_in_words(config: PipelineConfig) -> Iterator[None]:
    """Turn what ML Metadata raises while the block runs (its server went away, its disk is full) into one message.

    Raises:
        AutotagError: with ML Metadata's own words.
    """
    from ml_metadata import errors

    try:
        yield
    except errors.StatusError as error:
        where = config.metadata_file if config.metadata.kind == "sqlite" else describe(config.metadata)
        raise AutotagError(f"{where}: ML Metadata cannot be read or written: {' '.join(str(error).split())}") from error


def check_server(config: PipelineConfig) -> None:
    """Look whether a server of ML Metadata answers, before any work.

    Raises:
        BadInputError: there is no password.
        AutotagError: the server cannot be reached, or refuses.
    """
    if config.metadata.kind != "sqlite":
        open_store(config)
