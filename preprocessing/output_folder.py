"""The folder that a job writes: what is there, what is still to do, and the lists that end it. Without Beam.

``SPLIT-xxxxx-of-yyyyy.tfrecord`` and their records (preprocessing.shards), ``summary.json``, ``rejected.jsonl`` and
``tags.txt``. A job writes its shards beside those of earlier ones, and takes these away when its own are whole.
"""

from __future__ import annotations

import concurrent.futures
import os
import platform
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Final

from preprocessing import constants, storage
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.manifest import Manifest, Shard
from preprocessing.names import to_json
from preprocessing.settings import PreprocessSettings
from preprocessing.shards import RECORDS_FOLDER, RejectedClip, ShardRecord, clips_path, finished, record_path
from preprocessing.whole_files import TEMPORARY_MARK

SUMMARY: Final = "summary.json"
REJECTED: Final = "rejected.jsonl"
TAGS: Final = "tags.txt"

_SHARD_NAME = re.compile(rf"(?:{'|'.join(constants.SPLITS)})-\d+-of-\d+\.tfrecord")


@dataclass(frozen=True)
class Plan:
    """What a job would do.

    Attributes:
        shards: all of them.
        done: those that are there already, with what they hold.
        stale: names of the shards that earlier jobs with other settings or data left, which go when the job is done.
    """

    shards: tuple[Shard, ...]
    done: tuple[ShardRecord, ...]
    stale: tuple[str, ...] = ()

    @property
    def to_do(self) -> list[Shard]:
        """The shards that are not there yet."""
        names = {record.name for record in self.done}
        return [shard for shard in self.shards if shard.name not in names]

    @property
    def example_bytes(self) -> int:
        """About how large one record is: what progress and the disk check go by."""
        clip = self.shards[0].clip_format
        return clip.waveform_bytes + clip.log_mel_bytes + 700

    @property
    def clips_to_do(self) -> int:
        """Clips of the shards that are not there yet."""
        return sum(len(shard.clips) for shard in self.to_do)


def check_output(out_dir: str) -> None:
    """Look at an output folder before any work; nothing is written.

    Raises:
        BadInputError: it cannot be reached or written to, its bucket is not there, or it holds files with the names of
            this job's that no job of ours wrote.
    """
    try:
        if storage.is_object_store(out_dir):
            storage.make_folder(out_dir)  # looks for the bucket alone
        elif storage.is_local(out_dir):
            _check_writable(out_dir)
        _check_ours(out_dir)
    except OSError as error:
        raise BadInputError(f"output folder {out_dir}: {error.strerror or error}") from None


def _check_writable(folder: str) -> None:
    there = os.path.abspath(folder)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise BadInputError(f"output folder {folder}: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInputError(f"output folder {folder}: {there} may not be written to")


def _check_ours(out_dir: str) -> None:
    """Jobs delete what earlier ones left: make sure that all of it is theirs."""
    names = storage.list_files(out_dir)
    known = _known_shards(out_dir)  # after the shards: a job beside this one leaves the lists first
    foreign = [name for name in names if _SHARD_NAME.fullmatch(name) and name not in known]
    if not known:
        foreign += [name for name in (TAGS, SUMMARY, REJECTED) if name in names]
    if foreign:
        raise BadInputError(
            f"output folder {out_dir}: {foreign[0]}{f' and {len(foreign) - 1} more' if foreign[1:] else ''} would be "
            "replaced and are none of autotag's (not in .shards): choose another folder, or move them away"
        )


def _known_shards(out_dir: str) -> set[str]:
    """Names of the shards that some job of ours began here: their lists of clips or their records are there."""
    there = storage.list_files(storage.join(out_dir, RECORDS_FOLDER))
    return {f"{name.partition('.')[0]}.tfrecord" for name in there if TEMPORARY_MARK not in name}


def plan_job(manifest: Manifest, out_dir: str) -> Plan:
    """Say which shards there will be, which are there already, and which go.

    Raises:
        BadInputError: as check_output.
    """
    check_output(out_dir)
    shards = tuple(manifest.shards())
    try:
        records = _records(shards, out_dir)
        names = storage.list_files(out_dir)
    except OSError as error:
        raise BadInputError(f"output folder {out_dir}: {error.strerror or error}") from None
    wanted = {shard.name for shard in shards}
    stale = tuple(name for name in names if _SHARD_NAME.fullmatch(name) and name not in wanted)
    return Plan(shards, tuple(record for record in records if record and record.final), stale)


def _records(shards: Sequence[Shard], out_dir: str) -> list[ShardRecord | None]:
    """Return each shard's record, None where it is not there; several at a time, for stores that answer slowly."""
    there = storage.list_files(storage.join(out_dir, RECORDS_FOLDER))

    def record(shard: Shard) -> ShardRecord | None:
        return finished(shard, out_dir) if record_name(shard.name) in there else None

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(record, shards))


def record_name(shard_name: str) -> str:
    """Name of a shard's record in RECORDS_FOLDER."""
    return os.path.basename(record_path("", shard_name))


def _clips_name(shard_name: str) -> str:
    return os.path.basename(clips_path("", shard_name))


