"""What is there of a data set in a folder: clips, tracks, artists, tags, splits, and audio that is missing on disk."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.dataset import Dataset, Source
from datasets.reading import read_clips
from preprocessing import storage
from preprocessing.clips import AnnotatedClip
from preprocessing.constants import SPLITS
from preprocessing.errors import BadInputError
from preprocessing.settings import PreprocessSettings
from preprocessing.splits import Draw, SplitRule


@dataclass(frozen=True)
class OnDisk:
    """What lies on disk of the annotated clips.

    Attributes:
        annotated: clips that the annotations name.
        found: of these, how many lie on disk.
        missing: paths of those that do not.
        broken: clips on disk that are known to be broken or are empty: (clip_id, path, what is wrong).
    """

    annotated: int
    found: int
    missing: tuple[str, ...]
    broken: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Inventory:
    """What the annotations say and what lies on disk.

    Attributes:
        clips, tracks: how many.
        artists: how many; 0 where the annotations do not say.
        tags: tag -> clips that carry it, most frequent first.
        splits: rule -> split -> clips, of the rules that can place every clip.
        unusable: rule -> why it cannot be used.
        shared_artists: artists in two parts of the published split; None where artists or split are not known.
        on_disk: audio that is there, and that is not.
    """

    clips: int
    tracks: int
    artists: int
    tags: Mapping[str, int]
    splits: Mapping[str, Mapping[str, int]]
    unusable: Mapping[str, str]
    shared_artists: int | None
    on_disk: OnDisk


def take_inventory(dataset: Dataset, source: Source) -> Inventory:
    """Read the annotations and look for each clip's audio.

    Args:
        dataset: which it is.
        source: where it lies, on this machine.

    Raises:
        BadInputError: the annotations are bad, or the audio folder is none of this machine.
    """
    if not storage.is_local(source.audio_dir):
        raise BadInputError(f"{source.audio_dir}: audio is looked for on this machine alone; give a local folder")
    settings = PreprocessSettings(dataset=dataset.name, subset=source.subset, columns=source.columns)
    clips = read_clips(source.audio_dir, source.annotations, settings)
    counts = Counter(tag for clip in clips for tag in clip.tags)
    splits, unusable = {}, {}
    for name, rule in dataset.rules.items():
        try:
            splits[name] = _split_counts(clips, rule, frozenset(dataset.tags_of(source.subset)))
        except BadInputError as error:
            unusable[name] = str(error)
    return Inventory(
        clips=len(clips),
        tracks=len({clip.track for clip in clips}),
        artists=len({clip.artist for clip in clips if clip.artist}),
        tags=dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))),
        splits=splits,
        unusable=unusable,
        shared_artists=_shared_artists(clips),
        on_disk=look_on_disk(clips, Path(source.audio_dir), dataset.broken),
    )


def _split_counts(clips: Sequence[AnnotatedClip], rule: SplitRule, tags: frozenset[str]) -> dict[str, int]:
    kept = [clip for clip in clips if not (rule.tagged_only and tags) or tags.intersection(clip.tags)]
    counts = Counter(rule.split_of(clip, Draw()) for clip in kept)
    return {split: counts[split] for split in SPLITS}


def _shared_artists(clips: Sequence[AnnotatedClip]) -> int | None:
    sides: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        if clip.split is None or not clip.artist:
            return None
        sides[clip.artist].add(clip.split)
    return sum(len(found) > 1 for found in sides.values())


def look_on_disk(clips: Sequence[AnnotatedClip], folder: Path, broken: Mapping[str, str]) -> OnDisk:
    """Compare the annotated clips with what lies on disk.

    Args:
        clips: as annotated.
        folder: that their paths are relative to.
        broken: clip_id -> what is known to be wrong with the published file.
    """
    missing = missing_audio(clips, folder)
    gone = set(missing)
    there = [clip for clip in clips if clip.path not in gone]
    wrong = [(clip.clip_id, clip.path, _what_is_wrong(clip, folder, broken)) for clip in there]
    return OnDisk(len(clips), len(there), tuple(missing), tuple(entry for entry in wrong if entry[2]))


def _what_is_wrong(clip: AnnotatedClip, folder: Path, broken: Mapping[str, str]) -> str:
    if (folder / clip.path).stat().st_size == 0:
        return "empty"
    return broken.get(clip.clip_id, "")


def missing_audio(clips: Sequence[AnnotatedClip], folder: Path) -> list[str]:
    """Return the paths of the clips that do not lie on disk."""
    return [clip.path for clip in clips if not (folder / clip.path).is_file()]
