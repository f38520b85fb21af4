"""The manifest: what is to be preprocessed, one row a clip, cut into shards.

A row holds everything of the clip that its example depends on, the audio's checksum included, and the manifest the
rest, so its fingerprint changes exactly when some example would.
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
from preprocessing.audio import audio_length, excerpt_starts
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.clips import AnnotatedClip
from preprocessing.errors import BadInputError, ClipError
from preprocessing.excerpts import FIRST, Excerpt, ExcerptRule, excerpt_id
from preprocessing.folders import walk_audio
from preprocessing.names import to_json
from preprocessing.settings import PreprocessSettings
from preprocessing.splits import Split, check_splits, unit_hash
from preprocessing.tags import check_tags, training_tags

EXAMPLE_VERSION = 2
"""Raise it when the bytes of an example change for the same clip: every shard is then written anew."""

NOT_OF_THE_EXAMPLE = frozenset({"N_TAGS", "SPLITS"})
"""Constants on which no example depends."""

MISSING = "missing"
UNREADABLE = "unreadable"
"""What stands for a checksum, and the kind of rejection, where a clip's file cannot be had."""


def example_contract(clip_format: ClipFormat = PAPER_CLIP, excerpts: ExcerptRule = FIRST) -> dict[str, Any]:
    """Return what every example depends on besides its clip: settings, and each constant of the clip contract."""
    values = {name: value for name, value in vars(constants).items() if name.isupper()}
    return {
        "version": EXAMPLE_VERSION,
        "clip": asdict(clip_format),
        "excerpts": asdict(excerpts),
        **{name: value for name, value in values.items() if name not in NOT_OF_THE_EXAMPLE},
    }


@dataclass(frozen=True)
class Clip:
    """One row of the manifest.

    Attributes:
        checksum: of the audio's bytes; ``missing`` or ``unreadable: ...`` where they could not be read.
        dropped: why the clip is left out by the split rule; empty for a clip that is to be preprocessed.
        start, seconds: the part of the file that the clip is an excerpt of (preprocessing.clips.AnnotatedClip).
        excerpt: which of the part's excerpts, from 0.
    """

    clip_id: str
    path: str
    track: str
    tags: tuple[str, ...]
    split: str
    checksum: str
    dropped: str = ""
    start: float = 0.0
    seconds: float | None = None
    excerpt: int = 0


