"""Million Song Dataset with Last.fm's 50 most frequent tags: its card, published splits and tags; the user's own audio.

Content: 1,000,000 songs, of which those in the lists have a tag of Last.fm and a preview of 7digital. The previews
(MP3, 30 to 60 s) are no longer distributed: the audio folder is the user's own, laid out as everybody's was,
``A/B/C/TRABCXX128F0000000.mp3`` (the third, fourth and fifth letter of the id), or with another suffix.

Sources: http://millionsongdataset.com/lastfm/, splits https://github.com/jongpillee/music_dataset_split,
https://github.com/jordipons/musicnn-training and https://github.com/minzwon/semi-supervised-music-tagging-transformer.

| subset | train | validation | test | tags |
|---|---|---|---|---|
| conventional | 201,680 | 11,774 | 28,435 | 50 |
| cals | 163,504 | 34,730 | 34,913 | 50, others |

``conventional`` (Lee 2017 after Choi 2016; artists are shared between its parts) is read from plain lists:
``train_gt_msd.tsv``, ``val_gt_msd.tsv`` and ``test_gt_msd.tsv`` (id, tab, a list of 50 zeros and ones); where the
folder also has ``train.txt``, ``validation.txt`` and ``test.txt`` (an id a line), these say what is in which part.
Where it has ``index_msd.tsv`` (id, tab, path), that says where each song's audio is. ``cals`` (Won 2021: cleaned, no
artist in two parts) is ``train_ids.npy``, ``train_binaries.npy`` and so on. Its 50 tags are not the conventional
ones, and figures on the two are not comparable.

Licence: not stated (Last.fm's tags: for research); MIT (cals).

Citation: Thierry Bertin-Mahieux, Daniel P. W. Ellis, Brian Whitman and Paul Lamere. The million song dataset. ISMIR
2011.

Splits: ``published``. No list says whose song it is, so the rule ``artist`` cannot be used.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from datasets.dataset import Card, Dataset, Layout, Remote, Source, Subset
from datasets.delimited import check_new, check_path, decode, read_lines
from preprocessing import storage
from preprocessing.clips import AnnotatedClip
from preprocessing.errors import BadInputError
from preprocessing.splits import PUBLISHED, SEEDED_RULES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CARD: Final = Card(
    title="Million Song Dataset, Last.fm's 50 tags",
    sources=(
        "http://millionsongdataset.com/lastfm/",
        "https://github.com/jongpillee/music_dataset_split",
        "https://github.com/jordipons/musicnn-training",
        "https://github.com/minzwon/semi-supervised-music-tagging-transformer",
    ),
    licence="not stated (Last.fm's tags: for research); MIT (cals)",
    counts={"songs": 1_000_000, "tags": 50},
    citation=(
        "Thierry Bertin-Mahieux, Daniel P. W. Ellis, Brian Whitman and Paul Lamere. The million song dataset. ISMIR "
        "2011."
    ),
)

TOP_50: Final = tuple(
    (
        "rock; pop; alternative; indie; electronic; female vocalists; dance; 00s; alternative rock; jazz; beautiful; "
        "metal; chillout; male vocalists; classic rock; soul; indie rock; Mellow; electronica; 80s; folk; 90s; chill; "
        "instrumental; punk; oldies; blues; hard rock; ambient; acoustic; experimental; female vocalist; guitar; "
        "Hip-Hop; 70s; party; country; easy listening; sexy; catchy; funk; electro; heavy metal; Progressive rock; "
        "60s; rnb; indie pop; sad; House; happy"
    ).split("; ")
)
"""The conventional tags in the order of their vectors."""

CALS_50: Final = tuple(
    (
        "rock; pop; indie; alternative; electronic; hip-hop; metal; jazz; punk; folk; alternative rock; indie rock; "
        "dance; hard rock; 00s; soul; hardcore; 80s; country; classic rock; punk rock; blues; chillout; experimental; "
        "heavy metal; death metal; 90s; reggae; progressive rock; ambient; acoustic; beautiful; british; rnb; funk; "
        "metalcore; mellow; world; guitar; trance; indie pop; christian; house; spanish; latin; psychedelic; electro; "
        "piano; 70s; progressive metal"
    ).split("; ")
)
"""The tags of CALS in the order of their vectors."""

CONVENTIONAL: Final = "conventional"
CALS: Final = "cals"
SUBSETS: Final = {
    CONVENTIONAL: Subset(
        "the split of most published figures; artists are shared between its parts",
        {"train": 201_680, "valid": 11_774, "test": 28_435},
        50,
        TOP_50,
    ),
    CALS: Subset(
        "cleaned, no artist in two parts; other tags", {"train": 163_504, "valid": 34_730, "test": 34_913}, 50, CALS_50
    ),
}

VECTORS: Final = {"train": "train_gt_msd.tsv", "valid": "val_gt_msd.tsv", "test": "test_gt_msd.tsv"}
LISTS: Final = {"train": "train.txt", "valid": "validation.txt", "test": "test.txt"}
INDEX: Final = "index_msd.tsv"

_CONVENTIONAL_URL: Final = (
    "https://raw.githubusercontent.com/jordipons/musicnn-training/c7aa67bd1641592fcf43467c37db01b553dd4e5c/"
    "data/index/msd/"
)
_CALS_URL: Final = (
    "https://raw.githubusercontent.com/minzwon/semi-supervised-music-tagging-transformer/"
    "ca6a68741cdc962358a88955114fb879956a5f70/data/splits/"
)
REMOTES: Final = (
    *(
        Remote(f"{CONVENTIONAL}/{name}", _CONVENTIONAL_URL + name, digest=f"git:{digest}", subsets=(CONVENTIONAL,))
        for name, digest in (
            ("train_gt_msd.tsv", "44879d00bf95ca719e67b0b59443ebe0f1186e3c"),
            ("val_gt_msd.tsv", "637b70a758c5a25e1dbd6f86f0f0d748ce73a396"),
            ("test_gt_msd.tsv", "c79efe9418f90d1fbc941f95db902a7c69f7091a"),
        )
    ),
    *(
        Remote(f"{CALS}/{name}", _CALS_URL + name, digest=f"git:{digest}", subsets=(CALS,))
        for name, digest in (
            ("train_ids.npy", "78bc6bf9417cc4b2e6c6ce219a3cbfb94ea16acd"),
            ("train_binaries.npy", "7c8db9957df59917d8121cfbfeb97d31de6fd872"),
            ("valid_ids.npy", "35cd3f84e6dc0a9ded80799a10a9bac2485a00eb"),
            ("valid_binaries.npy", "fc2a9efd77e40c693fef09ab5973e903c85b6d0b"),
            ("test_ids.npy", "8ced27a9ef8d9b08ce1d4766e629f0a77ba9c2ed"),
            ("test_binaries.npy", "3910b664cd3dbd4ff33321bc0227a1bf379a450c"),
        )
    ),
)

_ID: Final = re.compile(r"TR[A-Z]{5}[0-9A-F]{11}")

Song = tuple[str, str, tuple[str, ...]]
"""Where it stands, id, tags."""


def path_of(song: str) -> str:
    """Where everybody has a song's audio."""
    return f"{song[2]}/{song[3]}/{song[4]}/{song}.mp3"


