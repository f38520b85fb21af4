"""The proxy in front of TensorFlow Serving's REST port, run for real in front of a sink that counts what reaches it."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from bounding_proxy import REASON, Proxy, bounding_proxy, nginx_with_lua
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ports import free_port

PREDICT = "/v1/models/autotag:predict"

pytestmark = pytest.mark.skipif(nginx_with_lua() is None, reason=REASON)


@dataclass
class Sink:
    """Stands where TensorFlow Serving does, and keeps what came: method, path, SHA-256 of the body."""

    port: int = 0
    came: list[tuple[str, str, str]] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    state = Sink()
    state.hold.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # noqa: N802
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            state.came.append((self.command, self.path, hashlib.sha256(body).hexdigest()))
            state.hold.wait(20)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_PUT = do_DELETE = do_POST  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state
    state.hold.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def running(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with bounding_proxy(sink.port, tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def proxy(running: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=30) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_came_yet(request: pytest.FixtureRequest) -> None:
    if nginx_with_lua() is not None:
        request.getfixturevalue("sink").came.clear()


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status, and the words: every refusal is JSON with ``error``, as TensorFlow Serving's own."""
    return answer.status_code, answer.json()["error"]


def test_request_of_one_clip_passes_unchanged(proxy: httpx.Client, sink: Sink) -> None:
    pcm = np.random.default_rng(1).integers(-30000, 30000, 465_600, dtype=np.int16).tobytes()
    body = json.dumps({"signature_name": "pcm", "instances": [{"b64": base64.b64encode(pcm).decode()}]}).encode()
    assert len(body) > 1_200_000
    assert proxy.post(PREDICT, content=body).status_code == 200
    assert sink.came == [("POST", PREDICT, hashlib.sha256(body).hexdigest())]


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000,
        b'{"instances": ["' + b"x" * 1_000_000 + b'", ' + b"[" * 100_000,
        b'{"a": "\\\\", "b": ' + b"[" * 33,
        b"[ \n" * 33,
    ],
    ids=["arrays", "closed again", "objects", "after a megabyte", "after an escaped backslash", "with white space"],
)
def test_deep_nesting_is_refused_and_nothing_reaches_the_server(proxy: httpx.Client, sink: Sink, body: bytes) -> None:
    status, words = refusal(proxy.post(PREDICT, content=body))
    assert (status, "nested deeper than 32" in words) == (400, True)
    assert sink.came == []


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '\\"' + "[" * 100, '\\\\\\"' + "{" * 100, "\\u0022" + "[" * 100, "ä♫" + "[" * 100],
    ids=["brackets", "after an escaped quote", "after two escapes", "after an escape in hex", "after UTF-8"],
)
def test_brackets_inside_a_string_are_not_counted(proxy: httpx.Client, sink: Sink, text: str) -> None:
    answer = proxy.post(PREDICT, content=f'{{"instances": [{{"pcm": "{text}"}}]}}'.encode())
    assert answer.status_code == 200, answer.text
    assert len(sink.came) == 1


@pytest.mark.parametrize("size", [256 * 1024, 65_536, 65_537])
def test_escape_across_a_border_of_what_is_read_at_once_is_an_escape(
    proxy: httpx.Client, sink: Sink, size: int
) -> None:
    for shift in range(-3, 4):
        lead = b'{"a": "'
        text = lead + b"x" * (size - len(lead) + shift) + b'\\"' + b"[" * 100 + b'"}' + b" " * 300_000
        assert proxy.post(PREDICT, content=text).status_code == 200
        text = lead + b"x" * (size - len(lead) + shift) + b'\\\\", "b": ' + b"[" * 100 + b" " * 300_000
        assert proxy.post(PREDICT, content=text).status_code == 400
    assert len(sink.came) == 7


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=30,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values, more=st.integers(0, 40), ascii_only=st.booleans())
def test_any_json_passes_exactly_when_it_is_no_deeper_than_32(
    proxy: httpx.Client, value: Any, more: int, ascii_only: bool
) -> None:
    for _ in range(more):
        value = [value]
    body = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    assert proxy.post(PREDICT, content=body).status_code == (200 if depth_of(value) <= 32 else 400)


