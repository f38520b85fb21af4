"""A small made-up instance of every data set of the registry, in its publisher's exact formats, with short audio.

A new data set needs one more ``Sample`` here: the contract suite and the commands are then
tried on it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from audio_samples import annotation_rows, clip_paths, encoded, table, tone

from datasets.gtzan import GENRES
from datasets.jamendo import COLUMNS, PARTS, table_name
from datasets.msd import CALS_50, TOP_50, path_of

SPLITS: Final = ("train", "valid", "test")
Edit = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Sample:
    """A small instance of a data set.

    Attributes:
        dataset, subset: what it is one of.
        write: puts annotations and audio into a folder, as the data set's layout has it.
        counts: clips of each published split; empty where there is none.
        tags: that its clips have.
        artists: whether each clip's artist is known.
        faults: file below the folder, change of its bytes, message that must come.
    """

    dataset: str
    subset: str
    write: Callable[[Path], None]
    counts: Mapping[str, int]
    tags: frozenset[str]
    artists: bool
    faults: tuple[tuple[str, Edit, str], ...]

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.subset}" if self.subset else self.dataset


def swap(old: bytes, new: bytes) -> Edit:
    """Replace the first of some bytes, which must be there."""

    def edit(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return edit


def append(line: bytes) -> Edit:
    return lambda data: data + line


def array(values: object) -> bytes:
    """A file of numpy."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values))
    return buffer.getvalue()


