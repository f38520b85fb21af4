"""The manifest: what is to be preprocessed, one row a clip, cut into shards.

A row holds everything of the clip that its example depends on, the audio's checksum included, so the manifest's
fingerprint changes exactly when some example would.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from preprocessing import constants, storage
from preprocessing.annotations import (
    AnnotatedClip,
    check_tags,
    load_synonyms,
    merge_synonyms,
    most_frequent_tags,
    parse_annotations,
)
from preprocessing.audio import AUDIO_SUFFIXES
from preprocessing.errors import BadInputError
from preprocessing.splits import PAPER_RATIO, SplitRule, check_splits, unit_hash

EXAMPLE_VERSION = 1
"""Raise it when the bytes of an example change for the same clip: every shard is then written anew."""

NOT_OF_THE_EXAMPLE = frozenset({"N_TAGS", "SPLITS"})
"""Constants on which no example depends."""

MISSING = "missing"
UNREADABLE = "unreadable"
"""What stands for a checksum, and the kind of rejection, where a clip's file cannot be had."""


def example_contract() -> dict[str, Any]:
    """Return what every example depends on besides its clip: each constant of the clip contract."""
    values = {name: value for name, value in vars(constants).items() if name.isupper()}
    return {
        "version": EXAMPLE_VERSION,
        **{name: value for name, value in values.items() if name not in NOT_OF_THE_EXAMPLE},
    }


@dataclass(frozen=True)
class PreprocessSettings:
    """What decides the examples, beside the audio and the annotations.

    Attributes:
        split: rule, see preprocessing.splits.RULES.
        ratio: train : valid : test of the seeded rules.
        seed: of the seeded rules and of the order of clips.
        n_tags: size of the list of most frequent tags.
        tags: a list of tags in place of the most frequent ones; ``n_tags`` says nothing then.
        synonyms: file that says which tags are merged, ``default``, or None.
        shard_clips: clips in a shard, on average.
    """

    split: str = "track"
    ratio: tuple[int, int, int] = PAPER_RATIO
    seed: int = 0
    n_tags: int = constants.N_TAGS
    synonyms: str | None = None
    shard_clips: int = 128
    tags: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.shard_clips < 1:
            raise BadInputError(f"shard clips {self.shard_clips}: expected 1 or more")
        if self.n_tags < 1:
            raise BadInputError(f"number of tags {self.n_tags}: expected 1 or more")
        self.split_rule  # noqa: B018 checks the rule's name and ratio

    @property
    def split_rule(self) -> SplitRule:
        """The split rule with its seed."""
        return SplitRule(self.split, self.seed, self.ratio)


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


@dataclass(frozen=True)
class Clip:
    """One row of the manifest.

    Attributes:
        checksum: of the audio's bytes; ``missing`` or ``unreadable: ...`` where they could not be read.
        dropped: why the clip is left out by the split rule; empty for a clip that is to be preprocessed.
    """

    clip_id: str
    path: str
    track: str
    tags: tuple[str, ...]
    split: str
    checksum: str
    dropped: str = ""


@dataclass(frozen=True)
class Shard:
    """The unit of work: the clips of one output file."""

    split: str
    index: int
    count: int
    clips: tuple[Clip, ...]

    @property
    def name(self) -> str:
        """File name, such as ``train-00003-of-00202.tfrecord``."""
        return f"{self.split}-{self.index:05d}-of-{self.count:05d}.tfrecord"

    @property
    def fingerprint(self) -> str:
        """Hash of all that the file's bytes depend on."""
        return _hash_json([example_contract(), [asdict(clip) for clip in self.clips]])

    def to_json(self) -> str:
        """Serialise, the same text for the same shard."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Shard:
        """Read what to_json wrote."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "clips": tuple(_clip(row) for row in values["clips"])})


@dataclass(frozen=True)
class Manifest:
    """All clips of the annotations, with their splits, and the most frequent tags.

    Attributes:
        clips: in the order of the annotations.
        tags: those that were chosen, or the training split's most frequent ones, most frequent first.
        shard_clips: clips in a shard, on average.
        unlisted: audio files that lie in the audio folder and that no annotation names.
    """

    clips: tuple[Clip, ...]
    tags: tuple[str, ...]
    shard_clips: int
    unlisted: tuple[str, ...] = field(default=())

    @property
    def fingerprint(self) -> str:
        """Hash of all that the examples depend on; independent of the annotations' order."""
        rows = sorted((asdict(clip) for clip in self.clips), key=lambda row: str(row["clip_id"]))
        return _hash_json([example_contract(), rows, self.tags, self.shard_clips])

    def shards(self) -> list[Shard]:
        """Cut the clips into shards.

        A clip's shard is a hash of its id modulo their number, so a clip that comes, goes or changes touches one shard
        alone as long as their number stays. In a shard the clips stand in the order of another hash: shuffled, and the
        same whatever the order of the annotations.
        """
        by_split: dict[str, list[Clip]] = defaultdict(list)
        for clip in self.clips:
            if not clip.dropped:
                by_split[clip.split].append(clip)
        shards: list[Shard] = []
        for split in constants.SPLITS:
            clips = sorted(by_split[split], key=lambda clip: (unit_hash("order", clip.clip_id), clip.clip_id))
            count = max(1, math.ceil(len(clips) / self.shard_clips))
            bins: list[list[Clip]] = [[] for _ in range(count)]
            for clip in clips:
                bins[int(unit_hash("shard", clip.clip_id) * count)].append(clip)
            shards += [Shard(split, index, count, tuple(clips)) for index, clips in enumerate(bins)]
        return shards

    def split_counts(self) -> dict[str, int]:
        """Number of clips of each split, those that cannot be decoded included, dropped ones not."""
        counts = Counter(clip.split for clip in self.clips if not clip.dropped)
        return {split: counts[split] for split in constants.SPLITS}

    def to_json(self) -> str:
        """Serialise, the same text for the same manifest."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=None, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what to_json wrote."""
        values: dict[str, Any] = json.loads(text)
        clips = tuple(_clip(row) for row in values["clips"])
        return cls(clips, tuple(values["tags"]), values["shard_clips"], tuple(values["unlisted"]))


