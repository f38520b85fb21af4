"""``autotag rollback``: let a label name the version again that it named before."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path

import click

from pipeline.commands.promote import DEFAULT_MODEL_DIR, common_options, servers_of
from serving.server.labels import Labels
from serving.server.model_server import ModelServer
from serving.server.promotion import run_change


@click.command("rollback", short_help="Let a label name the version before, in running servers too.")
@click.argument("model_dir", required=False, default=DEFAULT_MODEL_DIR, type=click.Path(path_type=Path))
@common_options
def command(
    model_dir: Path,
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
    """Let a label name the version again that it named before; again, and it goes back one more.

    The version before is kept loaded, so this takes a moment, and no request fails. The version that is left is then
    unloaded, so that requests without a label do not go to it any more.

    \b
    Example:
        autotag rollback
        autotag rollback demo-run/pushed --label canary --server localhost:8500
        autotag rollback --config serving/server/tfserving/models.config --server pod-1:8500 --server pod-2:8500
    """

    def change(labels: Labels, present: Collection[int]) -> Labels:
        return labels.rolled_back(label, present)

    connect = partial(ModelServer, tls=tls, root_certificates=root_certificates)
    servers = servers_of(addresses, no_server, connect, config_file, base_path, wait)
    run_change(model_dir, change, servers, click.echo, dry_run)
