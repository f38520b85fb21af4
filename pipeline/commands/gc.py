"""``autotag gc``: delete what old runs left and nothing needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.runs.deletion import Item, Plan


@click.command("gc", short_help="Delete what old runs left and nothing needs any more.")
@click.argument("config", required=False, type=click.Path())
@click.option("--keep", required=True, type=click.IntRange(min=1), help="Finished runs of which everything stays.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as root=DIR.")
@click.option("--versions", is_flag=True, help="Delete old pushed versions too.")
@click.option("--paths", is_flag=True, help="List every file and folder.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@click.option("--kubeflow", is_flag=True, help="In kubeflow.work_dir, which has to be mounted here, instead.")
@click.option("--host", help="With --kubeflow: address of its API; else kubeflow.host, else KF_PIPELINES_ENDPOINT.")
@click.option("--token-env", metavar="VARIABLE", help="With --kubeflow: as `autotag kubeflow` has it.")
def command(
    config: str | None,
    keep: int,
    overrides: tuple[str, ...],
    versions: bool,
    paths: bool,
    dry_run: bool,
    kubeflow: bool,
    host: str | None,
    token_env: str | None,
) -> None:
    """Delete what old runs of the pipeline that CONFIG describes left under its root.

    Everything of the newest finished runs stays, and of all that began after them, so that the next run finds in the
    cache what it would have found. Pushed versions stay, and the models that they are copies of; with --versions those
    go that no server loads, no label names or goes back to, and no new model is compared with. What killed runs left
    goes. `autotag runs` shows the figures of all runs as before.

    With --kubeflow: shards of code that neither a schedule nor the newest runs use, checkpoints of runs that are done,
    and what killed pods left on the volume; nothing while a run goes on, and never a pushed version.

    \b
    Examples:
        autotag gc pipeline/configs/mtat.yaml --keep 3 --dry-run
        autotag gc pipeline/configs/mtat.yaml --keep 3 --versions
        autotag gc pipeline/configs/mtat-kubeflow.yaml --keep 3 --kubeflow --dry-run
    """
    from pipeline.settings.config import load_config
    from preprocessing.errors import BadInputError

    settings = load_config(config, overrides)
    if kubeflow:
        if versions:
            raise BadInputError("--versions: with --kubeflow pushed versions stay, all of them")
        from pipeline.kubeflow.server import connect
        from pipeline.kubeflow.volume_garbage import collect_on_volume

        server = connect(settings.kubeflow, host, token_env)
        plan = collect_on_volume(settings, server, keep, dry_run=dry_run)
        _print_plan(plan, settings.kubeflow.work_dir, dry_run=dry_run, paths=paths)
        return
    if host or token_env:
        raise BadInputError(f"{'--host' if host else '--token-env'} is of Kubeflow: give --kubeflow too")
    from pipeline.runs.run_garbage import collect

    plan = collect(settings, keep, old_versions=versions, dry_run=dry_run)
    _print_plan(plan, settings.root, dry_run=dry_run, paths=paths)


def _print_plan(plan: Plan, root: str, *, dry_run: bool, paths: bool) -> None:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    would = "would be deleted" if dry_run else "deleted"
    kept = ", ".join(run.short_id for run in plan.kept) or "none"
    console.print(f"kept whole: {len(plan.kept)} runs ({escape(kept)})")
    if not plan.items:
        console.print(f"{escape(root)}: nothing to delete")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(would)
    for column in ("files and folders", "frees"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, items in _groups(plan.items).items():
        table.add_row(escape(name), str(len(items)), decimal(sum(item.size for item in items)))
    console.print(table)
    if paths:
        for item in plan.items:
            console.print(f"{decimal(item.size):>10}  {escape(item.path)}")
    console.print(f"{escape(root)}: {len(plan.items)} files and folders {would}, {decimal(plan.size)} freed")


def _groups(items: Iterable[Item]) -> dict[str, list[Item]]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(f"{item.kind}: {item.run}" if item.run else item.kind, []).append(item)
    return groups
