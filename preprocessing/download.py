"""Download of large files over HTTP that may be cut, killed or run out of disk at any byte, and goes on from there.

A file grows as ``NAME.part`` beside ``NAME.part.json``, which keeps what the server said of it (validator and length),
and gets its name when it is whole. Going on asks for the missing range on condition that the file is still the same
(RFC 9110: ``Range`` with ``If-Range``, section 13.1.5; a weak ETag is no validator for it). A server that answers with
the whole file, because it knows no ranges or because the file changed, makes the download start over.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

import httpx
from rich.filesize import decimal

from preprocessing.digits import is_number
from preprocessing.errors import AutotagError
from preprocessing.locks import hold
from preprocessing.remotes import RemoteFile as RemoteFile
from preprocessing.whole_files import write_whole

OnBytes = Callable[[int, "int | None"], None]
"""Called with the bytes that are there and the bytes of the whole file (None: the server does not say)."""

PART: Final = ".part"
GIT: Final = "git"
LOCK_NAME: Final = ".download.lock"
_PASSING_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)")
_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True)
class Patience:
    """How often and how long to wait for a server that fails.

    Attributes:
        attempts: failed attempts in a row, without one new byte, after which to give up.
        first_wait: seconds before the second attempt; each further wait is twice as long.
        longest_wait: seconds.
    """

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 30.0

    def wait(self, failures: int, asked: float = 0.0) -> float:
        """Return the seconds to wait after so many failures in a row, no less than the server asked for."""
        return min(self.longest_wait, max(asked, self.first_wait * 2.0 ** (failures - 1)))


class _TryAgainError(Exception):
    """A failure that may pass: a cut connection, a busy server, a file that changed."""

    def __init__(self, reason: str, asked_wait: float = 0.0) -> None:
        super().__init__(reason)
        self.asked_wait = asked_wait


@dataclass(frozen=True)
class _PartState:
    """What the server said of a file whose beginning lies in ``NAME.part``."""

    url: str
    validator: str
    total: int | None

    @classmethod
    def load(cls, path: Path, url: str) -> _PartState | None:
        """Read the state; None where there is none that allows to go on."""
        try:
            state = cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return state if state.url == url and state.validator else None


def open_client() -> httpx.Client:
    """Return a client that follows redirects and gives up on a silent connection after 30 s."""
    # Compressed transfer would make lengths and ranges those of the compressed bytes.
    headers = {"User-Agent": "autotag (dataset download)", "Accept-Encoding": "identity"}
    return httpx.Client(follow_redirects=True, timeout=30.0, headers=headers)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for one download; a killed holder leaves it free.

    Raises:
        AutotagError: another process holds it.
    """
    refusal = AutotagError(f"another download into {folder} is running: wait for it or stop it")
    with hold(folder / LOCK_NAME, refusal):
        yield