def finish_job(
    manifest: Manifest,
    out_dir: str,
    settings: PreprocessSettings,
    before: Mapping[str, storage.FileState] | None = None,
    keep: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the lists that go with the shards, take away the files of earlier plans and what killed attempts left.

    Args:
        manifest: of the job.
        out_dir: where its shards are.
        settings: recorded in the summary.
        before: what the folder of the records held when the job began; other jobs are not looked for unless given.
        keep: names in the folder of the records that are left where they are.

    Returns:
        What summary.json holds.

    Raises:
        AutotagError: a job with other settings or data wrote there meanwhile, a shard is missing, or the counts do not
            add up; nothing is taken away then.
    """
    shards = manifest.shards()
    if before is not None:
        _check_alone(shards, out_dir, before)
    records = _records(shards, out_dir)
    missing = [shard.name for shard, record in zip(shards, records, strict=True) if record is None]
    if missing:
        raise AutotagError(
            f"{out_dir}: {len(missing)} shards are not there after the job, {missing[0]} the first: something else is "
            "writing there; call again when it has ended"
        )
    whole = [record for record in records if record is not None]
    rejected = [clip for record in whole for clip in record.rejected]
    rejected += [RejectedClip(clip.clip_id, clip.path, clip.dropped) for clip in manifest.clips if clip.dropped]
    rejected.sort(key=lambda clip: clip.clip_id)
    examples = sum(record.examples for record in whole)
    if examples + len(rejected) != len(manifest.clips):
        raise AutotagError(
            f"{out_dir}: {len(manifest.clips)} clips went in, {examples} examples and {len(rejected)} rejected came out"
        )
    _remove_stale(shards, out_dir, keep)
    lines = [to_json(asdict(clip)) + "\n" for clip in rejected]
    storage.write_whole(storage.join(out_dir, REJECTED), "".join(lines))
    storage.write_whole(storage.join(out_dir, TAGS), "".join(f"{tag}\n" for tag in manifest.tags))
    summary = summarise(manifest, whole, rejected, settings)
    storage.write_whole(storage.join(out_dir, SUMMARY), to_json(summary, indent=1) + "\n")
    return summary


def _check_alone(shards: Sequence[Shard], out_dir: str, before: Mapping[str, storage.FileState]) -> None:
    """Look whether only this job wrote since it began. Object stores have no lock that a killed job would leave free.

    What another job wrote before that is stale, and what one of the same clips writes are the same bytes.
    """
    ours = {record_name(shard.name) for shard in shards} | {_clips_name(shard.name) for shard in shards}
    now = storage.list_files(storage.join(out_dir, RECORDS_FOLDER))
    others = [
        name
        for name, state in now.items()
        if name not in ours and state != before.get(name) and TEMPORARY_MARK not in name
    ]
    if others:
        raise AutotagError(
            f"{out_dir}: another autotag with other settings or data wrote there meanwhile ({others[0]} and "
            f"{len(others) - 1} more in {RECORDS_FOLDER}); nothing was taken away: when it has ended, call again the "
            "one whose examples are to stay"
        )


def _remove_stale(shards: Sequence[Shard], out_dir: str, keep: Sequence[str]) -> None:
    """Shards go before their records, by which they are known as ours."""
    wanted = {shard.name for shard in shards}
    records = {*map(record_name, wanted), *keep}
    folder = storage.join(out_dir, RECORDS_FOLDER)
    known = _known_shards(out_dir)
    stale = [storage.join(out_dir, name) for name in storage.list_files(out_dir) if name in known - wanted]
    stale += [storage.join(folder, name) for name in storage.list_files(folder) if name not in records]
    storage.delete(stale)
    left = set(stale).intersection(storage.join(out_dir, name) for name in storage.list_files(out_dir))
    if left:
        raise AutotagError(
            f"{out_dir}: {len(left)} shards of an earlier plan cannot be deleted, {min(left)} the first; "
            "whoever reads the folder would read their clips twice: delete them"
        )
    for swept in (out_dir, folder):
        storage.sweep(swept)


def summarise(
    manifest: Manifest, records: Sequence[ShardRecord], rejected: Sequence[RejectedClip], settings: PreprocessSettings
) -> dict[str, Any]:
    """Return what summary.json holds: counts per split and tag, settings, versions."""
    tag_counts: dict[str, Counter[str]] = {split: Counter() for split in constants.SPLITS}
    examples: Counter[str] = Counter()
    for record in records:
        tag_counts[record.split].update(record.tags)
        examples[record.split] += record.examples
    reasons = Counter(clip.reason.split(":")[0] for clip in rejected)
    incomplete = sorted((clip for record in records for clip in record.incomplete), key=lambda clip: clip.clip_id)
    return {
        "clips": len(manifest.clips),
        "examples": sum(examples.values()),
        "rejected": len(rejected),
        "rejected_by_reason": dict(sorted(reasons.items())),
        "incomplete": {"clips": len(incomplete), "first": [asdict(clip) for clip in incomplete[:10]]},
        "splits": {
            split: {"clips": clips, "examples": examples[split]} for split, clips in manifest.split_counts().items()
        },
        "tags": {tag: {split: tag_counts[split][tag] for split in constants.SPLITS} for tag in manifest.tags},
        "unlisted_audio": {"files": len(manifest.unlisted), "first": list(manifest.unlisted[:10])},
        "unreadable_folders": list(manifest.unreadable),
        "shards": len(records),
        "settings": asdict(settings),
        "manifest": manifest.fingerprint,
        "versions": {
            "python": platform.python_version(),
            **{
                name: metadata.version(name)
                for name in ("autotag", "apache-beam", "librosa", "soundfile", "soxr", "numpy")
            },
        },
    }