def read(source: Source) -> list[AnnotatedClip]:
    """Read the lists of a subset.

    Raises:
        BadInputError: one cannot be read, or is no such list; with its line.
    """
    songs = _read_cals if source.subset == CALS else _read_conventional
    paths = _read_index(source)
    clips: list[AnnotatedClip] = []
    seen: dict[str, str] = {}
    for split in ("train", "valid", "test"):
        for where, song, tags in songs(source, split):
            check_new(song, seen, where)
            seen[song] = where
            if paths is not None and song not in paths:
                raise BadInputError(f"{where}: {song} is not in {INDEX}: delete that file or complete it")
            path = path_of(song) if paths is None else paths[song]
            clips.append(AnnotatedClip(song, path, tags, song, split=split))
    return clips


def _read_conventional(source: Source, split: str) -> Iterator[Song]:
    if not _has(source, LISTS[split]):
        yield from parse_vectors(source.read(VECTORS[split]), VECTORS[split], TOP_50)
        return
    tags = {song: tags for name in VECTORS.values() for _, song, tags in parse_vectors(source.read(name), name, TOP_50)}
    for where, song in parse_ids(source.read(LISTS[split]), LISTS[split]):
        if song not in tags:
            raise BadInputError(f"{where}: {song} is in none of {', '.join(VECTORS.values())}")
        yield where, song, tags[song]


