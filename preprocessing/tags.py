"""Tags of clips: merging of synonyms, lists that somebody chose, the most frequent ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import yaml

from preprocessing import storage
from preprocessing.clips import AnnotatedClip
from preprocessing.errors import BadInputError


def parse_synonyms(text: str, name: str) -> dict[str, str]:
    """Parse a synonym table: a YAML mapping of each kept tag to the list of tags merged into it.

    Args:
        text: the table.
        name: what to call it in messages.

    Returns:
        merged tag -> kept tag.

    Raises:
        BadInputError: it is no such mapping, or sends one tag to two.
    """
    try:
        groups = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInputError(f"synonyms {name}: {error}") from None
    if not isinstance(groups, dict) or not all(isinstance(group, list) for group in groups.values()):
        raise BadInputError(f"synonyms {name}: expected a mapping such as 'female: [female vocal, woman]'")
    merged: dict[str, str] = {}
    for kept, group in groups.items():
        for tag in map(str, group):
            if merged.setdefault(tag, str(kept)) != str(kept):
                raise BadInputError(f"synonyms {name}: {tag!r} is merged into {merged[tag]!r} and into {kept!r}")
    chained = sorted(merged.keys() & set(merged.values()))
    if chained:
        raise BadInputError(f"synonyms {name}: {chained[0]!r} is both kept and merged into {merged[chained[0]]!r}")
    return merged


def merge_synonyms(clips: Iterable[AnnotatedClip], synonyms: Mapping[str, str]) -> list[AnnotatedClip]:
    """Replace each tag by the one it is merged into; a tag that comes up twice then stands once."""
    return [replace(clip, tags=tuple(dict.fromkeys(synonyms.get(tag, tag) for tag in clip.tags))) for clip in clips]


def read_tag_list(path: str) -> tuple[str, ...]:
    """Read a file with a tag a line, such as tags.txt of an earlier job; empty lines are left out.

    Raises:
        BadInputError: it cannot be read.
    """
    try:
        text = storage.read_bytes(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"tags file {path}: {getattr(error, 'strerror', None) or error}") from None
    return tuple(line.strip() for line in text.splitlines() if line.strip())


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


def training_tags(
    clips: Sequence[AnnotatedClip], splits: Sequence[str], count: int, name: str = "the annotations"
) -> list[str]:
    """Return the training split's most frequent tags; fewer than ``count`` where some stand in other splits alone.

    Args:
        clips: all of them.
        splits: each clip's.
        count: how many tags at most.
        name: what to call the annotations in messages.

    Raises:
        BadInputError: fewer than ``count`` tags are used by all clips together, or none in the training split.
    """
    most_frequent_tags(clips, count, name)
    learnt = [clip for clip, split in zip(clips, splits, strict=True) if split == "train"]
    used = {tag for clip in learnt for tag in clip.tags}
    return most_frequent_tags(learnt, min(count, len(used)), f"{name}, training split")
