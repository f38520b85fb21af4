"""``autotag dataset``: the data sets, or one of them: its card, and what is there of it in a folder."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from datasets.dataset import Dataset
from datasets.registry import DATASETS, find_dataset
from pipeline.console import completion
from pipeline.console.setting_options import COLUMN, SUBSET
from preprocessing.constants import SPLITS
from preprocessing.errors import BadInputError

if TYPE_CHECKING:
    from datasets.inventory import Inventory

_SHOWN_PATHS = 5
_SHOWN_TAGS = 10


@click.command()
@click.argument("name", required=False, shell_complete=completion.datasets)
@click.argument("folder", required=False, shell_complete=completion.folders)
@SUBSET
@click.option(
    "--audio-dir",
    shell_complete=completion.folders,
    help="Where its audio is [default: in FOLDER, as `autotag download` has it].",
)
@click.option(
    "--annotations", shell_complete=completion.files, help="File or folder of its annotations [default: in FOLDER]."
)
@COLUMN
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all tags and all missing files.")
def command(
    name: str | None,
    folder: str | None,
    subset: str,
    audio_dir: str | None,
    annotations: str | None,
    column: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the data sets; or show NAME's card, and what is in FOLDER: counts, splits, tags, missing audio.

    \b
    Example:
        autotag dataset
        autotag dataset jamendo
        autotag dataset jamendo jamendo --subset moodtheme
        autotag dataset fma --audio-dir /music/fma_small --annotations /music/fma_metadata
    """
    if name is None:
        _print_list(as_json)
        return
    from datasets.inventory import take_inventory
    from datasets.table import parse_column

    dataset = find_dataset(name)
    chosen = dataset.subset_name(subset)
    there, edition = None, ""
    if folder is not None or annotations is not None:
        if folder is None and audio_dir is None:
            raise BadInputError("--annotations needs --audio-dir or FOLDER: say where the audio is")
        source = dataset.layout.source(folder or "", chosen)
        source = replace(
            source,
            audio_dir=audio_dir or source.audio_dir,
            annotations=annotations or source.annotations,
            columns=tuple(map(parse_column, column)),
        )
        there, edition = take_inventory(dataset, source), source.annotations.rstrip("/").rpartition("/")[2]
    if as_json:
        click.echo(json.dumps(_as_dict(dataset, chosen, there), indent=1, ensure_ascii=False))
        return
    _print_card(dataset, chosen)
    if there is not None:
        _print_inventory(dataset, chosen, there, edition)


def _print_list(as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps([_as_dict(one, one.subset_name(), None) for one in DATASETS.values()], ensure_ascii=False)
        )
        return
    table = Table(box=None, pad_edge=False)
    for column in ("data set", "holds", "subsets", "licence"):
        table.add_column(column, no_wrap=column == "data set")
    for dataset in DATASETS.values():
        holds = ", ".join(f"{count:,} {what}" for what, count in dataset.card.counts.items())
        table.add_row(dataset.name, holds, ", ".join(dataset.subsets), dataset.card.licence)
    Console(highlight=False).print(table)


def _print_card(dataset: Dataset, chosen: str) -> None:
    card = dataset.card
    click.echo(f"{dataset.name}: {card.title}")
    if card.counts:
        click.echo("holds: " + ", ".join(f"{count:,} {what}" for what, count in card.counts.items()))
    click.echo(f"licence: {card.licence}")
    for source in card.sources:
        click.echo(f"source: {source}")
    if card.citation:
        click.echo(f"cite: {card.citation}")
    for name, subset in dataset.subsets.items():
        counts = " / ".join(f"{count:,}" for count in subset.splits.values())
        figures = ", ".join([counts] * bool(counts) + [f"{subset.n_tags} tags"] * bool(subset.n_tags))
        mark = " (shown)" if name == chosen else ""
        click.echo(f"subset {name}{mark}: {subset.title}" + (f"; {figures}" if figures else ""))
    for name, rule in dataset.rules.items():
        click.echo(f"split {name}: {rule.title}")
    remotes = dataset.remotes_of(chosen)
    if remotes:
        known = [remote.size for remote in remotes if remote.size is not None]
        size = f", {decimal(sum(known))}" if len(known) == len(remotes) else ""
        click.echo(f"download: autotag download {dataset.name} FOLDER ({len(remotes)} files{size})")
    if dataset.not_offered:
        click.echo(f"not offered: {dataset.not_offered}")


def _print_inventory(dataset: Dataset, chosen: str, there: Inventory, edition: str) -> None:
    """Print the counts; the published ones beside them where the annotations' folder is the one that they are of."""
    artists = f", {there.artists:,} artists" if there.artists else ""
    click.echo(f"\nclips: {there.clips:,} of {there.tracks:,} tracks{artists}; {len(there.tags):,} tags")
    table = Table(box=None, pad_edge=False)
    table.add_column("split")
    for part in SPLITS:
        table.add_column(part, justify="right")
    for rule, counts in there.splits.items():
        table.add_row(rule, *(f"{counts[part]:,}" for part in SPLITS))
    published = dataset.subsets[chosen].splits if chosen else {}
    if published and edition == dataset.layout.source("", chosen).annotations.rpartition("/")[2]:
        table.add_row("as published", *(f"{published[part]:,}" for part in SPLITS))
    Console(highlight=False).print(table)
    for rule, why in there.unusable.items():
        click.echo(f"split {rule} cannot be used: {why}")
    if there.shared_artists is not None:
        click.echo(f"artists in two parts of the published split: {there.shared_artists:,}")
    frequent = [f"{tag} {count:,}" for tag, count in list(there.tags.items())[:_SHOWN_TAGS]]
    click.echo(f"most frequent tags: {', '.join(frequent)}")
    disk = there.on_disk
    click.echo(f"audio: {disk.found:,} of {disk.annotated:,} on disk")
    if disk.missing:
        more = ", ..." if len(disk.missing) > _SHOWN_PATHS else ""
        click.echo(f"missing: {len(disk.missing):,} ({', '.join(disk.missing[:_SHOWN_PATHS])}{more})")
    for clip_id, path, wrong in disk.broken:
        click.echo(f"broken: clip {clip_id} ({wrong}) {path}")


def _as_dict(dataset: Dataset, chosen: str, there: Inventory | None) -> dict[str, Any]:
    return {
        "name": dataset.name,
        **asdict(dataset.card),
        "subset": chosen,
        "subsets": {name: asdict(subset) for name, subset in dataset.subsets.items()},
        "rules": {name: rule.title for name, rule in dataset.rules.items()},
        "files": [{"name": remote.name, "url": remote.url} for remote in dataset.remotes_of(chosen)],
        "not_offered": dataset.not_offered,
        **({} if there is None else {"there": asdict(there)}),
    }
