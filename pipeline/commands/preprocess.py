"""``autotag preprocess``: audio and annotations to TFRecords, by Beam."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from preprocessing.constants import N_TAGS
from preprocessing.splits import RULES, parse_ratio

RUNNERS = {
    "direct": "DirectRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    "dataflow": "DataflowRunner",
    "prism": "PrismRunner",
}
PROCESSES_FROM_CLIPS = 1000
"""From this many clips on, the start of worker processes pays on the direct runner."""


def direct_options(workers: int | None, clips: int) -> list[str]:
    """Return Beam's options for the direct runner: worker processes where they are asked for or pay."""
    count = workers or ((os.cpu_count() or 1) if clips >= PROCESSES_FROM_CLIPS else 1)
    if count == 1:
        return ["--direct_running_mode=in_memory", "--direct_num_workers=1"]
    return ["--direct_running_mode=multi_processing", f"--direct_num_workers={count}"]


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("audio_dir")
@click.argument("annotations")
@click.argument("out")
@click.option("--split", type=click.Choice(list(RULES)), default="track", show_default=True, help="Split rule.")
@click.option("--ratio", default="13:1:2", show_default=True, help="train:valid:test of the seeded rules.")
@click.option("--tags", "n_tags", default=N_TAGS, show_default=True, help="How many of the most frequent tags.")
@click.option("--synonyms", help="Merge synonyms: a YAML file, or 'default' for MagnaTagATune's. Off unless given.")
@click.option("--shard-clips", default=128, show_default=True, help="Clips in a shard, on average.")
@click.option("--seed", default=0, show_default=True, help="Seed of the seeded split rules.")
@click.option("--workers", type=click.IntRange(1), help="Processes of the direct runner [default: by clips and cores].")
@click.option("--runner", type=click.Choice(list(RUNNERS)), default="direct", show_default=True, help="Beam engine.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.pass_context
def command(
    ctx: click.Context,
    audio_dir: str,
    annotations: str,
    out: str,
    split: str,
    ratio: str,
    n_tags: int,
    synonyms: str | None,
    shard_clips: int,
    seed: int,
    workers: int | None,
    runner: str,
    dry_run: bool,
) -> None:
    """Turn the clips of AUDIO_DIR that ANNOTATIONS names into TFRecords in OUT.

    A killed call is finished by the next one. A clip that cannot be used goes to rejected.jsonl with its reason. Any
    further option is passed to Beam.

    \b
    Example:
        autotag preprocess mtat mtat/annotations_final.csv mtat-examples --split clean --workers 2
    """
    from preprocessing.job import parse_options, plan_job, run_job
    from preprocessing.manifest import MISSING, PreprocessSettings, build_manifest

    parse_options([f"--runner={RUNNERS[runner]}", *ctx.args])  # an unknown option is said before any work
    settings = PreprocessSettings(split, parse_ratio(ratio), seed, n_tags, synonyms, shard_clips)
    console = Console(stderr=True, highlight=False)
    with _progress(console) as progress:
        task = progress.add_task("checksums", total=None, visible=False)
        manifest = build_manifest(
            audio_dir,
            annotations,
            settings,
            lambda done, total: progress.update(task, completed=done, total=total, visible=True),
        )
    plan = plan_job(manifest, out)
    counts = ", ".join(f"{split} {count}" for split, count in manifest.split_counts().items())
    console.print(
        f"{len(manifest.clips)} clips ({counts}) in {len(plan.shards)} shards; "
        f"{len(plan.done)} shards are there, {plan.clips_to_do} clips to do",
        soft_wrap=True,
    )
    if dry_run:
        missing = sum(clip.checksum == MISSING for clip in manifest.clips)
        console.print(
            f"dry run: nothing written; {missing} clips are not on disk, "
            f"{len(manifest.unlisted)} audio files are not in the annotations",
            soft_wrap=True,
        )
        return
    options = [f"--runner={RUNNERS[runner]}", *ctx.args]
    if runner == "direct" and not any(option.startswith("--direct_") for option in ctx.args):
        options += direct_options(workers, plan.clips_to_do)
    verbose = ctx.find_root().params.get("verbose")
    with (
        contextlib.nullcontext(console) if verbose else _libraries_silenced() as console,
        _progress(console) as progress,
    ):
        task = progress.add_task("clips", total=plan.clips_to_do, visible=False)
        summary = run_job(
            manifest,
            audio_dir,
            out,
            settings,
            options,
            lambda done: progress.update(task, completed=done, visible=True),
        )
    print_summary(summary, out)


@contextlib.contextmanager
def _libraries_silenced() -> Iterator[Console]:
    """Drop what libraries write to the standard error of this process and of its workers; yield a console to the real.

    The MP3 decoder's notes on damaged files and Beam's log would tear the progress bar; rejected.jsonl and the error
    that ends the job say the same in fewer words.
    """
    with (
        os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace") as terminal,
        open(os.devnull, "w") as nowhere,
    ):
        os.dup2(nowhere.fileno(), 2)
        try:
            yield Console(file=terminal, highlight=False)
        finally:
            os.dup2(terminal.fileno(), 2)


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
    unlisted = summary["unlisted_audio"]["files"]
    if unlisted:
        console.print(f"audio files that no annotation names: {unlisted}, left out", soft_wrap=True)
    console.print(f"written: {out} (summary.json, tags.txt, {summary['shards']} shards)", soft_wrap=True)
