"""Annotated clips and their audio to a manifest: each file is read once, for its checksum."""

from __future__ import annotations

import concurrent.futures
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from preprocessing import constants, storage
from preprocessing.audio.loading import audio_length, excerpt_starts
from preprocessing.clips import AnnotatedClip
from preprocessing.errors import BadInputError, ClipError
from preprocessing.excerpts import Excerpt, excerpt_id
from preprocessing.folders import walk_audio
from preprocessing.manifest import MISSING, UNREADABLE, Clip, Manifest, checksum
from preprocessing.settings import PreprocessSettings
from preprocessing.splits import Split, check_splits
from preprocessing.tags import check_tags, training_tags


@dataclass(frozen=True)
class FoundFile:
    """What the manifest needs to know of a file.

    Attributes:
        checksum: of its bytes, ``missing``, or ``unreadable: ...``.
        frames: its length; 0 where it cannot be decoded or nobody asked.
        rate: Hz, of the frames.
    """

    checksum: str
    frames: int = 0
    rate: int = constants.SAMPLE_RATE


def inspect_audio(path: str) -> FoundFile:
    """Read a file for its checksum."""
    try:
        return FoundFile(checksum(storage.read_bytes(path)))
    except FileNotFoundError:
        return FoundFile(MISSING)
    except OSError as error:
        return FoundFile(f"{UNREADABLE}: {error.strerror or error}")


def measure_audio(path: str) -> FoundFile:
    """Read a file for its checksum and its length."""
    try:
        data = storage.read_bytes(path)
    except OSError:
        return inspect_audio(path)
    try:
        return FoundFile(checksum(data), *audio_length(data))
    except ClipError:  # rejected for that reason when its turn comes
        return FoundFile(checksum(data))


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


def _ids(clip: AnnotatedClip, file: FoundFile, settings: PreprocessSettings) -> list[str]:
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
    inspect: Callable[[str], FoundFile], paths: Sequence[str], on_clip: Callable[[int, int], None] | None
) -> list[FoundFile]:
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
