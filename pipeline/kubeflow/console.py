"""What `autotag kubeflow` does and says on a terminal: settings read and compiled, runs waited for, tables printed."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from pipeline.compare.config import ComparisonConfig
    from pipeline.kubeflow.server import Server
    from pipeline.settings.config import PipelineConfig

    Settings = PipelineConfig | ComparisonConfig

MAX_WIDTH = 1000
"""Of a table, in columns."""


def write_newest_metrics(server: Server, settings: Settings, experiment: str, metadata: str | None, path: str) -> None:
    """Write the metrics of the newest run that has ended.

    Raises:
        AutotagError: ML Metadata does not answer, and the file is without what it has; or the file cannot be written.
    """
    from pipeline.kubeflow.cluster_runs import NoMetadataError, ended_run_metrics
    from pipeline.runs.prometheus import write_metrics

    try:
        metrics = ended_run_metrics(server, settings.name, experiment, metadata)
    except NoMetadataError as error:
        write_metrics(path, ended_run_metrics(server, settings.name, experiment, None))
        raise NoMetadataError(f"{error}; {path} is without what stands there") from None
    write_metrics(path, metrics)
    if not metrics:
        click.echo(f"{experiment}: no run of {settings.name} has ended yet; {path} has no metrics", err=True)


def load_settings(config: str | None, overrides: tuple[str, ...]) -> Settings:
    """Read a run's or a comparison's settings, whichever the file has.

    Raises:
        BadInputError: says which setting is wrong and why.
    """
    from pipeline.compare.config import is_comparison, load_comparison
    from pipeline.settings.config import load_config
    from preprocessing.settings_file import read_settings_file

    if config is not None and is_comparison(read_settings_file(config)):
        return load_comparison(config, overrides)
    return load_config(config, overrides)


def connect_to(settings: Settings, host: str | None, token_env: str | None) -> Server:
    """Connect; see pipeline.kubeflow.server.connect."""
    from pipeline.kubeflow.server import connect

    return connect(settings.kubeflow, host, token_env)


def compile_settings(settings: Settings, versions: Mapping[str, str]) -> str:
    """Return the pipeline's file; ``versions`` are those of ``data_versions`` that are known."""
    with Console(stderr=True).status("starting TFX (about half a minute)"):
        from pipeline.kubeflow.compiler import compile_config

        return compile_config(settings, versions)


def wait_for(server: Server, run_id: str, name: str, page: str, text: str) -> None:
    """Print the steps' states until the run has ended.

    Raises:
        AutotagError: it failed, was stopped, or is not waited for any more.
    """
    from pipeline.kubeflow.pipeline_spec import step_names
    from preprocessing.errors import AutotagError

    try:
        ended = server.wait(run_id, step_names(text), lambda step, state: click.echo(f"{_now()}  {step}: {state}"))
    except KeyboardInterrupt:
        raise AutotagError(f"run {name} is not waited for any more and goes on: {page}") from None
    if ended.state != "succeeded":
        said = ", ".join(f"step {step} failed" for step in ended.failed_steps)
        reasons = "; ".join(filter(None, (said, ended.error))) or "the server does not say why"
        raise AutotagError(f"run {name} {ended.state}: {reasons}; the steps' logs are at {page}")
    click.echo(f"run {name}: {ended.state}")


def _now() -> str:
    return f"{datetime.datetime.now():%H:%M:%S}"


def data_versions(settings: Settings) -> dict[str, str]:
    """Return data set -> version of its data as they are now; say which cannot be seen from here."""
    from pipeline.kubeflow.compiler import data_pipelines, find_data_versions

    with Console(stderr=True).status("checksums of the clips") as status:
        found = find_data_versions(settings, lambda done, total: status.update(f"checksums: {done} of {total} clips"))
    for data, pipeline in data_pipelines(settings).items():
        if data not in found:
            click.echo(
                f"{pipeline.data.annotations_file} cannot be seen from here: the run reads the data as they are and "
                "makes everything anew",
                err=True,
            )
    return found


def duration(began: datetime.datetime, ended: datetime.datetime | None) -> str:
    """Return how long something took as H:MM:SS, empty where it has not ended."""
    return str(datetime.timedelta(seconds=round((ended - began).total_seconds()))) if ended else ""


def print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table, no cell of it cut."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console(highlight=False, soft_wrap=True)
    widest = console.measure(table, options=console.options.update(max_width=MAX_WIDTH)).maximum
    console.width = max(console.width, widest)  # an id that was cut short is of no use
    console.print(table)
