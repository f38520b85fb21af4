"""``autotag guard``: the guard in front of TensorFlow Serving's gRPC port."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from serving.server import guard
from serving.server.request_limits import Limits

FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("guard", short_help="Keep requests that claim too much off a server's gRPC port.")
@click.option("--listen", default="127.0.0.1:8510", show_default=True, metavar="HOST:PORT", help="Where clients ask.")
@click.option("--server", default="localhost:8500", show_default=True, metavar="HOST:PORT", help="The server's gRPC.")
@click.option(
    "--at-once", default=4, show_default=True, type=click.IntRange(min=1), help="Requests computed at a time."
)
@click.option(
    "--calls", default=64, show_default=True, type=click.IntRange(min=1), help="Calls taken, waiting ones too."
)
@click.option("--clips", default=128, show_default=True, type=click.IntRange(min=1), help="Clips in one request.")
@click.option(
    "--message-megabytes", default=128, show_default=True, type=click.IntRange(1, 2000), help="Size of one request."
)
@click.option("--reload", is_flag=True, help="Pass on what `autotag promote` asks: it loads and unloads models.")
@click.option("--certificate", type=FILE, help="Chain of the guard's own certificate (PEM): TLS.")
@click.option("--key", type=FILE, help="Its key (PEM).")
@click.option("--client-certificates", type=FILE, help="Authorities (PEM) of whose certificates clients must show one.")
def command(
    listen: str,
    server: str,
    at_once: int,
    calls: int,
    clips: int,
    message_megabytes: int,
    reload: bool,
    certificate: Path | None,
    key: Path | None,
    client_certificates: Path | None,
) -> None:
    """Stand in front of TensorFlow Serving's gRPC port until Ctrl-C.

    A tensor's shape may claim gigabytes in fifty bytes, and the server makes room before any model sees it. The guard
    refuses such requests, bounds how many are computed at a time, and passes everything else on as it is.

    \b
    Example:
        autotag guard --listen 0.0.0.0:8510 --server localhost:8500
        autotag guard --certificate chain.pem --key key.pem --client-certificates clients.pem
        autotag tag --server localhost:8510 song.mp3
    """
    settings = guard.Settings(
        address=listen,
        server=server,
        limits=Limits(clips=clips, tensor_bytes=2 * message_megabytes * 2**20),
        message_bytes=message_megabytes * 2**20,
        at_once=at_once,
        calls=calls,
        reload=reload,
        certificate=certificate,
        key=key,
        client_certificates=client_certificates,
    )
    guard.run(settings, lambda port: click.echo(f"guarding {server} on port {port}; Ctrl-C stops"))