def _read_cals(source: Source, split: str) -> Iterator[Song]:
    ids, vectors = f"{split}_ids.npy", f"{split}_binaries.npy"
    yield from zip_arrays(load_array(source.read(ids), ids), load_array(source.read(vectors), vectors), ids, vectors)


def _read_index(source: Source) -> Mapping[str, str] | None:
    if not _has(source, INDEX):
        return None
    paths = {}
    for where, line in read_lines(decode(source.read(INDEX), INDEX), INDEX):
        song, tab, path = line.partition("\t")
        if not tab or not _ID.fullmatch(song):
            raise BadInputError(f"{where}: expected a song's id, a tab and a path")
        check_path(path, where)
        paths[song] = path
    return paths


def _has(source: Source, name: str) -> bool:
    try:
        return storage.exists(storage.join(source.annotations, name))
    except OSError as error:
        raise BadInputError(f"annotations {source.annotations}: {error.strerror or error}") from None


def parse_ids(data: bytes, name: str) -> Iterator[tuple[str, str]]:
    """Yield (file and line, id) of a list with an id a line.

    Raises:
        BadInputError: with the line number, on the first thing that is no id.
    """
    for where, line in read_lines(decode(data, name), name):
        yield where, _checked(line, where)


def parse_vectors(data: bytes, name: str, tags: Sequence[str]) -> Iterator[Song]:
    """Yield the songs of lines of id, tab and a list of 0 and 1, in the order of ``tags``.

    Raises:
        BadInputError: with the line number, on the first thing that is wrong.
    """
    for where, line in read_lines(decode(data, name), name):
        song, tab, text = line.partition("\t")
        _checked(song, where)
        yield where, song, _tags(_numbers(text) if tab else None, tags, where)


def _numbers(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _tags(vector: Any, tags: Sequence[str], where: str) -> tuple[str, ...]:
    if not isinstance(vector, list) or len(vector) != len(tags) or not all(value in (0, 1) for value in vector):
        raise BadInputError(f"{where}: expected an id, a tab and a list of {len(tags)} zeros and ones")
    return tuple(tag for tag, value in zip(tags, vector, strict=True) if value)


def _checked(song: str, where: str) -> str:
    if not _ID.fullmatch(song):
        raise BadInputError(f"{where}: {song!r} is no song's id such as TRAAAAB128F0000001")
    return song


def load_array(data: bytes, name: str) -> npt.NDArray[Any]:
    """Load a file of numpy that holds no Python objects.

    Raises:
        BadInputError: it is none.
    """
    import numpy as np

    try:
        array: npt.NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError) as error:
        raise BadInputError(f"{name}: not an array of numpy ({error})") from None
    return array


def zip_arrays(ids: npt.NDArray[Any], vectors: npt.NDArray[Any], ids_name: str, vectors_name: str) -> Iterator[Song]:
    """Yield the songs of an array of ids, unicode [songs], and one of 0 and 1, [songs, tags].

    Raises:
        BadInputError: they are no such arrays; rows are counted from 0, as numpy does.
    """
    if ids.ndim != 1 or ids.dtype.kind != "U":
        raise BadInputError(f"{ids_name}: expected a list of ids; found {ids.dtype} {list(ids.shape)}")
    if vectors.shape != (len(ids), len(CALS_50)) or not _is_binary(vectors):
        raise BadInputError(
            f"{vectors_name}: expected zeros and ones [{len(ids)}, {len(CALS_50)}], a row for each of {ids_name}; "
            f"found {vectors.dtype} {list(vectors.shape)}"
        )
    for row, (song, vector) in enumerate(zip(ids.tolist(), vectors > 0, strict=True)):
        where = f"{ids_name} row {row}"
        yield where, _checked(song, where), tuple(CALS_50[at] for at in vector.nonzero()[0])


def _is_binary(values: npt.NDArray[np.generic]) -> bool:
    return values.dtype.kind in "biuf" and bool(((values == 0) | (values == 1)).all())


DATASET: Final = Dataset(
    "msd",
    CARD,
    read,
    {**SEEDED_RULES, "published": PUBLISHED},
    REMOTES,
    subsets=SUBSETS,
    suffixes=(".mp3", ".wav", ".flac", ".ogg", ".m4a", ".clip.mp3"),
    layout=Layout("audio", "{subset}"),
    not_offered="the audio is no longer distributed: put your own into audio, as audio/A/B/C/TRABCXX128F0000000.mp3",
)