def test_what_is_no_json_outside_strings_is_refused(proxy: httpx.Client, sink: Sink) -> None:
    for body in (b'/* " */' + b"[" * 100, b"'\"'" + b"[" * 100, b"\xef\xbb\xbf{}", b"{}\0" + b"["):
        assert "not JSON" in refusal(proxy.post(PREDICT, content=body))[1]
    assert sink.came == []


def test_flat_body_of_too_many_values_is_refused(proxy: httpx.Client, sink: Sink) -> None:
    clip_as_numbers = b'{"signature_name": "waveform", "instances": [[' + b"0.125," * 465_599 + b"0]]}"
    assert proxy.post(PREDICT, content=clip_as_numbers).status_code == 200
    status, words = refusal(proxy.post(PREDICT, content=b"[" + b"0," * 2_100_000 + b"0]"))
    assert (status, "more than 2000000 values" in words) == (400, True)
    assert len(sink.came) == 1


def test_body_larger_than_32_mb_is_413(proxy: httpx.Client, sink: Sink) -> None:
    status, words = refusal(proxy.post(PREDICT, content=b'"' + b"A" * (33 << 20) + b'"'))
    assert (status, "32 MB" in words) == (413, True)
    assert sink.came == []


def raw(proxy: httpx.Client, *parts: bytes, wait: float = 0.0, timeout: float = 15) -> bytes:
    """Send parts over a socket, ``wait`` seconds apart, and return the answer up to the end of the connection."""
    with socket.create_connection((proxy.base_url.host, proxy.base_url.port or 80), timeout=timeout) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(wait)
        answer = b""
        try:
            while more := connection.recv(65536):
                answer += more
        except ConnectionResetError:
            pass
        return answer


HEAD = f"POST {PREDICT} HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n".encode()


def test_chunked_body_is_checked_and_goes_on_with_its_length(proxy: httpx.Client, sink: Sink) -> None:
    def chunks(body: bytes, size: int) -> Iterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    good = b'{"instances": [{"b64": "' + b"QUJD" * 200_000 + b'"}]}'
    assert proxy.post(PREDICT, content=chunks(good, 10_000)).status_code == 200
    assert sink.came == [("POST", PREDICT, hashlib.sha256(good).hexdigest())]
    assert proxy.post(PREDICT, content=chunks(b"[" * 100_000, 1_000)).status_code == 400
    too_large = (b"A" * (1 << 20) for _ in range(34))
    with contextlib.suppress(httpx.TransportError):  # it answers and closes while the body is being sent
        assert proxy.post(PREDICT, content=too_large).status_code == 413
    assert len(sink.came) == 1


def test_two_lengths_or_a_length_beside_chunks_are_refused(proxy: httpx.Client, sink: Sink) -> None:
    body = b"0\r\n\r\n"
    for headers in (b"Content-Length: 5\r\nContent-Length: 4\r\n", b"Transfer-Encoding: gzip, chunked\r\n"):
        answer = raw(proxy, HEAD + headers + b"\r\n" + body)
        assert answer.split()[1] in (b"400", b"501"), answer
    assert sink.came == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x", "gzip, identity", ""])
def test_encoded_body_is_refused_as_it_was_not_looked_into(proxy: httpx.Client, sink: Sink, encoding: str) -> None:
    body = gzip.compress(b"[" * 100_000)
    status, words = refusal(proxy.post(PREDICT, content=body, headers={"Content-Encoding": encoding}))
    assert (status, "Content-Encoding" in words) == (415, True)
    assert sink.came == []


