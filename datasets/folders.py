"""Folders as classes: the folder in which a file lies says what it is, as in ``ROOT/rock/song.mp3``.

The annotations are the audio folder itself. What is read of a path below ROOT:

| | |
|---|---|
| first folder | the class, the clip's one tag; with the subset ``path`` each folder on the way is a tag |
| second folder | the artist, for the split rule `artist`, where the file lies deeper: ``rock/Band/1.mp3`` |
| all folders and the name without suffix | the track: ``rock/a/1.mp3`` is another one than ``rock/b/1.mp3`` |

Files are taken as ``autotag tag`` takes those of a folder (preprocessing.folders): by suffix, linked folders followed
once, hidden ones not. What is left out is said, a line a kind, as a warning: files that lie in ROOT itself and so have
no class, folders in ROOT without audio, hidden files, files of other suffixes, folders that cannot be read.

A file that lies in two classes is two clips, and the split rules may part them: give it all its tags with a table
(datasets.table), or with the subset ``path``.

Source, licence and citation are those of whoever made the folders.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Final

from datasets.dataset import Card, Dataset, Layout, Source, Subset
from preprocessing import storage
from preprocessing.clips import AnnotatedClip, track_of_path
from preprocessing.errors import BadInputError
from preprocessing.names import escaped
from preprocessing.splits import SEEDED_RULES

log = logging.getLogger(__name__)

CARD: Final = Card(
    title="Folders as classes",
    sources=("whoever made the folders",),
    licence="not stated",
    counts={},
    citation="",
)
PATH: Final = "path"
SUBSETS: Final = {
    "class": Subset("one tag a clip, its first folder: for a head that is one-of"),
    PATH: Subset("each folder on the way to a clip is a tag of its"),
}
_SHOWN: Final = 5


def read(source: Source) -> list[AnnotatedClip]:
    """Walk the folders.

    Raises:
        BadInputError: there is no such folder, or no two classes with audio in it; a name is no text; the annotations
            are another folder.
    """
    from preprocessing.folders import unreadable_folders, walk_audio

    root = source.audio_dir
    if not storage.is_local(root):
        raise BadInputError(f"{root}: folders are walked on this machine alone; give a local folder, or a table")
    if not os.path.isdir(source.annotations):
        raise BadInputError(f"annotations {source.annotations}: No such file or directory")
    if os.path.realpath(source.annotations) != os.path.realpath(root):
        raise BadInputError(
            f"annotations {source.annotations}: folders as classes have none beside the audio; give {root} for both"
        )
    walked = walk_audio(root)
    paths = [PurePosixPath(os.path.relpath(file, root)) for file in walked.files]
    loose = [path for path in paths if len(path.parts) == 1]
    clips = [_clip(path, every_folder=source.subset == PATH) for path in paths if len(path.parts) > 1]
    left_out = walked.left_out
    if left_out.unreadable:
        log.warning("%s could not be read: nothing in it is taken", unreadable_folders(left_out.unreadable))
    if loose:
        log.warning("%s", _counted(loose, f"in {root} itself, in no class's folder: left out"))
    empty = sorted(set(_folders(root)) - {path.parts[0] for path in paths})
    if empty:
        log.warning("%s", _counted(empty, "without audio: no class"))
    if left_out.files:
        log.warning("%s: left out, going by their names: %s", escaped(root), left_out.describe())
    classes = {tag for clip in clips for tag in clip.tags}
    if len(classes) < 2:
        found = f"the one class {next(iter(classes))!r}" if classes else "no class"
        raise BadInputError(
            f"{escaped(root)} has {found} with audio in it: expected two folders at least, as "
            f"{os.path.join(root, 'rock', 'song.mp3')} and {os.path.join(root, 'jazz', 'song.mp3')}"
        )
    return clips


def _clip(path: PurePosixPath, every_folder: bool) -> AnnotatedClip:
    text = str(path)
    folders = path.parts[:-1]
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInputError(f"{escaped(text)}: a clip's name has to be UTF-8 text: rename it") from None
    for folder in folders:
        if folder != folder.strip() or not folder.isprintable():
            raise BadInputError(f"{text!r}: {folder!r} cannot be a tag (blanks round it, or a line end): rename it")
    tags = tuple(dict.fromkeys(folders)) if every_folder else folders[:1]
    artist = folders[1] if len(folders) > 1 else ""
    return AnnotatedClip(text, text, tags, track_of_path(text), artist)


def _folders(root: str) -> Iterable[str]:
    with os.scandir(root) as entries:
        return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def _counted(names: Sequence[object], what: str) -> str:
    shown = ", ".join(escaped(str(name)) for name in names[:_SHOWN])
    return f"{len(names):,} {what} ({shown}{', ...' if len(names) > _SHOWN else ''})"


DATASET: Final = Dataset(
    "folders",
    CARD,
    read,
    SEEDED_RULES,
    subsets=SUBSETS,
    layout=Layout("", ""),
    not_offered="they are your own",
)
