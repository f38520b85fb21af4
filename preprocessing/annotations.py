"""MagnaTagATune's annotation table: parsing, merging of synonyms, the most frequent tags.

``annotations_final.csv`` is tab separated, every cell quoted: ``clip_id``, one column a tag with 0 or 1, ``mp3_path``.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import PurePosixPath

import yaml

from preprocessing.errors import BadInputError

ID_COLUMN = "clip_id"
PATH_COLUMN = "mp3_path"

_SEGMENT = re.compile(r"(?P<track>.+)-\d+-\d+")


@dataclass(frozen=True)
class AnnotatedClip:
    """One row of the annotations.

    Attributes:
        clip_id: as in the table.
        path: of the audio, relative to the audio folder, with forward slashes.
        tags: the clip's tags, in the table's column order.
    """

    clip_id: str
    path: str
    tags: tuple[str, ...]

    @property
    def folder(self) -> str:
        """First component of the path: MagnaTagATune's part 0 to f."""
        return PurePosixPath(self.path).parts[0]

    @property
    def track(self) -> str:
        """Artist-album-number-title: the file's name without its segment, the same for all clips of one track.

        A file of another name is a track of its own, and its path without the suffix is the track's name.
        """
        path = PurePosixPath(self.path)
        match = _SEGMENT.fullmatch(path.stem)
        return match["track"] if match else str(path.with_suffix(""))


def parse_annotations(data: bytes, name: str) -> list[AnnotatedClip]:
    """Parse an annotation table.

    Args:
        data: the file's bytes, UTF-8.
        name: the file's name, for messages.

    Raises:
        BadInputError: with the line number, on the first thing that is wrong.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInputError(f"{name} line {line}: not UTF-8 text (byte {error.object[error.start]:#04x})") from None
    first = text.partition("\n")[0]
    if "\t" not in first and ("," in first or ";" in first):
        raise BadInputError(f"{name} line 1: the columns are not separated by tabs; MagnaTagATune's table is")
    return _parse_rows(_rows(text, name), name)


def _rows(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of each line that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise BadInputError(f"{name} line {reader.line_num}: {error}") from None


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
        if len(row) != len(header):
            raise BadInputError(f"{where}: {len(row)} cells where the header has {len(header)}")
        clip_id, path = row[id_at].strip(), row[path_at].strip()
        _check_identity(clip_id, path, seen, where)
        seen[clip_id] = line
        for at, column in tag_columns:
            if row[at] not in ("0", "1"):
                raise BadInputError(f"{where}: {row[at]!r} for the tag {column!r}; expected 0 or 1")
        clips.append(AnnotatedClip(clip_id, path, tuple(column for at, column in tag_columns if row[at] == "1")))
    if not clips:
        raise BadInputError(f"{name}: the table has a header and no clip")
    return clips


def _check_header(header: Sequence[str], name: str) -> None:
    for column in (ID_COLUMN, PATH_COLUMN):
        if column not in header:
            raise BadInputError(f"{name} line 1: the column {column!r} is missing; found {len(header)} columns")
    doubled = [column for column, count in Counter(header).items() if count > 1]
    if doubled:
        raise BadInputError(f"{name} line 1: the column {doubled[0]!r} stands there twice")
    if len(header) < 3:
        raise BadInputError(f"{name} line 1: there is no tag column")


def _check_identity(clip_id: str, path: str, seen: Mapping[str, int], where: str) -> None:
    if not clip_id:
        raise BadInputError(f"{where}: no {ID_COLUMN}")
    if clip_id in seen:
        raise BadInputError(f"{where}: clip {clip_id} stands on line {seen[clip_id]} already")
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise BadInputError(f"{where}: {path!r} is no path inside the audio folder")


def load_synonyms(source: str) -> dict[str, str]:
    """Read a synonym table: a YAML mapping of each kept tag to the list of tags merged into it.

    Args:
        source: a file's path, or ``default`` for MagnaTagATune's synonyms that come with the package.

    Returns:
        merged tag -> kept tag.

    Raises:
        BadInputError: the file cannot be read, is no such mapping, or sends one tag to two.
    """
    try:
        if source == "default":
            text = (resources.files("preprocessing") / "mtat_synonyms.yaml").read_text(encoding="utf-8")
        else:
            with open(source, encoding="utf-8") as file:
                text = file.read()
        groups = yaml.safe_load(text)
    except OSError as error:
        raise BadInputError(f"synonyms {source}: {error.strerror or error}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInputError(f"synonyms {source}: {error}") from None
    if not isinstance(groups, dict) or not all(isinstance(group, list) for group in groups.values()):
        raise BadInputError(f"synonyms {source}: expected a mapping such as 'female: [female vocal, woman]'")
    merged: dict[str, str] = {}
    for kept, group in groups.items():
        for tag in map(str, group):
            if merged.setdefault(tag, str(kept)) != str(kept):
                raise BadInputError(f"synonyms {source}: {tag!r} is merged into {merged[tag]!r} and into {kept!r}")
    chained = sorted(merged.keys() & set(merged.values()))
    if chained:
        raise BadInputError(f"synonyms {source}: {chained[0]!r} is both kept and merged into {merged[chained[0]]!r}")
    return merged


def merge_synonyms(clips: Iterable[AnnotatedClip], synonyms: Mapping[str, str]) -> list[AnnotatedClip]:
    """Replace each tag by the one it is merged into; a tag that comes up twice then stands once."""
    return [replace(clip, tags=tuple(dict.fromkeys(synonyms.get(tag, tag) for tag in clip.tags))) for clip in clips]


def check_tags(clips: Iterable[AnnotatedClip], tags: Sequence[str], name: str = "the annotations") -> None:
    """Check a list of tags that somebody chose.

    Raises:
        BadInputError: it is empty, has a tag twice, or one that no clip has.
    """
    if not tags:
        raise BadInputError("the list of tags is empty")
    doubled = [tag for tag, count in Counter(tags).items() if count > 1]
    if doubled:
        raise BadInputError(f"the list of tags has {doubled[0]!r} twice")
    used = {tag for clip in clips for tag in clip.tags}
    unused = [tag for tag in tags if tag not in used]
    if unused:
        more = f" and {len(unused) - 1} more of the list" if len(unused) > 1 else ""
        raise BadInputError(f"{name}: no clip has the tag {unused[0]!r}{more}")


def most_frequent_tags(clips: Iterable[AnnotatedClip], count: int, name: str = "the annotations") -> list[str]:
    """Return the ``count`` most frequent tags, most frequent first, ties in alphabetical order.

    Raises:
        BadInputError: fewer than ``count`` tags are used at all.
    """
    counts = Counter(tag for clip in clips for tag in clip.tags)
    if not counts:
        raise BadInputError(f"{name}: no clip has any tag, so there is nothing to learn")
    if len(counts) < count:
        raise BadInputError(f"{name}: {count} tags are asked for and only {len(counts)} are used by any clip")
    return sorted(counts, key=lambda tag: (-counts[tag], tag))[:count]
