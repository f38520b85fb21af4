"""``autotag download``: a data set from its publisher, resumable and checked."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from datasets import mtat
from datasets.dataset import Dataset
from datasets.registry import DATASETS, find_dataset
from pipeline.console import completion
from pipeline.console.setting_options import SUBSET
from preprocessing.errors import AutotagError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from datasets.target import Downloaded

_SHOWN_PATHS = 5
OFFERED = [name for name, dataset in DATASETS.items() if dataset.remotes]


@click.command()
@click.argument("name", type=click.Choice(OFFERED))
@click.argument("folder", shell_complete=completion.folders)
@SUBSET
@click.option("--base-url", help="Address of a mirror's folder with the same files [default: the publisher's].")
@click.option("--attempts", type=click.IntRange(1), default=6, show_default=True, help="Failures in a row to bear.")
@click.option("--delete-archives", is_flag=True, help="Delete each archive once it is unpacked.")
def command(name: str, folder: str, subset: str, base_url: str | None, attempts: int, delete_archives: bool) -> None:
    """Download the data set NAME into FOLDER and unpack it there.

    A call that was cut, stopped or killed is finished by the next one. `autotag dataset NAME` says what it is, how
    large, and under which licence; of msd and gtzan the lists alone are offered. mtat is 3 GB and needs about 6 GB of
    disk; fma small 8 GB, medium 24, large 100; jamendo 156 GB (audio-low), its moodtheme 46 GB; twice as much unless
    archives are deleted.

    \b
    Example:
        autotag download mtat mtat
        autotag preprocess mtat mtat/annotations_final.csv mtat-examples
        autotag download fma fma --subset small --delete-archives
    """
    try:
        from datasets.download import download
        from preprocessing.download import Patience
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise AutotagError("download needs httpx: pip install 'autotag[download]'") from error

    dataset = find_dataset(name)
    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    with _progress(console) as progress:

        def on_bytes(what: str, done: int, total: int | None) -> None:
            if what not in tasks:  # what was there before does not count for the rate
                tasks[what] = progress.add_task(what, total=total, completed=done)
            progress.update(tasks[what], completed=done, total=total, visible=done != total)

        downloaded = download(
            dataset,
            folder,
            subset,
            base_url,
            Patience(attempts),
            delete_archives,
            on_bytes,
            lambda line: progress.console.print(line, highlight=False, markup=False, soft_wrap=True),
        )
    _print_summary(dataset, subset, downloaded)


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


def _print_summary(dataset: Dataset, subset: str, downloaded: Downloaded) -> None:
    """Print what is there, what is not, and what to call next."""
    chosen, there = dataset.subset_name(subset), downloaded.on_disk
    published = sum(dataset.subsets[chosen].splits.values()) if chosen else dataset.card.counts.get("clips", 0)
    click.echo(f"clips: {there.found:,} of {there.annotated:,} annotated")
    if published and there.annotated != published:
        click.echo(f"note: {dataset.card.title} has {published:,} clips; this is not the whole of it")
    if there.missing:
        click.echo(f"missing: {len(there.missing):,} ({_shorten(there.missing)})")
    if dataset.not_offered:
        click.echo(f"note: {dataset.not_offered}")
    if downloaded.unwanted:
        entries = _shorten(downloaded.unwanted)
        click.echo(f"not unpacked, as no clips: {len(downloaded.unwanted):,} entries ({entries})")
    for clip_id, path, wrong in there.broken:
        click.echo(f"broken as published: clip {clip_id} ({wrong}) {path}")
    source = dataset.layout.source(str(downloaded.folder), chosen)
    click.echo(f"written: {downloaded.folder} (audio {source.audio_dir}, annotations {source.annotations})")
    if any((downloaded.folder / remote.name).is_file() for remote in dataset.remotes if remote.archive):
        click.echo("archives there can be deleted")
    options = [] if dataset is mtat.DATASET else ["--dataset", dataset.name]
    options += ["--subset", chosen] if chosen else []
    options += ["--split", "published"] if "published" in dataset.rules else []
    inputs = shlex.join([source.audio_dir, source.annotations])
    click.echo(" ".join([f"next: autotag preprocess {inputs} OUT", *options]))


def _shorten(paths: tuple[str, ...]) -> str:
    return ", ".join(paths[:_SHOWN_PATHS]) + (", ..." if len(paths) > _SHOWN_PATHS else "")
