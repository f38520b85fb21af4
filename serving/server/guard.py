"""A guard in front of TensorFlow Serving's gRPC port: what a request claims is looked at before the server sees it.

It takes the methods that TensorFlow Serving answers for this project's models, refuses requests that claim more than
they bring (serving.server.request_limits) with INVALID_ARGUMENT and passes all others on, bytes, deadline, metadata
and status as they are. Only so many requests are computed at a time: each holds the networks' activations in the
server. Others wait, up to their own deadline; beyond so many calls RESOURCE_EXHAUSTED is the answer, which clients try
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from preprocessing.errors import AutotagError, BadInputError
from serving.client import messages
from serving.client.grpc_transport import open_channel
from serving.client.target import Target
from serving.server.request_limits import InvalidRequestError, Limits, check_input, check_predict

Check = Callable[[bytes, Limits], None]

COMPUTED: Final[dict[str, Check]] = {messages.PREDICT: check_predict, messages.CLASSIFY: check_input}
"""Methods that a model computes -> their check. Regress and MultiInference have no signature here, and SessionRun would
feed any tensor of the graph."""
HEALTH: Final = "/grpc.health.v1.Health/Check"
FORWARDED: Final = (messages.GET_MODEL_METADATA, messages.GET_MODEL_STATUS, HEALTH)
GRACE_SECONDS: Final = 10.0
MOST_CHARACTERS: Final = 1000


@dataclass(frozen=True)
class Settings:
    """How the guard runs.

    Attributes:
        address: where it listens, host and port.
        server: TensorFlow Serving's gRPC address.
        limits: of a request's tensors.
        message_bytes: of a request; an hour of ``pcm`` has 115 MB.
        at_once: requests that the server computes at a time.
        calls: that are here at a time, waiting ones too.
        reload: pass on HandleReloadConfigRequest, by which everybody who reaches it can unload models.
        certificate, key: files (PEM) of the guard's own chain and key: TLS.
        client_certificates: authorities (PEM): clients must show a certificate of theirs.
    """

    address: str
    server: str
    limits: Limits = field(default_factory=Limits)
    message_bytes: int = 128 * 2**20
    at_once: int = 4
    calls: int = 64
    reload: bool = False
    certificate: Path | None = None
    key: Path | None = None
    client_certificates: Path | None = None


class Guard(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every method: passes on, refuses, or says that there is none.

    Args:
        channel: to the server.
        settings: of the guard.
    """

    def __init__(self, channel: grpc.aio.Channel, settings: Settings) -> None:
        self._settings = settings
        self._turns = asyncio.Semaphore(settings.at_once)
        forwarded = (*FORWARDED, messages.HANDLE_RELOAD_CONFIG) if settings.reload else FORWARDED
        self._methods = {method: channel.unary_unary(method) for method in (*COMPUTED, *forwarded)}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return the handler of a method; None where the guard does not pass it on."""
        method = handler_call_details.method
        if method not in self._methods:
            return None

        async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            return await self._handle(method, request, context)

        return grpc.unary_unary_rpc_method_handler(handle)

    async def _handle(self, method: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if (check := COMPUTED.get(method)) is None:
            return await self._forward(method, request, context)
        try:
            check(request, self._settings.limits)
        except InvalidRequestError as error:
            words = f"The request was refused before it reached the model server: {error}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, words[:MOST_CHARACTERS])
        async with self._turns:
            return await self._forward(method, request, context)

    async def _forward(self, method: str, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        metadata = [(name, value) for name, value in context.invocation_metadata() or () if _is_clients_own(name)]
        call = self._methods[method](request, timeout=context.time_remaining(), metadata=metadata)
        try:
            answer: bytes = await call
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
        context.set_trailing_metadata(tuple(await call.trailing_metadata() or ()))
        return answer


def _is_clients_own(name: str) -> bool:
    """Whether a client's metadata goes on: the connection's own is made anew."""
    return not name.startswith((":", "grpc-")) and name not in ("user-agent", "content-type", "te")


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[int]:
    """Run the guard while the block runs, and give the port that it listens on.

    Raises:
        BadInputError: a certificate cannot be read, or the addresses cannot be used.
        AutotagError: the port cannot be had.
    """
    most = settings.message_bytes
    options = [
        ("grpc.max_receive_message_length", most),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
        ("grpc.max_metadata_size", 16_384),
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=settings.calls)
    channel = open_channel(grpc.aio, Target(settings.server))
    try:
        server.add_generic_rpc_handlers((Guard(channel, settings),))
        try:
            port = _listen(server, settings)
        except RuntimeError as error:
            raise AutotagError(f"{settings.address} cannot be had: give another by --listen") from error
        await server.start()
        try:
            yield port
        finally:
            await server.stop(GRACE_SECONDS)
    finally:
        await channel.close()


def _listen(server: grpc.aio.Server, settings: Settings) -> int:
    if settings.certificate is None or settings.key is None:
        if any((settings.certificate, settings.key, settings.client_certificates)):
            raise BadInputError("--certificate and --key belong together, and --client-certificates wants both")
        return int(server.add_insecure_port(settings.address))
    files: Sequence[Path | None] = (settings.key, settings.certificate, settings.client_certificates)
    try:
        key, chain, authorities = (None if path is None else path.read_bytes() for path in files)
    except OSError as error:
        raise BadInputError(f"{error.filename} cannot be read: {error.strerror}") from error
    credentials = grpc.ssl_server_credentials([(key, chain)], authorities, authorities is not None)
    return int(server.add_secure_port(settings.address, credentials))


def run(settings: Settings, listening: Callable[[int], object], stop: threading.Event | None = None) -> None:
    """Run the guard until SIGINT or SIGTERM, or until ``stop`` is set.

    Args:
        listening: called with the port once it is open.

    Raises:
        BadInputError, AutotagError: as ``running``.
    """

    async def main() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        if stop is None:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, ended.set)
        else:
            threading.Thread(target=lambda: (stop.wait(), loop.call_soon_threadsafe(ended.set)), daemon=True).start()
        async with running(settings) as port:
            listening(port)
            await ended.wait()

    asyncio.run(main())
