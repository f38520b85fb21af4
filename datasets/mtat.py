"""MagnaTagATune (MTAT): its card, annotations, published splits and tags.

Content: 25,863 clips of 29 s (MP3, 16 kHz, mono, 32 kbps) cut from 5,405 tracks of 230 artists of the label Magnatune;
188 tags, given by players of the game TagATune. Folders ``0`` to ``f`` hold
``ARTIST-ALBUM-TRACKNO-TITLE-START-END.mp3``; ``annotations_final.csv`` is tab separated, every cell quoted:
``clip_id``, one column a tag with 0 or 1, ``mp3_path``.

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

Licence: CC BY-NC-SA 3.0 Unported according to the authors' page (http://tagatune.org/Magnatagatune.html); the page of
City, University of London is reported to state none. For research, not for commerce.

Citation: Edith Law, Kris West, Michael Mandel, Mert Bay and J. Stephen Downie. Evaluation of algorithms using games:
the case of music tagging. ISMIR 2009, pages 387-392.

Splits: ``folder`` is the usual published one, 18,709 / 1,825 / 5,329 clips; ``clean`` is the same without the clips
that carry none of the 50 most frequent tags, 15,247 / 1,529 / 4,332 (Won et al. 2020).

Broken as published: five clips, see ``BROKEN_CLIPS``. Three files are empty, two cannot be decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import PurePosixPath
from typing import Final

from datasets.dataset import Card, Dataset, Remote, Source
from datasets.delimited import check_doubled, check_identity, check_width, decode, read_rows
from preprocessing.clips import AnnotatedClip, track_of_path
from preprocessing.errors import BadInputError
from preprocessing.splits import SEEDED_RULES, Draw, SplitRule

CARD: Final = Card(
    title="MagnaTagATune",
    sources=(
        "https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset",
        "https://mirg.city.ac.uk/datasets/magnatagatune/",
        "http://tagatune.org/Magnatagatune.html",
    ),
    licence="CC BY-NC-SA 3.0",
    counts={"clips": 25_863, "tracks": 5_405, "artists": 230, "tags": 188},
    citation=(
        "Edith Law, Kris West, Michael Mandel, Mert Bay and J. Stephen Downie. Evaluation of algorithms using games: "
        "the case of music tagging. ISMIR 2009, pages 387-392."
    ),
)

BASE_URL: Final = "https://mirg.city.ac.uk/datasets/magnatagatune/"
ANNOTATIONS: Final = "annotations_final.csv"
CLIP_INFO: Final = "clip_info_final.csv"
PARTS: Final = ("mp3.zip.001", "mp3.zip.002", "mp3.zip.003")


def _remote(name: str, size: int, sha256: str | None) -> Remote:
    archive = "zip" if name in PARTS else ""
    return Remote(name, BASE_URL + name, size, sha256 and f"sha256:{sha256}", published=False, archive=archive)


REMOTES: Final = (
    _remote(ANNOTATIONS, 21_500_000, None),
    _remote(CLIP_INFO, 8_610_000, "cb6108a10d3a91f0bfd7d2fbec2382559d15f20c8d28093f14e12162a47a3e78"),
    _remote(PARTS[0], 1_100_000_000, "f857fe185968773058cc71662c2ef5d8f2d4b7338e3c122cfd52f82dcb9760b9"),
    _remote(PARTS[1], 1_100_000_000, "fc2e1ec441755556ed1398b1808f1b08b6034372f8bc27394510c0c58cdb52ce"),
    _remote(PARTS[2], 772_769_864, "83a689824c17e82f6eb81cdbc4e4ca239a4cfc1fb41f1a5c80b861caec90450f"),
)
"""Sizes and checksums are what others found: none is published."""

BROKEN_CLIPS: Final = {
    "35644": "empty",
    "55753": "empty",
    "57881": "empty",
    "31533": "cannot be decoded",
    "19588": "cannot be decoded",
}
"""Clips whose published files are no audio: clip_id to what is wrong."""

ALL_TAGS: Final = tuple((resources.files("datasets") / "mtat_tags.txt").read_text(encoding="utf-8").splitlines())
"""The 188 tags in the order of the annotations' columns."""

TOP_50: Final = tuple(
    (
        "guitar; classical; slow; techno; strings; drums; electronic; rock; fast; piano; ambient; beat; "
        "violin; vocal; synth; female; indian; opera; male; singing; vocals; no vocals; harpsichord; loud; "
        "quiet; flute; woman; male vocal; no vocal; pop; soft; sitar; solo; man; classic; choir; voice; "
        "new age; dance; male voice; female vocal; beats; harp; cello; no voice; weird; country; "
        "female voice; metal; choral"
    ).split("; ")
)
"""The 50 most frequent tags, most frequent first: the list of nearly all published results. (`female voice` and `metal`
are a tie; some publications have them the other way round.)"""

