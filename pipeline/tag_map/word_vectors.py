"""Tag vectors out of a text file of word vectors, word2vec's or GloVe's: what texts say that tags have in common.

A line is a name and its numbers, between spaces or tabs. word2vec's files begin with a line of two counts, GloVe's do
not; both are read, gzipped too. Names may have spaces in them (some of GloVe's have): the numbers are the last ones of
a line, as many as most lines have. A file of gigabytes is read once, a line at a time.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, cast

import numpy as np
import numpy.typing as npt

from pipeline.tag_map.vectors import TagVectors
from preprocessing.errors import BadInputError

LONGEST_LINE: Final = 1 << 20
"""Bytes: 300 numbers take 3,000; without a limit a file without lines would be read into memory whole."""
LOOKED_AT: Final = 100
"""First lines, by which it is found how many numbers a line has."""
SHOWN: Final = 5
"""Broken lines that are named."""

_GZIP: Final = b"\x1f\x8b"
_SPACES: Final = re.compile(rb"[ \t]+")
_BETWEEN_WORDS: Final = re.compile(r"[\s_\-/]+")
_CATEGORY: Final = "---"

Row = npt.NDArray[np.float64]


class _BrokenLine(Exception):  # noqa: N818 no error of the program
    pass


@dataclass
class _Broken:
    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, number: int, why: str) -> None:
        self.count += 1
        if self.count <= SHOWN:
            self.shown.append(f"line {number} {why}")

    def __str__(self) -> str:
        more = f", and {self.count - SHOWN:,} more" if self.count > SHOWN else ""
        return "; ".join(self.shown) + more


def read_word_vectors(path: Path, tags: Sequence[str]) -> TagVectors:
    """Look tags up in a file of word vectors.

    A tag is looked up whole (``hip hop``, ``hip_hop``, ``hip-hop``, ``hiphop``); else it has the mean of the vectors of
    its words, each of length 1. What stands before three dashes (``mood/theme---calm``) is left off. A name in other
    capitals is taken where there is none in the tag's; of several equal names the first one, the most frequent.

    Args:
        path: the file.
        tags: that are looked for.

    Returns:
        The vectors of the tags that were found. ``left_out`` says which words the file lacks for the others, ``notes``
        which lines are broken: those with too few numbers, and those of looked-for words with something else in place
        of numbers.

    Raises:
        BadInputError: the file cannot be read, is none of word vectors, or has fewer than three of the tags.
    """
    wanted = {spelling.casefold() for tag in tags for spelling in (*_spellings(tag), *_words(tag))}
    broken, found = _Broken(), dict[str, Row]()
    with contextlib.closing(_lines(path)) as lines:
        beginning = list(itertools.islice(lines, LOOKED_AT))
        width, header = _width(beginning, path)
        for number, line in itertools.chain(beginning[header:], lines):
            try:
                name, numbers = _divided(line, width)
                if name.casefold() in wanted and name not in found:
                    found[name] = _vector(numbers)
            except _BrokenLine as error:
                broken.add(number, str(error))
    return _looked_up(tags, found, width, path, broken)


def _looked_up(tags: Sequence[str], found: dict[str, Row], width: int, path: Path, broken: _Broken) -> TagVectors:
    folded: dict[str, str] = {}
    for name in found:
        folded.setdefault(name.casefold(), name)

    def named(spelling: str) -> Row | None:
        return found.get(spelling if spelling in found else folded.get(spelling.casefold(), ""))

    names, rows, missing = [], [], {}
    for tag in tags:
        whole = next((row for row in map(named, _spellings(tag)) if row is not None), None)
        parts = {word: named(word) for word in _words(tag)}
        lacking = [word for word, row in parts.items() if row is None]
        if whole is None and (lacking or not parts):
            missing[tag] = f"the file has no {', no '.join(map(repr, lacking or [tag]))}"
            continue
        names.append(tag)
        rows.append(whole if whole is not None else np.mean([row for row in parts.values() if row is not None], axis=0))
    notes = [f"{path}: broken and left out: {broken}"] if broken.count else []
    values = np.array(rows).reshape(len(rows), width)
    return TagVectors.of(names, values, f"the word vectors of {path.name}", missing, notes)


def _spellings(tag: str) -> list[str]:
    words = _words(tag)
    return [_name(tag), *(between.join(words) for between in (" ", "_", "-", ""))]


def _words(tag: str) -> list[str]:
    return [word for word in _BETWEEN_WORDS.split(_name(tag)) if word]


def _name(tag: str) -> str:
    return tag.rpartition(_CATEGORY)[2].strip()


def _lines(path: Path) -> Generator[tuple[int, bytes], None, None]:
    """Yield number and text of the lines that are not empty.

    Raises:
        BadInputError: the file cannot be read, or has a line that is no text's.
    """
    try:
        with path.open("rb") as plain:
            packed = plain.read(len(_GZIP)) == _GZIP
            plain.seek(0)
            with gzip.open(plain) if packed else contextlib.nullcontext(plain) as opened:
                stream = cast(IO[bytes], opened)
                for number in itertools.count(1):
                    line = stream.readline(LONGEST_LINE)
                    if not line:
                        return
                    if len(line) == LONGEST_LINE:
                        raise BadInputError(f"{path}: line {number} is longer than {LONGEST_LINE:,} bytes: {_NO_TEXT}")
                    text = line.strip(b" \t\r\n")
                    if text:
                        yield number, text
    except (OSError, EOFError, zlib.error) as error:
        raise BadInputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


_NO_TEXT: Final = (
    "this is no text file of word vectors. word2vec's binary files have to be saved as text first, such as with "
    "gensim's save_word2vec_format(FILE, binary=False)"
)


def _width(beginning: Sequence[tuple[int, bytes]], path: Path) -> tuple[int, bool]:
    """How many numbers most lines end with, and whether the first line is one of two counts."""
    if any(b"\0" in line for _, line in beginning):
        raise BadInputError(f"{path}: has bytes that no text has: {_NO_TEXT}")
    said = _counts(beginning)
    header = said is not None
    numbers = Counter(_numbers_at_end(line) for _, line in beginning[header:])
    width, _ = min(numbers.items(), key=lambda item: (-item[1], item[0]), default=(0, 0))
    if width == 0:
        raise BadInputError(f"{path}: its first lines are no names followed by numbers: {_NO_TEXT}")
    if said is not None and said != width:
        raise BadInputError(f"{path}: its first line says that a word has {said} numbers, and most have {width}")
    return width, header


def _counts(beginning: Sequence[tuple[int, bytes]]) -> int | None:
    """Numbers a word, where the first line is word2vec's: words, numbers a word."""
    fields = _SPACES.split(beginning[0][1]) if beginning else []
    if len(fields) != 2 or not all(field.isdigit() and len(field) < 10 for field in fields):
        return None
    width = int(fields[1])
    follows = len(_SPACES.split(beginning[1][1])) if len(beginning) > 1 else 0
    return width if follows > 2 or follows == width + 1 else None


