"""FMA, the dataset for music analysis: its card, annotations, published split, genres and three moods.

Content: 106,574 tracks of 16,341 artists from the Free Music Archive with 161 genres, as clips of 30 s (MP3) from the
middle of each track, ``000/000002.mp3``. Annotations are the folder ``fma_metadata``:

- ``tracks.csv``, with two header lines (group, column) and a third that names the index;
- ``genres.csv``, the genres' numbers and titles;
- ``echonest.csv``, with three header lines: features of Echonest for 13,129 of the tracks.

Sources: https://github.com/mdeff/fma, files under https://os.unil.cloud.switch.ch/fma/.

| subset | clips | genres at the root | archive |
|---|---|---|---|
| small | 8,000 | 8, 1,000 clips of each | 7.2 GiB |
| medium | 25,000 | 16 | 22 GiB |
| large | 106,574 | 16, not every track has one | 93 GiB |

Tags: ``genre_top---Rock`` the one genre at the root, where the track has one (for a one-of head); ``genre---Punk``
every genre of the track and those above it (``genres_all``, multi-label); ``mood---sad``, ``mood---neutral`` or
``mood---happy`` by thirds of Echonest's valence, which is 0 to 1: below 1/3, below 2/3, from there on. Tracks without
features have no mood.

Licence: CC BY 4.0 (metadata); audio: each artist's own licence, see tracks.csv.

Citation: Michaël Defferrard, Kirell Benzi, Pierre Vandergheynst and Xavier Bresson. FMA: a dataset for music analysis.
ISMIR 2017.

Splits: ``published``, 80 : 10 : 10 by genre; no artist is in two of its parts.

Broken as published: see ``BROKEN_CLIPS``.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from datasets.dataset import Card, Dataset, Layout, Remote, Source, Subset
from datasets.delimited import check_new, check_width, decode, read_rows
from preprocessing.clips import AnnotatedClip
from preprocessing.digits import is_number
from preprocessing.errors import BadInputError
from preprocessing.splits import PUBLISHED, SEEDED_RULES

CARD: Final = Card(
    title="FMA",
    sources=("https://github.com/mdeff/fma", "https://os.unil.cloud.switch.ch/fma/"),
    licence="CC BY 4.0 (metadata); audio: each artist's own licence",
    counts={"tracks": 106_574, "artists": 16_341, "genres": 161},
    citation=(
        "Michaël Defferrard, Kirell Benzi, Pierre Vandergheynst and Xavier Bresson. FMA: a dataset for music analysis. "
        "ISMIR 2017."
    ),
)

SUBSETS: Final = {
    "small": Subset("8 genres, 1,000 clips of each", {"train": 6_400, "valid": 800, "test": 800}),
    "medium": Subset("16 genres, each track has one"),
    "large": Subset("all tracks, of 161 genres"),
}
SPLITS: Final = {"training": "train", "validation": "valid", "test": "test"}
"""What tracks.csv calls a split -> its name here."""

TRACKS: Final = "tracks.csv"
GENRES: Final = "genres.csv"
ECHONEST: Final = "echonest.csv"

MOODS: Final = ("sad", "neutral", "happy")
GENRE_TOP: Final = "genre_top---"
GENRE: Final = "genre---"
MOOD: Final = "mood---"

BROKEN_CLIPS: Final = dict.fromkeys(("99134", "108925", "133297"), "no audio")
"""Clips of ``small`` whose published files are no audio: clip_id to what is wrong."""

BASE_URL: Final = "https://os.unil.cloud.switch.ch/fma/"
REMOTES: Final = (
    Remote(
        "fma_metadata.zip",
        f"{BASE_URL}fma_metadata.zip",
        digest="sha1:f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
        archive="zip",
        members=r"fma_metadata/[A-Za-z_]+\.(csv|txt)",
    ),
    *(
        Remote(
            f"fma_{subset}.zip",
            f"{BASE_URL}fma_{subset}.zip",
            digest=f"sha1:{digest}",
            subsets=(subset,),
            archive="zip",
            members=rf"fma_{subset}/\d{{3}}/\d{{6}}\.mp3",
        )
        for subset, digest in (
            ("small", "ade154f733639d52e35e32f5593efe5be76c6d70"),
            ("medium", "c67b69ea232021025fca9231fc1c7c1a063ab50b"),
            ("large", "497109f4dd721066b5ce5e5f250ec604dc78939e"),
        )
    ),
)


@dataclass(frozen=True)
class _Row:
    """A row of a table with several header lines."""

    where: str
    track: str
    cells: Mapping[tuple[str, ...], str]


def read(source: Source) -> list[AnnotatedClip]:
    """Read the tracks of a subset.

    Raises:
        BadInputError: a table cannot be read, or is no such table; with its line.
    """
    genres = parse_genres(source.read(GENRES), GENRES)
    valence = parse_valence(source.read(ECHONEST), ECHONEST)
    return parse_tracks(source.read(TRACKS), TRACKS, source.subset, genres, valence)


def mood_of(valence: float) -> str:
    """Return ``sad``, ``neutral`` or ``happy``, by thirds of the valence, 0 to 1."""
    return MOODS[min(int(valence * len(MOODS)), len(MOODS) - 1)]


def parse_genres(data: bytes, name: str) -> dict[int, str]:
    """Parse genres.csv: genre's number -> title.

    Raises:
        BadInputError: with the line number, on the first thing that is wrong.
    """
    rows = read_rows(decode(data, name), name, ",")
    _, header = next(rows, (1, []))
    for column in ("genre_id", "title"):
        if column not in header:
            raise BadInputError(f"{name} line 1: the column {column!r} is missing")
    genres: dict[int, str] = {}
    for line, row in rows:
        where = f"{name} line {line}"
        check_width(row, header, where)
        number, title = row[header.index("genre_id")], row[header.index("title")].strip()
        if not is_number(number) or not title:
            raise BadInputError(f"{where}: expected a genre's number and its title")
        if int(number) in genres:
            raise BadInputError(f"{where}: the genre {number} stands there twice")
        genres[int(number)] = title
    return genres


def parse_valence(data: bytes, name: str) -> dict[str, float]:
    """Parse echonest.csv: track's number -> valence, 0 to 1.

    Raises:
        BadInputError: with the line number, on the first thing that is wrong.
    """
    column = ("echonest", "audio_features", "valence")
    valence: dict[str, float] = {}
    for row in read_levels(data, name, 3, [column]):
        try:
            value = float(row.cells[column])
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise BadInputError(f"{row.where}: {row.cells[column]!r} for valence; expected 0 to 1")
        valence[row.track] = value
    return valence


def parse_tracks(
    data: bytes, name: str, subset: str, genres: Mapping[int, str], valence: Mapping[str, float]
) -> list[AnnotatedClip]:
    """Parse tracks.csv.

    Args:
        data: the file's bytes, UTF-8.
        name: the file's name, for messages.
        subset: a track is labelled with the smallest one that it is in.
        genres: number -> title.
        valence: track's number -> valence.

    Raises:
        BadInputError: with the line number, on the first thing that is wrong.
    """
    columns = [("set", "split"), ("set", "subset"), ("track", "genre_top"), ("track", "genres_all"), ("artist", "id")]
    order = list(SUBSETS)
    clips = []
    for row in read_levels(data, name, 2, columns):
        split, label, top, numbers, artist = (row.cells[column].strip() for column in columns)
        if split not in SPLITS:
            raise BadInputError(f"{row.where}: {split!r} is no split; expected {', '.join(SPLITS)}")
        if label not in order:
            raise BadInputError(f"{row.where}: {label!r} is no subset; expected {', '.join(order)}")
        if not is_number(artist):
            raise BadInputError(f"{row.where}: {artist!r} is no artist's number")
        tags = [f"{GENRE_TOP}{top}"] if top else []
        tags += [f"{GENRE}{title}" for title in _titles(numbers, genres, row.where)]
        tags += [f"{MOOD}{mood_of(valence[row.track])}"] if row.track in valence else []
        if order.index(label) <= order.index(subset):
            clip = AnnotatedClip(row.track, path_of(row.track), tuple(tags), row.track, artist, SPLITS[split])
            clips.append(clip)
    if not clips:
        raise BadInputError(f"{name}: the table has no track of the subset {subset}")
    return clips


def path_of(track: str) -> str:
    """Where a track's clip lies: ``000/000002.mp3`` for 2."""
    number = f"{int(track):06d}"
    return f"{number[:3]}/{number}.mp3"


