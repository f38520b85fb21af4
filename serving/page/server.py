"""The page's server on a socket: uvicorn, bounded in what it reads of a request, ended at once by Ctrl-C."""

from __future__ import annotations

import socket
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from preprocessing.errors import AutotagError

MOST_HEAD_BYTES: Final = 32 << 10
"""Of a request's line and headers."""
MOST_CONNECTIONS: Final = 256
IDLE_SECONDS: Final = 15
LAST_SECONDS: Final = 1
"""For answers that are under way when the server is told to end."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: name or address.
        port: 0 for any that is free.

    Raises:
        AutotagError: another program has the port, or the host is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(MOST_CONNECTIONS)
        except BaseException:
            listener.close()
            raise
        return listener
    except OSError as error:
        raise AutotagError(f"{host}:{port}: {(error.strerror or str(error)).lower()}: choose another --port") from error


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Return a server for an application, to be run on a socket of ``listen``."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MOST_HEAD_BYTES,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=LAST_SECONDS,
        )
    )