def _clip(row: dict[str, Any]) -> Clip:
    return Clip(**{**row, "tags": tuple(row["tags"])})


def _hash_json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def checksum(data: bytes) -> str:
    """Checksum of a clip's bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def audio_checksum(path: str) -> str:
    """Checksum of a file's bytes, ``missing``, or ``unreadable: ...``."""
    try:
        return checksum(storage.read_bytes(path))
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return f"{UNREADABLE}: {error.strerror or error}"


def build_manifest(
    audio_dir: str,
    annotations: str,
    settings: PreprocessSettings,
    on_clip: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read the annotations and every audio file's checksum, and assign the splits.

    Args:
        audio_dir: folder that the paths in the annotations are relative to.
        annotations: path of annotations_final.csv.
        settings: what decides the examples.
        on_clip: called with (clips read, clips in all) as checksums are made.

    Raises:
        BadInputError: the annotations are bad, the folder is not there, a split stays empty.
    """
    _check_folder(audio_dir)
    try:
        data = storage.read_bytes(annotations)
    except OSError as error:
        raise BadInputError(f"annotations {annotations}: {error.strerror or error}") from None
    clips = parse_annotations(data, annotations)
    if settings.synonyms:
        clips = merge_synonyms(clips, load_synonyms(settings.synonyms))
    rule = settings.split_rule
    splits = [rule.split_of(clip) for clip in clips]
    if settings.tags is None:
        learnt = [clip for clip, split in zip(clips, splits, strict=True) if split == constants.SPLITS[0]]
        tags = _training_tags(clips, learnt, settings.n_tags, annotations)
    else:
        tags = list(settings.tags)
        check_tags(clips, tags, annotations)
    drops = [_drop_reason(clip, settings.split, frozenset(tags)) for clip in clips]
    check_splits(split for split, dropped in zip(splits, drops, strict=True) if not dropped)
    checksums = _checksums([storage.join(audio_dir, clip.path) for clip in clips], on_clip)
    if all(found.startswith((MISSING, UNREADABLE)) for found in checksums):
        raise BadInputError(
            f"audio folder {audio_dir}: none of the {len(clips)} annotated clips can be read; "
            f"the first, {clips[0].path}, is {checksums[0]}"
        )
    rows = tuple(
        Clip(clip.clip_id, clip.path, clip.track, clip.tags, split, found, dropped)
        for clip, split, found, dropped in zip(clips, splits, checksums, drops, strict=True)
    )
    return Manifest(rows, tuple(tags), settings.shard_clips, _unlisted(audio_dir, clips))


def _training_tags(clips: Sequence[AnnotatedClip], learnt: Sequence[AnnotatedClip], count: int, name: str) -> list[str]:
    """Return the training split's most frequent tags; fewer than ``count`` where the other splits alone have more.

    Raises:
        BadInputError: fewer than ``count`` tags are used by all clips together, or none in the training split.
    """
    most_frequent_tags(clips, count, name)
    used = {tag for clip in learnt for tag in clip.tags}
    return most_frequent_tags(learnt, min(count, len(used)), f"{name}, training split")


def _check_folder(path: str) -> None:
    """Raise BadInputError where the audio folder cannot be used."""
    try:
        there = storage.exists(path)
    except OSError as error:
        raise BadInputError(f"audio folder {path}: {error.strerror or error}") from None
    if not there:
        raise BadInputError(f"audio folder {path}: there is no such folder")
    if storage.is_local(path):
        try:
            os.scandir(path).close()
        except OSError as error:
            raise BadInputError(f"audio folder {path}: {error.strerror or error}") from None


def _drop_reason(clip: AnnotatedClip, split_rule: str, tags: frozenset[str]) -> str:
    if split_rule == "clean" and not tags.intersection(clip.tags):
        return f"no_tag: carries none of the {len(tags)} most frequent tags (split rule clean)"
    return ""


def _checksums(paths: Sequence[str], on_clip: Callable[[int, int], None] | None) -> list[str]:
    checksums = []
    with concurrent.futures.ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        for done, found in enumerate(pool.map(audio_checksum, paths), start=1):
            checksums.append(found)
            if on_clip:
                on_clip(done, len(paths))
    return checksums


def _unlisted(audio_dir: str, clips: Iterable[AnnotatedClip]) -> tuple[str, ...]:
    """Audio files that no annotation names; looked for on local file systems alone, where listing is cheap."""
    if not storage.is_local(audio_dir):
        return ()
    listed = {clip.path for clip in clips}
    found = []
    for folder, _, names in os.walk(audio_dir):
        for name in names:
            path = PurePosixPath(os.path.relpath(os.path.join(folder, name), audio_dir)).as_posix()
            if os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES and path not in listed and not name.startswith("."):
                found.append(path)
    return tuple(sorted(found))
