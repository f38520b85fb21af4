"""A data set from its publisher's servers: lists and tables, and archives that are unpacked; a second call goes on.

Every file is checked against its publisher's checksum. What an archive gave is kept in ``.NAME.unpacked``, so that an
archive that was deleted is asked for again only where one of its files is gone. (MagnaTagATune's archive in parts:
``datasets.mtat_download``.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx
from rich.filesize import decimal

from datasets import mtat
from datasets.dataset import Dataset, Remote
from datasets.inventory import look_on_disk
from datasets.mtat_download import download_mtat
from datasets.reading import read_clips
from datasets.target import Downloaded, OnBytes, folder_address, local_folder
from preprocessing.download import (
    Patience,
    bytes_on_disk,
    clear_disk_errors,
    fetch,
    file_digest,
    locked,
    open_client,
    remote_size,
)
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.settings import PreprocessSettings
from preprocessing.unpack import check_space, unpack, unpack_tar
from preprocessing.whole_files import write_whole

_LISTED: Final = re.compile(r"([0-9a-f]{64}) +([A-Za-z0-9._-]+\.tar)")


@dataclass(frozen=True)
class _Job:
    """What is the same for every file of a download."""

    client: httpx.Client
    folder: Path
    base: str | None
    patience: Patience | None
    delete_archives: bool
    on_bytes: OnBytes
    on_note: Callable[[str], None]


def download(
    dataset: Dataset,
    folder: str | Path,
    subset: str = "",
    base_url: str | None = None,
    patience: Patience | None = None,
    delete_archives: bool = False,
    on_bytes: OnBytes | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Downloaded:
    """Download and unpack what servers offer of a data set into a folder; a second call does what is left to do.

    Args:
        dataset: which.
        folder: made if it is not there.
        subset: of the data set; its default one where empty.
        base_url: address of a mirror's folder with the same files, in place of the publisher's.
        patience: how long to bear with a failing server.
        delete_archives: whether an archive is deleted once it is unpacked.
        on_bytes: called as bytes arrive or are unpacked.
        on_note: called with lines for a person.

    Raises:
        BadInputError: the folder or the address cannot be one, or no server offers anything.
        AutotagError: a server, the disk or an archive fails; what is there is kept.
    """
    remotes = dataset.remotes_of(subset)
    if not remotes:
        raise BadInputError(f"nothing of the data set {dataset.name!r} is offered for download: {dataset.not_offered}")
    if dataset.name == mtat.DATASET.name:
        downloaded = download_mtat(folder, base_url or mtat.BASE_URL, patience, on_bytes, on_note)
        if delete_archives and not downloaded.on_disk.missing:
            for part in mtat.PARTS:
                (downloaded.folder / part).unlink(missing_ok=True)
        return downloaded
    target = local_folder(folder)
    base = None if base_url is None else folder_address(base_url, remotes[0].name)
    on_bytes, on_note = on_bytes or (lambda what, done, total: None), on_note or (lambda line: None)
    unwanted: list[str] = []
    with clear_disk_errors(target), locked(target), open_client() as client:
        job = _Job(client, target, base, patience, delete_archives, on_bytes, on_note)
        for remote in _with_listed(remotes, job):
            unwanted += _unpack_once(remote, job) if remote.archive else _fetch(remote, job)
    source = dataset.layout.source(str(target), dataset.subset_name(subset))
    settings = PreprocessSettings(dataset=dataset.name, subset=source.subset)
    clips = read_clips(source.audio_dir, source.annotations, settings)
    return Downloaded(target, look_on_disk(clips, Path(source.audio_dir), dataset.broken), tuple(unwanted))


def _with_listed(remotes: tuple[Remote, ...], job: _Job) -> Iterator[Remote]:
    """Yield the files, and after a list of archives those that it lists."""
    for remote in remotes:
        yield remote
        if remote.lists:
            for digest, name in parse_list((job.folder / remote.name).read_bytes(), remote.name):
                yield replace(
                    remote, name=name, url=remote.lists + name, digest=f"sha256:{digest}", archive="tar", lists=""
                )


def parse_list(data: bytes, name: str) -> list[tuple[str, str]]:
    """Parse a publisher's list of archives: SHA-256, space, name.

    Raises:
        AutotagError: a line is none; with its number.
    """
    found = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        match = _LISTED.fullmatch(line.strip())
        if not match:
            raise AutotagError(f"{name} line {number}: expected a SHA-256 and the name of a tar archive")
        found.append((match[1], match[2]))
    return found


def _fetch(remote: Remote, job: _Job) -> list[str]:
    """Download a file, or make sure that the one that is there is the published one."""
    path = job.folder / remote.name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        _check_found(path, remote)
        job.on_note(f"{remote.name}: there")
        return []
    file = remote.file if job.base is None else replace(remote.file, url=f"{job.base}/{remote.name}")
    size = remote_size(job.client, file)
    begun = bytes_on_disk(job.folder, remote.name)
    if size is not None:
        check_space(job.folder, {"to download": max(0, size - begun), "to unpack": size if remote.archive else 0})
    fetch(
        job.client,
        file,
        job.folder,
        job.patience,
        lambda done, total: job.on_bytes(remote.name, done, total),
        on_retry=job.on_note,
    )
    resumed = f", {decimal(begun)} of it from an earlier call" if begun else ""
    job.on_note(f"{remote.name}: {decimal(path.stat().st_size)}{resumed}")
    return []


def _check_found(path: Path, remote: Remote) -> None:
    if remote.digest is None or not remote.published:
        return
    algorithm, expected = remote.digest.split(":")
    found = file_digest(path, algorithm)
    if found != expected:
        raise AutotagError(f"{path}: its {algorithm} is {found}, published is {expected}: delete it and call again")


def _unpack_once(remote: Remote, job: _Job) -> list[str]:
    """Download and unpack an archive, where its files are not all there from an earlier call."""
    folder, record = job.folder / remote.unpack_to, job.folder / f".{remote.name}.unpacked"
    if _is_unpacked(record, remote, folder):
        job.on_note(f"{remote.name}: unpacked before")
        return []
    _fetch(remote, job)
    path = job.folder / remote.name
    folder.mkdir(parents=True, exist_ok=True)
    wanted = re.compile(remote.members)
    take = unpack_tar if remote.archive == "tar" else lambda path, *rest: unpack([path], *rest)
    unpacked = take(path, folder, wanted, lambda done, total: job.on_bytes(f"unpack {remote.name}", done, total))
    if not unpacked.members:
        raise AutotagError(f"{path} holds none of the files that are expected in it")
    write_whole(record, json.dumps({"digest": remote.digest, "members": dict(unpacked.members)}))
    job.on_note(f"{remote.name}: {unpacked.written} files unpacked, {unpacked.kept} were there and whole")
    if job.delete_archives:
        path.unlink()
    return list(unpacked.unwanted)


def _is_unpacked(record: Path, remote: Remote, folder: Path) -> bool:
    try:
        kept = json.loads(record.read_text(encoding="utf-8"))
        digest, members = kept["digest"], dict(kept["members"])
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return digest == remote.digest and all(_has_size(folder / name, size) for name, size in members.items())


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
