"""Which audio files somebody means who names files, folders and patterns, and where their taggrams go."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from preprocessing.errors import BadInputError, ClipError
from preprocessing.folders import AUDIO_SUFFIXES, LeftOut, system_reason, walk_audio
from preprocessing.names import escaped
from serving.tagging.inputs import STDIN, STDIN_ARGUMENT
from serving.tagging.tagged_files import FailedFile

ANY_DEPTH: Final = "**"
SHOWN_MISSING: Final = 5
"""Names in the message where nothing that was named is there."""


class Found(NamedTuple):
    """What is meant.

    Attributes:
        files: that are to be tagged, each once.
        missing: what was named and is not there, and folders that cannot be read.
        left_out: what was found in folders or by patterns and is not taken.
    """

    files: list[Path]
    missing: list[FailedFile]
    left_out: LeftOut


def find_audio(paths: Sequence[str], listed: Iterable[str] = ()) -> Found:
    """Return the files that are meant, each once, what is missing, and what was left out.

    A path that is there is taken as it is; of a folder all files with an audio suffix, in it and below, in the order
    of their names, without hidden ones, linked folders too (preprocessing.folders); anything else with ``*``, ``?`` or
    ``[`` in it is a pattern (``**`` for any depth), of which files with an audio suffix and folders are taken. ``-`` is
    audio from standard input, serving.tagging.inputs.STDIN.

    Args:
        paths: as a person gives them.
        listed: names out of a list: files and folders, each called exactly so.

    Raises:
        BadInputError: there is no file at all, or standard input is named twice.
    """
    found: dict[str, Path] = {}
    missing: list[FailedFile] = []
    left_out = LeftOut()

    def take(path: str, expand: Callable[[str, LeftOut], list[str]]) -> None:
        here = LeftOut()
        try:
            for file in expand(path, here):
                found.setdefault(os.path.realpath(file), _shown(file))
        except ClipError as error:
            missing.append(FailedFile(Path(path), error))
        missing.extend(
            FailedFile(Path(folder), ClipError("unreadable", f"{folder}: {reason}: nothing in it was looked at"))
            for folder, reason in here.unreadable.items()
        )
        left_out.add(here)

    for path in paths:
        if path != STDIN_ARGUMENT:
            take(path, _expand)
        elif found.setdefault(STDIN_ARGUMENT, STDIN) and paths.count(STDIN_ARGUMENT) > 1:
            raise BadInputError("- stands for standard input, which can be read once: give it once")
    for path in listed:
        take(path, _named)
    if not found:
        shown = "; ".join(escaped(failed.error.detail) for failed in missing[:SHOWN_MISSING])
        more = f"; and {len(missing) - SHOWN_MISSING:,} more" if len(missing) > SHOWN_MISSING else ""
        raise BadInputError(shown + more or "the list names no file")
    return Found(list(found.values()), missing, left_out)


def _shown(file: str) -> Path:
    """A file that is called as standard input is has its whole path."""
    path = Path(file)
    return Path(os.path.abspath(file)) if path == STDIN else path


def _expand(path: str, left_out: LeftOut) -> list[str]:
    try:
        return _named(path, left_out)
    except _NoSuchError:
        if not glob.has_magic(path):
            raise
    files = list(_matches(os.path.expanduser(path), left_out))
    if not files and not left_out.unreadable:
        raise ClipError("unreadable", f"{path}: no audio file matches{_besides(left_out)}")
    return files


class _NoSuchError(ClipError):
    """Nothing is called so."""


def _named(path: str, left_out: LeftOut) -> list[str]:
    """Return the file of this name, or those in the folder of this name."""
    if os.path.isdir(path):
        return _folder(path, left_out)
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise _NoSuchError("unreadable", f"{path}: no such file or folder") from None
    except OSError as error:  # a folder above it cannot be read, or the name is too long
        raise ClipError("unreadable", f"{path}: {system_reason(error)}") from None
    return [path]


def _folder(path: str, left_out: LeftOut) -> list[str]:
    files = _below(path, left_out)
    if not files and not left_out.unreadable:
        suffixes = ", ".join(sorted(AUDIO_SUFFIXES))
        raise ClipError("unreadable", f"{path} has no audio files{_besides(left_out)} (looked for {suffixes})")
    return files


def _besides(left_out: LeftOut) -> str:
    return f"; left out: {left_out.describe()}" if left_out.files else ""


def _below(folder: str, left_out: LeftOut) -> list[str]:
    walked = walk_audio(folder)
    left_out.add(walked.left_out)
    return walked.files


def _matches(pattern: str, left_out: LeftOut) -> Iterator[str]:
    """Yield the audio files that match, and those in folders that match."""
    if ANY_DEPTH in pattern.split(os.sep):
        yield from _matches_at_any_depth(pattern, left_out)
        return
    for match in sorted(glob.glob(pattern)):
        suffix = os.path.splitext(match)[1].lower()
        if os.path.isdir(match):
            yield from _below(match, left_out)
        elif suffix in AUDIO_SUFFIXES:
            yield match
        else:
            left_out.by_suffix[suffix] += 1


def _matches_at_any_depth(pattern: str, left_out: LeftOut) -> Iterator[str]:
    """Walk the folder before the pattern: glob passes over what it cannot read, and runs in circles of links."""
    folder, parts = _split(pattern)
    walked = walk_audio(os.path.join(folder, "") if folder else os.curdir)
    left_out.unreadable.update(walked.left_out.unreadable)
    for file in walked.files:
        name = os.path.relpath(file, folder or os.curdir)
        if _fits(name.split(os.sep), parts):
            yield os.path.join(folder, name)


def _split(pattern: str) -> tuple[str, list[str]]:
    """Return the folder before a pattern, empty where there is none, and the parts of the pattern itself."""
    parts = pattern.split(os.sep)
    begin = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    folder = os.sep.join(parts[:begin])
    return (folder or os.sep) if begin else "", parts[begin:]


def fixed_part(path: str) -> Path:
    """Return a file or folder as it was named, and of a pattern the folder before it."""
    if os.path.lexists(path) or not glob.has_magic(path):
        return Path(path)
    return Path(_split(os.path.expanduser(path))[0] or os.curdir)


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path, or a folder that it lies in, matches."""
    if not pattern:
        return True
    if pattern[0] == ANY_DEPTH:
        return any(_fits(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


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
                f"{escaped(other)} and {escaped(file)} would both be drawn to {escaped(place)}: put {{name}} "
                "into --taggram, and where that is not enough {folder}, as in 'taggrams/{folder}/{name}.png'"
            )
        places[file] = place
    return places
