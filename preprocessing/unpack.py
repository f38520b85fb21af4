"""Unpacking: of a zip archive, also one in parts without storing the joined archive, and of a tar archive.

Each member is written under a temporary name, checked by the archive's own CRC-32 and renamed, so that a file with its
final name is whole; a second call writes only what is missing or differs. A tar has no checksums of its members: its
own must be checked before, and a member that has its size is taken for whole.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import itertools
import os
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from rich.filesize import decimal

from preprocessing.errors import AutotagError

_BLOCK: Final = 1 << 20
_LOCAL_HEADER: Final = 30  # bytes before the name (APPNOTE 4.3.7)
_TEMPORARY: Final = ".part"
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError)
"""What zipfile raises on damaged data (RuntimeError: a damaged flag reads as encryption or an unknown method)."""


class JoinedParts(io.RawIOBase):
    """Several files read as if they were one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__()
        with contextlib.ExitStack() as stack:
            self._files = [stack.enter_context(open(path, "rb", buffering=0)) for path in paths]
            self._stack = stack.pop_all()
        self.paths = tuple(paths)
        sizes = [os.fstat(file.fileno()).st_size for file in self._files]
        self._ends = list(itertools.accumulate(sizes))
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a byte of the joined file and return its position.

        Raises:
            ValueError: it would lie before the file's beginning.
        """
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read up to the end of the part that holds the position; 0 at the end of all."""
        index = bisect.bisect_right(self._ends, self._position)
        if index == len(self._files):
            return 0
        start = self._ends[index - 1] if index else 0
        self._files[index].seek(self._position - start)
        view = memoryview(buffer)[: self._ends[index] - self._position]  # a slice of a bytearray would be a copy
        count: int = self._files[index].readinto(view)  # type: ignore[attr-defined]
        self._position += count
        return count

    def parts_of(self, start: int, end: int) -> list[str]:
        """Return the names of the parts that hold the bytes from start up to end."""
        first = bisect.bisect_right(self._ends, start)
        last = bisect.bisect_left(self._ends, end)
        return [path.name for path in self.paths[first : last + 1]]

    def close(self) -> None:
        """Close all parts."""
        self._stack.close()
        super().close()


@dataclass(frozen=True)
class Unpacked:
    """What an archive held: members written now, members that were there, entries that are not wanted.

    ``members`` are all that are wanted, with their sizes in bytes.
    """

    written: int
    kept: int
    unwanted: tuple[str, ...]
    members: Mapping[str, int] = field(default_factory=dict)


def unpack(
    parts: Sequence[Path],
    folder: Path,
    wanted: re.Pattern[str],
    on_bytes: Callable[[int, int], None] | None = None,
) -> Unpacked:
    """Unpack the wanted members of a zip archive in parts.

    Args:
        parts: the parts, in order.
        folder: where members go, each under its own path.
        wanted: matches a member's whole name; nothing else is written, so the pattern must allow no way out of the
            folder (no ``..``, no leading slash).
        on_bytes: called with the bytes done, of how many.

    Raises:
        AutotagError: the archive is damaged (all of it has been tried, the message names the parts), or the disk is
            too small.
        OSError: a member cannot be written.
    """
    with _open_archive(parts) as (joined, archive):
        members = [info for info in archive.infolist() if wanted.fullmatch(info.filename)]
        names = [info.filename for info in archive.infolist()]
        others = tuple(name for name in names if not (name.endswith("/") or wanted.fullmatch(name)))
        missing = [info for info in members if not is_whole(folder / info.filename, info.file_size, info.CRC)]
        check_space(folder, {"to unpack": sum(info.file_size for info in missing)})
        there = sum(info.file_size for info in members) - sum(info.file_size for info in missing)
        damaged = _extract_all(archive, missing, folder, there, on_bytes or (lambda done, total: None))
        if damaged:
            raise AutotagError(_damage_message(damaged, joined))
    sizes = {info.filename: info.file_size for info in members}
    return Unpacked(len(missing), len(members) - len(missing), others, sizes)


