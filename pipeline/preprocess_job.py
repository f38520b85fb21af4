"""One call of ``autotag preprocess``: what is wrong is said first, then the clips are listed, planned and converted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from datasets.reading import read_manifest
from preprocessing import storage
from preprocessing.beam.options import parse_options, unknown_options
from preprocessing.beam.requirements import check_requirements, check_worker_command
from preprocessing.beam.settings import BeamSettings
from preprocessing.job import run_job
from preprocessing.manifest import MISSING
from preprocessing.names import escaped
from preprocessing.output_folder import check_output, plan_job
from preprocessing.settings import PreprocessSettings


class Log(Protocol):
    """Takes what is said on the way."""

    def say(self, text: str, **counts: int) -> None:
        """Say a line, which has the counts in it."""
        ...

    def checksums(self) -> contextlib.AbstractContextManager[Callable[[int, int], None]]:
        """Yield what takes how many clips have their checksum, of how many."""
        ...

    def clips(self, total: int) -> contextlib.AbstractContextManager[Callable[[int], None]]:
        """Yield what takes how many clips are done."""
        ...


def check_beam(
    beam: BeamSettings, own_options: Sequence[str], audio_dir: str, annotations: str, out: str, on_machine: bool
) -> None:
    """Say before any work what Beam's settings lack.

    Args:
        beam: where the job runs.
        own_options: names of options that are not Beam's.
        audio_dir, annotations, out: the job's places.
        on_machine: look for what has to be on this machine, too.

    Raises:
        BadInputError: an option is unknown, has a wrong value or needs another; the workers cannot reach a path.
    """
    options = parse_options(beam.arguments(), own_options)
    for path in (audio_dir, annotations, out):
        storage.check_scheme(path)
    beam.check_reach(audio_dir, out)
    check_output(out)
    if on_machine:
        check_worker_command(beam)
        check_requirements(options)


def preprocess(
    audio_dir: str,
    annotations: str,
    out: str,
    settings: PreprocessSettings,
    beam: BeamSettings,
    log: Log,
    dry_run: bool = False,
) -> dict[str, Any] | None:
    """Turn the clips that the annotations name into TFRecords.

    Args:
        audio_dir: folder of the audio.
        annotations: as the data set has them.
        out: folder of the output; what is whole there stays.
        settings: what is made of the clips.
        beam: where the job runs, checked by ``check_beam``.
        log: takes what is said on the way.
        dry_run: say what would be done alone.

    Returns:
        The summary; None of a dry run.

    Raises:
        BadInputError: the data cannot be read, or no clip is left.
        AutotagError: the job failed.
    """
    for option in unknown_options(beam.arguments()):
        log.say(f"{option}: not an option of Beam's Python; the job server takes or drops it")
    with log.checksums() as on_checksum:
        manifest = read_manifest(audio_dir, annotations, settings, on_checksum)
    plan = plan_job(manifest, out)
    counts = ", ".join(f"{split} {count}" for split, count in manifest.split_counts().items())
    log.say(
        f"{len(manifest.clips)} clips ({counts}) in {len(plan.shards)} shards; "
        f"{len(plan.done)} shards are there, {plan.clips_to_do} clips to do",
        clips=len(manifest.clips),
        shards=len(plan.shards),
    )
    for folder in manifest.unreadable:
        log.say(f"left out: {escaped(folder)}")
    if plan.stale:
        log.say(
            f"{len(plan.stale)} shards of other settings or data are there, {plan.stale[0]} the first: "
            "they are deleted when the new ones are whole",
            stale=len(plan.stale),
        )
    if dry_run:
        missing = sum(clip.checksum == MISSING for clip in manifest.clips)
        log.say(
            f"dry run: nothing written; {missing} clips are not on disk, "
            f"{len(manifest.unlisted)} audio files are not in the annotations"
        )
        return None
    with log.clips(plan.clips_to_do) as on_clips:
        return run_job(manifest, audio_dir, out, settings, beam.arguments(plan.clips_to_do), on_clips)
