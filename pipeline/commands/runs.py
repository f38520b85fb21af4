"""``autotag runs``: what ran, how it scored, what was pushed."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table


@click.command()
@click.argument("config", required=False, type=click.Path())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as root=DIR.")
@click.option("--nodes", is_flag=True, help="Show the newest run's nodes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config: str | None, overrides: tuple[str, ...], nodes: bool, as_json: bool) -> None:
    """List the runs of the pipeline that CONFIG describes, from ML Metadata.

    \b
    Example:
        autotag runs pipeline/configs/demo.yaml --nodes
    """
    from pipeline.config import load_config
    from pipeline.runs import Run, list_runs

    settings = load_config(config, overrides)
    runs = list_runs(settings.metadata_file, settings.name)
    if as_json:
        click.echo(json.dumps([_as_dict(run) for run in runs], indent=1))
        return
    table = Table(title=f"{settings.name} ({settings.root})")
    for column in ("run", "state", "ran", "cached", "model", "ROC-AUC", "PR-AUC", "blessed", "pushed"):
        table.add_column(column, overflow="fold")
    for run in runs:
        table.add_row(*_row(run))
    console = Console()
    console.print(table)
    if nodes and runs:
        newest: Run = runs[-1]
        table = Table(title=f"nodes of {newest.run_id}")
        for column in ("node", "state", "seconds"):
            table.add_column(column, justify="right" if column == "seconds" else "left")
        for node in newest.nodes:
            table.add_row(node.node, node.state, f"{node.seconds:.1f}" if node.seconds else "")
        console.print(table)


def _as_dict(run: object) -> dict[str, object]:
    from pipeline.runs import Run

    assert isinstance(run, Run)
    keys = ("run_id", "state", "ensemble", "roc_auc", "pr_auc", "blessed", "gate_reasons", "pushed")
    return {key: getattr(run, key) for key in keys} | {"nodes": {node.node: node.state for node in run.nodes}}


def _row(run: object) -> list[str]:
    values = _as_dict(run)
    nodes = values["nodes"]
    assert isinstance(nodes, dict)
    ran = sum(state == "done" for state in nodes.values())
    cached = sum(state == "cached" for state in nodes.values())
    scores = [f"{values[key]:.4f}" if values[key] is not None else "" for key in ("roc_auc", "pr_auc")]
    blessed = {True: "yes", False: "no", None: ""}[values["blessed"]]  # type: ignore[index]
    return [
        str(values["run_id"]),
        str(values["state"]),
        str(ran),
        str(cached),
        str(values["ensemble"] or ""),
        *scores,
        blessed,
        str(values["pushed"] or ""),
    ]
