"""From settings to clips and a manifest: where a data set and the preprocessing meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import PurePosixPath
from typing import Final

from datasets.dataset import DEFAULT, Source
from datasets.registry import find_dataset
from preprocessing import storage
from preprocessing.clips import AnnotatedClip
from preprocessing.errors import BadInputError
from preprocessing.manifest import Manifest
from preprocessing.manifest_building import build_manifest, check_folder
from preprocessing.settings import PreprocessSettings
from preprocessing.splits import Split
from preprocessing.tags import merge_synonyms, parse_synonyms, read_tag_list

MOST_LOOKED_FOR: Final = 200
"""Clips whose audio is looked for under other suffixes: of an object store each look is a request."""


def read_manifest(
    audio_dir: str,
    annotations: str,
    settings: PreprocessSettings,
    on_clip: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read the annotations and every audio file's checksum, and assign the splits.

    Args:
        audio_dir: folder that the paths in the annotations are relative to.
        annotations: what the data set named in the settings reads: annotations_final.csv, a table ...
        settings: what decides the examples.
        on_clip: called with (clips read, clips in all) as checksums are made.

    Raises:
        BadInputError: the settings or the annotations are bad, the folder is not there, a split stays empty.
    """
    split = split_of(settings)
    check_folder(audio_dir)
    clips = read_clips(audio_dir, annotations, settings)
    return build_manifest(audio_dir, clips, split, settings, on_clip, annotations)


def read_clips(audio_dir: str, annotations: str, settings: PreprocessSettings) -> list[AnnotatedClip]:
    """Read the clips of the data set that the settings name, with synonyms merged where they ask for it.

    Raises:
        BadInputError: there is no such data set, or its annotations or the synonyms are bad.
    """
    dataset = find_dataset(settings.dataset)
    if settings.columns and not dataset.takes_columns:
        raise BadInputError(f"columns are given, and the data set {dataset.name!r} has its own: use the data set table")
    source = Source(audio_dir, annotations, settings.columns, dataset.subset_name(settings.subset))
    clips = find_audio(dataset.read(source), audio_dir, dataset.suffixes)
    if settings.synonyms:
        clips = merge_synonyms(clips, load_synonyms(settings.synonyms, settings.dataset))
    return clips


def find_audio(clips: list[AnnotatedClip], audio_dir: str, suffixes: Sequence[str]) -> list[AnnotatedClip]:
    """Give the clips' paths the suffix under which the audio lies: that of the first clip that is there decides.

    Args:
        clips: as annotated.
        audio_dir: folder that their paths are relative to.
        suffixes: that may stand in place of the annotated one, such as ``.low.mp3``.

    Returns:
        The clips with their annotated paths where none of the first clips is there under another name.
    """
    if not suffixes:
        return clips
    for clip in clips[:MOST_LOOKED_FOR]:
        stem = PurePosixPath(clip.path).with_suffix("")
        for suffix in dict.fromkeys((PurePosixPath(clip.path).suffix, *suffixes)):
            if _is_there(storage.join(audio_dir, f"{stem}{suffix}")):
                return [replace(one, path=f"{PurePosixPath(one.path).with_suffix('')}{suffix}") for one in clips]
    return clips


def _is_there(path: str) -> bool:
    try:
        return storage.exists(path)
    except OSError:
        return False


def split_of(settings: PreprocessSettings) -> Split:
    """Return the split rule that the settings name.

    Raises:
        BadInputError: the data set has no rule of that name.
    """
    rules = find_dataset(settings.dataset).rules
    if settings.split not in rules:
        raise BadInputError(
            f"split {settings.split!r}: expected one of {', '.join(rules)} for the data set {settings.dataset!r}"
        )
    return Split(rules[settings.split], settings.draw)


def load_synonyms(source: str, dataset: str = "mtat") -> dict[str, str]:
    """Read a synonym table (preprocessing.tags.parse_synonyms).

    Args:
        source: a file's path, or ``default`` for the data set's own.
        dataset: its name.

    Returns:
        merged tag -> kept tag.

    Raises:
        BadInputError: the file cannot be read or is no such table, or the data set has none.
    """
    if source == DEFAULT:
        name = find_dataset(dataset).synonyms
        if not name:
            raise BadInputError(f"synonyms default: the data set {dataset!r} has none; give a file")
        return parse_synonyms((resources.files("datasets") / name).read_text(encoding="utf-8"), DEFAULT)
    try:
        text = storage.read_bytes(source).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"synonyms {source}: {getattr(error, 'strerror', None) or error}") from None
    return parse_synonyms(text, source)


def load_tags(source: str, dataset: str = "mtat", subset: str = "") -> tuple[str, ...]:
    """Read a list of tags to learn.

    Args:
        source: a file with a tag a line, or ``default`` for the list that is published for the data set.
        dataset: its name.
        subset: of the data set; the default one unless given.

    Raises:
        BadInputError: the file cannot be read, or no list is published for the data set.
    """
    if source == DEFAULT:
        tags = find_dataset(dataset).tags_of(subset)
        if not tags:
            of = f"the subset {subset!r} of " if subset else ""
            raise BadInputError(
                f"tags file default: no list is published for {of}the data set {dataset!r}; give a file"
            )
        return tags
    return read_tag_list(source)
