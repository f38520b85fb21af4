"""MariaDB and PostgreSQL servers for tests: from Debian's packages, on a free port, under a user without rights."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

from pipeline.settings.config import MetadataConfig

PASSWORD = 'not to \\be: "seen"'
"""With what has to be escaped somewhere."""
DATABASE = "autotag"
START_SECONDS = 60


@contextlib.contextmanager
def server(kind: str) -> Iterator[MetadataConfig]:
    """Run a server while the block runs; skip the test where it is not installed."""
    with _folder() as folder:
        port = free_port()
        start = {"mysql": _start_mariadb, "postgresql": _start_postgresql}[kind]
        process = start(folder, port)
        try:
            user = "autotag"
            yield MetadataConfig(kind=kind, host="127.0.0.1", port=port, database=DATABASE, user=user)
        finally:
            process.terminate()
            process.wait(30)


def _binary(name: str, package: str) -> str:
    places = ["/usr/sbin", "/usr/bin", *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    found = shutil.which(name, path=os.pathsep.join([*places, os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{name} is not installed (Debian's package {package})")
    return found


def _start_mariadb(folder: Path, port: int) -> subprocess.Popen[bytes]:
    install, mariadbd = _binary("mariadb-install-db", "mariadb-server"), _binary("mariadbd", "mariadb-server")
    client = _binary("mariadb", "mariadb-client")
    data, sock = f"--datadir={folder}/data", f"--socket={folder}/sock"
    options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
    _run([install, "--no-defaults", data, *options], folder)
    small = ["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--performance-schema=off"]
    network = [f"--port={port}", "--bind-address=127.0.0.1", f"--pid-file={folder}/pid"]
    process = _start([mariadbd, "--no-defaults", data, sock, *network, *small], folder)
    _wait_for(lambda: Path(folder, "sock").exists(), process, folder)
    escaped = PASSWORD.replace("\\", "\\\\")
    sql = (
        f"CREATE DATABASE {DATABASE}; CREATE USER autotag@'%' IDENTIFIED BY '{escaped}';"
        f"GRANT ALL ON {DATABASE}.* TO autotag@'%';"
    )
    _run([client, "--no-defaults", "-uroot", sock, "-e", sql], folder)
    return process


def _start_postgresql(folder: Path, port: int) -> subprocess.Popen[bytes]:
    initdb, postgres = _binary("initdb", "postgresql"), _binary("postgres", "postgresql")
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    options = ["-A", "scram-sha-256", "-U", "autotag", f"--pwfile={folder}/password", "--no-sync"]
    _run([initdb, "-D", f"{folder}/data", *options], folder)
    process = _start([postgres, "-D", f"{folder}/data", "-p", str(port), "-k", str(folder), "-h", "127.0.0.1"], folder)
    _wait_for(lambda: _answers(port), process, folder)
    return process


def _answers(port: int) -> bool:
    """Whether PostgreSQL takes connections: it opens its port first, and refuses while it starts up."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
        words = b"user\0autotag\0database\0postgres\0\0"
        connection.sendall((len(words) + 8).to_bytes(4, "big") + (196608).to_bytes(4, "big") + words)
        return connection.recv(1) == b"R"  # it asks for the password
    return False


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A short path (sockets have at most 107 characters) that belongs to the servers' user."""
    path = tempfile.mkdtemp(prefix="db-", dir="/tmp")
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _without_rights(command: list[str]) -> list[str]:
    """As another user where these tests run as root, whom the servers refuse.

    By a program of its own: with subprocess's ``user`` this process forks, in which gRPC of other tests has handlers.
    """
    if os.getuid() != 0:
        return command
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--", *command]


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(_without_rights(command), cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def _start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with open(folder / "log", "wb") as log:
        return subprocess.Popen(_without_rights(command), cwd=folder, stdout=log, stderr=log)


def _wait_for(there: Any, process: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not there():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail((folder / "log").read_text())
        time.sleep(0.1)