def test_two_content_encodings_are_refused(proxy: httpx.Client, sink: Sink) -> None:
    body = gzip.compress(b"[" * 100_000)
    headers = [("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]
    assert proxy.post(PREDICT, content=body, headers=headers).status_code in (400, 415)
    assert sink.came == []


def test_client_that_stops_sending_is_let_go_and_others_are_served_meanwhile(proxy: httpx.Client, sink: Sink) -> None:
    answers: list[bytes] = []
    head = HEAD + b"Content-Length: 1000\r\n\r\n"
    stalled = [threading.Thread(target=lambda: answers.append(raw(proxy, head + b"[1"))) for _ in range(8)]
    begin = time.monotonic()
    for thread in stalled:
        thread.start()
    assert proxy.post(PREDICT, content=b"{}").status_code == 200
    assert time.monotonic() - begin < 1
    for thread in stalled:
        thread.join()
    assert time.monotonic() - begin < 6
    assert all(answer == b"" or b" 408 " in answer.split(b"\r\n")[0] for answer in answers)
    assert len(sink.came) == 1


def test_headers_that_never_end_are_let_go(proxy: httpx.Client, sink: Sink) -> None:
    begin = time.monotonic()
    assert b"200" not in raw(proxy, HEAD)
    assert time.monotonic() - begin < 6
    assert sink.came == []


def test_cut_connection_reaches_nothing(proxy: httpx.Client, sink: Sink) -> None:
    with socket.create_connection((proxy.base_url.host, proxy.base_url.port or 80)) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n[1, 2")
    assert proxy.post(PREDICT, content=b"{}").status_code == 200
    assert len(sink.came) == 1


def test_more_connections_than_allowed_are_429(proxy: httpx.Client, sink: Sink) -> None:
    sink.hold.clear()
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(httpx.post(f"{proxy.base_url}{PREDICT}", content=b"{}", timeout=30).status_code)

    clients = [threading.Thread(target=ask) for _ in range(40)]
    try:
        for client in clients:
            client.start()
        for _ in range(200):
            if len(statuses) >= 8:
                break
            time.sleep(0.05)
    finally:
        sink.hold.set()
    for client in clients:
        client.join()
    assert statuses.count(200) == 32
    assert statuses.count(429) == 8


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/autotag:predict",
        "/v1/models/autotag:classify",
        "/v1/models/autotag/labels/stable:predict",
        "/v1/models/autotag/versions/1795242655:predict",
    ],
)
def test_paths_of_requests_pass_by_post_alone(proxy: httpx.Client, sink: Sink, path: str) -> None:
    assert proxy.post(path, content=b"{}").status_code == 200
    assert sink.came == [("POST", path, hashlib.sha256(b"{}").hexdigest())]
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        assert refusal(proxy.request(method, path))[0] == 405
    assert len(sink.came) == 1


@pytest.mark.parametrize(
    "path", ["/v1/models/autotag", "/v1/models/autotag/metadata", "/v1/models/autotag/versions/12/metadata"]
)
def test_status_and_metadata_pass_by_get_alone_and_without_a_body(proxy: httpx.Client, sink: Sink, path: str) -> None:
    assert proxy.request("GET", path, content=b"[" * 1000).status_code == 200
    assert sink.came == [("GET", path, hashlib.sha256(b"").hexdigest())]
    assert refusal(proxy.post(path, content=b"{}"))[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/models/other:predict",
        "/v1/models/autotag:regress",
        "/v1/models/autotag:predict/",
        "/monitoring/prometheus/metrics",
        "/v1/models/autotag/labels/a%2Fb:predict",
    ],
)
def test_other_paths_are_404(proxy: httpx.Client, sink: Sink, path: str) -> None:
    assert refusal(proxy.post(path, content=b"{}"))[0] == 404
    assert sink.came == []


def test_inner_port_gives_metrics_and_readiness_and_nothing_else(running: Proxy, sink: Sink) -> None:
    inner = running.inner_url
    assert httpx.get(f"{inner}/monitoring/prometheus/metrics").status_code == 200
    assert httpx.get(f"{inner}/ready").status_code == 200
    assert httpx.post(f"{inner}{PREDICT}", content=b"{}").status_code == 404
    assert [path for _, path, _ in sink.came] == ["/monitoring/prometheus/metrics", "/v1/models/autotag/metadata"]


def test_server_that_does_not_answer_is_502_in_json(tmp_path: Path) -> None:
    with bounding_proxy(free_port(), tmp_path) as proxy:
        status, words = refusal(httpx.post(f"{proxy.url}{PREDICT}", content=b"{}", timeout=30))
        assert (status, "model server does not answer" in words) == (502, True)
        assert httpx.get(f"{proxy.inner_url}/ready").status_code == 502
        assert httpx.get(f"{proxy.inner_url}/alive").status_code == 200
