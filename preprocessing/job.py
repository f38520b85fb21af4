"""The Beam job: a manifest's shards to TFRecords in an output folder.

The pipeline is Create(names of shards) -> Reshuffle -> ParDo(write one shard). A shard's list of clips lies in a file
beside the output: nothing but names is in the job's graph (Dataflow takes 10 MB of it) and crosses the shuffle. So
memory is flat, the bytes do not depend on the runner or on the number of workers, and a killed job goes on at the
shards that are not there yet.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from rich.filesize import decimal

from preprocessing import storage
from preprocessing.beam.interrupts import InterruptiblePipeline
from preprocessing.beam.options import parse_options
from preprocessing.beam.requirements import check_requirements
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.locks import hold
from preprocessing.manifest import Manifest, Shard
from preprocessing.output_folder import Plan, finish_job, plan_job, record_name
from preprocessing.settings import PreprocessSettings
from preprocessing.shards import RECORDS_FOLDER, clips_path, write_shard
from preprocessing.whole_files import TEMPORARY_MARK

LOCK = ".lock"


class WriteShard(beam.DoFn):  # type: ignore[misc]
    """Writes one shard, given its name; yields its record. Counts clips and rejections as Beam metrics."""

    def __init__(self, audio_dir: str, out_dir: str) -> None:
        self._audio_dir = audio_dir
        self._out_dir = out_dir

    def process(self, element: str) -> Iterator[str]:
        """Write the shard of this name and yield its record as JSON.

        Raises:
            AutotagError: the list of its clips cannot be read, or the shard cannot be written.
        """
        path = clips_path(self._out_dir, element)
        try:
            shard = Shard.from_json(storage.read_bytes(path))
        except OSError as error:
            raise AutotagError(f"{path}, a list of clips to do, cannot be read: {error.strerror or error}") from None
        record = write_shard(shard, self._audio_dir, self._out_dir)
        beam.metrics.Metrics.counter("preprocess", "examples").inc(record.examples)
        for clip in record.rejected:
            beam.metrics.Metrics.counter("rejected", clip.reason.split(":")[0]).inc()
        yield record.to_json()


def run_job(
    manifest: Manifest,
    audio_dir: str,
    out_dir: str,
    settings: PreprocessSettings,
    options: PipelineOptions | Sequence[str] = (),
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Write all examples of a manifest.

    Args:
        manifest: what to preprocess.
        audio_dir: folder that its paths are relative to.
        out_dir: where the shards, ``summary.json``, ``rejected.jsonl`` and ``tags.txt`` go.
        settings: recorded in the summary.
        options: Beam's pipeline options, as command-line arguments or made.
        on_progress: called about once a second with the number of clips done so far by this call.

    Returns:
        What summary.json holds.

    Raises:
        BadInputError: another job is writing there, the folder cannot be made, an option is unknown, or what the runner
            needs is missing.
        AutotagError: the disk is too small, the runner failed, the counts do not add up, or a job with other settings
            or data wrote into the folder meanwhile. (On this machine's disks the second job is refused when it begins.)
    """
    beam_options = options if isinstance(options, PipelineOptions) else parse_options(options)
    check_requirements(beam_options)
    audio_dir, out_dir = storage.absolute(audio_dir), storage.absolute(out_dir)  # workers run in other folders
    try:
        storage.make_folder(storage.join(out_dir, RECORDS_FOLDER))
    except OSError as error:
        raise BadInputError(f"output folder {out_dir}: {error.strerror or error}") from None
    with _locked(out_dir):
        for folder in (out_dir, storage.join(out_dir, RECORDS_FOLDER)):
            storage.sweep_dead(folder)
        before = storage.list_files(storage.join(out_dir, RECORDS_FOLDER))
        plan = plan_job(manifest, out_dir)
        if plan.to_do:
            _check_space(plan, out_dir)
            with _watched(plan, out_dir, on_progress):
                _run_beam(plan, audio_dir, out_dir, beam_options)
        return finish_job(manifest, out_dir, settings, before)