def _numbers_at_end(line: bytes) -> int:
    """How many fields behind the first one are numbers, counted from the end."""
    fields = _SPACES.split(line)[1:]
    return sum(1 for _ in itertools.takewhile(_is_number, reversed(fields)))


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _divided(line: bytes, width: int) -> tuple[str, list[bytes] | bytes]:
    """A line's name and its numbers, divided only where the name may have spaces in it."""
    if b"\t" in line or b"  " in line:
        line = _SPACES.sub(b" ", line)
    spaces = line.count(b" ")
    if spaces == width:
        name, _, numbers = line.partition(b" ")
        return name.decode(errors="replace"), numbers
    if spaces < width:
        raise _BrokenLine(f"has {spaces} numbers in place of {width}")
    name, *fields = line.rsplit(b" ", width)
    return name.decode(errors="replace"), fields


def _vector(numbers: list[bytes] | bytes) -> Row:
    fields = numbers.split(b" ") if isinstance(numbers, bytes) else numbers
    try:
        row = np.array([float(number) for number in fields])
    except ValueError as error:
        raise _BrokenLine(f"has something else than a number: {error}") from None
    length = np.linalg.norm(row)
    if not 0 < length < np.inf:
        raise _BrokenLine(f"is a vector of length {length}")
    unit: Row = row / length
    return unit
