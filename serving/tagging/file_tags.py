"""Tags in the audio files themselves: read, and written without touching the audio.

What is written is a field of our own with a value for each tag, ``AUTOTAG`` unless named otherwise, and beside it
``AUTOTAG_MODEL``, which says what model with what settings wrote it. Players' fields are written too where a mapping
says so (serving.tagging.mapping, serving.tagging.writing).

=======================  ==================================================================
file                     field
=======================  ==================================================================
MP3, WAV, AIFF           ID3v2 ``TXXX`` frame of that description, several values
FLAC, Ogg Vorbis, Opus   Vorbis comments of that name, one for each value
M4A, M4B, MP4            ``----:com.apple.iTunes:`` atom of that name, several UTF-8 values
=======================  ==================================================================

WAV and AIFF files that came down a pipe, RF64 files and those without pad bytes get the right sizes in the same step
(serving.tagging.chunks). All other tags and pictures stay as they are: ID3v2.3 stays 2.3 (2.2, which cannot be written,
becomes 2.4) and an ID3v1 tag keeps its bytes. A file is copied within its folder, changed there, flushed to the disk
and put in place of the old one in one step, so it is never half written. Permissions, owner (where the
system allows), and extended attributes are kept; links are followed to their file; the modification time becomes the
time of writing, by which music libraries notice the change. Another hard link to the file keeps the old content.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shutil
import stat
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mutagen
from mutagen import MutagenError  # type: ignore[attr-defined]
from mutagen.aiff import AIFF
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4
from mutagen.wave import WAVE

from preprocessing.errors import BadInputError, ClipError
from preprocessing.whole_files import replacement
from serving.tagging.chunks import PRIVATE, Layout, read_layout, skeleton, tags_of, write_anew
from serving.tagging.tag_fields import ID3_FILES, VORBIS_FILES, get_field, set_field, takes_several

log = logging.getLogger(__name__)

DEFAULT_FIELD: Final = "AUTOTAG"
MODEL_SUFFIX: Final = "_MODEL"
WRITABLE: Final = "MP3, FLAC, Ogg Vorbis, Opus, M4A, WAV and AIFF"

ID3V1_BYTES: Final = 128

TAKEN_FIELDS: Final = frozenset(
    "TITLE VERSION ALBUM ALBUMARTIST TRACKNUMBER TRACKTOTAL DISCNUMBER ARTIST PERFORMER COMPOSER COPYRIGHT LICENSE "
    "ORGANIZATION DESCRIPTION COMMENT GENRE MOOD GROUPING DATE LOCATION CONTACT ISRC BPM LYRICS ENCODER "
    "METADATA_BLOCK_PICTURE".split()
)
"""Fields with a meaning of their own (most are Vorbis comments' proposed names): never ours."""


PARSER_ERRORS: Final = (MutagenError, OSError, ValueError, LookupError, EOFError, struct.error, zlib.error)
"""What mutagen lets through of damaged files."""


@dataclass(frozen=True)
class FileTags:
    """What a file holds in our fields.

    Attributes:
        tags: in the order in which they were written, the most probable first.
        model: what wrote them, with its settings; empty where that is not known.
    """

    tags: tuple[str, ...]
    model: str


NO_TAGS: Final = FileTags((), "")


@dataclass(frozen=True)
class HeldField:
    """What a file holds in one field.

    Attributes:
        values: as they stand there.
        several: whether players tell several values apart there.
    """

    values: tuple[str, ...]
    several: bool


def check_field(field: str) -> str:
    """Return a field's name that all formats can hold.

    Raises:
        BadInputError: it is no such name, or has a meaning of its own.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", field):
        raise BadInputError(
            f"a field's name starts with a letter and has letters, digits, '_', '.' and '-' alone, got {field!r}"
        )
    if field.upper() in TAKEN_FIELDS or field.upper().startswith("REPLAYGAIN"):
        raise BadInputError(f"players use the field {field} for something else; take another name, as AUTOTAG")
    return field


def read_file_tags(path: Path, field: str = DEFAULT_FIELD) -> FileTags:
    """Return what a file holds in the field, NO_TAGS where it is not there.

    Raises:
        ClipError: ``unreadable``, or ``untaggable`` (a format that holds no tags, or tags that are damaged).
    """
    held = read_fields(path, (field, field + MODEL_SUFFIX))
    return FileTags(held[field].values, "".join(held[field + MODEL_SUFFIX].values[:1]))


def read_fields(path: Path, fields: Sequence[str]) -> dict[str, HeldField]:
    """Return what a file holds in fields, by their names in serving.tagging.tag_fields.

    Raises:
        ClipError: as read_file_tags.
    """
    with _words(path, "unreadable"):
        file = _open(path)
        return {field: HeldField(get_field(file, field), takes_several(file, field)) for field in fields}


def write_fields(
    path: Path, new: Mapping[str, Sequence[str]], before_replacing: Callable[[Path], None] | None = None
) -> None:
    """Put values into fields of a file, in place of what was in them; a field without values goes.

    Args:
        path: of the file.
        new: field's name in serving.tagging.tag_fields -> its values.
        before_replacing: called with the finished copy right before it takes the file's place; where it raises, the
            file is as it was.

    Raises:
        ClipError: ``untaggable`` (as read_file_tags, or a value that no file can hold), or ``unwritable`` (read-only,
            disk full, changed by somebody else meanwhile); the file is then as it was.
    """
    with _words(path, "unwritable"):
        _open(path)  # what cannot hold tags is not copied first
        with _replacement(Path(os.path.realpath(path))) as copy:
            file = _open(copy)
            for field, values in new.items():
                set_field(file, field, values)
            _save(file, copy)
            if {field: held.values for field, held in read_fields(copy, tuple(new)).items()} != {
                field: tuple(values) for field, values in new.items()
            }:
                raise ClipError("untaggable", f"{path}: what was written could not be read again: nothing is changed")
            if before_replacing is not None:
                before_replacing(copy)


def check_writable(path: Path) -> None:
    """Look whether write_fields could write into a file; a disk that fills up is seen only by writing.

    Raises:
        ClipError: ``untaggable`` or ``unwritable``, as write_fields.
    """
    with _words(path, "unwritable"):
        _open(path)
        _check_permissions(Path(os.path.realpath(path)))


@contextlib.contextmanager
def _words(path: Path, kind: str) -> Iterator[None]:
    """Turn what mutagen and the system raise into a ClipError that names the file."""
    try:
        yield
    except PARSER_ERRORS as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError) and cause.strerror:
            raise ClipError(kind, f"{path}: {cause.strerror}") from error
        log.info("%s: %s", path, error or type(error).__name__)  # a parser's own words, with --verbose
        raise ClipError(
            "untaggable",
            f"{path}: its tags cannot be read, as the file is damaged where they are: nothing is written. A copy made "
            "anew can hold tags (ffmpeg -i IN -c copy OUT)",
        ) from error


def _open(path: Path) -> Any:
    layout = read_layout(path)
    if layout is not None:
        return _open_chunks(path, layout)
    file = mutagen.File(path)  # type: ignore[attr-defined]
    if not isinstance(file, (*ID3_FILES, *VORBIS_FILES, MP4)):
        raise ClipError("untaggable", f"{path}: only {WRITABLE} files can hold tags")
    if isinstance(file, ID3_FILES) and file.tags is not None and file.tags.version >= (2, 3):
        file = type(file)(path, translate=False)  # older frames stay as they are
    if file.tags is None:
        file.add_tags()
    return file


def _open_chunks(path: Path, layout: Layout) -> Any:
    """Open a WAV or AIFF file by what is in it: mutagen takes the name's suffix too, and the sizes at their word."""
    kind = AIFF if layout.magic == b"FORM" else WAVE

    def source() -> Path | io.BytesIO:
        return path if layout.sound else skeleton(path, layout)

    file: Any = kind(source())
    if file.tags is not None and file.tags.version >= (2, 3):
        file = kind(source(), translate=False)
    if file.tags is None:
        file.add_tags()
    return file


def _save(file: Any, path: Path) -> None:
    if not isinstance(file, ID3_FILES):
        file.save(path)
        return
    tags: Any = file.tags
    layout = read_layout(path)
    if layout is not None and not layout.sound:
        saved = skeleton(path, layout)
        file.save(saved, v2_version=3 if tags.version[:2] == (2, 3) else 4, v23_sep=None)
        write_anew(path, layout, tags_of(saved, layout))
        return
    old_end = _id3v1(path) if isinstance(file, MP3) else b""
    file.save(path, v2_version=3 if tags.version[:2] == (2, 3) else 4, v23_sep=None)
    if old_end:
        with path.open("r+b") as opened:
            opened.seek(-ID3V1_BYTES, os.SEEK_END)
            opened.write(old_end)


def _id3v1(path: Path) -> bytes:
    """The ID3v1 tag at the end of a file, or nothing."""
    with path.open("rb") as file:
        file.seek(-min(ID3V1_BYTES, path.stat().st_size), os.SEEK_END)
        end = file.read()
    return end if len(end) == ID3V1_BYTES and end.startswith(b"TAG") else b""


@contextlib.contextmanager
def _replacement(path: Path) -> Iterator[Path]:
    """Yield a copy in the same folder that takes the file's place at the end, or is gone after an error."""
    before = path.stat()
    _check_permissions(path)
    with replacement(path, PRIVATE, path.suffix) as copy:  # mutagen goes by the suffix
        shutil.copyfile(path, copy)
        yield copy
        _copy_attributes(path, copy)
        _flush(copy)
        now = path.stat()
        if (now.st_mtime_ns, now.st_size, now.st_ino) != (before.st_mtime_ns, before.st_size, before.st_ino):
            raise ClipError("unwritable", f"{path} was changed by another program meanwhile; try again")
    with contextlib.suppress(OSError):  # some file systems cannot flush a folder; the file itself is complete
        _flush(path.parent)


def _check_permissions(path: Path) -> None:
    writable = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    if not path.stat().st_mode & writable or not os.access(path, os.W_OK):
        raise ClipError("unwritable", f"{path} is read-only")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ClipError("unwritable", f"{path}: its folder is read-only")


def _copy_attributes(path: Path, copy: Path) -> None:
    written = copy.stat()
    shutil.copystat(path, copy)
    os.utime(copy, ns=(written.st_atime_ns, written.st_mtime_ns))
    with contextlib.suppress(PermissionError):
        os.chown(copy, path.stat().st_uid, path.stat().st_gid)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
