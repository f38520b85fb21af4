"""Options that commands share which speak to a running server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click


def encryption_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``tls: bool`` and ``root_certificates: Path | None``."""
    roots = click.option(
        "--root-certificates",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="File (PEM) of the authorities to trust in place of the system's; with it --tls is on.",
    )
    return click.option("--tls", is_flag=True, help="Encrypt the connection to the server.")(roots(command))
