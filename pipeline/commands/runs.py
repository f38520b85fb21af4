"""``autotag runs``: what ran, how it scored, what was pushed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from pipeline.runs.run_record import Run


@click.command()
@click.argument("config", required=False, type=click.Path())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as root=DIR.")
@click.option("--nodes", is_flag=True, help="Show the newest run's nodes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with whole ids, folders and the gate's reasons.")
def command(config: str | None, overrides: tuple[str, ...], nodes: bool, as_json: bool) -> None:
    """List the runs of the pipeline that CONFIG describes, from ML Metadata, the newest last.

    \b
    Example:
        autotag runs pipeline/configs/demo.yaml --nodes
    """
    from pipeline.runs.run_history import list_runs
    from pipeline.settings.config import load_config

    settings = load_config(config, overrides)
    runs = list_runs(settings)
    if as_json:
        click.echo(json.dumps([_as_dict(run) for run in runs], indent=1))
        return
    console = Console(highlight=False)
    console.print(_runs_table(escape(f"{settings.name} ({settings.root})"), runs))
    if nodes and runs:
        console.print()
        console.print(_nodes_table(runs[-1]))


def _as_dict(run: Run) -> dict[str, Any]:
    keys = ("run_id", "state", "ensemble", "roc_auc", "pr_auc", "blessed", "gate_reasons", "pushed", "pushed_version")
    return {key: getattr(run, key) for key in keys} | {"nodes": {node.node: node.state for node in run.nodes}}


def _runs_table(title: str, runs: list[Run]) -> Table:
    """One line a run, at most 80 columns wide."""
    table = _table(title, "model: what was exported; ran, cached: nodes; pushed: version, or what the gate said")
    for column in ("run", "state"):
        table.add_column(column, no_wrap=True)
    for column in ("ran", "cached"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("model", no_wrap=True)
    for column in ("ROC-AUC", "PR-AUC"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("pushed", no_wrap=True)
    for run in runs:
        table.add_row(*_row(run))
    return table


def _row(run: Run) -> list[str]:
    states = [node.state for node in run.nodes]
    return [
        escape(run.short_id),
        f"[red]{run.state}[/red]" if run.state == "failed" else run.state,
        str(states.count("done")),
        str(states.count("cached")),
        run.ensemble or "",
        *("" if score is None else f"{score:.4f}" for score in (run.roc_auc, run.pr_auc)),
        run.pushed_version or {True: "blessed", False: "refused", None: ""}[run.blessed],
    ]


def _nodes_table(run: Run) -> Table:
    table = _table(f"nodes of {escape(run.run_id)}", None)
    table.add_column("node")
    table.add_column("state")
    table.add_column("seconds", justify="right")
    for node in run.nodes:
        table.add_row(node.node, node.state, f"{node.seconds:.1f}" if node.seconds else "")
    return table


def _table(title: str, caption: str | None) -> Table:
    return Table(
        title=title,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
