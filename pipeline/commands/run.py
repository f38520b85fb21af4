"""``autotag run``: the whole pipeline, or a part, on this machine."""

from __future__ import annotations

import logging

import click
from rich.console import Console
from rich.logging import RichHandler


@click.command()
@click.argument("config", required=False, type=click.Path())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting; may be repeated.")
@click.option("--from-node", help="Begin at this node; what is before it comes from earlier runs.")
@click.option("--to-node", help="End with this node.")
@click.option("--show-config", is_flag=True, help="Print the whole configuration and stop.")
def command(
    config: str | None, overrides: tuple[str, ...], from_node: str | None, to_node: str | None, show_config: bool
) -> None:
    """Run the pipeline: examples, validation, training, evaluation, push.

    CONFIG is a YAML file; what it does not set has a default. What an earlier run made from the same data, code and
    settings is taken from it.

    \b
    Examples:
        autotag run pipeline/configs/mtat.yaml --set data.audio_dir=/data/mtat
        autotag run my.yaml --set branches.mel_2d.epochs=40 --to-node Trainer_mel_2d
    """
    from pipeline.config import load_config

    settings = load_config(config, overrides)
    if show_config:
        click.echo(settings.to_yaml(), nl=False)
        return
    console = Console(stderr=True)
    _show_progress(console)
    with console.status("starting TFX (about half a minute)"):
        from pipeline import local_runner
        from pipeline.runs import describe_run, latest_run

    def on_clip(done: int, total: int) -> None:
        if done == total or done % 1000 == 0:
            logging.getLogger("pipeline.inputs").warning("checksums: %d of %d clips", done, total)

    try:
        local_runner.run_pipeline(settings, from_node, to_node, on_clip)
    except Exception as error:
        own = local_runner.failed_node(error)
        if own:
            raise own from None
        raise
    run = latest_run(settings)
    if run:
        click.echo(describe_run(run))


class _NodeFilter(logging.Filter):
    """Lets through what a person follows a run by: nodes beginning and ending, epochs, scores; and real warnings."""

    _OURS = ("components.", "pipeline.", "preprocessing.")

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith(self._OURS):
            return True
        message = record.getMessage()
        if message.startswith("Component ") and message.endswith((" is running.", " is finished.")):
            return True
        return record.levelno >= logging.ERROR


def _show_progress(console: Console) -> None:
    handler = RichHandler(console=console, show_path=False, show_level=False, markup=False, log_time_format="%H:%M:%S")
    handler.addFilter(_NodeFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
