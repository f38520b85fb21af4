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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from preprocessing import constants, storage
from preprocessing.audio import AUDIO_SUFFIXES
from preprocessing.clips import AnnotatedClip
from preprocessing.errors import BadInputError
from preprocessing.splits import PAPER_RATIO, Draw, Split, check_splits, unit_hash
from preprocessing.tags import check_tags, training_tags

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
        split: one of the data set's rules (datasets.registry.RULES).
        ratio: train : valid : test of the seeded rules.
        seed: of the seeded rules and of the order of clips.
        n_tags: size of the list of most frequent tags.
        tags: a list of tags in place of the most frequent ones; ``n_tags`` says nothing then.
        dataset: name of the data set (datasets.registry.DATASETS).
        columns: (role, column) pairs of a table's columns (datasets.table).
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
    dataset: str = "mtat"
    columns: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.shard_clips < 1:
            raise BadInputError(f"shard clips {self.shard_clips}: expected 1 or more")
        if self.n_tags < 1:
            raise BadInputError(f"number of tags {self.n_tags}: expected 1 or more")
        self.draw  # noqa: B018 checks the ratio

    @property
    def draw(self) -> Draw:
        """Seed and ratio of the seeded split rules."""
        return Draw(self.seed, self.ratio)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PreprocessSettings:
        """Read what JSON made of ``dataclasses.asdict``: lists where tuples were."""
        tags = values["tags"]
        return cls(
            **{
                **values,
                "ratio": tuple(values["ratio"]),
                "tags": None if tags is None else tuple(tags),
                "columns": tuple((role, column) for role, column in values.get("columns", ())),
            }
        )


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
    clips: Sequence[AnnotatedClip],
    split: Split,
    settings: PreprocessSettings,
    on_clip: Callable[[int, int], None] | None = None,
    name: str = "the annotations",
) -> Manifest:
    """Read every audio file's checksum, and assign the splits.

    Args:
        audio_dir: folder that the clips' paths are relative to.
        clips: as annotated (datasets.reading.read_clips).
        split: gives each clip's split.
        settings: what decides the examples.
        on_clip: called with (clips read, clips in all) as checksums are made.
        name: what to call the annotations in messages.

    Raises:
        BadInputError: the tags cannot be learnt, a split stays empty, or none of the files can be read.
    """
    splits = [split(clip) for clip in clips]
    if settings.tags is None:
        tags = training_tags(clips, splits, settings.n_tags, name)
    else:
        tags = list(settings.tags)
        check_tags(clips, tags, name)
    drops = [_drop_reason(clip, split.rule.tagged_only, frozenset(tags)) for clip in clips]
    check_splits(side for side, dropped in zip(splits, drops, strict=True) if not dropped)
    checksums = _checksums([storage.join(audio_dir, clip.path) for clip in clips], on_clip)
    if all(found.startswith((MISSING, UNREADABLE)) for found in checksums):
        raise BadInputError(
            f"audio folder {audio_dir}: none of the {len(clips)} annotated clips can be read; "
            f"the first, {clips[0].path}, is {checksums[0]}"
        )
    rows = tuple(
        Clip(clip.clip_id, clip.path, clip.track, clip.tags, side, found, dropped)
        for clip, side, found, dropped in zip(clips, splits, checksums, drops, strict=True)
    )
    return Manifest(rows, tuple(tags), settings.shard_clips, _unlisted(audio_dir, clips))


def check_folder(path: str) -> None:
    """Raise BadInputError where the audio folder cannot be used; which of the files can, build_manifest finds out."""
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


def _drop_reason(clip: AnnotatedClip, tagged_only: bool, tags: frozenset[str]) -> str:
    if tagged_only and not tags.intersection(clip.tags):
        return f"no_tag: carries none of the {len(tags)} tags that are learnt (the split rule leaves such clips out)"
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
