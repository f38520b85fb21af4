"""MagnaTagATune (MTAT): its card, and its download.

Content: 25,863 clips of 29 s (MP3, 16 kHz, mono, 32 kbps) cut from 5,405 tracks of 230 artists of the label Magnatune;
188 tags, given by players of the game TagATune. Folders ``0`` to ``f`` hold
``ARTIST-ALBUM-TRACKNO-TITLE-START-END.mp3``.

Published by the Music Informatics Research Group of City, University of London:
https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset, files under https://mirg.city.ac.uk/datasets/magnatagatune/
(formerly http://mi.soi.city.ac.uk/datasets/magnatagatune/).

| file | size in bytes | SHA-256 |
|---|---|---|
| mp3.zip.001 | not published; others found 1,100,000,000 | not published; one project found f857fe18... |
| mp3.zip.002 | not published; others found 1,100,000,000 | not published; one project found fc2e1ec4... |
| mp3.zip.003 | not published; others found 772,769,864 | not published; one project found 83a68982... |
| annotations_final.csv | not published; 21.5 MB in a mirror | not published |
| clip_info_final.csv | not published; 8.61 MB in a mirror | not published; one project found cb6108a1... |

The three parts joined are one zip archive, so a download is checked by the length that the server states and by the
archive's CRC-32 of each clip. What others found is no authority: the sizes serve to say beforehand how much disk is
needed, and a checksum that differs is reported but stops nothing.

Licence: CC BY-NC-SA 3.0 Unported according to the authors' page (http://tagatune.org/Magnatagatune.html); the page of
City, University of London is reported to state none. For research, not for commerce.

Citation: Edith Law, Kris West, Michael Mandel, Mert Bay and J. Stephen Downie. Evaluation of algorithms using games:
the case of music tagging. ISMIR 2009, pages 387-392.

Broken as published: five clips, see ``BROKEN_CLIPS``. Three files are empty, two cannot be decoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from rich.filesize import decimal

from preprocessing.annotations import AnnotatedClip, parse_annotations
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

BASE_URL: Final = "https://mirg.city.ac.uk/datasets/magnatagatune/"
ANNOTATIONS: Final = "annotations_final.csv"
CLIP_INFO: Final = "clip_info_final.csv"
PARTS: Final = ("mp3.zip.001", "mp3.zip.002", "mp3.zip.003")
SIZES_FOUND: Final = {
    ANNOTATIONS: 21_500_000,
    CLIP_INFO: 8_610_000,
    PARTS[0]: 1_100_000_000,
    PARTS[1]: 1_100_000_000,
    PARTS[2]: 772_769_864,
}
"""Sizes that others found (not published): how much disk to expect where the server does not say."""
SHA256_FOUND: Final = {
    CLIP_INFO: "cb6108a10d3a91f0bfd7d2fbec2382559d15f20c8d28093f14e12162a47a3e78",
    PARTS[0]: "f857fe185968773058cc71662c2ef5d8f2d4b7338e3c122cfd52f82dcb9760b9",
    PARTS[1]: "fc2e1ec441755556ed1398b1808f1b08b6034372f8bc27394510c0c58cdb52ce",
    PARTS[2]: "83a689824c17e82f6eb81cdbc4e4ca239a4cfc1fb41f1a5c80b861caec90450f",
}
"""Checksums that one project found (not published)."""
N_CLIPS: Final = 25_863
BROKEN_CLIPS: Final = {
    "35644": "empty",
    "55753": "empty",
    "57881": "empty",
    "31533": "cannot be decoded",
    "19588": "cannot be decoded",
}
"""Clips whose published files are no audio: clip_id to what is wrong."""

_CLIP_MEMBER: Final = re.compile(r"[0-9a-f]/[^/\\\0]+\.mp3")

OnBytes = Callable[[str, int, "int | None"], None]
"""Called with what is being done, the bytes done and the bytes in all (None: unknown)."""


@dataclass(frozen=True)
class Summary:
    """What a finished download left.

    Attributes:
        folder: where the data set lies.
        annotated: clips that the annotations name.
        found: of these, how many lie on disk.
        missing: paths of those that do not.
        broken: clips on disk that are known to be broken or are empty: (clip_id, path, what is wrong).
        unwanted: entries of the archive that are no clips and were not unpacked.
    """

    folder: Path
    annotated: int
    found: int
    missing: tuple[str, ...]
    broken: tuple[tuple[str, str, str], ...]
    unwanted: tuple[str, ...] = ()


def download_mtat(
    folder: str | Path,
    base_url: str = BASE_URL,
    patience: Patience | None = None,
    on_bytes: OnBytes | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Summary:
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
    target, files = _target(folder), remote_files(base_url)
    on_bytes, on_note = on_bytes or (lambda what, done, total: None), on_note or (lambda line: None)
    with clear_disk_errors(target), locked(target), open_client() as client:

        def get(names: Sequence[str]) -> list[Path]:
            return [_fetch(client, files[name], target, patience, on_bytes, on_note) for name in names]

        _check_sizes(client, [files[name] for name in (ANNOTATIONS, CLIP_INFO)], target)
        get((ANNOTATIONS, CLIP_INFO))
        clips = _read_annotations(target / ANNOTATIONS)
        if not any(bytes_on_disk(target, name) for name in PARTS) and not _missing(clips, target):
            on_note("every annotated clip is there: the archive is not needed")
            return summarise(clips, target)
        _check_sizes(client, [files[name] for name in PARTS], target, to_unpack=True)
        parts = get(PARTS)
        unpacked = unpack(parts, target, _CLIP_MEMBER, lambda done, total: on_bytes("unpack", done, total))
        on_note(f"unpacked {unpacked.written} clips, {unpacked.kept} were there and whole")
        return summarise(clips, target, unpacked.unwanted)


def remote_files(base_url: str = BASE_URL) -> dict[str, RemoteFile]:
    """Return the data set's files by name, at an address.

    Raises:
        BadInputError: it is no http or https address.
    """
    if not re.fullmatch(r"https?://[^/\s]+\S*", base_url):
        raise BadInputError(f"--base-url {base_url!r}: give the http(s) address of the folder that holds {PARTS[0]}")
    base = base_url.rstrip("/")
    return {name: RemoteFile(name, f"{base}/{name}") for name in SIZES_FOUND}


def summarise(clips: Sequence[AnnotatedClip], folder: Path, unwanted: tuple[str, ...] = ()) -> Summary:
    """Compare the annotated clips with what lies on disk."""
    missing = _missing(clips, folder)
    there = [clip for clip in clips if clip.path not in set(missing)]
    broken = [(clip.clip_id, clip.path, _what_is_wrong(clip, folder)) for clip in there]
    return Summary(
        folder, len(clips), len(there), tuple(missing), tuple(entry for entry in broken if entry[2]), unwanted
    )


def _what_is_wrong(clip: AnnotatedClip, folder: Path) -> str:
    if (folder / clip.path).stat().st_size == 0:
        return "empty"
    return BROKEN_CLIPS.get(clip.clip_id, "")


def _missing(clips: Sequence[AnnotatedClip], folder: Path) -> list[str]:
    return [clip.path for clip in clips if not (folder / clip.path).is_file()]


def _target(folder: str | Path) -> Path:
    """Make the folder."""
    if "://" in str(folder):
        raise BadInputError(f"{folder}: give a folder on this machine; the archive is unpacked in place")
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise BadInputError(f"{path} is a file: give a folder") from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be made: {error.strerror}") from error
    return path


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
    expected = SHA256_FOUND.get(path.name)
    if expected is None:
        return ""
    same = file_digest(path, "sha256") == expected
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
