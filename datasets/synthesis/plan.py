"""The corpus on paper: artists, tracks, clips and tags, from the number of clips and the seed, without any audio."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from datasets.synthesis.listeners import Heard, balance, deserved_tags, write_tags
from datasets.synthesis.styles import STYLES, Part, Style

SEGMENT_SECONDS: Final = 29
FOLDERS: Final = "0123456789abcdef"
TEST_AND_VALID_FOLDERS: Final = "defc"
"""In the split by folder d to f are test and c is valid."""

_FIRST: Final = (
    "amber copper velvet hollow northern quiet silver paper winter scarlet harbor lunar mossy electric "
    "gilded saffron iron cedar distant marble"
).split()
_SECOND: Final = (
    "lantern river orchard meridian sparrow cathedral engine garden compass monsoon prairie mirror "
    "thistle comet foundry lagoon willow signal tower ember"
).split()
_THIRD: Final = ("ensemble", "trio", "project", "collective", "players", "society", "band", "company")

_LAYOUT, _TRACK, _PLAYING, _PASSAGE, _LISTENERS, _BALANCE = range(6)
"""What a generator is for: the first key of its seed sequence."""


@dataclass(frozen=True)
class Track:
    """One track: what its clips share.

    Attributes:
        index: number of the track in the corpus.
        style: the arrangement.
        artist, album, title: slugs.
        number: of the track on its album.
        folder: one of 0 to f.
        tempo: beats a minute.
        level: RMS of the master in dB.
        genres: the tags of its style that it deserves.
    """

    index: int
    style: Style
    artist: str
    album: str
    title: str
    number: int
    folder: str
    tempo: float
    level: float
    genres: tuple[str, ...]


@dataclass(frozen=True)
class PlannedClip:
    """One clip.

    Attributes:
        clip_id: number in the annotations.
        track: whose passage it is.
        segment: number of the passage within the track.
        start: second at which it starts in its track.
        parts: who plays in it.
        tags: as annotated, in MagnaTagATune's spelling.
    """

    clip_id: int
    track: Track
    segment: int
    start: int
    parts: tuple[Part, ...]
    tags: frozenset[str]

    @property
    def end(self) -> int:
        """Second at which it ends in its track."""
        return self.start + SEGMENT_SECONDS

    @property
    def path(self) -> str:
        """Path of the MP3, relative to the corpus."""
        track = self.track
        stem = f"{track.artist}-{track.album}-{track.number:02d}-{track.title}-{self.start}-{self.end}"
        return f"{track.folder}/{stem}.mp3"


def generator(seed: int, *keys: int) -> np.random.Generator:
    """A generator of its own for each purpose, track and clip, so that the order of the work does not matter."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=keys))


def playing_generator(seed: int, track: int) -> np.random.Generator:
    """The generator of a track's players and room."""
    return generator(seed, _PLAYING, track)


def passage_generator(seed: int, track: int, segment: int) -> np.random.Generator:
    """The generator of one clip's notes."""
    return generator(seed, _PASSAGE, track, segment)


def plan_corpus(clips: int, seed: int) -> list[PlannedClip]:
    """Lay out a corpus.

    Args:
        clips: how many.
        seed: the same seed gives the same plan.

    Returns:
        The clips, those of a track one after another.
    """
    lengths = _clips_by_track(clips, generator(seed, _LAYOUT, 0))
    tracks = _plan_tracks(len(lengths), seed)
    planned = [
        (track, segment, _playing(track.style, passage_generator(seed, track.index, segment)))
        for track, length in zip(tracks, lengths, strict=True)
        for segment in range(length)
    ]
    deserved = [deserved_tags(Heard(parts, track.genres, track.tempo, track.level)) for track, _, parts in planned]
    written = [write_tags(true, generator(seed, _LISTENERS, index)) for index, true in enumerate(deserved)]
    balance(written, deserved, generator(seed, _BALANCE))
    starts = [int(generator(seed, _TRACK, track.index, 1).integers(0, 3)) for track in tracks]
    return [
        PlannedClip(
            index + 1,
            track,
            segment,
            SEGMENT_SECONDS * (starts[track.index] + segment),
            parts,
            frozenset(written[index]),
        )
        for index, (track, segment, parts) in enumerate(planned)
    ]


