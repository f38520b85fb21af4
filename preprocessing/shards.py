"""One shard: decode, features, write, rename. The unit of work of the Beam job.

A shard leaves two files, ``SPLIT-xxxxx-of-yyyyy.tfrecord`` and ``.shards/SPLIT-xxxxx-of-yyyyy.json``. The second, written
last, says what the first was made from; a shard whose record agrees with the plan is done and costs nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass

from preprocessing import storage
from preprocessing.errors import ClipError
from preprocessing.examples import clip_example, write_record
from preprocessing.manifest import Clip, Shard

RECORDS_FOLDER = ".shards"


@dataclass(frozen=True)
class RejectedClip:
    """A clip that gave no example, and why."""

    clip_id: str
    path: str
    reason: str


@dataclass(frozen=True)
class ShardRecord:
    """What one finished shard holds.

    Attributes:
        fingerprint: of what it was made from (Shard.fingerprint).
        size: of the TFRecord file, in bytes.
        examples: number of records.
        tags: how many of the examples carry each tag.
        rejected: the clips that gave no example.
    """

    name: str
    split: str
    fingerprint: str
    size: int
    examples: int
    tags: dict[str, int]
    rejected: tuple[RejectedClip, ...]

    def to_json(self) -> str:
        """Serialise, the same text for the same record."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> ShardRecord:
        """Read what to_json wrote."""
        values = json.loads(text)
        return cls(**{**values, "rejected": tuple(RejectedClip(**clip) for clip in values["rejected"])})


def record_path(out_dir: str, shard_name: str) -> str:
    """Where a shard's record lies."""
    return storage.join(out_dir, RECORDS_FOLDER, shard_name.removesuffix(".tfrecord") + ".json")


def finished(shard: Shard, out_dir: str) -> ShardRecord | None:
    """Return the record of a shard that is there, whole and made from the same clips; None otherwise."""
    try:
        record = ShardRecord.from_json(storage.read_bytes(record_path(out_dir, shard.name)))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    whole = record.fingerprint == shard.fingerprint and storage.size(storage.join(out_dir, shard.name)) == record.size
    return record if whole else None


def write_shard(
    shard: Shard, audio_dir: str, out_dir: str, on_clip: Callable[[RejectedClip | None], None] | None = None
) -> ShardRecord:
    """Write one shard, unless it is there.

    A clip that cannot be used is rejected with its reason and never stops the shard; a full disk does, and leaves what
    was there before.
    """
    done = finished(shard, out_dir)
    if done:
        return done
    rejected: list[RejectedClip] = []
    tags: Counter[str] = Counter()
    size = 0
    with storage.open_whole(storage.join(out_dir, shard.name)) as file:
        for clip in shard.clips:
            problem = None
            try:
                example = _example(clip, audio_dir)
            except ClipError as error:
                problem = RejectedClip(clip.clip_id, clip.path, str(error))
                rejected.append(problem)
            else:
                write_record(file, example)
                size += len(example) + 16
                tags.update(clip.tags)
            if on_clip:
                on_clip(problem)
    record = ShardRecord(
        shard.name,
        shard.split,
        shard.fingerprint,
        size,
        len(shard.clips) - len(rejected),
        dict(sorted(tags.items())),
        tuple(rejected),
    )
    storage.write_whole(record_path(out_dir, shard.name), record.to_json())
    return record


def _example(clip: Clip, audio_dir: str) -> bytes:
    try:
        data = storage.read_bytes(storage.join(audio_dir, clip.path))
    except FileNotFoundError:
        raise ClipError("missing", "there is no such file") from None
    except OSError as error:
        raise ClipError("unreadable", str(error.strerror or error)) from None
    return clip_example(data, clip.clip_id, clip.track, clip.tags, clip.path)
