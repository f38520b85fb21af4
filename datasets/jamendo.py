"""MTG-Jamendo: its card, annotations, published splits and tags.

Content: 55,525 full tracks (MP3, 30 s to 45 minutes) that artists put on Jamendo, with 183 tags of genre (87),
instrument (40) and mood/theme (56), by those who uploaded them. Annotations are the folder of one split, such as
``data/splits/split-0``: a table for train, validation and test, of all tags or of a subset, with CRLF line ends, tabs
and ragged rows: TRACK_ID, ARTIST_ID, ALBUM_ID, PATH, DURATION, then a column for each tag, ``category---name``. A
single table, such as ``data/autotagging_top50tags.tsv``, is read too; it has no split.

Published by the Music Technology Group of Universitat Pompeu Fabra:
https://github.com/MTG/mtg-jamendo-dataset, audio under https://cdn.freesound.org/mtg-jamendo/.

| subset | train | validation | test | tags (split 0) |
|---|---|---|---|---|
| top50tags | 32,136 | 10,888 | 11,356 | 50 |
| autotagging | 32,859 | 11,101 | 11,565 | 183 |
| genre | 32,572 | 11,043 | 11,479 | 87 |
| instrument | 14,395 | 5,466 | 5,115 | 40 |
| moodtheme | 9,949 | 3,802 | 4,231 | 56 |

Licence: CC BY-NC-SA 4.0 (metadata); audio: each track's own Creative Commons licence, see the publisher's
audio_licenses.txt.

Audio: 320 kbit/s (508 GB, ``15/215.mp3``) or ``audio-low``, mono at variable rate (156 GB; 46 GB for moodtheme), whose
files are called ``15/215.low.mp3``. Either is found; the download takes audio-low, since all networks hear mono.

Citation: Dmitry Bogdanov, Minz Won, Philip Tovstogan, Alastair Porter and Xavier Serra. The MTG-Jamendo dataset for
automatic music tagging. Machine Learning for Music Discovery Workshop, ICML 2019.

Splits: ``published``, of the split whose folder is given, 0 to 4; no artist is in two of its parts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from importlib import resources
from typing import Final

from datasets.dataset import Card, Dataset, Layout, Remote, Source, Subset
from datasets.delimited import check_new, check_path, decode, read_rows
from preprocessing.clips import AnnotatedClip
from preprocessing.errors import BadInputError
from preprocessing.splits import PUBLISHED, SEEDED_RULES

CARD: Final = Card(
    title="MTG-Jamendo",
    sources=("https://github.com/MTG/mtg-jamendo-dataset", "https://cdn.freesound.org/mtg-jamendo/"),
    licence="CC BY-NC-SA 4.0 (metadata); audio: each track's own Creative Commons licence",
    counts={"tracks": 55_525, "tags": 183},
    citation=(
        "Dmitry Bogdanov, Minz Won, Philip Tovstogan, Alastair Porter and Xavier Serra. The MTG-Jamendo dataset for "
        "automatic music tagging. Machine Learning for Music Discovery Workshop, ICML 2019."
    ),
)

COLUMNS: Final = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
PARTS: Final = {"train": "train", "validation": "valid", "test": "test"}
"""What a file's name calls a split -> its name here."""
ALL: Final = "autotagging"
MOOD: Final = "moodtheme"
CATEGORIES: Final = ("genre", "instrument", "mood/theme")

_TOP_50: Final = {
    "genre": (
        "alternative ambient atmospheric chillout classical dance downtempo easylistening electronic experimental folk "
        "funk hiphop house indie instrumentalpop jazz lounge metal newage orchestral pop popfolk poprock reggae rock "
        "soundtrack techno trance triphop world"
    ),
    "instrument": (
        "acousticguitar bass computer drummachine drums electricguitar electricpiano guitar keyboard piano strings "
        "synthesizer violin voice"
    ),
    "mood/theme": "emotional energetic film happy relaxing",
}
TOP_50: Final = tuple(f"{category}---{name}" for category, names in _TOP_50.items() for name in names.split())
"""The 50 most frequent tags in alphabetical order: the list of published results (data/tags/top50.txt)."""

SUBSETS: Final = {
    "top50tags": Subset(
        "tracks with one of the 50 most frequent tags", {"train": 32_136, "valid": 10_888, "test": 11_356}, 50, TOP_50
    ),
    ALL: Subset("all tracks and tags", {"train": 32_859, "valid": 11_101, "test": 11_565}, 183),
    "genre": Subset("tracks with a genre", {"train": 32_572, "valid": 11_043, "test": 11_479}, 87),
    "instrument": Subset("tracks with an instrument", {"train": 14_395, "valid": 5_466, "test": 5_115}, 40),
    MOOD: Subset("tracks with a mood or theme (MediaEval's)", {"train": 9_949, "valid": 3_802, "test": 4_231}, 56),
}
"""Counts are those of split 0."""