def unpack_tar(
    path: Path, folder: Path, wanted: re.Pattern[str], on_bytes: Callable[[int, int], None] | None = None
) -> Unpacked:
    """Unpack the wanted files of an uncompressed tar archive.

    Args:
        path: the archive, whose checksum has been compared.
        folder: where members go, each under its own path.
        wanted: matches a member's whole name, without ``./`` before it; nothing else is written, see ``unpack``.
        on_bytes: called with the bytes done, of how many.

    Raises:
        AutotagError: the archive is damaged, or the disk is too small.
        OSError: a member cannot be written.
    """
    written, others, sizes = 0, [], {}
    total = path.stat().st_size
    check_space(folder, {"to unpack": total})
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if not (member.isreg() and wanted.fullmatch(name)):
                    others += [] if member.isdir() else [name]
                    continue
                sizes[name] = member.size
                target = folder / name
                if not (target.is_file() and target.stat().st_size == member.size):
                    source = archive.extractfile(member)
                    assert source is not None
                    _write(source, target, member.size)
                    written += 1
                if on_bytes:
                    on_bytes(member.offset_data + member.size, total)
    except (tarfile.TarError, EOFError) as error:
        raise AutotagError(f"{path} is no whole tar archive ({error}): delete it and call again") from error
    return Unpacked(written, len(sizes) - written, tuple(others), sizes)


@contextlib.contextmanager
def _open_archive(parts: Sequence[Path]) -> Iterator[tuple[JoinedParts, zipfile.ZipFile]]:
    with JoinedParts(parts) as joined:
        try:
            archive = zipfile.ZipFile(io.BufferedReader(joined, _BLOCK))
        except _DAMAGE as error:
            sizes = ", ".join(f"{path.name} {path.stat().st_size} bytes" for path in parts)
            raise AutotagError(
                f"the parts in {parts[0].parent} do not make a zip archive ({error}; {sizes}): "
                f"delete {parts[-1].name}, which holds its directory, and call again"
            ) from error
        with archive:
            yield joined, archive


def is_whole(path: Path, size: int, crc: int) -> bool:
    """Whether a file is there with this size and CRC-32."""
    if not path.is_file() or path.stat().st_size != size:
        return False
    found = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            found = zlib.crc32(block, found)
    return found == crc


def check_space(folder: Path, needed: dict[str, int]) -> None:
    """Make sure that the folder's disk takes these bytes (purpose to bytes).

    Raises:
        AutotagError: it does not.
    """
    free, total = shutil.disk_usage(folder).free, sum(needed.values())
    if total > free:
        purposes = ", ".join(f"{decimal(count)} {purpose}" for purpose, count in needed.items())
        raise AutotagError(
            f"{folder} has {decimal(free)} free, {decimal(total)} are needed ({purposes}): "
            "free space or choose a folder on another disk"
        )


def _extract_all(
    archive: zipfile.ZipFile,
    members: Sequence[zipfile.ZipInfo],
    folder: Path,
    there: int,
    on_bytes: Callable[[int, int], None],
) -> list[tuple[zipfile.ZipInfo, Exception]]:
    """Extract members and return those that are damaged, each with what was found."""
    damaged: list[tuple[zipfile.ZipInfo, Exception]] = []
    done, total = there, there + sum(info.file_size for info in members)
    for info in members:
        try:
            _extract(archive, info, folder / info.filename)
        except _DAMAGE as error:
            damaged.append((info, error))
        done += info.file_size
        on_bytes(done, total)
    return damaged


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    """Write a member under its name when it is whole.

    Not ``preprocessing.whole_files``: the temporary name is the same each time, so that what a killed call left is
    written over by the next one.
    """
    with archive.open(info) as source:
        _write(source, path)


def _write(source: IO[bytes], path: Path, size: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + _TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            shutil.copyfileobj(source, file, _BLOCK)
        if size is not None and temporary.stat().st_size != size:
            raise EOFError(f"{path.name} ends after {temporary.stat().st_size} of {size} bytes")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _damage_message(damaged: Sequence[tuple[zipfile.ZipInfo, Exception]], joined: JoinedParts) -> str:
    names = sorted({name for info, _ in damaged for name in joined.parts_of(*_span(info))})
    paths = " and ".join(str(path) for path in joined.paths if path.name in names)
    info, error = damaged[0]
    return (
        f"{len(damaged)} members of the archive are damaged, the first: {info.filename} ({error}). "
        f"Delete {paths} and call again: only that is downloaded anew"
    )


def _span(info: zipfile.ZipInfo) -> tuple[int, int]:
    """Return where a member's bytes start and end in the archive, without its extra field."""
    start = max(0, info.header_offset)
    return start, start + _LOCAL_HEADER + len(info.filename) + info.compress_size
