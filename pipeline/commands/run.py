"""``autotag run``: the whole pipeline, or a part, on this machine."""

from __future__ import annotations

import atexit
import importlib
import logging
import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console

from pipeline.console.logs import json_log, log_format_option, show_progress

if TYPE_CHECKING:
    from pipeline.settings.config import PipelineConfig


@click.command()
@click.argument("config", required=False, type=click.Path())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting; may be repeated.")
@click.option("--from-node", help="Begin at this node; what is before it comes from earlier runs.")
@click.option("--to-node", help="End with this node.")
@click.option(
    "--metrics-file",
    type=click.Path(dir_okay=False),
    help="For Prometheus' textfile collector [default: ROOT/metrics.prom].",
)
@log_format_option
@click.option("--show-config", is_flag=True, help="Print the whole configuration and stop.")
def command(
    config: str | None,
    overrides: tuple[str, ...],
    from_node: str | None,
    to_node: str | None,
    metrics_file: str | None,
    log_format: str,
    show_config: bool,
) -> None:
    """Run the pipeline: examples, validation, training, evaluation, push.

    CONFIG is a YAML file; what it does not set has a default. What an earlier run made from the same data, code and
    settings is taken from it.

    \b
    Examples:
        autotag run pipeline/configs/mtat.yaml --set data.audio_dir=/data/mtat
        autotag run my.yaml --set networks.mel_2d.epochs=40 --to-node Trainer_mel_2d
    """
    from pipeline.paths import check_paths
    from pipeline.settings.config import load_config

    settings = load_config(config, overrides)
    if show_config:
        click.echo(settings.to_yaml(), nl=False)
        return
    check_paths(settings)
    parts = (from_node, to_node)
    if log_format == "json":
        context = click.get_current_context().find_root()
        with json_log(bool(context.params.get("verbose"))):
            said = _run(settings, parts, metrics_file)
    else:
        console = Console(stderr=True)
        show_progress(console)
        with console.status("starting TFX (about half a minute)"):
            importlib.import_module("pipeline.create")
        said = _run(settings, parts, metrics_file)
    click.echo(said)


def _run(settings: PipelineConfig, parts: tuple[str | None, str | None], metrics_file: str | None) -> str:
    """Run, keep and write the metrics; returns what came of it."""
    from pipeline.runs.local_runner import attempt, run_pipeline

    # TensorFlow's objects that a failed node leaves behind complain when the process ends, below what ended the run.
    atexit.register(setattr, sys, "unraisablehook", lambda unraisable: None)
    return attempt(
        settings,
        lambda run_id: run_pipeline(settings, *parts, on_clip=_log_checksums, run_id=run_id),
        metrics_file,
    )


def _log_checksums(done: int, total: int) -> None:
    if done == total or done % 1000 == 0:
        counts = {"clips_done": done, "clips": total}
        logging.getLogger("pipeline.inputs").warning("checksums: %d of %d clips", done, total, extra=counts)