def _titles(text: str, genres: Mapping[int, str], where: str) -> Iterator[str]:
    try:
        numbers = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        numbers = None
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise BadInputError(f"{where}: {text!r} for genres_all; expected a list such as [17, 21]")
    for number in dict.fromkeys(numbers):
        if number not in genres:
            raise BadInputError(f"{where}: the genre {number} is not in {GENRES}")
        yield genres[number]


def read_levels(data: bytes, name: str, levels: int, columns: Sequence[tuple[str, ...]]) -> Iterator[_Row]:
    """Yield the rows of a table with several header lines, as pandas writes them.

    Args:
        data: the file's bytes, UTF-8.
        name: the file's name, for messages.
        levels: number of header lines; a further one may name the index.
        columns: those that are wanted.

    Raises:
        BadInputError: with the line number, on the first thing that is wrong.
    """
    rows = read_rows(decode(data, name), name, ",")
    headers = [next(rows, (1, []))[1] for _ in range(levels)]
    if len({len(header) for header in headers}) != 1 or not headers[0]:
        raise BadInputError(f"{name} line 1: expected {levels} header lines of one length")
    named = list(zip(*headers, strict=True))
    for column in columns:
        if named.count(column) != 1:
            raise BadInputError(
                f"{name} line {levels}: the column {' / '.join(column)} stands there {named.count(column)} times"
            )
    at = {column: named.index(column) for column in columns}
    seen: dict[str, str] = {}
    for line, row in rows:
        where = f"{name} line {line}"
        check_width(row, headers[0], where)
        if line == levels + 1 and row[0] == "track_id" and not any(row[1:]):
            continue
        if not is_number(row[0]) or len(row[0]) > 6:
            raise BadInputError(f"{where}: {row[0]!r} is no track's number")
        check_new(row[0], seen, where)
        seen[row[0]] = where
        yield _Row(where, row[0], {column: row[index] for column, index in at.items()})


DATASET: Final = Dataset(
    "fma",
    CARD,
    read,
    {**SEEDED_RULES, "published": PUBLISHED},
    REMOTES,
    subsets=SUBSETS,
    suffixes=(".mp3", ".wav", ".flac"),
    layout=Layout("fma_{subset}", "fma_metadata"),
    broken=BROKEN_CLIPS,
    artists_apart=True,
)
