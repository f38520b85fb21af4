"""``autotag networks``: every network that a configuration can name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from models.registry import Network


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with sources, front ends and all published figures.")
def command(as_json: bool) -> None:
    """List the networks: what each hears at once, its weights, the best figures published for MagnaTagATune.

    \b
    Example:
        autotag networks
    """
    from models.registry import NETWORKS
    from pipeline.console.terminal import print_json

    networks = list(NETWORKS.values())
    if as_json:
        print_json([_as_dict(network) for network in networks])
        return
    table = Table(box=None, pad_edge=False, caption="published: ROC-AUC / PR-AUC, data and split in brackets")
    table.add_column("network", no_wrap=True)
    for column in ("hears", "parameters"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("published")
    for network in networks:
        hears = f"{network.window_seconds:.1f} s, {network.sample_rate / 1000:g} kHz"
        table.add_row(network.name, hears, f"{network.parameters:,}", _published(network))
    Console(highlight=False).print(table)


def _published(network: Network) -> str:
    return "; ".join(
        f"{_figure(one.roc_auc)} / {_figure(one.pr_auc)} ({one.data}, {one.split})" for one in network.published
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _as_dict(network: Network) -> dict[str, Any]:
    return {
        "name": network.name,
        "title": network.title,
        "source": network.source,
        "window_samples": network.window_samples,
        "sample_rate": network.sample_rate,
        "front_end": None if network.front_end is None else network.front_end.to_json(),
        "parameters": network.parameters,
        "published_parameters": network.published_parameters,
        "published": [vars(one) for one in network.published],
        "notes": network.notes,
    }
