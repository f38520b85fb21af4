"""``autotag report``: a run's results as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from preprocessing.errors import BadInputError


@click.command()
@click.argument("run", required=False)
@click.option("--config", type=click.Path(), help="The pipeline's configuration; the defaults unless given.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as root=DIR.")
@click.option("--out", type=click.Path(path_type=Path), help="Where the page goes; ROOT/reports/RUN.html unless given.")
def command(run: str | None, config: str | None, overrides: tuple[str, ...], out: Path | None) -> None:
    """Write one HTML page about RUN: scores beside the paper's, tags, training curves, data, nodes.

    RUN is an id that `autotag runs` lists, or how it begins; the newest run unless given. The page needs no network and
    no other file.

    \b
    Examples:
        autotag report --config pipeline/configs/demo.yaml
        autotag report 2026-01-31T12:00:00 --config my.yaml --out report.html
    """
    from pipeline.reports.report import write_report
    from pipeline.runs.run_history import find_run, list_runs
    from pipeline.settings.config import load_config

    settings = load_config(config, overrides)
    root = Path(settings.root).absolute()
    found = find_run(list_runs(settings), run)
    path = out or root / "reports" / f"{found.run_id}.html"
    try:
        write_report(found, root, path)
    except OSError as error:
        raise BadInputError(f"{error.filename or path}: {error.strerror or error}") from None
    click.echo(f"{found.run_id} ({found.state}): {path}")
