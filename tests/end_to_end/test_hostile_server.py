"""The hostile requests against a real TensorFlow Serving, over gRPC, REST and bare connections.

Needs the server's binary: TENSORFLOW_MODEL_SERVER=/path/to/tensorflow_model_server.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from exported_model import Exported
from ports import free_port

from serving.client import messages
from serving.server.launchers import Program
from serving.server.served_model import choose_model
from serving.server.server_settings import Settings
from serving.server.tf_server import RunningServer, run_server

sys.path.insert(0, str(Path(__file__).parents[1] / "serving" / "graph"))

from hostile_requests import PREDICT_PATH, TensorRequest, WireRequest, good_inputs, predict_message, wire_requests

SERVER = os.environ.get("TENSORFLOW_MODEL_SERVER")
pytestmark = pytest.mark.skipif(
    not SERVER, reason="needs TensorFlow Serving: set TENSORFLOW_MODEL_SERVER to the path of tensorflow_model_server"
)

SEED = 11
TENSOR_REQUESTS = 1200
"""Each goes over gRPC and, where JSON can say it, over REST."""

ASK_A_GOOD_ONE_EVERY = 50
MOST_GROWTH = 1024 * 2**20
"""In the second half: the first fills the allocator's arenas of every thread with messages of up to 115 MB."""

SECONDS = 60.0

REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INTERNAL,  # bytes that are no message of the method's type
    grpc.StatusCode.UNKNOWN,
}


@pytest.fixture(scope="module")
def server(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    model = choose_model(exported.path.parent)
    settings = Settings(grpc_port=free_port(), rest_port=free_port())
    with run_server(Program(Path(str(SERVER))), model, settings, tmp_path_factory.mktemp("files")) as running:
        running.wait_until_ready(model.awaited, 300, threading.Event())
        yield running


@pytest.fixture(scope="module")
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as opened:
        yield opened


def over_grpc(channel: grpc.Channel, request: WireRequest) -> tuple[str, str, Any]:
    try:
        answer = channel.unary_unary(request.target)(request.body, timeout=SECONDS)
    except grpc.RpcError as error:
        outcome = "refused" if error.code() in REFUSED else "failed"
        return outcome, f"{error.code().name}: {error.details()}", None
    return "answered", "", answer


def over_http(client: httpx.Client, server: RunningServer, request: WireRequest) -> tuple[str, str, Any]:
    url = f"http://localhost:{server.settings.rest_port}{request.target}"
    try:
        answer = client.request(request.method, url, content=request.body, headers=request.headers)
    except httpx.RemoteProtocolError as error:
        return "hung up", str(error), None
    except httpx.HTTPError as error:
        return "failed", f"{type(error).__name__}: {error}", None
    if answer.status_code == 200:
        return "answered", "", answer.content
    return "refused" if answer.status_code < 500 or answer.status_code == 501 else "failed", answer.text, None


def over_tcp(server: RunningServer, request: WireRequest) -> tuple[str, str, Any]:
    """Send bytes and hang up in the request's way, without waiting for an answer."""
    port = server.settings.grpc_port if request.target == "grpc" else server.settings.rest_port
    with socket.create_connection(("localhost", port), timeout=10) as connection:
        try:
            if request.cut == "drip":
                for byte in request.body:
                    connection.send(bytes([byte]))
                    time.sleep(0.02)
            else:
                connection.sendall(request.body)
            if request.cut == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # it hung up first, which is its right
    return "cut", "", None


def wrong_numbers(request: WireRequest, answer: bytes) -> bool:
    """Whether an answer has values that are not finite."""
    if request.transport == "http":
        if request.target != PREDICT_PATH:
            return False
        bare = ("NaN", "Infinity", "-Infinity")
        found: list[str] = []
        json.loads(answer, parse_constant=found.append)
        return bool(set(found) & set(bare))
    if request.target != messages.PREDICT:
        return False
    outputs = messages.PredictResponse.FromString(answer).outputs
    arrays = [messages.from_tensor(tensor) for tensor in outputs.values()]
    return any(not np.isfinite(array).all() for array in arrays if array.dtype == np.float32)


def good_answer(channel: grpc.Channel) -> Any:
    body = predict_message(TensorRequest("good", "pcm", good_inputs("pcm"), "answered"))
    answer = channel.unary_unary(messages.PREDICT)(body, timeout=SECONDS)
    return messages.from_tensor(messages.PredictResponse.FromString(answer).outputs["predictions"])


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_hostile_requests_leave_the_server_as_it_was(server: RunningServer, channel: grpc.Channel) -> None:
    before, resident = good_answer(channel), [resident_bytes(server.process.pid)]
    client = httpx.Client(timeout=SECONDS, trust_env=False)
    outcomes, wrong, started = Counter[tuple[str, str]](), [], time.monotonic()
    for number, request in enumerate(wire_requests(SEED, TENSOR_REQUESTS)):
        if request.transport == "tcp":
            outcome, words, answer = over_tcp(server, request)
        elif request.transport == "grpc":
            outcome, words, answer = over_grpc(channel, request)
        else:
            outcome, words, answer = over_http(client, server, request)
        assert server.process.poll() is None, f"{request.name} ended the server: {server.end()}"
        outcomes[request.transport, outcome] += 1
        reached = {"answered": "answered", "refused": "refused", "hung up": "refused"}.get(outcome)
        unexpected = reached is not None and request.expected not in ("either", reached)
        if outcome == "failed" or unexpected or (answer is not None and wrong_numbers(request, answer)):
            wrong.append((request.transport, request.name, request.expected, outcome, words[:200]))
        if number % ASK_A_GOOD_ONE_EVERY == 0 or outcome in ("cut", "hung up", "failed"):
            np.testing.assert_allclose(good_answer(channel), before, atol=1e-6, err_msg=f"after {request.name}")
            resident.append(resident_bytes(server.process.pid))
    client.close()
    seconds = time.monotonic() - started
    print(f"{sum(outcomes.values())} requests in {seconds:.0f} s: {dict(outcomes)}")
    print(f"resident MiB: {resident[0] >> 20} first, {max(resident) >> 20} most, {resident[-1] >> 20} last")
    assert not wrong, f"{len(wrong)} of them: " + "\n".join(map(str, wrong[:40]))
    settled = max(resident[: len(resident) // 2])
    assert resident[-1] - settled < MOST_GROWTH
    assert sum(outcomes.values()) >= 2000


def test_good_requests_are_answered_while_slow_clients_hold_connections(
    server: RunningServer, channel: grpc.Channel
) -> None:
    before = good_answer(channel)
    head = f"POST {PREDICT_PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n".encode()
    held = []
    try:
        for port in (server.settings.rest_port, server.settings.grpc_port):
            for _ in range(20):
                connection = socket.create_connection(("localhost", port), timeout=10)
                connection.send(head[:40])
                held.append(connection)
        np.testing.assert_allclose(good_answer(channel), before, atol=1e-6)
    finally:
        for connection in held:
            connection.close()
    np.testing.assert_allclose(good_answer(channel), before, atol=1e-6)


def test_calls_given_up_by_their_client_leave_the_server_answering(
    server: RunningServer, channel: grpc.Channel
) -> None:
    before = good_answer(channel)
    body = predict_message(TensorRequest("good", "pcm", good_inputs("pcm"), "answered"))
    for number in range(20):
        call = channel.unary_unary(messages.PREDICT).future(body, timeout=0.001 if number % 2 else SECONDS)
        call.cancel()
    np.testing.assert_allclose(good_answer(channel), before, atol=1e-6)
    assert server.process.poll() is None
