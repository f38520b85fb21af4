"""``autotag promote``: say which version of the model a label names, in running servers and at their next start."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import click

from pipeline.server_options import encryption_options
from preprocessing.digits import is_number
from preprocessing.errors import AutotagError, BadInputError
from serving.server.versions import (
    FOLLOWED_VERSIONS,
    Labels,
    ModelServer,
    VersionState,
    change_labels,
    config_text,
    labels_lock,
    read_config,
    read_labels,
    server_config,
    versions_in,
)

DEFAULT_MODEL_DIR: Final = Path("demo-run/pushed")
DEFAULT_SERVER: Final = "localhost:8500"
STEPS: Final = {
    "loading": "the servers load what was asked for ...",
    "labelled": "moved in all servers",
    "written": "written down for the next start",
    "unloaded": "versions that are no longer wanted are unloaded",
}

Change = Callable[[Labels, Collection[int]], Labels]
"""From the labels and the versions that are there to the new labels."""
Connect = Callable[[str], ModelServer]
"""From a server's address to a connection."""


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

    run_change(model_dir, change, addresses, connect, no_server, config_file, base_path, wait, dry_run)


def choose_version(wanted: str, present: Collection[int], model_dir: Path) -> int | None:
    """Return the version meant by a number, ``newest`` or ``none``.

    Raises:
        BadInputError: it is none of these, or not there.
    """
    if wanted == "none":
        return None
    if wanted == "newest" and present:
        return max(present)
    if is_number(wanted) and int(wanted) in present:
        return int(wanted)
    there = f"there are {', '.join(map(str, sorted(present)))}" if present else "there is none: see `autotag runs`"
    raise BadInputError(f"no version {wanted} in {model_dir}; {there}")


def run_change(
    model_dir: Path,
    change: Change,
    addresses: Sequence[str],
    connect: Connect,
    no_server: bool,
    config_file: Path | None,
    base_path: str | None,
    wait: int,
    dry_run: bool,
) -> None:
    """Change the labels of a folder of versions in servers and files, or say what would be done.

    Raises:
        BadInputError: the change cannot be made as it was asked for.
        AutotagError: a server refuses or does not answer, or somebody else is changing them.
        click.UsageError: servers are named and --no-server is given.
    """
    if no_server and addresses:
        raise click.UsageError("--server and --no-server exclude each other.")
    present = versions_in(model_dir)
    served_path = str(model_dir.absolute())
    if config_file is not None:
        served_path = read_config(config_file).model_config_list.config[0].base_path
    if base_path is not None:
        served_path = base_path
    with contextlib.nullcontext() if dry_run else labels_lock(model_dir):
        before = read_labels(model_dir)
        after = change(before, present)
        if dry_run:
            config = server_config(after, served_path, after.loaded(present))
            click.echo("dry run: nothing is changed")
            print_change(before, after)
            click.echo(f"the servers' configuration would be\n{config_text(config)}", nl=False)
            return
        with connections([] if no_server else addresses or [DEFAULT_SERVER], connect) as servers:
            steps = change_labels(
                model_dir,
                servers,
                after,
                before=before,
                base_path=served_path,
                present=present,
                config_file=config_file,
                seconds=wait,
            )
            for step in steps:
                if step == ("labelled" if servers else "written"):
                    print_change(before, after)
                if servers or step == "written":
                    click.echo(STEPS[step])


@contextlib.contextmanager
def connections(addresses: Sequence[str], connect: Connect) -> Iterator[list[ModelServer]]:
    """Connections to servers, closed when the block ends."""
    servers = [connect(address) for address in addresses]
    try:
        yield servers
    finally:
        for server in servers:
            server.close()


def print_change(before: Labels, after: Labels) -> None:
    """Print what each label that moves named and names, and what will be loaded."""
    for label in sorted({*before.current, *after.current}):
        old, new = before.current.get(label), after.current.get(label)
        if old != new:
            click.echo(f"{label}: {old or 'not set'} -> {new or 'not set'}")
    if not after.current:
        click.echo(f"no label is left: servers follow the {FOLLOWED_VERSIONS} newest versions")


def print_versions(model_dir: Path, addresses: Sequence[str], connect: Connect) -> None:
    """Print a table of versions: labels, what they were, and each server's state of them.

    Raises:
        BadInputError: there is no such folder.
        AutotagError: a server that was named does not answer.
    """
    from rich.console import Console
    from rich.table import Table

    present, labels = versions_in(model_dir), read_labels(model_dir)
    states: dict[str, Mapping[int, VersionState]] = {}
    with connections(addresses or [DEFAULT_SERVER], connect) as servers:
        for server in servers:
            try:
                states[server.address] = server.status()
            except AutotagError as error:
                if addresses:
                    raise
                click.echo(f"({error})", err=True)
    table = Table(box=None, pad_edge=False)
    for column in ("version", "labels", "goes back to it", *states):
        table.add_column(column)
    known = {*present, *labels.current.values(), *(number for seen in states.values() for number in seen)}
    for number in sorted(known, reverse=True):
        table.add_row(
            str(number) if number in present else f"{number} (not in the folder)",
            ", ".join(name for name, at in labels.current.items() if at == number),
            ", ".join(name for name, history in labels.before.items() if history and history[-1] == number),
            *(str(seen.get(number, "")) for seen in states.values()),
        )
    Console(highlight=False).print(table)
