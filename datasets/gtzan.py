"""GTZAN with the fault-filtered split: its card, lists and published split.

Content: 1,000 excerpts of 30 s (22,050 Hz, mono) of 10 genres, 100 of each. The fault-filtered lists keep 930 of
them: repetitions, distorted files and artists on two sides are out. Annotations are the folder with
``train_filtered.txt``, ``valid_filtered.txt`` and ``test_filtered.txt`` (443 / 197 / 290 clips), a path a line such
as ``blues/blues.00012.wav``; the folder in it is the clip's one tag. Files of the first release are ``.au``: found
too.

Source of the lists: Jongpil Lee, https://github.com/jongpillee/music_dataset_split (MIT), after Kereliuk, Sturm and
Larsen. The audio's publisher, http://marsyas.info/, no longer offers it.

Licence: not stated (audio); MIT (lists).

Citation: George Tzanetakis and Perry Cook. Musical genre classification of audio signals. IEEE Transactions on Speech
and Audio Processing 10(5), 2002, pages 293-302; split: Corey Kereliuk, Bob L. Sturm and Jan Larsen. Deep learning and
music adversaries. IEEE Transactions on Multimedia 17(11), 2015.

Splits: ``published``. No list says whose music a file is, so the rule ``artist`` cannot be used; the lists were made so
that no artist is in two of them.
"""

from __future__ import annotations

import re
from typing import Final

from datasets.dataset import Card, Dataset, Layout, Remote, Source
from datasets.delimited import check_new, decode, read_lines
from preprocessing.clips import AnnotatedClip, track_of_path
from preprocessing.errors import BadInputError
from preprocessing.splits import PUBLISHED, SEEDED_RULES

CARD: Final = Card(
    title="GTZAN, fault-filtered",
    sources=("https://github.com/jongpillee/music_dataset_split", "http://marsyas.info/"),
    licence="not stated (audio); MIT (lists)",
    counts={"clips": 930, "tags": 10},
    citation=(
        "George Tzanetakis and Perry Cook. Musical genre classification of audio signals. IEEE Transactions on Speech "
        "and Audio Processing 10(5), 2002, pages 293-302; split: Corey Kereliuk, Bob L. Sturm and Jan Larsen. Deep "
        "learning and music adversaries. IEEE Transactions on Multimedia 17(11), 2015."
    ),
)

GENRES: Final = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
LISTS: Final = {
    "train": ("train_filtered.txt", "a79e19d3ec0433e90c8ed65e7ae7fe75597c5e9f"),
    "valid": ("valid_filtered.txt", "6ebc11b3e4eb37117127618ba3469b92329475dc"),
    "test": ("test_filtered.txt", "5708b74bfead28a0ebf12b4fdb339f67d1490d4a"),
}
"""Split -> its list's name, and Git's checksum of the published one."""

COMMIT: Final = "07e855758f180ac8bdc0e3abebbde19277094681"
BASE_URL: Final = f"https://raw.githubusercontent.com/jongpillee/music_dataset_split/{COMMIT}/GTZAN_split/"
REMOTES: Final = tuple(Remote(name, BASE_URL + name, digest=f"git:{digest}") for name, digest in LISTS.values())

_PATH: Final = re.compile(rf"(?P<genre>{'|'.join(GENRES)})/(?P=genre)\.\d{{5}}\.(wav|au)")


def read(source: Source) -> list[AnnotatedClip]:
    """Read the three lists.

    Raises:
        BadInputError: one cannot be read, or is no such list; with its line.
    """
    seen: dict[str, str] = {}
    return [clip for split, (name, _) in LISTS.items() for clip in parse_list(source.read(name), name, split, seen)]


def parse_list(data: bytes, name: str, split: str, seen: dict[str, str]) -> list[AnnotatedClip]:
    """Parse a list of paths.

    Args:
        data: the file's bytes.
        name: the file's name, for messages.
        split: of all its clips.
        seen: tracks of other lists with their file and line; this one's are added.

    Raises:
        BadInputError: with the line number, on the first thing that is wrong.
    """
    clips = []
    for where, path in read_lines(decode(data, name), name):
        match = _PATH.fullmatch(path)
        if not match:
            raise BadInputError(f"{where}: {path!r} is no path such as blues/blues.00012.wav of {', '.join(GENRES)}")
        track = track_of_path(path)
        check_new(track, seen, where)
        seen[track] = where
        clips.append(AnnotatedClip(track, path, (match["genre"],), track, split=split))
    return clips


DATASET: Final = Dataset(
    "gtzan",
    CARD,
    read,
    {**SEEDED_RULES, "published": PUBLISHED},
    REMOTES,
    GENRES,
    suffixes=(".wav", ".au", ".mp3", ".flac"),
    layout=Layout("genres", ""),
    artists_apart=True,
    not_offered="the audio is no longer offered: put your own into genres, as genres/blues/blues.00000.wav or .au",
)
