"""The page's server on a socket: uvicorn, bounded in what it reads of a request, ended at once by Ctrl-C."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from preprocessing.errors import AutotagError

MOST_HEAD_BYTES: Final = 32 << 10
"""Of a request's line and headers."""
MOST_CONNECTIONS: Final = 256
IDLE_SECONDS: Final = 15
FIRST_SECONDS: Final = 20.0
"""For the head of a connection's first request, and at least so long for one that follows."""
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
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
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


class _Hasty(H11Protocol):
    """Lets go of a connection on which nothing is asked, whatever comes on it: it would keep others out."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._seen = self.cycle
        self._patience = self.loop.call_later(FIRST_SECONDS, self._lose_patience)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._patience.cancel()
        super().connection_lost(exc)

    def _lose_patience(self) -> None:
        if self.cycle is self._seen and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()
            return
        self._seen = self.cycle
        self._patience = self.loop.call_later(FIRST_SECONDS, self._lose_patience)


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Return a server for an application, to be run on a socket of ``listen``."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_Hasty,
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
