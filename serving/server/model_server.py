"""TensorFlow Serving's ModelService: the state of versions, and configurations that are reloaded."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.message import Message

from preprocessing.errors import AutotagError
from serving.client import messages
from serving.client.grpc_transport import open_channel
from serving.client.target import Target
from serving.server.model_config import MODEL_NAME

AVAILABLE: Final = 30
"""ModelVersionStatus.State: loaded and answering."""
STATE_NAMES: Final = {0: "unknown", 10: "start", 20: "loading", 30: "available", 40: "unloading", 50: "unloaded"}
POLL_SECONDS: Final = 0.2
CONNECT_SECONDS: Final = 2.0
STALE_SECONDS: Final = 5.0
"""A server sees a new configuration's versions after its next look at the folder (1 s); until then it may still report
the end of an earlier attempt to load the version."""


@dataclass(frozen=True)
class VersionState:
    """What a server says of one version: its state (a key of STATE_NAMES), and why it failed."""

    state: int
    error_code: int = 0
    error: str = ""

    def __str__(self) -> str:
        return STATE_NAMES.get(self.state, str(self.state)) + (f": {self.error}" if self.error else "")


class BusyError(AutotagError):
    """A server that is there does not get round to answering."""


class ModelServer:
    """TensorFlow Serving's ModelService at one address.

    While the server says that its threads are all busy, a call is tried again for as long as one may take.

    Args:
        address: host and port of gRPC, such as localhost:8500.
        timeout: seconds that one call may take.
        tls: encrypt, trusting the system's authorities, or
        root_certificates: the authorities in this file (PEM).

    Raises:
        BadInputError: the address or the file of authorities cannot be used.
    """

    def __init__(
        self, address: str, timeout: float = 30.0, *, tls: bool = False, root_certificates: Path | None = None
    ) -> None:
        self.address = address
        self._timeout = timeout
        self._channel = open_channel(grpc, Target(address, tls=tls, root_certificates=root_certificates))
        self._status = self._call(
            messages.GET_MODEL_STATUS, messages.GetModelStatusRequest, messages.GetModelStatusResponse
        )
        self._reload = self._call(
            messages.HANDLE_RELOAD_CONFIG, messages.ReloadConfigRequest, messages.ReloadConfigResponse
        )

    def _call(self, path: str, request: type[Message], response: type[Message]) -> grpc.UnaryUnaryMultiCallable:
        return self._channel.unary_unary(
            path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def status(self) -> dict[int, VersionState]:
        """Return the state of each version that the server knows of; {} where it does not know the model.

        Raises:
            BusyError: it is there and too busy to answer.
            AutotagError: it does not answer.
        """
        request = messages.GetModelStatusRequest()
        request.model_spec.name = MODEL_NAME
        try:
            answer = self._send(self._status, request)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return {}
            raise self._error_of(error) from error
        return {
            entry.version: VersionState(entry.state, entry.status.error_code, entry.status.error_message)
            for entry in answer.model_version_status
        }

    def reload(self, config: Message) -> None:
        """Give the server a configuration.

        Raises:
            BusyError: it is there and too busy to answer.
            AutotagError: it refuses, or does not answer.
        """
        try:
            answer = self._send(self._reload, messages.ReloadConfigRequest(config=config))
        except grpc.RpcError as error:
            raise self._error_of(error) from error
        if answer.status.error_code:
            raise AutotagError(f"{self.address} refused the configuration: {answer.status.error_message}")

    def _send(self, method: grpc.UnaryUnaryMultiCallable, request: Message) -> Message:
        """Call a method, again and again while all threads of the server are busy."""
        end = time.monotonic() + self._timeout
        while True:
            left = end - time.monotonic()
            try:
                return method(request, timeout=max(left, POLL_SECONDS))
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED or left < POLL_SECONDS:
                    raise
            time.sleep(POLL_SECONDS)

    def _error_of(self, error: grpc.RpcError) -> AutotagError:
        late = error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED or (late and self._takes_connections()):
            return BusyError(
                f"TensorFlow Serving at {self.address} is there, and too busy to answer within {self._timeout:.0f} s "
                f"({error.details()}): try again when fewer clients ask"
            )
        if late or error.code() == grpc.StatusCode.UNAVAILABLE:
            return AutotagError(
                f"no TensorFlow Serving answers at {self.address} ({error.details()}): is it running, and is this its "
                "gRPC port (not REST)?"
            )
        return AutotagError(f"{self.address} refused: {error.code().name}, {error.details()}")

    def _takes_connections(self) -> bool:
        """Whether somebody at the address speaks gRPC, busy or not."""
        try:
            grpc.channel_ready_future(self._channel).result(timeout=CONNECT_SECONDS)
        except grpc.FutureTimeoutError:
            return False
        return True

    def wait_until_available(self, versions: Collection[int], seconds: float) -> None:
        """Wait until the versions are loaded.

        Raises:
            AutotagError: one could not be loaded, or not in time.
        """
        begin = time.monotonic()
        states: dict[int, VersionState] = {}
        while True:
            with contextlib.suppress(BusyError):  # which loading a version makes it
                states = self.status()
            missing = {number: states.get(number, VersionState(0)) for number in versions}
            missing = {number: state for number, state in missing.items() if state.state != AVAILABLE}
            if not missing:
                return
            passed = time.monotonic() - begin
            failed = any(state.error_code for state in missing.values()) and passed > STALE_SECONDS
            if failed or passed > seconds:
                seen = "; ".join(f"version {number} is {state}" for number, state in sorted(missing.items()))
                raise AutotagError(
                    f"{self.address} did not load what was asked for ({passed:.0f} s): {seen}. No label was moved; "
                    "the server's log says more"
                )
            time.sleep(POLL_SECONDS)
