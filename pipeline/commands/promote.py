"""``autotag promote``: say which version of the model a label names, in running servers and at their next start."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import click

from pipeline.console.server_options import encryption_options
from serving.server.labels import Labels
from serving.server.model_server import ModelServer
from serving.server.promotion import Connect, Servers, choose_version, run_change, version_rows

DEFAULT_MODEL_DIR: Final = Path("demo-run/pushed")
DEFAULT_SERVER: Final = "localhost:8500"


def common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that promote and rollback share."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
        click.option("--wait", default=120, show_default=True, type=click.IntRange(min=1), help="Seconds for loading."),
        click.option("--base-path", help="MODEL_DIR as the servers see it, if they see it elsewhere."),
        click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="The servers' model configuration file: --base-path is taken from it, and it is rewritten.",
        ),
        click.option("--no-server", is_flag=True, help="Only write down what servers shall find at their next start."),
        click.option(
            "--server",
            "addresses",
            multiple=True,
            metavar="HOST:PORT",
            help=f"gRPC address of a server; once for each replica.  [default: {DEFAULT_SERVER}]",
        ),
        encryption_options,
        click.option("--label", default="stable", show_default=True, help="The label to move."),
    ):
        command = option(command)
    return command


@click.command("promote", short_help="Let a label name another version, in running servers too.")
@click.argument("version", required=False)
@click.argument("model_dir", required=False, default=DEFAULT_MODEL_DIR, type=click.Path(path_type=Path))
@common_options
@click.option("--show", is_flag=True, help="Show versions, labels and what the servers have loaded.")
def command(
    version: str | None,
    model_dir: Path,
    show: bool,
    label: str,
    addresses: tuple[str, ...],
    tls: bool,
    root_certificates: Path | None,
    no_server: bool,
    config_file: Path | None,
    base_path: str | None,
    wait: int,
    dry_run: bool,
) -> None:
    """Let a label name VERSION: a number, `newest`, or `none` to take the label away.

    The version is loaded first, then the label moves, in all servers or in none; no request fails meanwhile. From the
    first promotion on, servers load what labels name and what `autotag rollback` would go back to, and no longer
    whatever is pushed. What was promoted is kept in MODEL_DIR/labels.json, which `autotag serve` reads.

    \b
    Example:
        autotag promote newest --label canary
        autotag promote 1795242655 demo-run/pushed --server localhost:8500
        autotag promote newest --config serving/server/tfserving/models.config --server pod-1:8500 --server pod-2:8500
        autotag promote --show
    """
    connect = partial(ModelServer, tls=tls, root_certificates=root_certificates)
    if show:
        # `autotag promote --show DIR`: the one argument is the folder.
        folder = Path(version) if version is not None else model_dir
        print_versions(folder, () if no_server else addresses, connect)
        return
    if version is None:
        raise click.UsageError("which version? Give a number, `newest` or `none`, or --show to see what there is.")
    wanted = version

    def change(labels: Labels, present: Collection[int]) -> Labels:
        number = choose_version(wanted, present, model_dir)
        return labels.promoted(label, number)

    servers = servers_of(addresses, no_server, connect, config_file, base_path, wait)
    run_change(model_dir, change, servers, click.echo, dry_run)


def servers_of(
    addresses: Sequence[str],
    no_server: bool,
    connect: Connect,
    config_file: Path | None,
    base_path: str | None,
    wait: int,
) -> Servers:
    """Return the servers that the options mean.

    Raises:
        click.UsageError: servers are named and --no-server is given.
    """
    if no_server and addresses:
        raise click.UsageError("--server and --no-server exclude each other.")
    chosen = [] if no_server else addresses or [DEFAULT_SERVER]
    return Servers(chosen, connect, config_file, base_path, wait)


def print_versions(model_dir: Path, addresses: Sequence[str], connect: Connect) -> None:
    """Print a table of versions: labels, what they were, and each server's state of them.

    Raises:
        BadInputError: there is no such folder.
        AutotagError: a server that was named does not answer.
    """
    from rich.console import Console
    from rich.table import Table

    on_silence = None if addresses else lambda error: click.echo(f"({error})", err=True)
    answering, rows = version_rows(model_dir, addresses or [DEFAULT_SERVER], connect, on_silence)
    table = Table(box=None, pad_edge=False)
    for column in ("version", "labels", "goes back to it", *answering):
        table.add_column(column)
    for row in rows:
        table.add_row(
            str(row.number) if row.present else f"{row.number} (not in the folder)",
            ", ".join(row.labels),
            ", ".join(row.before),
            *("" if state is None else str(state) for state in row.states),
        )
    Console(highlight=False).print(table)