@contextlib.contextmanager
def clear_disk_errors(folder: Path) -> Iterator[None]:
    """Say errors of the file system in one line: what happened, where, what to do.

    Raises:
        AutotagError: instead of the block's OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            advice = "free space and call again; what is there is kept and the next call goes on from there"
            raise AutotagError(f"the disk of {folder} is full ({error.strerror}): {advice}") from error
        raise AutotagError(f"{error.filename or folder}: {error.strerror or error}") from error


def remote_size(client: httpx.Client, remote: RemoteFile) -> int | None:
    """Ask the server for a file's length; None where it does not say or cannot be reached.

    Raises:
        AutotagError: there is no such file.
    """
    try:
        response = client.head(remote.url)
    except (httpx.HTTPError, httpx.InvalidURL):
        return remote.size
    if response.status_code in (404, 410):
        raise _moved(remote, response)
    length = response.headers.get("Content-Length")
    return int(length) if response.status_code == 200 and length else remote.size


def bytes_on_disk(folder: Path, name: str) -> int:
    """Return how many bytes of a file are there, whole or in part."""
    for path in (folder / name, folder / (name + PART)):
        if path.is_file():
            return path.stat().st_size
    return 0


def fetch(
    client: httpx.Client,
    remote: RemoteFile,
    folder: Path,
    patience: Patience | None = None,
    on_bytes: OnBytes | None = None,
    on_retry: Callable[[str], None] | None = None,
) -> Path:
    """Download a file into a folder, or what is missing of it, and return its path.

    Args:
        client: from ``open_client``.
        remote: the file.
        folder: an existing folder.
        patience: how long to bear with a failing server.
        on_bytes: called as bytes arrive.
        on_retry: called with the reason before each further attempt.

    Raises:
        AutotagError: the file is not there, the server keeps failing, or the file is not what its publisher states.
        OSError: it cannot be written; what was written is kept.
    """
    target, part = folder / remote.name, folder / (remote.name + PART)
    if target.is_file():
        return target
    patience, failures, furthest = patience or Patience(), 0, bytes_on_disk(folder, remote.name)
    while True:
        try:
            _attempt(client, remote, part, on_bytes or (lambda done, total: None))
            break
        except _TryAgainError as error:
            reached = bytes_on_disk(folder, remote.name)
            failures = 1 if reached > furthest else failures + 1
            furthest = max(furthest, reached)
            if failures >= patience.attempts:
                raise AutotagError(
                    f"{remote.url}: {error}; gave up after {failures} attempts without progress. "
                    f"{decimal(reached)} are kept: call again to go on from there"
                ) from error
            wait = patience.wait(failures, error.asked_wait)
            if on_retry:
                on_retry(f"{remote.name}: {error}; next attempt in {wait:.0f} s")
            time.sleep(wait)
    _check(remote, part)
    os.replace(part, target)
    _state_path(part).unlink(missing_ok=True)
    return target


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def _attempt(client: httpx.Client, remote: RemoteFile, part: Path, on_bytes: OnBytes) -> None:
    """Ask once for what is missing and write it. Returns when the file is whole."""
    state = _PartState.load(_state_path(part), remote.url)
    have = part.stat().st_size if state and part.is_file() else 0
    if state and have and have == state.total:  # killed between the last byte and the final name
        return
    headers = {"Range": f"bytes={have}-", "If-Range": state.validator} if state and have else {}
    try:
        with client.stream("GET", remote.url, headers=headers) as response:
            _check_answer(response, remote, part)
            if response.status_code == 206:
                _check_range(response, part, state, have)
                total = state.total if state else None
            else:
                have, total = 0, _start_over(response, remote, part)
            _receive(response, part, have, total, on_bytes)
    except httpx.UnsupportedProtocol as error:
        raise AutotagError(f"{remote.url}: not an address that can be downloaded ({error})") from error
    except httpx.TransportError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise AutotagError(f"{remote.url}: the server's certificate is not trusted ({error})") from error
        raise _TryAgainError(f"{type(error).__name__}: {error}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise AutotagError(f"{remote.url}: {error}") from error


def _check_answer(response: httpx.Response, remote: RemoteFile, part: Path) -> None:
    status = response.status_code
    if status == 416:  # what lies here cannot be the beginning of what lies there
        _discard(part)
        raise _TryAgainError("the server refused to go on from here; starting over")
    if status in _PASSING_STATUS:
        asked = response.headers.get("Retry-After", "")
        raise _TryAgainError(f"the server answered {status}", float(asked) if is_number(asked) else 0.0)
    where = f"{remote.url}: the server answered"
    if status not in (200, 206):
        raise _moved(remote, response)
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise AutotagError(f"{where} with a web page instead of the file: open the address in a browser to see why")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise AutotagError(f"{where} with compressed content although asked not to, so its length cannot be checked")


def _moved(remote: RemoteFile, response: httpx.Response) -> AutotagError:
    status = f"{response.status_code} {response.reason_phrase}"
    return AutotagError(f"{remote.url}: the server answered {status}: the address is wrong or the file has moved")


def _check_range(response: httpx.Response, part: Path, state: _PartState | None, have: int) -> None:
    """Make sure that the answer goes on where the part ends, in the same file."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    same_file = state is not None and _validator(response) in ("", state.validator)
    if match is None or not same_file or [int(group) for group in match.groups()] != [have, state and state.total]:
        _discard(part)
        raise _TryAgainError("the file on the server is no longer the one that was begun; starting over")


def _validator(response: httpx.Response) -> str:
    etag: str = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def _start_over(response: httpx.Response, remote: RemoteFile, part: Path) -> int | None:
    """Empty the part, note what the server says of the file, and return the length of the whole."""
    length = response.headers.get("Content-Length")
    if length is None and response.headers.get("Transfer-Encoding", "") != "chunked":
        raise AutotagError(f"{remote.url}: the server does not state the length, so a cut file could not be told")
    total = int(length) if length is not None else None
    if total is not None and remote.size is not None and total != remote.size:
        raise AutotagError(f"{remote.url}: the server's file has {total} bytes, published are {remote.size}")
    _discard(part)
    part.touch()
    write_whole(_state_path(part), json.dumps(asdict(_PartState(remote.url, _validator(response), total))))
    return total


def _receive(response: httpx.Response, part: Path, have: int, total: int | None, on_bytes: OnBytes) -> None:
    with open(part, "r+b", buffering=0) as file:
        file.seek(have)
        on_bytes(have, total)
        for chunk in response.iter_raw():
            _write(file, chunk)
            have += len(chunk)
            on_bytes(have, total)
        os.fsync(file.fileno())
    if total is not None and have != total:
        raise _TryAgainError(f"the connection ended after {have} of {total} bytes")


def _write(file: IO[bytes], chunk: bytes) -> None:
    """Write all of a chunk unbuffered, so that the file's length always says how much is right."""
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]


def _check(remote: RemoteFile, part: Path) -> None:
    """Compare a whole file with what its publisher states."""
    size = part.stat().st_size
    if remote.size is not None and size != remote.size:
        _discard(part)
        raise AutotagError(f"{remote.url}: {size} bytes came, published are {remote.size}; call again to start over")
    if remote.digest is None:
        return
    algorithm, expected = remote.digest.split(":")
    found = file_digest(part, algorithm)
    if found != expected:
        _discard(part)
        raise AutotagError(
            f"{remote.url}: its {algorithm} is {found}, published is {expected}; call again to start over"
        )


def file_digest(path: Path, algorithm: str) -> str:
    """Return a file's checksum in hexadecimal, by an algorithm that hashlib knows, or as Git names a file's content.

    Git's blob id is the SHA-1 of ``blob SIZE``, a zero byte and the content (Pro Git, 10.2 Git Objects).
    """
    digest = hashlib.new("sha1" if algorithm == GIT else algorithm)
    if algorithm == GIT:
        digest.update(b"blob %d\0" % path.stat().st_size)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
