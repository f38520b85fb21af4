"""``autotag preprocess``: audio and annotations to TFRecords, by Beam."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from datasets.registry import DATASETS, RULES
from pipeline.beam_command import BeamCommand
from pipeline.logs import json_log, log_format_option
from pipeline.terminal import error_stream
from preprocessing.clip_format import PAPER_CLIP, clip_of_seconds
from preprocessing.constants import N_TAGS
from preprocessing.excerpts import EXCERPTS
from preprocessing.names import printable
from preprocessing.runners import RUNNERS, check_needs, parse_options, settings_of, unknown_options
from preprocessing.splits import parse_ratio

PROGRESS_SECONDS: Final = 10
"""Between two lines of progress in a log of JSON lines."""


@click.command(cls=BeamCommand, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("audio_dir")
@click.argument("annotations")
@click.argument("out")
@click.option("--dataset", type=click.Choice(list(DATASETS)), default="mtat", show_default=True, help="Whose layout.")
@click.option(
    "--subset", default="", help="Of the data set, as `autotag dataset NAME` lists them [default: its first]."
)
@click.option("--column", "columns", multiple=True, metavar="ROLE=NAME", help="table: which column is path, tags ...")
@click.option("--split", type=click.Choice(list(RULES)), default="track", show_default=True, help="Split rule.")
@click.option("--ratio", default="13:1:2", show_default=True, help="train:valid:test of the seeded rules.")
@click.option("--tags", "n_tags", default=N_TAGS, show_default=True, help="How many of the most frequent tags.")
@click.option("--tags-file", help="A list in place of --tags: a file with a tag a line, or 'default'.")
@click.option("--synonyms", help="Merge synonyms: a YAML file, or 'default' for MagnaTagATune's. Off unless given.")
@click.option("--clip-seconds", default=PAPER_CLIP.seconds, show_default=True, help="Length of a clip.")
@click.option("--sample-rate", default=PAPER_CLIP.sample_rate, show_default=True, help="Hz, of a clip.")
@click.option(
    "--excerpts", type=click.Choice(list(EXCERPTS)), default="first", show_default=True, help="Where in a track."
)
@click.option("--excerpt-count", default=1, show_default=True, help="Clips of a track that is long enough.")
@click.option("--shard-clips", default=128, show_default=True, help="Clips in a shard, on average.")
@click.option("--seed", default=0, show_default=True, help="Seed of the seeded split rules.")
@click.option("--runner", type=click.Choice(list(RUNNERS)), default="direct", show_default=True, help="Beam engine.")
@click.option("--workers", type=int, help="direct: processes [default: by clips and cores].")
@click.option("--flink-master", metavar="HOST:PORT", help="flink: its REST address, or [local].")
@click.option("--parallelism", type=int, help="flink: of the job [default: 1].")
@click.option("--spark-master", metavar="URL", help="spark: spark://HOST:PORT or local[N].")
@click.option("--project", help="dataflow: Google Cloud project.")
@click.option("--region", help="dataflow: region.")
@click.option("--temp-location", metavar="GS", help="dataflow: gs:// folder for the job's files.")
@click.option("--image", help="flink, spark, dataflow: container image of the workers, with autotag in it.")
@click.option("--worker-pool", metavar="HOST:PORT", help="flink, spark: Beam worker pool beside each TaskManager.")
@click.option("--worker-command", metavar="FILE", help="flink, spark: program on each machine that starts a worker.")
@click.option("--setup-file", metavar="FILE", help="flink, spark, dataflow: our setup.py, for workers without autotag.")
@log_format_option
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    audio_dir: str,
    annotations: str,
    out: str,
    dataset: str,
    subset: str,
    columns: tuple[str, ...],
    split: str,
    ratio: str,
    n_tags: int,
    tags_file: str | None,
    synonyms: str | None,
    clip_seconds: float,
    sample_rate: int,
    excerpts: str,
    excerpt_count: int,
    shard_clips: int,
    seed: int,
    log_format: str,
    dry_run: bool,
    **beam_settings: Any,
) -> None:
    """Turn the clips of AUDIO_DIR that ANNOTATIONS names into TFRecords in OUT.

    A killed call is finished by the next one. A clip that cannot be used goes to rejected.jsonl with its reason. Any
    further option is passed to Beam. Folders may be local, s3://, gs:// or hdfs://; on a cluster, where every worker
    sees them under the same name.

    \b
    Examples:
        autotag preprocess mtat mtat/annotations_final.csv mtat-examples --split clean --workers 2
        autotag preprocess s3://music/mtat s3://music/mtat/annotations_final.csv s3://music/examples \\
            --runner flink --flink-master flink:8081 --parallelism 16 --worker-pool localhost:50000
        autotag preprocess jamendo/audio jamendo/data/splits/split-0 examples --dataset jamendo --subset top50tags \\
            --split published --tags-file default --excerpts even --excerpt-count 4
    """
    from datasets.reading import load_tags, read_manifest
    from datasets.table import parse_column
    from preprocessing import storage
    from preprocessing.job import check_output, plan_job, run_job
    from preprocessing.manifest import MISSING, PreprocessSettings

    beam = settings_of(beam_settings, ctx.args)
    own_names = [name for each in ctx.command.params for name in each.opts]
    beam_options = parse_options(beam.arguments(), own_names)  # what is wrong or missing is said before any work
    unknown = unknown_options(beam.arguments())
    for path in (audio_dir, annotations, out):
        storage.check_scheme(path)
    beam.check_reach(audio_dir, out)
    check_output(out)
    if not dry_run:
        beam.check_machine()
        check_needs(beam_options)
    settings = PreprocessSettings(
        split=split,
        ratio=parse_ratio(ratio),
        seed=seed,
        n_tags=n_tags,
        synonyms=synonyms,
        shard_clips=shard_clips,
        tags=None if tags_file is None else load_tags(tags_file, dataset, subset),
        dataset=dataset,
        columns=tuple(map(parse_column, columns)),
        clip=clip_of_seconds(clip_seconds, sample_rate),
        excerpts=excerpts,
        excerpt_count=excerpt_count,
        subset=subset,
    )
    verbose = bool(ctx.find_root().params.get("verbose"))
    as_json = log_format == "json"
    log: _Terminal | _JsonLines = _JsonLines() if as_json else _Terminal(verbose)
    with json_log(verbose) if as_json else contextlib.nullcontext():
        for option in unknown:
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
            log.say(f"left out: {printable(folder)}")
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
            return
        with log.clips(plan.clips_to_do) as on_clips:
            summary = run_job(manifest, audio_dir, out, settings, beam.arguments(plan.clips_to_do), on_clips)
        if as_json:
            log.say(f"written: {out}", **{name: summary[name] for name in ("clips", "examples", "rejected")})
    print_summary(summary, out)


class _Terminal:
    """What is done, for a person: lines and progress bars on the error stream."""

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._console = Console(stderr=True, highlight=False)

    def say(self, text: str, **counts: int) -> None:
        """Print a line, which has the counts in it."""
        self._console.print(text, soft_wrap=True)

    @contextlib.contextmanager
    def checksums(self) -> Iterator[Callable[[int, int], None]]:
        """Show how many clips have their checksum."""
        with _progress(self._console) as progress:
            task = progress.add_task("checksums", total=None, visible=False)
            yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)

    @contextlib.contextmanager
    def clips(self, total: int) -> Iterator[Callable[[int], None]]:
        """Show how many clips are done, and nothing of what libraries write."""
        with (
            contextlib.nullcontext(self._console) if self._verbose else _libraries_silenced() as console,
            _progress(console) as progress,
        ):
            task = progress.add_task("clips", total=total, visible=False)
            yield lambda done: progress.update(task, completed=done, visible=True)


class _JsonLines:
    """The same as lines of the log, progress at most every ten seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def say(self, text: str, **counts: int) -> None:
        """Log a line and the counts beside it."""
        logging.getLogger(__name__).info("%s", text, extra=counts)

    def _now_and_then(self, text: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS:
            self._last = now
            self.say(f"{text}: {done} of {total} clips", clips_done=done, clips=total)

    @contextlib.contextmanager
    def checksums(self) -> Iterator[Callable[[int, int], None]]:
        """Log how many clips have their checksum."""
        yield lambda done, total: self._now_and_then("checksums", done, total)

    @contextlib.contextmanager
    def clips(self, total: int) -> Iterator[Callable[[int], None]]:
        """Log how many clips are done."""
        yield lambda done: self._now_and_then("examples", done, total)


@contextlib.contextmanager
def _libraries_silenced() -> Iterator[Console]:
    """Drop what libraries write to the standard error of this process and of its workers; yield a console to the real.

    The MP3 decoder's notes on damaged files and Beam's log would tear the progress bar; rejected.jsonl and the error
    that ends the job say the same in fewer words.
    """
    with (
        contextlib.closing(error_stream(os.dup(2), sys.stderr.encoding or "utf-8")) as terminal,
        open(os.devnull, "wb") as nowhere,
    ):
        os.dup2(nowhere.fileno(), 2)
        try:
            yield Console(file=terminal, highlight=False)
        finally:
            os.dup2(terminal.fileno(), 2)
            os.close(terminal.fileno())


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    return Progress(*columns, console=console)


class _Rate(ProgressColumn):
    """Units done a second, so far as they are known."""

    def render(self, task: Task) -> Text:
        """Return the rate as text."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed else "")


def print_summary(summary: dict[str, Any], out: str) -> None:
    """Print the counts of a finished job and where its output went."""
    table = Table()
    for column in ("split", "clips", "examples"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, counts in summary["splits"].items():
        table.add_row(split, str(counts["clips"]), str(counts["examples"]))
    console = Console(highlight=False)
    console.print(table)
    reasons = ", ".join(f"{reason} {count}" for reason, count in summary["rejected_by_reason"].items())
    rejected = f" ({reasons}), see {out}/rejected.jsonl" if reasons else ""
    console.print(f"rejected: {summary['rejected']}{rejected}", soft_wrap=True)
    incomplete = summary["incomplete"]
    if incomplete["clips"]:
        first = incomplete["first"][0]
        console.print(
            f"incomplete: {incomplete['clips']}, marked in their examples; the first is {printable(first['path'])}: "
            f"{first['reason']}",
            soft_wrap=True,
        )
    unlisted = summary["unlisted_audio"]["files"]
    if unlisted:
        console.print(f"audio files that no annotation names: {unlisted}, left out", soft_wrap=True)
    console.print(f"written: {out} (summary.json, tags.txt, {summary['shards']} shards)", soft_wrap=True)
