"""``autotag make-corpus``: a synthetic corpus in MagnaTagATune's layout."""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--clips", default=200, show_default=True, help="How many clips of 29.1 s.")
@click.option("--seed", default=7, show_default=True, help="The same seed gives the same bytes.")
@click.option("--jobs", type=int, help="Processes [default: one a core].")
def command(out: Path, clips: int, seed: int, jobs: int | None) -> None:
    """Write CLIPS synthetic clips with annotations to OUT, laid out as MagnaTagATune is.

    The clips are music in the small, made to try the pipeline where MagnaTagATune itself is not at hand. A killed call
    is finished by the next one.

    \b
    Example:
        autotag make-corpus demo-data --clips 200 --seed 7
    """
    from datasets.synthesis.corpus import make_corpus

    jobs = jobs if jobs is not None else os.cpu_count() or 1
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("clips", total=max(clips, 0))
        summary = make_corpus(out, clips, seed, jobs, lambda done: progress.update(task, completed=done))
        progress.update(task, completed=summary.clips)
    frequent = ", ".join(f"{tag} {count}" for tag, count in list(summary.tag_counts.items())[:5])
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{summary.clips} clips ({summary.written} new) of {summary.tracks} tracks by {summary.artists} artists, "
        f"{len(summary.tag_counts)} tags ({frequent} ...), {summary.untagged} clips without any"
    )
    console.print(f"written: {summary.out} ({summary.annotations.name}, {summary.clip_info.name}, folders 0 to f)")
