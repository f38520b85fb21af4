"""``autotag compare``: networks, recipes, data sets and seeds under one setting, and what came of it."""

from __future__ import annotations

import importlib
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table


@click.command("compare", short_help="Train and compare networks under one setting.")
@click.argument("config_file", metavar="CONFIG", type=click.Path(path_type=Path))
@click.option("--minutes", type=click.FloatRange(min=0), help="Stop after so many; the next call goes on.")
@click.option("--report-only", is_flag=True, help="Train nothing; show what there is.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for comparison.csv, .json and .html  [default: ROOT].",
)
@click.option("--show-config", is_flag=True, help="Print the whole configuration and stop.")
def command(config_file: Path, minutes: float | None, report_only: bool, out: Path | None, show_config: bool) -> None:
    """Train every network of CONFIG by every recipe on every data set, and compare them.

    One network is in memory at a time. A killed call, or one whose time was up, is finished by the next. A network that
    fails is named and the others go on; the exit code is then 1. On Kubeflow: `autotag kubeflow submit CONFIG`.

    \b
    Examples:
        autotag compare pipeline/configs/compare/demo.yaml
        autotag compare my.yaml --minutes 240
        autotag compare my.yaml --report-only --out results
    """
    from pipeline.compare.config import load_comparison

    config = load_comparison(str(config_file))
    if show_config:
        click.echo(config.to_yaml(), nl=False)
        return
    terminal = Console(stderr=True, highlight=False)
    with terminal.status("starting TFX (about half a minute)"):
        importlib.import_module("pipeline.compare.scoring")
    from pipeline.compare.run import compare

    def say(text: str) -> None:
        terminal.print(text, soft_wrap=True, markup=False)

    rows, progress, files = compare(
        config, config_file, out or Path(config.root), minutes=0.0 if report_only else minutes, say=say
    )
    table = Table(box=None, pad_edge=False)
    for column in ("data", "network", "recipe", "ROC-AUC", "PR-AUC", "s/1,000 clips", "training, min"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        roc_auc, pr_auc = row.figures["roc_auc"], row.figures["pr_auc"]
        table.add_row(
            row.data,
            row.network,
            row.recipe if row.current else f"{row.recipe} (earlier)",
            f"{roc_auc.value:.3f} ({roc_auc.low:.3f} to {roc_auc.high:.3f})",
            f"{pr_auc.value:.3f} ({pr_auc.low:.3f} to {pr_auc.high:.3f})",
            f"{row.costs['seconds_for_1000_clips']:.3g}",
            f"{row.costs['training_minutes']:.1f}",
        )
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, console.measure(table, options=console.options.update(max_width=500)).maximum)
    console.print(table)
    for path in files:
        click.echo(f"written: {path}")
    if progress.failed:
        click.get_current_context().exit(1)