def write_audio(path: Path, number: int, kind: str = "MP3") -> None:
    """Two seconds of a tone that only this number has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(tone(2.0, hz=200.0 + 17 * number), kind=kind))


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def split_of(number: int) -> str:
    """12 of 20 for training, 4 and 4 for the others, in blocks of four (one artist's)."""
    return ("train", "train", "valid", "train", "test")[number // 4 % 5]


COUNTS: Final = {"train": 12, "valid": 4, "test": 4}


def _mtat(folder: Path) -> None:
    paths = clip_paths(32)
    clips = {path: [("guitar", "slow", "techno")[at % 3]] for at, path in enumerate(paths)}
    write_text(folder / "annotations_final.csv", table(annotation_rows(clips)))
    for number, path in enumerate(paths):
        write_audio(folder / path, number)


MTAT_FAULTS: Final = (
    ("annotations_final.csv", swap(b'"mp3_path"', b'"path"'), "annotations_final.csv line 1: the column 'mp3_path'"),
    ("annotations_final.csv", swap(b'"1"\t"1"', b'"1"\t"2"'), "annotations_final.csv line 2: '2' for the tag 'guitar'"),
    ("annotations_final.csv", swap(b'\n"2"', b'\n"1"'), "annotations_final.csv line 3: clip 1 stands on line 2"),
)


def _table(folder: Path) -> None:
    lines = ["file,artist,track,split,tags"]
    for number in range(20):
        lines.append(
            f"songs/{number}.mp3,artist {number // 4},song {number // 2},{split_of(number)},rock|t{number % 3}"
        )
        write_audio(folder / "songs" / f"{number}.mp3", number)
    write_text(folder / "annotations_final.csv", "\n".join(lines) + "\n")


JAMENDO_TAGS: Final = {
    "top50tags": ("genre---rock", "instrument---piano", "mood/theme---happy"),
    "autotagging": ("genre---rock", "genre---swing", "mood/theme---calm"),
    "genre": ("genre---rock", "genre---jazz", "genre---ambient"),
    "instrument": ("instrument---piano", "instrument---voice", "instrument---bass"),
    "moodtheme": ("mood/theme---calm", "mood/theme---epic", "mood/theme---dark"),
}


def _jamendo(subset: str) -> Callable[[Path], None]:
    tags = JAMENDO_TAGS[subset]

    def write(folder: Path) -> None:
        for number in range(20):
            track = 901 + 100 * number
            write_audio(folder / "audio" / f"{track % 100:02d}" / f"{track}.low.mp3", number)
        for part, split in PARTS.items():
            rows = ["\t".join(COLUMNS)]
            for number in range(20):
                track = 901 + 100 * number
                own = [tags[number % 3], *([tags[(number + 1) % 3]] if number % 2 else [])]
                if split_of(number) == split:
                    ids = f"track_{track:07d}", f"artist_{number // 4:06d}", f"album_{number:06d}"
                    rows.append("\t".join([*ids, f"{track % 100:02d}/{track}.mp3", f"{60 + number}.5", *own]))
            write_text(
                folder / "data" / "splits" / "split-0" / table_name(subset, part), "".join(f"{row}\r\n" for row in rows)
            )

    return write


def _jamendo_faults(subset: str) -> tuple[tuple[str, Edit, str], ...]:
    name = table_name(subset, "train")
    path, tag = f"data/splits/split-0/{name}", JAMENDO_TAGS[subset][0].encode()
    return (
        (path, swap(b"TRACK_ID", b"ID"), f"{name} line 1: expected the columns TRACK_ID"),
        (path, swap(b"track_0000901", b"901"), f"{name} line 2: '901' is no track's id"),
        (path, swap(b"artist_000000", b"nobody"), f"{name} line 2: 'nobody' is no artist's id"),
        (path, swap(b"01/901.mp3", b"../901.mp3"), f"{name} line 2: '../901.mp3' is no path inside the audio folder"),
        (path, swap(b"60.5", b"long"), f"{name} line 2: 'long' for DURATION"),
        (path, swap(b"\t" + tag, b""), f"{name} line 2: 5 cells; a track has 6 or more"),
        (path, swap(tag, b"rock"), f"{name} line 2: 'rock' is no tag such as genre---rock"),
        (path, swap(tag, tag + b"\t" + tag), f"{name} line 2: the tag '{tag.decode()}' stands there twice"),
        (
            path,
            swap(b"track_0001001", b"track_0000901"),
            f"{name} line 3: track_0000901 stands in {name} line 2 already",
        ),
        (path, swap(b"track_0001001", b"track_0001701"), "line 2: track_0001701 stands in " + f"{name} line 3 already"),
        (path, lambda data: data.splitlines(True)[0], f"{name}: the table has a header and no track"),
        (path, lambda data: data + b"\xff", f"{name} line 14: not UTF-8"),
    )


def _song(number: int) -> str:
    return f"TR{chr(65 + number)}ABCD128F{number:07d}"


def _msd_conventional(folder: Path) -> None:
    for split, name in {"train": "train", "valid": "val", "test": "test"}.items():
        lines = []
        for number in range(20):
            vector = [int(at in (number % 3, 5)) for at in range(50)]
            if split_of(number) == split:
                lines.append(f"{_song(number)}\t{vector}\n")
        write_text(folder / "conventional" / f"{name}_gt_msd.tsv", "".join(lines))
    for number in range(20):
        write_audio(folder / "audio" / path_of(_song(number)), number)


def _msd_cals(folder: Path) -> None:
    for split in SPLITS:
        numbers = [number for number in range(20) if split_of(number) == split]
        vectors = np.zeros((len(numbers), 50), "u1")
        for row, number in enumerate(numbers):
            vectors[row, [number % 3, 5]] = 1
        (folder / "cals").mkdir(exist_ok=True)
        (folder / "cals" / f"{split}_ids.npy").write_bytes(array([_song(number) for number in numbers]))
        (folder / "cals" / f"{split}_binaries.npy").write_bytes(array(vectors))
    for number in range(20):
        write_audio((folder / "audio" / path_of(_song(number))).with_suffix(".wav"), number, "WAV")


MSD_FAULTS: Final = (
    (
        "conventional/train_gt_msd.tsv",
        swap(b"TRA", b"trA"),
        "train_gt_msd.tsv line 1: 'trAABCD128F0000000' is no song's id",
    ),
    (
        "conventional/train_gt_msd.tsv",
        swap(b"1, 0", b"0"),
        "train_gt_msd.tsv line 1: expected an id, a tab and a list of 50",
    ),
    (
        "conventional/train_gt_msd.tsv",
        swap(b"[1", b"[2"),
        "train_gt_msd.tsv line 1: expected an id, a tab and a list of 50",
    ),
    ("conventional/train_gt_msd.tsv", swap(b"\t[", b" ["), "train_gt_msd.tsv line 1: 'TRAABCD128F0000000 "),
    (
        "conventional/train_gt_msd.tsv",
        swap(b"]\n", b"\n"),
        "train_gt_msd.tsv line 1: expected an id, a tab and a list of 50",
    ),
    (
        "conventional/test_gt_msd.tsv",
        append(b"TRAABCD128F0000000\t" + str([0] * 50).encode()),
        "test_gt_msd.tsv line 5: TRAABCD128F0000000 stands in train_gt_msd.tsv line 1 already",
    ),
    ("conventional/test_gt_msd.tsv", lambda data: b"\n", "test_gt_msd.tsv line 1: the file is empty"),
)
CALS_FAULTS: Final = (
    ("cals/train_ids.npy", lambda data: b"\x80\x02]q\x00.", "train_ids.npy: not an array of numpy"),
    ("cals/train_ids.npy", lambda data: array([_song(0)]), "train_binaries.npy: expected zeros and ones [1, 50]"),
    ("cals/train_ids.npy", lambda data: array(range(12)), "train_ids.npy: expected a list of ids; found int64 [12]"),
    (
        "cals/train_ids.npy",
        lambda data: array(["a", *map(_song, range(11))]),
        "train_ids.npy row 0: 'a' is no song's id",
    ),
    (
        "cals/test_ids.npy",
        lambda data: array(list(map(_song, range(4)))),
        "test_ids.npy row 0: TRAABCD128F0000000 stands in",
    ),
    (
        "cals/train_binaries.npy",
        lambda data: array(np.full((12, 50), 0.5)),
        "train_binaries.npy: expected zeros and ones",
    ),
)


def _fma(subset: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        groups = ["", "album", "artist", "artist", "set", "set", "track", "track", "track", "track", "track"]
        names = ["", "title", "id", "name", "split", "subset", "duration", "genre_top", "genres", "genres_all", "title"]
        lines = [",".join(groups), ",".join(names), "track_id" + "," * 10]
        echonest = [
            ",echonest,echonest,echonest",
            ",audio_features,audio_features,metadata",
            ",tempo,valence,album_name",
            "track_id,,,",
        ]
        published = {"train": "training", "valid": "validation", "test": "test"}
        for number in range(20):
            track, label = 2 + 7 * number, ("small", "medium", "large")[number % 4 % 3]
            top, own = (("Rock", "[12, 25]"), ("Folk", "[17]"), ("", "[12, 17]"))[number % 3]
            album = '"An album, with ""quotes""\nand a line"' if number == 0 else "Album"
            where = f"{published[split_of(number)]},{label}"
            lines.append(f'{track},{album},{number // 4},Someone,{where},168,{top},[25],"{own}",Ä song')
            if number % 2 == 0:
                echonest.append(f"{track},120.0000000000,{number / 19:.10f},An album")
            write_audio(folder / f"fma_{subset}" / f"{track:06d}"[:3] / f"{track:06d}.mp3", number)
        genres = "genre_id,#tracks,parent,title,top_level\n12,5,0,Rock,12\n17,4,0,Folk,17\n25,3,12,Punk,12\n"
        for name, text in {"tracks": "\n".join(lines), "echonest": "\n".join(echonest), "genres": genres}.items():
            write_text(folder / "fma_metadata" / f"{name}.csv", text.rstrip("\n") + "\n")

    return write


FMA_FAULTS: Final = (
    (
        "fma_metadata/tracks.csv",
        swap(b"training", b"train"),
        "tracks.csv line 5: 'train' is no split; expected training",
    ),
    ("fma_metadata/tracks.csv", swap(b",small,", b",tiny,"), "tracks.csv line 5: 'tiny' is no subset; expected small"),
    (
        "fma_metadata/tracks.csv",
        swap(b'"[12, 25]"', b'"[12, 26]"'),
        "tracks.csv line 5: the genre 26 is not in genres.csv",
    ),
    ("fma_metadata/tracks.csv", swap(b'"[12, 25]"', b"Rock"), "tracks.csv line 5: 'Rock' for genres_all"),
    (
        "fma_metadata/tracks.csv",
        swap(b"\n9,Album,0,", b"\n9,Album,"),
        "tracks.csv line 6: 10 cells where the header has 11",
    ),
    (
        "fma_metadata/tracks.csv",
        swap(b"\n9,Album,0,", b"\n9,Album,me,"),
        "tracks.csv line 6: 'me' is no artist's number",
    ),
    ("fma_metadata/tracks.csv", swap(b"\n9,", b"\n2,"), "tracks.csv line 6: 2 stands in tracks.csv line 5 already"),
    ("fma_metadata/tracks.csv", swap(b"\n9,", b"\nnine,"), "tracks.csv line 6: 'nine' is no track's number"),
    (
        "fma_metadata/tracks.csv",
        swap(b"genre_top", b"top"),
        "tracks.csv line 2: the column track / genre_top stands there 0",
    ),
    ("fma_metadata/tracks.csv", swap(b",album", b""), "tracks.csv line 1: expected 2 header lines of one length"),
    ("fma_metadata/genres.csv", swap(b"\n17,", b"\n12,"), "genres.csv line 3: the genre 12 stands there twice"),
    ("fma_metadata/genres.csv", swap(b"title", b"name"), "genres.csv line 1: the column 'title' is missing"),
    ("fma_metadata/genres.csv", swap(b"\n17,", b"\nx,"), "genres.csv line 3: expected a genre's number"),
    ("fma_metadata/echonest.csv", swap(b",0.0000000000", b",1.5"), "echonest.csv line 5: '1.5' for valence"),
    (
        "fma_metadata/echonest.csv",
        swap(b"valence", b"v"),
        "echonest.csv line 3: the column echonest / audio_features / valence",
    ),
)
FMA_COUNTS: Final = {"small": {"train": 6, "valid": 2, "test": 2}, "medium": {"train": 9, "valid": 3, "test": 3}}


def _gtzan(folder: Path) -> None:
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    for number in range(20):
        genre = GENRES[number % 2]
        lists[split_of(number)].append(f"{genre}/{genre}.{number:05d}.wav\n")
        write_audio(folder / "genres" / genre / f"{genre}.{number:05d}.au", number, "AU")
    for split, lines in lists.items():
        write_text(folder / f"{split}_filtered.txt", "".join(lines))


GTZAN_FAULTS: Final = (
    (
        "train_filtered.txt",
        swap(b"blues/", b"polka/"),
        "train_filtered.txt line 1: 'polka/blues.00000.wav' is no path such",
    ),
    ("train_filtered.txt", swap(b"blues.00000", b"rock.00000"), "train_filtered.txt line 1: 'blues/rock.00000.wav'"),
    ("train_filtered.txt", swap(b"00000", b"7"), "train_filtered.txt line 1: 'blues/blues.7.wav' is no path"),
    (
        "test_filtered.txt",
        append(b"blues/blues.00000.wav"),
        "test_filtered.txt line 5: blues/blues.00000 stands in train_",
    ),
    ("valid_filtered.txt", lambda data: b"", "valid_filtered.txt line 1: the file is empty"),
)


def _folders(folder: Path) -> None:
    for number in range(20):
        genre = ("blues", "classical")[number % 2]
        write_audio(folder / genre / f"artist {number // 4}" / "album" / f"{number:02d}.mp3", number)


FOLDERS_TAGS: Final = {
    "class": frozenset({"blues", "classical"}),
    "path": frozenset({"blues", "classical", "album", *(f"artist {number}" for number in range(5))}),
}

SAMPLES: Final = (
    Sample("mtat", "", _mtat, {}, frozenset({"guitar", "slow", "techno"}), True, MTAT_FAULTS),
    Sample("synthetic", "", _mtat, {}, frozenset({"guitar", "slow", "techno"}), True, MTAT_FAULTS),
    Sample(
        "table",
        "",
        _table,
        COUNTS,
        frozenset({"rock", "t0", "t1", "t2"}),
        True,
        (
            (
                "annotations_final.csv",
                swap(b"songs/0.mp3", b"../0.mp3"),
                "annotations_final.csv line 2: '../0.mp3' is no",
            ),
            ("annotations_final.csv", swap(b",train,", b",all,"), "annotations_final.csv line 2: 'all' is no split"),
        ),
    ),
    *(Sample("folders", subset, _folders, {}, tags, True, ()) for subset, tags in FOLDERS_TAGS.items()),
    *(
        Sample("jamendo", subset, _jamendo(subset), COUNTS, frozenset(tags), True, _jamendo_faults(subset))
        for subset, tags in JAMENDO_TAGS.items()
    ),
    Sample(
        "msd",
        "conventional",
        _msd_conventional,
        COUNTS,
        frozenset(TOP_50[at] for at in (0, 1, 2, 5)),
        False,
        MSD_FAULTS,
    ),
    Sample("msd", "cals", _msd_cals, COUNTS, frozenset(CALS_50[at] for at in (0, 1, 2, 5)), False, CALS_FAULTS),
    *(
        Sample(
            "fma",
            subset,
            _fma(subset),
            FMA_COUNTS.get(subset, COUNTS),
            frozenset(
                "genre_top---Rock genre_top---Folk genre---Rock genre---Folk genre---Punk mood---sad mood---neutral "
                "mood---happy".split()
            ),
            True,
            FMA_FAULTS,
        )
        for subset in ("small", "medium", "large")
    ),
    Sample("gtzan", "", _gtzan, COUNTS, frozenset({"blues", "classical"}), False, GTZAN_FAULTS),
)