@dataclass(frozen=True)
class Shard:
    """The unit of work: the clips of one output file, and what their examples are made with."""

    split: str
    index: int
    count: int
    clips: tuple[Clip, ...]
    clip_format: ClipFormat = PAPER_CLIP
    excerpts: ExcerptRule = FIRST

    @property
    def name(self) -> str:
        """File name, such as ``train-00003-of-00202.tfrecord``."""
        return f"{self.split}-{self.index:05d}-of-{self.count:05d}.tfrecord"

    @property
    def fingerprint(self) -> str:
        """Hash of all that the file's bytes depend on."""
        return _hash_json([example_contract(self.clip_format, self.excerpts), [asdict(clip) for clip in self.clips]])

    def to_json(self) -> str:
        """Serialise, the same text for the same shard."""
        return to_json(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Shard:
        """Read what to_json wrote."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "clips": tuple(_clip(row) for row in values["clips"]), **_formats(values)})


@dataclass(frozen=True)
class Manifest:
    """All clips of the annotations, or the excerpts of all tracks, with their splits, and the tags.

    Attributes:
        clips: in the order of the annotations.
        tags: those that were chosen, or the training split's most frequent ones, most frequent first.
        shard_clips: clips in a shard, on average.
        unlisted: audio files that lie in the audio folder and that no annotation names.
        clip_format: length and rate of a clip.
        excerpts: where a track's excerpts lie.
        unreadable: folders in the audio folder that could not be looked into, each with the reason.
    """

    clips: tuple[Clip, ...]
    tags: tuple[str, ...]
    shard_clips: int
    unlisted: tuple[str, ...] = field(default=())
    clip_format: ClipFormat = PAPER_CLIP
    excerpts: ExcerptRule = FIRST
    unreadable: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Hash of all that the examples depend on; independent of the annotations' order."""
        rows = sorted((asdict(clip) for clip in self.clips), key=lambda row: str(row["clip_id"]))
        return _hash_json([example_contract(self.clip_format, self.excerpts), rows, self.tags, self.shard_clips])

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
            made_with = self.clip_format, self.excerpts
            shards += [Shard(split, index, count, tuple(clips), *made_with) for index, clips in enumerate(bins)]
        return shards

    def split_counts(self) -> dict[str, int]:
        """Number of clips of each split, those that cannot be decoded included, dropped ones not."""
        counts = Counter(clip.split for clip in self.clips if not clip.dropped)
        return {split: counts[split] for split in constants.SPLITS}

    def to_json(self) -> str:
        """Serialise, the same text for the same manifest."""
        return to_json(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what to_json wrote."""
        values: dict[str, Any] = json.loads(text)
        clips = tuple(_clip(row) for row in values["clips"])
        tags, unlisted = tuple(values["tags"]), tuple(values["unlisted"])
        unreadable = tuple(values.get("unreadable", ()))
        return cls(clips, tags, values["shard_clips"], unlisted, **_formats(values), unreadable=unreadable)


def _formats(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"clip_format": ClipFormat(**values["clip_format"]), "excerpts": ExcerptRule(**values["excerpts"])}


def _clip(row: dict[str, Any]) -> Clip:
    return Clip(**{**row, "tags": tuple(row["tags"])})


def _hash_json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def checksum(data: bytes) -> str:
    """Checksum of a clip's bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@dataclass(frozen=True)
class AudioFile:
    """What the manifest needs to know of a file.

    Attributes:
        checksum: of its bytes, ``missing``, or ``unreadable: ...``.
        frames: its length; 0 where it cannot be decoded or nobody asked.
        rate: Hz, of the frames.
    """

    checksum: str
    frames: int = 0
    rate: int = constants.SAMPLE_RATE


def inspect_audio(path: str) -> AudioFile:
    """Read a file for its checksum."""
    try:
        return AudioFile(checksum(storage.read_bytes(path)))
    except FileNotFoundError:
        return AudioFile(MISSING)
    except OSError as error:
        return AudioFile(f"{UNREADABLE}: {error.strerror or error}")


def measure_audio(path: str) -> AudioFile:
    """Read a file for its checksum and its length."""
    try:
        data = storage.read_bytes(path)
    except OSError:
        return inspect_audio(path)
    try:
        return AudioFile(checksum(data), *audio_length(data))
    except ClipError:  # rejected for that reason when its turn comes
        return AudioFile(checksum(data))


def audio_checksum(path: str) -> str:
    """Checksum of a file's bytes, ``missing``, or ``unreadable: ...``."""
    return inspect_audio(path).checksum


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
        on_clip: called with (files read, files in all) as checksums are made.
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
    check_splits([clip for clip, dropped in zip(clips, drops, strict=True) if not dropped], split)
    paths = list(dict.fromkeys(clip.path for clip in clips))
    inspect = inspect_audio if settings.excerpt_count == 1 else measure_audio
    found = _inspect_all(inspect, [storage.join(audio_dir, path) for path in paths], on_clip)
    files = dict(zip(paths, found, strict=True))
    if all(file.checksum.startswith((MISSING, UNREADABLE)) for file in found):
        raise BadInputError(
            f"audio folder {audio_dir}: none of the {len(paths)} annotated files can be read; "
            f"the first, {paths[0]}, is {found[0].checksum}"
        )
    rows = tuple(
        Clip(
            clip_id=clip_id,
            path=clip.path,
            track=clip.track,
            tags=clip.tags,
            split=side,
            checksum=files[clip.path].checksum,
            dropped=dropped,
            start=clip.start,
            seconds=clip.seconds,
            excerpt=number,
        )
        for clip, side, dropped in zip(clips, splits, drops, strict=True)
        for number, clip_id in enumerate([clip.clip_id] if dropped else _ids(clip, files[clip.path], settings))
    )
    _check_ids(rows, name)
    unlisted, unreadable = _unlisted(audio_dir, clips)
    made_with = settings.clip, settings.excerpt_rule
    return Manifest(rows, tuple(tags), settings.shard_clips, unlisted, *made_with, unreadable)


def _ids(clip: AnnotatedClip, file: AudioFile, settings: PreprocessSettings) -> list[str]:
    """Return an id for each excerpt that the file is long enough for: the clip's own where there is one."""
    part = Excerpt(settings.excerpt_rule, 0, clip.start, clip.seconds)
    starts, _ = excerpt_starts(file.frames, file.rate, settings.clip, part)
    if len(starts) < 2:
        return [clip.clip_id]
    return [excerpt_id(clip.clip_id, start / settings.clip.sample_rate) for start in starts]


def _check_ids(clips: Iterable[Clip], name: str) -> None:
    doubled = [clip_id for clip_id, count in Counter(clip.clip_id for clip in clips).items() if count > 1]
    if doubled:
        raise BadInputError(f"{name}: two clips have the id {doubled[0]}")


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


def _inspect_all(
    inspect: Callable[[str], AudioFile], paths: Sequence[str], on_clip: Callable[[int, int], None] | None
) -> list[AudioFile]:
    files = []
    with concurrent.futures.ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        for done, file in enumerate(pool.map(inspect, paths), start=1):
            files.append(file)
            if on_clip:
                on_clip(done, len(paths))
    return files


def _unlisted(audio_dir: str, clips: Iterable[AnnotatedClip]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Audio files that no annotation names, and folders that could not be looked into, with the reason.

    Looked for on local file systems alone, where listing is cheap.
    """
    if not storage.is_local(audio_dir):
        return (), ()
    walked = walk_audio(audio_dir)
    listed = {clip.path for clip in clips}
    found = (PurePosixPath(os.path.relpath(file, audio_dir)).as_posix() for file in walked.files)
    unreadable = (f"{folder}: {reason}" for folder, reason in walked.left_out.unreadable.items())
    return tuple(sorted(path for path in found if path not in listed)), tuple(sorted(unreadable))
