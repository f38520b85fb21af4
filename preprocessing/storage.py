"""Files on this machine, on object stores and on HDFS, under their final name only when whole.

A local path is read and written with Python's own functions; ``scheme://`` goes to fsspec (``s3://`` by s3fs, ``gs://``
by gcsfs, ``hdfs://`` by pyarrow), which takes credentials and endpoints from the environment, on workers as on the
caller. Beam's own file systems make an S3 client for each file, which costs more than decoding a clip and its features.

How a file becomes visible whole depends on where it lies:

- local: written under a temporary name in the same folder, then renamed over what is there, which is atomic
  (``preprocessing.whole_files``);
- HDFS and its like: written under a temporary name, then renamed. A rename is atomic, but replaces nothing, and no
  client that fsspec knows offers HDFS's own rename that does. So a file that is there is first renamed aside, and
  deleted when the new one has its name. Between the two renames a reader finds no file; both are there whole, though,
  under temporary names, and a rename that fails puts the earlier file back;
- object stores: no temporary name and no rename (a copy and a delete there). An object appears when its upload is
  completed, so nothing is sent before the writer is done, and an upload that fails is aborted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from preprocessing import whole_files
from preprocessing.errors import BadInputError
from preprocessing.whole_files import TEMPORARY_MARK, temporary_name, writer_is_dead

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Schemes whose uploads are atomic."""

SCHEMES = (*OBJECT_STORES, "hdfs")
"""Where the command line reads and writes. fsspec knows more, some of which keep nothing (memory://)."""

PACKAGES = {
    "s3": "autotag[aws]",
    "s3a": "autotag[aws]",
    "gs": "autotag[gcp]",
    "gcs": "autotag[gcp]",
    "hdfs": "autotag[hdfs]",
}


RENAMES = 5
"""Attempts at a rename on HDFS."""


@dataclass(frozen=True)
class FileState:
    """What a listing says of a file.

    Attributes:
        size: in bytes.
        stamp: another one when the file was written again.
    """

    size: int
    stamp: str


def is_local(path: str) -> bool:
    """Whether the path lies on this machine's own file system."""
    return "://" not in path


def is_object_store(path: str) -> bool:
    """Whether the path lies where an upload is atomic and a rename is a copy."""
    return path.partition("://")[0] in OBJECT_STORES and not is_local(path)


def absolute(path: str) -> str:
    """Make a local path absolute, for a process that runs in another folder; ``s3://...`` stays as it is."""
    return os.path.abspath(path) if is_local(path) else path


def join(*parts: str) -> str:
    """Join path parts in the way of the first part's file system."""
    if is_local(parts[0]):
        return os.path.join(*parts)
    return "/".join([parts[0].rstrip("/"), *parts[1:]])


def check_scheme(path: str) -> None:
    """Check that files of this kind can be reached at all.

    Raises:
        BadInputError: the scheme is none of SCHEMES, or what it needs is missing.
    """
    if is_local(path):
        return
    if path.partition("://")[0] not in SCHEMES:
        raise BadInputError(f"{path}: expected a local path or one of {', '.join(f'{name}://' for name in SCHEMES)}")
    try:
        with _as_os_error():
            _remote(path)
    except OSError as error:
        hint = "; hdfs:// needs Java and Hadoop's client (HADOOP_HOME, CLASSPATH)" if path.startswith("hdfs") else ""
        raise BadInputError(f"{path}: {error}{hint}") from None


