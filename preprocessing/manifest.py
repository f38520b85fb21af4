"""The manifest: what is to be preprocessed, one row a clip, cut into shards.

A row holds everything of the clip that its example depends on, the audio's checksum included, and the manifest the
rest, so its fingerprint changes exactly when some example would.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from preprocessing import constants
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.excerpts import FIRST, ExcerptRule
from preprocessing.names import to_json
from preprocessing.splits import unit_hash

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