_WORKER_ERROR = re.compile(r"(?:AutotagError|BadInputError): (.*?)(?: \[while running .*)?$", re.MULTILINE)
"""Our own error in what Beam raises: the error with a few words more, or a RuntimeError with a traceback's text."""


def _run_beam(plan: Plan, audio_dir: str, out_dir: str, options: PipelineOptions) -> None:
    runner = options.view_as(StandardOptions).runner or "DirectRunner"
    pipeline = InterruptiblePipeline(options=options)
    add_shards(pipeline, plan.to_do, audio_dir, out_dir)
    try:
        pipeline.run_to_end()
    except Exception as error:
        said = worker_error(error)
        if said is None and runner == "DirectRunner":
            raise
        said = said or f"the job on {runner} failed: {_last_line(error)}"
        raise AutotagError(f"{said}; the shards that are whole stay, and the next call goes on from there") from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def worker_error(error: Exception) -> str | None:
    """Return our own message in an error of Beam's, None where the error is none of ours."""
    said = _WORKER_ERROR.search(f"{type(error).__name__}: {error}")
    return said[1] if said else None


def add_shards(pipeline: beam.Pipeline, shards: Sequence[Shard], audio_dir: str, out_dir: str) -> beam.PCollection:
    """Leave the shards' lists of clips in the output folder and add the steps that write them to a Beam pipeline.

    Args:
        pipeline: to which they are added.
        shards: to do.
        audio_dir: folder of the clips; workers get it as an absolute path.
        out_dir: likewise, of the shards.

    Returns:
        The shards' records as JSON strings.

    Raises:
        AutotagError: a list cannot be written.
    """

    audio_dir, out_dir = storage.absolute(audio_dir), storage.absolute(out_dir)

    def leave(shard: Shard) -> str:
        storage.write_whole(clips_path(out_dir, shard.name), shard.to_json())
        return shard.name

    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            names = list(pool.map(leave, shards))
    except OSError as error:
        raise AutotagError(f"{out_dir}: {error.strerror or error}") from error
    return (
        pipeline
        | "Shards" >> beam.Create(names, reshuffle=False)
        | "Spread" >> beam.Reshuffle()
        | "WriteShard" >> beam.ParDo(WriteShard(audio_dir, out_dir))
    )


@contextlib.contextmanager
def _locked(out_dir: str) -> Iterator[None]:
    """Keep a second job out of the same local folder."""
    if not storage.is_local(out_dir):
        yield
        return
    refusal = BadInputError(f"{out_dir}: another autotag is writing there; wait for it or choose another folder")
    with hold(os.path.join(out_dir, LOCK), refusal):
        yield


def _check_space(plan: Plan, out_dir: str) -> None:
    if not storage.is_local(out_dir):
        return
    status = os.statvfs(out_dir)
    free, needed = status.f_bavail * status.f_frsize, plan.clips_to_do * plan.example_bytes
    if needed > free:
        raise AutotagError(
            f"{out_dir}: {plan.clips_to_do} clips need {decimal(needed)} and {decimal(free)} are free; "
            "make room or choose another folder"
        )


@contextlib.contextmanager
def _watched(plan: Plan, out_dir: str, on_progress: Callable[[int], None] | None) -> Iterator[None]:
    """Report progress from what lies in the folder, which holds for any runner."""
    if on_progress is None:
        yield
        return
    stop = threading.Event()
    to_do = {record_name(shard.name): len(shard.clips) for shard in plan.to_do}
    records_dir = storage.join(out_dir, RECORDS_FOLDER)
    local = storage.is_local(out_dir)
    before = storage.list_files(records_dir)  # records of an earlier plan are not done yet

    def clips_done() -> int:
        now = storage.list_files(records_dir)
        done = sum(count for name, count in to_do.items() if name in now and now[name] != before.get(name))
        if local:
            files = storage.list_files(out_dir)
            done += sum(state.size // plan.example_bytes for name, state in files.items() if TEMPORARY_MARK in name)
        return min(done, plan.clips_to_do)

    def watch() -> None:
        while not stop.wait(0.5 if local else 5):
            with contextlib.suppress(OSError):
                on_progress(clips_done())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    on_progress(plan.clips_to_do)
