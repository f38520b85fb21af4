"""``autotag download-mtat``: MagnaTagATune from its publisher, resumable."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from preprocessing.errors import AutotagError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from datasets.mtat_download import Summary

_SHOWN_PATHS = 5


@click.command()
@click.argument("dest")
@click.option("--base-url", help="Address of a mirror's folder with the same five files [default: the publisher's].")
@click.option("--attempts", type=click.IntRange(1), default=6, show_default=True, help="Failures in a row to bear.")
def command(dest: str, base_url: str | None, attempts: int) -> None:
    """Download MagnaTagATune (25,863 clips, 3 GB) into DEST and unpack it there.

    Needs about 6 GB of disk: 3 for the three parts of the archive, 3 for the clips; the parts can be deleted
    afterwards. A call that was cut, stopped or killed is finished by the next one.

    The data is for non-commercial use (CC BY-NC-SA 3.0) and comes from City, University of London.

    \b
    Example:
        autotag download-mtat mtat
        autotag preprocess mtat mtat/annotations_final.csv mtat-examples
    """
    try:
        from datasets.mtat import BASE_URL
        from datasets.mtat_download import download_mtat
        from preprocessing.download import Patience
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise AutotagError("download-mtat needs httpx: pip install 'autotag[download]'") from error

    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    with _progress(console) as progress:

        def on_bytes(what: str, done: int, total: int | None) -> None:
            if what not in tasks:  # what was there before does not count for the rate
                tasks[what] = progress.add_task(what, total=total, completed=done)
            progress.update(tasks[what], completed=done, total=total)

        summary = download_mtat(
            dest,
            base_url or BASE_URL,
            Patience(attempts),
            on_bytes,
            lambda line: progress.console.print(line, highlight=False, markup=False, soft_wrap=True),
        )
    _print_summary(summary)


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


def _print_summary(summary: Summary) -> None:
    """Print what is there, what is not, and what to call next."""
    from datasets.mtat import ANNOTATIONS, CARD

    published = CARD.counts["clips"]

    click.echo(f"clips: {summary.found:,} of {summary.annotated:,} annotated")
    if summary.annotated != published:
        click.echo(f"note: MagnaTagATune has {published:,} clips; this is not the whole of it")
    if summary.missing:
        click.echo(f"missing: {len(summary.missing):,} ({_shorten(summary.missing)})")
    if summary.unwanted:
        click.echo(f"not unpacked, as no clips: {len(summary.unwanted):,} entries ({_shorten(summary.unwanted)})")
    for clip_id, path, wrong in summary.broken:
        click.echo(f"broken as published: clip {clip_id} ({wrong}) {path}")
    click.echo(f"written: {summary.folder} (folders 0-f, {ANNOTATIONS}); mp3.zip.00? there can be deleted")
    inputs = shlex.join([str(summary.folder), str(summary.folder / ANNOTATIONS)])
    click.echo(f"next: autotag preprocess {inputs} OUT")


def _shorten(paths: tuple[str, ...]) -> str:
    return ", ".join(paths[:_SHOWN_PATHS]) + (", ..." if len(paths) > _SHOWN_PATHS else "")
