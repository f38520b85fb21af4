"""The audio files in a folder and below, and what is left out there: nothing goes missing without a word.

Linked folders are followed, each folder once, whatever links lead to it; its files have the name without a link where
there is one. Hidden files and folders are not taken.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from preprocessing.names import escaped, lossless

AUDIO_SUFFIXES: Final = frozenset(
    (
        ".mp3 .mp2 .mpga .wav .wave .bwf .rf64 .w64 .flac .ogg .oga .opus .spx .aiff .aif .aifc .au .snd .caf "
        ".m4a .m4b .m4r .aac .wma .wv .ape .mpc .tta .tak .ac3 .dsf .dff .mka .webm .weba"
    ).split()
)
"""What is taken of a folder: formats that libsndfile or ffmpeg decodes. Not .mp4, .mkv and the like: mostly films."""
SHOWN_KINDS: Final = 12
"""Suffixes named in a line of text, the most frequent first."""


@dataclass
class LeftOut:
    """What was found in folders and not taken.

    Attributes:
        by_suffix: suffix in small letters ('' for none) -> files that are no audio that can be decoded, going by it.
        hidden: audio files whose names, or whose folders', begin with a dot.
        unreadable: folder, or link that leads nowhere -> why nothing in it could be taken.
    """

    by_suffix: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> int:
        """Files that were not taken."""
        return sum(self.by_suffix.values()) + self.hidden

    def add(self, other: LeftOut) -> None:
        """Count what was left out elsewhere too."""
        self.by_suffix.update(other.by_suffix)
        self.hidden += other.hidden
        self.unreadable.update(other.unreadable)

    def describe(self) -> str:
        """Say in one line which files were not taken; empty where all were. Folders are said one by one elsewhere."""
        kinds = sorted(self.by_suffix.items(), key=lambda kind: (-kind[1], kind[0]))
        words = [f"{count} {escaped(suffix) or 'without suffix'}" for suffix, count in kinds[:SHOWN_KINDS]]
        if kinds[SHOWN_KINDS:]:
            rest = sum(count for _, count in kinds[SHOWN_KINDS:])
            words.append(f"{rest} of {len(kinds) - SHOWN_KINDS} other kinds")
        if self.hidden:
            words.append(f"{self.hidden} hidden")
        return ", ".join(words)

    def to_json(self) -> dict[str, Any]:
        """Return by_suffix, hidden and unreadable as JSON has them; names as preprocessing.names says."""
        return {
            "by_suffix": dict(sorted((lossless(suffix), count) for suffix, count in self.by_suffix.items())),
            "hidden": self.hidden,
            "unreadable": {lossless(folder): reason for folder, reason in self.unreadable.items()},
        }


@dataclass(frozen=True)
class Walked:
    """What is in a folder and below: paths that begin with the folder's own, in the order of their parts' names."""

    files: list[str]
    left_out: LeftOut


def walk_audio(folder: str) -> Walked:
    """Find all audio files, going by their suffix, in a folder and below; raises nothing."""
    found: list[str] = []
    left_out = LeftOut()
    waiting, links = deque([folder]), deque[str]()
    seen: set[tuple[int, int]] = set()
    while waiting or links:
        path = waiting.popleft() if waiting else links.popleft()
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                _sort_out(sorted(entries, key=lambda entry: entry.name), found, waiting, links, left_out)
        except OSError as error:
            left_out.unreadable[path] = system_reason(error)
    return Walked(sorted(found, key=lambda path: path.split(os.sep)), left_out)


def _sort_out(
    entries: list[os.DirEntry[str]], found: list[str], waiting: deque[str], links: deque[str], left_out: LeftOut
) -> None:
    for entry in entries:
        hidden, suffix = entry.name.startswith("."), os.path.splitext(entry.name)[1].lower()
        if entry.is_symlink() and _leads_to_folder(entry, suffix):
            if not hidden:
                links.append(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            if hidden:
                left_out.hidden += _count_audio(entry.path)
            else:
                waiting.append(entry.path)
        elif suffix not in AUDIO_SUFFIXES:
            left_out.by_suffix[suffix] += not hidden
        elif hidden:
            left_out.hidden += 1
        else:
            found.append(entry.path)
    left_out.by_suffix += Counter()  # without zeros


def _leads_to_folder(link: os.DirEntry[str], suffix: str) -> bool:
    """Whether a link leads to a folder, or nowhere and its name is not that of a file."""
    try:
        return link.is_dir() or not (suffix or os.path.exists(link.path))
    except OSError:  # a link in a circle
        return not suffix


def _count_audio(folder: str) -> int:
    return sum(os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES for _, _, names in os.walk(folder) for name in names)


def system_reason(error: OSError) -> str:
    """Return what the system says, in small letters: 'permission denied'."""
    return (error.strerror or str(error)).lower()


def unreadable_folders(left_out: Mapping[str, str]) -> str:
    """Name folders that could not be read, in words: the first and how many more."""
    first, *others = left_out
    more = f" and {len(others)} more" if others else ""
    return f"{escaped(first)}: {left_out[first]}{more}"