def _remote(path: str) -> tuple[Any, str]:
    """Return fsspec's file system of a path and the path without its scheme."""
    scheme = path.partition("://")[0]
    try:
        import fsspec

        file_system, inner = fsspec.core.url_to_fs(path, use_listings_cache=False)
    except ValueError as error:
        raise BadInputError(f"{path}: {error}") from None
    except ImportError as error:
        package = PACKAGES.get(scheme, "fsspec")
        raise BadInputError(f"{path}: {scheme}:// needs a package ({error}): pip install '{package}'") from None
    return file_system, inner


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Turn what a store's client raises (no credentials, say) into an OSError, so that callers know one kind."""
    try:
        yield
    except (OSError, BadInputError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def read_bytes(path: str) -> bytes:
    """Read a whole file.

    Raises:
        OSError: it cannot be read.
        BadInputError: what its scheme needs is missing.
    """
    if is_local(path):
        with open(path, "rb") as file:
            return file.read()
    with _as_os_error():
        file_system, inner = _remote(path)
        data: bytes = file_system.cat_file(inner)
        return data


def exists(path: str) -> bool:
    """Whether the file is there, or the folder (on an object store: some object below it).

    Raises:
        OSError: the store does not answer.
        BadInputError: what its scheme needs is missing.
    """
    if is_local(path):
        return os.path.exists(path)
    with _as_os_error():
        file_system, inner = _remote(path)
        return bool(file_system.exists(inner))


def size(path: str) -> int | None:
    """Size of a file in bytes, None where it is not there.

    Raises:
        BadInputError: what its scheme needs is missing.
    """
    try:
        if is_local(path):
            return os.stat(path).st_size
        with _as_os_error():
            file_system, inner = _remote(path)
            found: int | None = file_system.info(inner)["size"]
            return found
    except OSError:
        return None


def make_folder(path: str) -> None:
    """Make a folder and those above it, unless it is there. Object stores have none; there the bucket is looked for.

    Raises:
        OSError: it cannot be made, or there is no such bucket.
        BadInputError: what its scheme needs is missing.
    """
    if is_local(path):
        os.makedirs(path, exist_ok=True)
        return
    with _as_os_error():
        file_system, inner = _remote(path)
        if not is_object_store(path):
            file_system.makedirs(inner, exist_ok=True)
        elif not file_system.exists(inner.split("/")[0]):
            raise FileNotFoundError(f"there is no bucket {inner.split('/')[0]}, or it may not be listed")


def list_files(folder: str) -> dict[str, FileState]:
    """Return the files that lie directly in a folder, by name and in order; {} where there is none.

    Raises:
        OSError: the folder cannot be listed, or the store does not answer.
        BadInputError: what its scheme needs is missing.
    """
    if is_local(folder):
        try:
            files = {entry.name: entry.stat() for entry in os.scandir(folder) if entry.is_file()}
        except FileNotFoundError:
            return {}
        return {name: FileState(files[name].st_size, str(files[name].st_mtime_ns)) for name in sorted(files)}
    with _as_os_error():
        file_system, inner = _remote(folder)
        try:
            entries = [entry for entry in file_system.ls(inner, detail=True) if entry["type"] == "file"]
        except (FileNotFoundError, NotADirectoryError):
            return {}
    found = {
        entry["name"].rsplit("/", 1)[-1]: FileState(
            entry["size"], str(entry.get("LastModified") or entry.get("updated") or entry.get("mtime") or entry["size"])
        )
        for entry in entries
    }
    return {name: found[name] for name in sorted(found)}


def delete(paths: list[str]) -> None:
    """Delete files; one that is gone already, or that cannot be deleted, is no error.

    Raises:
        BadInputError: what a path's scheme needs is missing.
    """
    for path in paths:
        with contextlib.suppress(OSError), _as_os_error():
            if is_local(path):
                os.remove(path)
            else:
                file_system, inner = _remote(path)
                file_system.rm_file(inner)


@contextlib.contextmanager
def open_whole(path: str) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under ``path`` only when the block ends without an error.

    Two writers at once do not meet: the last one to finish wins, and a reader sees one or the other, whole.

    Raises:
        OSError: it cannot be written.
        BadInputError: what its scheme needs is missing.
    """
    if is_local(path):
        with whole_files.open_whole(path) as file:
            yield file
        return
    if is_object_store(path):
        with tempfile.TemporaryFile(buffering=1 << 20) as spool:  # has no name: a killed writer leaves nothing
            yield spool  # type: ignore[misc]
            spool.seek(0)
            with _as_os_error():
                file_system, inner = _remote(path)
                file_system.put_file(f"/dev/fd/{spool.fileno()}", inner)
        return
    temporary = temporary_name(path)
    try:
        with tempfile.TemporaryFile() as spool_file:
            yield spool_file  # type: ignore[misc]
            spool_file.seek(0)
            with _as_os_error():
                _write_and_rename(spool_file, temporary, path)
    except BaseException:
        delete([temporary])
        raise


def _write_and_rename(source: Any, temporary: str, path: str) -> None:
    """HDFS and its like: rename replaces nothing, so what is there steps aside and goes last (see above)."""
    file_system, inner = _remote(path)
    inner_temporary, aside = _remote(temporary)[1], _remote(temporary_name(path))[1]
    with file_system.open(inner_temporary, "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    with contextlib.suppress(FileNotFoundError):  # another writer moved it between the look and the rename
        if file_system.exists(inner):
            file_system.mv(inner, aside)
    try:
        _take_name(file_system, inner_temporary, inner)
    except OSError:
        if file_system.exists(aside):
            with contextlib.suppress(OSError):  # another writer's file is there by now
                file_system.mv(aside, inner)
        raise
    for left in (aside, inner_temporary):  # the second is there where another writer's file came between, whole too
        if file_system.exists(left):
            file_system.rm_file(left)


def _take_name(file_system: Any, temporary: str, name: str) -> None:
    """Rename, unless another writer took the name first.

    Raises:
        OSError: the rename fails, and nobody has the name. Of many writers one may find it taken when it renames and
            free when it looks, as the next one moves the file aside: so it tries more than once.
    """
    for attempts_left in reversed(range(RENAMES)):
        try:
            file_system.mv(temporary, name)
            return
        except OSError:
            if file_system.exists(name):
                return
            if not attempts_left:
                raise


def write_whole(path: str, data: bytes | str) -> None:
    """Write a small file in one go, whole or not at all; text as UTF-8.

    Raises:
        OSError: it cannot be written.
        BadInputError: what its scheme needs is missing.
    """
    data = data.encode() if isinstance(data, str) else data
    if is_object_store(path):
        with _as_os_error():
            file_system, inner = _remote(path)
            file_system.pipe_file(inner, data)
        return
    with open_whole(path) as file:
        file.write(data)


def sweep(folder: str) -> None:
    """Delete what killed writers left directly in a folder: temporary files; on S3, uploads that nobody completed.

    Raises:
        OSError: the folder cannot be listed.
        BadInputError: what its scheme needs is missing.
    """
    delete([join(folder, name) for name in list_files(folder) if TEMPORARY_MARK in name])
    if folder.startswith(("s3://", "s3a://")):
        with contextlib.suppress(OSError), _as_os_error():
            file_system, inner = _remote(folder)
            bucket, _, key = inner.rstrip("/").partition("/")
            prefix = f"{key}/" if key else ""
            found = file_system.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
            for upload in found.get("Uploads", []):
                if "/" not in upload["Key"].removeprefix(prefix):
                    file_system.abort_mpu(bucket, upload["Key"], upload["UploadId"])


def sweep_dead(folder: str) -> None:
    """Delete the temporary files of this machine's processes that are no more; others may still be written.

    Raises:
        OSError: the folder cannot be listed.
    """
    if not is_local(folder):
        return
    delete([join(folder, name) for name in list_files(folder) if writer_is_dead(name)])
