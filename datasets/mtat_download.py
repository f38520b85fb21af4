"""MagnaTagATune's download from its publisher (datasets.mtat has the card).

The three parts joined are one zip archive, so a download is checked by the length that the server states and by the
archive's CRC-32 of each clip. What others found is no authority: the sizes serve to say beforehand how much disk is
needed, and a checksum that differs is reported but stops nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import httpx
from rich.filesize import decimal

from datasets.inventory import look_on_disk, missing_audio
from datasets.mtat import ANNOTATIONS, BASE_URL, BROKEN_CLIPS, CLIP_INFO, PARTS, REMOTES, parse_annotations
from datasets.target import Downloaded, OnBytes, folder_address, local_folder
from preprocessing.clips import AnnotatedClip
from preprocessing.download import (
    Patience,
    RemoteFile,
    bytes_on_disk,
    clear_disk_errors,
    fetch,
    file_digest,
    locked,
    open_client,
    remote_size,
)
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.unpack import check_space, unpack

SIZES_FOUND: Final = {remote.name: remote.size or 0 for remote in REMOTES}
"""Sizes that others found (not published): how much disk to expect where the server does not say."""

_CLIP_MEMBER: Final = re.compile(r"[0-9a-f]/[^/\\\0]+\.mp3")


def download_mtat(
    folder: str | Path,
    base_url: str = BASE_URL,
    patience: Patience | None = None,
    on_bytes: OnBytes | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Downloaded:
    """Download and unpack MagnaTagATune into a folder; a second call does what is left to do.

    The parts of the archive stay. Where they are gone and every annotated clip is there, they are not asked for again.

    Args:
        folder: made if it is not there.
        base_url: address of the folder that holds the five files: the publisher's or a mirror's.
        patience: how long to bear with a failing server.
        on_bytes: called as bytes arrive or are unpacked.
        on_note: called with lines for a person.

    Raises:
        BadInputError: the folder or the address cannot be one.
        AutotagError: the server, the disk or the archive fails; what is there is kept.
    """
    target, files = local_folder(folder), remote_files(base_url)
    on_bytes, on_note = on_bytes or (lambda what, done, total: None), on_note or (lambda line: None)
    with clear_disk_errors(target), locked(target), open_client() as client:

        def get(names: Sequence[str]) -> list[Path]:
            return [_fetch(client, files[name], target, patience, on_bytes, on_note) for name in names]

        _check_sizes(client, [files[name] for name in (ANNOTATIONS, CLIP_INFO)], target)
        get((ANNOTATIONS, CLIP_INFO))
        clips = _read_annotations(target / ANNOTATIONS)
        if not any(bytes_on_disk(target, name) for name in PARTS) and not missing_audio(clips, target):
            on_note("every annotated clip is there: the archive is not needed")
            return _summarise(clips, target)
        _check_sizes(client, [files[name] for name in PARTS], target, to_unpack=True)
        parts = get(PARTS)
        unpacked = unpack(parts, target, _CLIP_MEMBER, lambda done, total: on_bytes("unpack", done, total))
        on_note(f"unpacked {unpacked.written} clips, {unpacked.kept} were there and whole")
        return _summarise(clips, target, unpacked.unwanted)


def remote_files(base_url: str = BASE_URL) -> dict[str, RemoteFile]:
    """Return the data set's files by name, at an address.

    Raises:
        BadInputError: it is no http or https address.
    """
    base = folder_address(base_url, PARTS[0])
    return {name: RemoteFile(name, f"{base}/{name}") for name in SIZES_FOUND}


def _summarise(clips: Sequence[AnnotatedClip], folder: Path, unwanted: tuple[str, ...] = ()) -> Downloaded:
    return Downloaded(folder, look_on_disk(clips, folder, BROKEN_CLIPS), unwanted)


def _fetch(
    client: httpx.Client,
    remote: RemoteFile,
    folder: Path,
    patience: Patience | None,
    on_bytes: OnBytes,
    on_note: Callable[[str], None],
) -> Path:
    if (folder / remote.name).is_file():
        on_note(f"{remote.name}: there")
        return folder / remote.name
    begun = bytes_on_disk(folder, remote.name)
    path = fetch(
        client, remote, folder, patience, lambda done, total: on_bytes(remote.name, done, total), on_retry=on_note
    )
    resumed = f", {decimal(begun)} of it from an earlier call" if begun else ""
    on_note(f"{remote.name}: {decimal(path.stat().st_size)}{resumed}{_checksum_remark(path)}")
    return path


def _checksum_remark(path: Path) -> str:
    found = next((remote.digest for remote in REMOTES if remote.name == path.name), None)
    if found is None:
        return ""
    algorithm, expected = found.split(":")
    same = file_digest(path, algorithm) == expected
    return ", SHA-256 as others found it" if same else ", SHA-256 not the one that others found"


def _read_annotations(path: Path) -> list[AnnotatedClip]:
    try:
        return parse_annotations(path.read_bytes(), path.name)
    except BadInputError as error:
        raise AutotagError(f"what came is no annotation table ({error}): delete {path} and call again") from error


def _check_sizes(client: httpx.Client, files: Sequence[RemoteFile], folder: Path, to_unpack: bool = False) -> None:
    """Make sure before any transfer that the disk takes it, and that what is there has the server's size."""
    sizes = {remote.name: remote_size(client, remote) for remote in files}
    for name, size in sizes.items():
        path = folder / name
        if path.is_file() and size is not None and path.stat().st_size != size:
            raise AutotagError(
                f"{path} has {path.stat().st_size} bytes, on the server it has {size}: delete it and call again"
            )
    total = sum(SIZES_FOUND[name] if size is None else size for name, size in sizes.items())
    needed = {"to download": max(0, total - sum(bytes_on_disk(folder, name) for name in sizes))}
    if to_unpack:  # MP3s do not shrink in a zip
        needed["to unpack"] = max(0, total - sum(file.stat().st_size for file in folder.glob("[0-9a-f]/*.mp3")))
    check_space(folder, needed)