ID_COLUMN: Final = "clip_id"
PATH_COLUMN: Final = "mp3_path"
FOLDER_SPLITS: Final = {**dict.fromkeys("0123456789ab", "train"), "c": "valid", **dict.fromkeys("def", "test")}
"""The split by folder that most published results use: 12 : 1 : 3."""

SEGMENT_SECONDS: Final = 29
"""From a clip's START to its END, as its file's name has them."""

_SEGMENT: Final = re.compile(r"(?P<track>(?P<artist>[^-]+)-.+)-(?P<start>\d{1,5})-(?P<end>\d{1,5})")


def clip_of(clip_id: str, path: str, tags: tuple[str, ...]) -> AnnotatedClip:
    """Return a clip whose track and artist are read off its file's name.

    The track is artist-album-number-title: the name without its segment of 29 s. A file of another name
    (``live-2019-01.mp3``) is a track of its own, named by its path.
    """
    match = _SEGMENT.fullmatch(PurePosixPath(path).stem)
    if match and int(match["end"]) - int(match["start"]) == SEGMENT_SECONDS:
        return AnnotatedClip(clip_id, path, tags, match["track"], match["artist"])
    return AnnotatedClip(clip_id, path, tags, track_of_path(path))


def read(source: Source) -> list[AnnotatedClip]:
    """Read annotations_final.csv.

    Raises:
        BadInputError: it cannot be read, or is no such table.
    """
    return parse_annotations(source.read(), source.annotations)


def parse_annotations(data: bytes, name: str) -> list[AnnotatedClip]:
    """Parse an annotation table.

    Args:
        data: the file's bytes, UTF-8.
        name: the file's name, for messages.

    Raises:
        BadInputError: with the line number, on the first thing that is wrong.
    """
    text = decode(data, name)
    first = text.partition("\n")[0]
    if "\t" not in first and ("," in first or ";" in first):
        raise BadInputError(
            f"{name} line 1: the columns are not separated by tabs; MagnaTagATune's table is "
            "(for a table of your own: --dataset table)"
        )
    return _parse_rows(read_rows(text, name, "\t"), name)


def _parse_rows(rows: Iterator[tuple[int, list[str]]], name: str) -> list[AnnotatedClip]:
    _, header = next(rows, (1, []))
    if not header:
        raise BadInputError(
            f"{name} line 1: the file is empty; expected a header with {ID_COLUMN}, tags, {PATH_COLUMN}"
        )
    _check_header(header, name)
    id_at, path_at = header.index(ID_COLUMN), header.index(PATH_COLUMN)
    tag_columns = [(at, column) for at, column in enumerate(header) if at not in (id_at, path_at)]
    clips: list[AnnotatedClip] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        where = f"{name} line {line}"
        check_width(row, header, where)
        clip_id, path = row[id_at].strip(), row[path_at].strip(" \t\r\n")
        check_identity(clip_id, path, seen, where)
        seen[clip_id] = line
        for at, column in tag_columns:
            if row[at] not in ("0", "1"):
                raise BadInputError(f"{where}: {row[at]!r} for the tag {column!r}; expected 0 or 1")
        clips.append(clip_of(clip_id, path, tuple(column for at, column in tag_columns if row[at] == "1")))
    if not clips:
        raise BadInputError(f"{name}: the table has a header and no clip")
    return clips


def _check_header(header: Sequence[str], name: str) -> None:
    for column in (ID_COLUMN, PATH_COLUMN):
        if column not in header:
            raise BadInputError(f"{name} line 1: the column {column!r} is missing; found {len(header)} columns")
    check_doubled(header, name)
    if len(header) < 3:
        raise BadInputError(f"{name} line 1: there is no tag column")


def split_of_folder(clip: AnnotatedClip, draw: Draw) -> str:
    """Return the published split of a clip.

    Raises:
        BadInputError: it lies outside the folders 0 to f.
    """
    if clip.folder not in FOLDER_SPLITS:
        raise BadInputError(
            f"clip {clip.clip_id}, {clip.path}: the splits folder and clean need the folders 0 to f; "
            "use --split track instead"
        )
    return FOLDER_SPLITS[clip.folder]


RULES: Final = {
    **SEEDED_RULES,
    "folder": SplitRule("folders 0-b / c / d-f: the usual published one", split_of_folder),
    "clean": SplitRule(
        "folder, without the clips that carry none of the tags that are learnt", split_of_folder, tagged_only=True
    ),
}

DATASET: Final = Dataset("mtat", CARD, read, RULES, REMOTES, TOP_50, "mtat_synonyms.yaml", broken=BROKEN_CLIPS)
