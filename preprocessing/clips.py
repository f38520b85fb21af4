"""A clip as a data set's annotations have it: what a reader yields and a manifest is made from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final


@dataclass(frozen=True)
class AnnotatedClip:
    """One clip, or one whole track that excerpts are taken of.

    Attributes:
        clip_id: unique in the data set.
        path: of the audio, relative to the audio folder, with forward slashes.
        tags: in the data set's own order.
        track: what the clip is a part of: clips of one track are never divided between two splits by the rule `track`.
        artist: of the track; empty where the data set does not say.
        split: where the data set's publisher put the clip; None where nobody did.
        start: seconds into the file at which the clip begins.
        seconds: length in the file; None for all that follows.
    """

    clip_id: str
    path: str
    tags: tuple[str, ...]
    track: str
    artist: str = ""
    split: str | None = None
    start: float = 0.0
    seconds: float | None = None

    @property
    def folder(self) -> str:
        """First component of the path."""
        return PurePosixPath(self.path).parts[0]


_SUFFIX: Final = re.compile(r"(?<=[^/])\.[A-Za-z0-9]{1,5}$")


def track_of_path(path: str) -> str:
    """Return the identity of a track of which only the file is known: its folders and its name without the suffix.

    ``ARTIST - SONG/mixture.flac`` is another track than another folder's ``mixture.flac``. Of ``01. Song``, which has
    no suffix, nothing is taken away.
    """
    return _SUFFIX.sub("", str(PurePosixPath(path)))
