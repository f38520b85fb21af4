"""Files that people bring to the page: kept in a folder of this process alone, bounded, and gone when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from preprocessing.names import escaped
from serving.page.answers import PageError

PREFIX: Final = "autotag-page-"
LOCK_NAME: Final = ".lock"
CHUNK_SECONDS: Final = 30.0
"""For the next bytes of an upload to come."""
WRITTEN_AT_ONCE: Final = 1 << 20
IDLE_SECONDS: Final = 300.0
"""What was not used for so long makes room for others."""
KEPT_FREE_BYTES: Final = 256 << 20
"""Of the disk."""
LONGEST_NAME: Final = 200


@dataclass(frozen=True)
class Limits:
    """How much is taken.

    Attributes:
        file_bytes: of one file.
        total_bytes: of all that are kept.
        files: kept at a time.
        seconds: for which a file is kept after its last use.
    """

    file_bytes: int = 300_000_000
    total_bytes: int = 2_000_000_000
    files: int = 200
    seconds: float = 3600.0


@dataclass
class Upload:
    """One file.

    Attributes:
        name: what its owner calls it.
        path: where it lies.
        size: bytes so far.
        used: when it was last asked for, time.monotonic().
        whole: whether all of it is there.
    """

    name: str
    path: Path
    size: int = 0
    used: float = field(default_factory=time.monotonic)
    whole: bool = False


class Uploads:
    """The files that are here. For the event loop's thread alone, but for ``close``.

    Args:
        limits: how much is taken.
        parent: where the folder is made; None for the system's place for temporary files.
    """

    def __init__(self, limits: Limits, parent: Path | None = None) -> None:
        self.limits = limits
        base = Path(parent or tempfile.gettempdir())
        sweep_dead(base)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base)).resolve()
        self._lock = (self.folder / LOCK_NAME).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._uploads: dict[str, Upload] = {}

    async def take(self, name: str, chunks: AsyncIterator[bytes], claimed: int | None) -> tuple[str, Upload]:
        """Take a file as it comes.

        Args:
            name: what its owner calls it.
            chunks: its bytes.
            claimed: how many its header says.

        Returns:
            Its id, and what is known of it.

        Raises:
            PageError: it is empty, too large, too slow, or there is no room for it.
        """
        if claimed is not None:
            self._check_size(claimed)
        self._make_room(claimed or 0, 1)
        key = secrets.token_urlsafe(16)
        upload = Upload(_shown_name(name), self.folder / key)
        self._uploads[key] = upload
        try:
            with await asyncio.to_thread(open, upload.path, "xb") as file:
                await self._write(upload, file, chunks)
            if not upload.size:
                raise PageError(422, f"{upload.name} is empty")
        except BaseException as error:
            self._drop(key)
            if isinstance(error, OSError):
                raise _of_disk(error) from error
            raise
        upload.whole, upload.used = True, time.monotonic()
        return key, upload

    async def _write(self, upload: Upload, file: BinaryIO, chunks: AsyncIterator[bytes]) -> None:
        held = bytearray()
        iterator = chunks.__aiter__()
        while True:
            try:
                chunk = await asyncio.wait_for(iterator.__anext__(), CHUNK_SECONDS)
            except StopAsyncIteration:
                break
            except asyncio.TimeoutError:
                raise PageError(408, f"no more of {upload.name} came for {CHUNK_SECONDS:g} s") from None
            upload.size += len(chunk)
            upload.used = time.monotonic()
            self._check_size(upload.size)
            if self._bytes > self.limits.total_bytes:
                self._make_room(0, 0)
            held += chunk
            if len(held) >= WRITTEN_AT_ONCE:
                await asyncio.to_thread(file.write, held)
                held = bytearray()
        await asyncio.to_thread(file.write, held)

    def find(self, key: str) -> Upload:
        """Return an upload, which is kept longer for it.

        Raises:
            PageError: there is none.
        """
        upload = self._uploads.get(key)
        if upload is None or not upload.whole:
            raise PageError(404, "the file is no longer here: give it to the page again")
        upload.used = time.monotonic()
        return upload

    def sweep(self) -> None:
        """Delete what nobody has used for long."""
        latest = time.monotonic() - self.limits.seconds
        for key in [key for key, upload in self._uploads.items() if upload.used < latest]:
            self._drop(key)

    def close(self) -> None:
        """Delete all."""
        self._uploads.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    @property
    def _bytes(self) -> int:
        return sum(upload.size for upload in self._uploads.values())

    def _check_size(self, size: int) -> None:
        if size > self.limits.file_bytes:
            raise PageError(413, f"the file has more than {self.limits.file_bytes / 1e6:,.0f} MB, which is the most "
                                 "that is taken; put it into the folder that the page is started with")  # fmt: skip

    def _make_room(self, size: int, files: int) -> None:
        """Let go of what was not used for a while, the oldest first, where so many more bytes and files have no room.

        Raises:
            PageError: there is none.
        """
        self.sweep()
        idle = sorted((upload.used, key) for key, upload in self._uploads.items() if upload.whole)
        latest = time.monotonic() - IDLE_SECONDS
        while self._bytes + size > self.limits.total_bytes or len(self._uploads) + files > self.limits.files:
            if not idle or idle[0][0] > latest:
                raise PageError(507, "there is no more room for files now: try again in some minutes", 300)
            self._drop(idle.pop(0)[1])
        if shutil.disk_usage(self.folder).free - size < KEPT_FREE_BYTES:
            raise PageError(507, f"the disk of {self.folder} is nearly full: make room there")

    def _drop(self, key: str) -> None:
        upload = self._uploads.pop(key, None)
        if upload is not None:
            with contextlib.suppress(OSError):
                upload.path.unlink()


def sweep_dead(base: Path) -> None:
    """Delete the folders of processes that were killed."""
    for folder in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / LOCK_NAME).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def _shown_name(name: str) -> str:
    """The last part of a name, on one line."""
    last = escaped(name.replace("\\", "/").rstrip("/").rpartition("/")[2].strip())
    stem, suffix = os.path.splitext(last)
    return stem[: max(0, LONGEST_NAME - len(suffix))] + suffix[:LONGEST_NAME] or "recording"


def _of_disk(error: OSError) -> PageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PageError(507, "the disk is full: make room there")
    return PageError(500, f"the file cannot be kept: {(error.strerror or str(error)).lower()}")
