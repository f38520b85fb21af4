"""From settings to clips and a manifest: where a data set and the preprocessing meet."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

from datasets.dataset import DEFAULT, Source
from datasets.registry import find_dataset
from preprocessing import storage
from preprocessing.clips import AnnotatedClip
from preprocessing.errors import BadInputError
from preprocessing.manifest import Manifest, PreprocessSettings, build_manifest, check_folder
from preprocessing.splits import Split
from preprocessing.tags import merge_synonyms, parse_synonyms, read_tag_list


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
    clips = dataset.read(Source(audio_dir, annotations, settings.columns))
    if settings.synonyms:
        clips = merge_synonyms(clips, load_synonyms(settings.synonyms, settings.dataset))
    return clips


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


def load_tags(source: str, dataset: str = "mtat") -> tuple[str, ...]:
    """Read a list of tags to learn.

    Args:
        source: a file with a tag a line, or ``default`` for the list that is published for the data set.
        dataset: its name.

    Raises:
        BadInputError: the file cannot be read, or no list is published for the data set.
    """
    if source == DEFAULT:
        tags = find_dataset(dataset).tags
        if not tags:
            raise BadInputError(f"tags file default: no list is published for the data set {dataset!r}; give a file")
        return tags
    return read_tag_list(source)
