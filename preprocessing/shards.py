"""One shard: decode, features, write, rename. The unit of work of the Beam job.

A shard leaves two files, ``SPLIT-xxxxx-of-yyyyy.tfrecord`` and ``.shards/SPLIT-xxxxx-of-yyyyy.json``. The second,
written last, says what the first was made from; a shard whose record agrees with the plan is done and costs nothing.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass

from preprocessing import storage
from preprocessing.audio.ffmpeg import NEEDS_FFMPEG, find_ffmpeg
from preprocessing.errors import AutotagError, ClipError
from preprocessing.examples import example_and_shortfall, write_record
from preprocessing.excerpts import Excerpt
from preprocessing.manifest import MISSING, UNREADABLE, Clip, Shard, checksum
from preprocessing.names import to_json

RECORDS_FOLDER = ".shards"
CHANGED = "changed"
"""Kind of rejection of a clip that is not what it was when the manifest was made; the next job tries it again."""


@dataclass(frozen=True)
class RejectedClip:
    """A clip that gave no example, or one of less than the whole clip, and why."""

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
        incomplete: the clips of which a part of the audio was missing, though an example was made.
        lacked_ffmpeg: some of these clips an ffmpeg might have decoded, and there was none.
    """

    name: str
    split: str
    fingerprint: str
    size: int
    examples: int
    tags: dict[str, int]
    rejected: tuple[RejectedClip, ...]
    incomplete: tuple[RejectedClip, ...] = ()
    lacked_ffmpeg: bool = False

    @property
    def final(self) -> bool:
        """Whether the same job here would write the same shard again: no clip changed or vanished under it."""
        if self.lacked_ffmpeg and find_ffmpeg() is not None:
            return False
        return not any(clip.reason.startswith(CHANGED) for clip in self.rejected)

    def to_json(self) -> str:
        """Serialise, the same text for the same record."""
        return to_json(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> ShardRecord:
        """Read what to_json wrote."""
        values = json.loads(text)
        clips = {
            name: tuple(RejectedClip(**clip) for clip in values.get(name, ())) for name in ("rejected", "incomplete")
        }
        return cls(**{**values, **clips})


def record_path(out_dir: str, shard_name: str) -> str:
    """Where a shard's record lies."""
    return storage.join(out_dir, RECORDS_FOLDER, shard_name.removesuffix(".tfrecord") + ".json")


def clips_path(out_dir: str, shard_name: str) -> str:
    """Where a shard's list of clips lies while a job has it to do."""
    return storage.join(out_dir, RECORDS_FOLDER, shard_name.removesuffix(".tfrecord") + ".clips")


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
    """Write one shard, unless it is there, whoever wrote it.

    A clip that cannot be used is rejected with its reason and never stops the shard. Several attempts at one shard may
    run at once, as after a worker's loss: each writes the same bytes, and the file under the shard's name is whole at
    any time. An attempt that is disturbed when another has finished takes that one's.

    Args:
        shard: the clips.
        audio_dir: folder that their paths are relative to.
        out_dir: where the shard goes.
        on_clip: called after each clip, with its rejection where it was rejected.

    Raises:
        AutotagError: the shard cannot be written (a full disk, say); what was there before is left.
    """
    done = finished(shard, out_dir)
    if done and done.final:
        return done
    path = storage.join(out_dir, shard.name)
    try:
        record = _write_records(shard, path, audio_dir, out_dir, on_clip)
        storage.write_whole(record_path(out_dir, shard.name), record.to_json())
    except OSError as error:
        done = finished(shard, out_dir)
        if done and done.final:
            return done
        raise AutotagError(f"{path}: {error.strerror or error}") from error
    return record


def _forget_other(shard: Shard, out_dir: str) -> None:
    """Delete the record of a shard of other clips: it must not vouch for the new one's bytes."""
    path = record_path(out_dir, shard.name)
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        if ShardRecord.from_json(storage.read_bytes(path)).fingerprint != shard.fingerprint:
            storage.delete([path])


def _write_records(
    shard: Shard, path: str, audio_dir: str, out_dir: str, on_clip: Callable[[RejectedClip | None], None] | None
) -> ShardRecord:
    rejected: list[RejectedClip] = []
    incomplete: list[RejectedClip] = []
    tags: Counter[str] = Counter()
    size = 0
    with storage.open_whole(path) as file:
        for clip in shard.clips:
            problem = None
            try:
                example, shortfall = _example(clip, shard, audio_dir)
            except ClipError as error:
                problem = RejectedClip(clip.clip_id, clip.path, str(error))
                rejected.append(problem)
            else:
                write_record(file, example)
                size += len(example) + 16
                tags.update(clip.tags)
                if shortfall:
                    incomplete.append(RejectedClip(clip.clip_id, clip.path, shortfall))
            if on_clip:
                on_clip(problem)
        _forget_other(shard, out_dir)
    return ShardRecord(
        name=shard.name,
        split=shard.split,
        fingerprint=shard.fingerprint,
        size=size,
        examples=len(shard.clips) - len(rejected),
        tags=dict(sorted(tags.items())),
        rejected=tuple(rejected),
        incomplete=tuple(incomplete),
        lacked_ffmpeg=find_ffmpeg() is None
        and bool(incomplete or any(clip.reason.startswith(NEEDS_FFMPEG) for clip in rejected)),
    )


def _example(clip: Clip, shard: Shard, audio_dir: str) -> tuple[bytes, str]:
    if clip.checksum == MISSING:
        raise ClipError(MISSING, "there is no such file")
    if clip.checksum.startswith(UNREADABLE):
        raise ClipError(UNREADABLE, clip.checksum.removeprefix(f"{UNREADABLE}: "))
    try:
        data = storage.read_bytes(storage.join(audio_dir, clip.path))
    except OSError as error:
        raise ClipError(CHANGED, f"it could be read when the job began: {error.strerror or error}") from None
    if checksum(data) != clip.checksum:
        raise ClipError(CHANGED, "the file has other bytes than when the job began")
    excerpt = Excerpt(shard.excerpts, clip.excerpt, clip.start, clip.seconds)
    return example_and_shortfall(data, clip.clip_id, clip.track, clip.tags, clip=shard.clip_format, excerpt=excerpt)