COMMIT: Final = "1b4fa8c32e076c73b5175c1703ae805b4109309d"
BASE_URL: Final = f"https://raw.githubusercontent.com/MTG/mtg-jamendo-dataset/{COMMIT}/"
AUDIO_URL: Final = "https://cdn.freesound.org/mtg-jamendo/"

_TRACK: Final = re.compile(r"track_\d{7,}")
_ARTIST: Final = re.compile(r"artist_\d{6,}")
_TABLE: Final = re.compile(r"data/splits/split-\d/autotagging(?:_([a-z0-9]+))?-[a-z]+\.tsv")


def _remotes() -> Iterator[Remote]:
    """The tables as the publisher's repository has them, and the lists of archives of audio-low.

    Git's checksums stand in jamendo_files.txt.
    """
    listed = (resources.files("datasets") / "jamendo_files.txt").read_text(encoding="utf-8")
    for digest, name in map(str.split, listed.splitlines()):
        table = _TABLE.fullmatch(name)
        subsets: tuple[str, ...] = (table[1] or ALL,) if table else ()
        yield Remote(name, BASE_URL + name, digest=f"git:{digest}", subsets=subsets)
    others = tuple(name for name in SUBSETS if name != MOOD)
    for part, subsets, digest in (
        ("raw_30s", others, "844c66c4bc0b2bc1a71043439a180766dcdafd32"),
        ("autotagging_moodtheme", (MOOD,), "732d606290d37efe09293c8181f90f41cc7802c0"),
    ):
        name = f"data/download/{part}_audio-low_sha256_tars.txt"
        yield Remote(
            name,
            BASE_URL + name,
            digest=f"git:{digest}",
            subsets=subsets,
            unpack_to="audio",
            members=r"\d\d/\d+\.low\.mp3",
            lists=f"{AUDIO_URL}{part}/audio-low/",
        )


def table_name(subset: str, part: str) -> str:
    """Name of a subset's table of a split's part, such as ``autotagging_genre-train.tsv``."""
    return f"{ALL}{'' if subset == ALL else f'_{subset}'}-{part}.tsv"


def read(source: Source) -> list[AnnotatedClip]:
    """Read the three tables of a split's folder, or one table without a split.

    Raises:
        BadInputError: one cannot be read, or is no such table; with its line.
    """
    seen: dict[str, str] = {}
    if source.annotations.endswith(".tsv"):
        return parse_table(source.read(), source.annotations, None, seen)
    clips: list[AnnotatedClip] = []
    for part, split in PARTS.items():
        name = table_name(source.subset, part)
        clips += parse_table(source.read(name), name, split, seen)
    return clips


def parse_table(data: bytes, name: str, split: str | None, seen: dict[str, str]) -> list[AnnotatedClip]:
    """Parse a table.

    Args:
        data: the file's bytes, UTF-8.
        name: the file's name, for messages.
        split: of all its tracks.
        seen: tracks of other tables with their file and line; this one's are added.

    Raises:
        BadInputError: with the line number, on the first thing that is wrong.
    """
    rows = read_rows(decode(data, name), name, "\t")
    _, header = next(rows, (1, []))
    if tuple(header) != COLUMNS:
        raise BadInputError(f"{name} line 1: expected the columns {', '.join(COLUMNS)} with tabs between them")
    clips = []
    for line, row in rows:
        clip = _clip(row, split, f"{name} line {line}")
        check_new(clip.clip_id, seen, f"{name} line {line}")
        seen[clip.clip_id] = f"{name} line {line}"
        clips.append(clip)
    if not clips:
        raise BadInputError(f"{name}: the table has a header and no track")
    return clips


def _clip(row: list[str], split: str | None, where: str) -> AnnotatedClip:
    if len(row) < len(COLUMNS):
        raise BadInputError(f"{where}: {len(row)} cells; a track has {len(COLUMNS)} or more, one for each tag")
    track, artist, _, path, duration, *tags = row
    if not _TRACK.fullmatch(track):
        raise BadInputError(f"{where}: {track!r} is no track's id such as track_0000901")
    if not _ARTIST.fullmatch(artist):
        raise BadInputError(f"{where}: {artist!r} is no artist's id such as artist_000077")
    check_path(path, where)
    if not _is_duration(duration):
        raise BadInputError(f"{where}: {duration!r} for DURATION; expected seconds")
    for tag in tags:
        category, separator, name = tag.partition("---")
        if not separator or not name or category not in CATEGORIES:
            raise BadInputError(f"{where}: {tag!r} is no tag such as genre---rock, of {', '.join(CATEGORIES)}")
    if len(set(tags)) < len(tags):
        raise BadInputError(f"{where}: the tag {max(tags, key=tags.count)!r} stands there twice")
    return AnnotatedClip(track, path, tuple(tags), track, artist, split)


def _is_duration(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


DATASET: Final = Dataset(
    "jamendo",
    CARD,
    read,
    {**SEEDED_RULES, "published": PUBLISHED},
    tuple(_remotes()),
    subsets=SUBSETS,
    suffixes=(".mp3", ".low.mp3"),
    layout=Layout("audio", "data/splits/split-0"),
    artists_apart=True,
)