def _clips_by_track(clips: int, rng: np.random.Generator) -> list[int]:
    """Two to four clips a track; three of each of the leading styles, with which a corpus starts."""
    lengths = [3] * sum(style.leading for style in STYLES)
    while sum(lengths) < clips:
        lengths += [int(length) for length in rng.permutation([2, 3, 3, 4])]
    while sum(lengths) - lengths[-1] >= clips:
        lengths.pop()
    lengths[-1] -= sum(lengths) - clips
    return lengths


def choose_styles(tracks: int, rng: np.random.Generator) -> list[Style]:
    """Choose each track's style: the leading ones first, then the one that is furthest behind its weight."""
    weights = np.array([style.weight for style in STYLES])
    weights /= weights.sum()
    leading = [index for index, style in enumerate(STYLES) if style.leading]
    chosen = [int(index) for index in rng.permutation(leading)[:tracks]]
    counts = np.bincount(chosen, minlength=len(STYLES)).astype(np.float64)
    luck = rng.uniform(0.0, 0.5, len(STYLES))
    while len(chosen) < tracks:
        due = weights * (len(chosen) + 1) - counts + luck
        chosen.append(int(np.argmax(due)))
        counts[chosen[-1]] += 1
    return [STYLES[index] for index in chosen]


def _plan_tracks(count: int, seed: int) -> list[Track]:
    rng = generator(seed, _LAYOUT, 1)
    styles = choose_styles(count, rng)
    names = _artist_names(rng)
    folders = _folders(rng)
    artists: dict[str, list[tuple[str, str, str, int]]] = {}
    tracks: list[Track] = []
    for index, style in enumerate(styles):
        theirs = artists.setdefault(style.scene, [])
        if len(theirs) % 3 == 0:
            artist, album, folder = next(names), f"{rng.choice(_FIRST)}_{rng.choice(_SECOND)}", next(folders)
        else:
            artist, album, folder, _ = theirs[-1]
        number = len(theirs) % 3 + 1
        theirs.append((artist, album, folder, number))
        tracks.append(_plan_track(index, style, (artist, album, folder, number), seed))
    return tracks


def _plan_track(index: int, style: Style, place: tuple[str, str, str, int], seed: int) -> Track:
    rng = generator(seed, _TRACK, index, 0)
    artist, album, folder, number = place
    title = f"{rng.choice(_SECOND)}_{rng.choice(('at', 'under', 'without', 'beyond'))}_{rng.choice(_SECOND)}"
    tempo, level = float(rng.uniform(*style.tempo)), float(rng.uniform(*style.level))
    genres = tuple(tag for tag, share in style.genres.items() if rng.random() < share)
    return Track(index, style, artist, album, title, number, folder, tempo, level, genres)


def _artist_names(rng: np.random.Generator) -> Iterator[str]:
    """Slugs without end, no two alike."""
    slugs = [f"{first}_{second}_{third}" for first in _FIRST for second in _SECOND for third in _THIRD]
    for turn in itertools.count():
        for index in rng.permutation(len(slugs)):
            yield slugs[index] + (f"_{turn + 1}" if turn else "")


def _folders(rng: np.random.Generator) -> Iterator[str]:
    """Folders for artist after artist, such that a few artists already lie on all sides of the split by folder."""
    train = [folder for folder in FOLDERS if folder not in TEST_AND_VALID_FOLDERS]
    while True:
        inner = [str(folder) for folder in rng.permutation(train)]
        first, second, third = (str(folder) for folder in rng.permutation(list("def")))
        yield from (*inner[:2], first, inner[2], "c", *inner[3:6], second, *inner[6:9], third, *inner[9:])


def _playing(style: Style, rng: np.random.Generator) -> tuple[Part, ...]:
    """Who of the arrangement plays in a passage; never nobody."""
    present = tuple(part for part in style.parts if rng.random() < part.presence)
    return present or style.parts[:1]
