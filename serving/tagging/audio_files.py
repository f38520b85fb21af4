"""Which audio files somebody means who names files, folders and patterns, and where their taggrams go."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from preprocessing.audio import AUDIO_SUFFIXES
from preprocessing.errors import BadInputError, ClipError
from serving.tagging.tagger import FailedFile, printable


def find_audio(paths: Sequence[str]) -> tuple[list[Path], list[FailedFile]]:
    """Return the files that are meant, each once, and what is missing.

    A path that is there is taken as it is; of a folder all files with an audio suffix, in it and below, in the order
    of their names, without hidden ones; anything else with ``*``, ``?`` or ``[`` in it is a pattern (``**`` for any
    depth), of which files with an audio suffix and folders are taken.

    Raises:
        BadInputError: there is no file at all.
    """
    found: dict[str, Path] = {}
    missing: list[FailedFile] = []
    for path in paths:
        try:
            for file in _expand(path):
                found.setdefault(os.path.realpath(file), file)
        except ClipError as error:
            missing.append(FailedFile(Path(path), error))
    if not found:
        raise BadInputError("; ".join(failed.error.detail for failed in missing))
    return list(found.values()), missing


def _expand(path: str) -> list[Path]:
    if os.path.isdir(path):
        return _folder(path)
    if os.path.lexists(path):
        return [Path(path)]
    if not glob.has_magic(path):
        raise ClipError("unreadable", f"{printable(path)}: no such file or folder")
    files: list[Path] = []
    for match in sorted(glob.glob(os.path.expanduser(path), recursive=True)):
        if os.path.isdir(match):
            files += _audio_below(match)
        elif _is_audio(match):
            files.append(Path(match))
    if not files:
        raise ClipError("unreadable", f"{printable(path)}: no audio file matches")
    return files


def _folder(path: str) -> list[Path]:
    files = _audio_below(path)
    if not files:
        suffixes = ", ".join(sorted(AUDIO_SUFFIXES))
        raise ClipError("unreadable", f"{printable(path)} has no audio files (looked for {suffixes})")
    return files


def _audio_below(folder: str) -> list[Path]:
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(parent, name) for name in names if not name.startswith(".") and _is_audio(name)]
    return sorted(files)


def _is_audio(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES


def plan_taggrams(pattern: str, files: Sequence[Path]) -> dict[Path, Path]:
    """Return for each file where its taggram goes.

    Raises:
        BadInputError: two files would be drawn to one place, or the suffix is none that can be drawn.
    """
    from serving.tagging.taggram import check_suffix

    check_suffix(Path(pattern))
    places: dict[Path, Path] = {}
    owners: dict[str, Path] = {}
    for file in files:
        folder = file.absolute().parent.name
        place = Path(pattern.replace("{name}", file.stem).replace("{folder}", folder))
        other = owners.setdefault(str(place), file)
        if other is not file:
            raise BadInputError(
                f"{printable(other)} and {printable(file)} would both be drawn to {printable(place)}: put {{name}} "
                "into --taggram, and where that is not enough {folder}, as in 'taggrams/{folder}/{name}.png'"
            )
        places[file] = place
    return places
