"""A real HTTP server on 127.0.0.1 whose files can change, whose connections can be cut and whose answers can fail."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class FileServer:
    """What the server does; tests change it while it runs.

    ``cuts`` and ``failures`` are used up, one a GET: bytes after which the connection is cut, statuses to answer.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    if_range: bool = True
    weak_etag: bool = False
    chunked: bool = False
    content_type: str = "application/octet-stream"
    cuts: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    block: int = 65536
    pause: float = 0.0
    gets: list[tuple[str, str | None, int]] = field(default_factory=list)

    def etag(self, data: bytes) -> str:
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        return f"W/{tag}" if self.weak_etag else tag

    def asked(self, name: str) -> list[tuple[str | None, int]]:
        """Return (Range, status) of each GET of a file."""
        return [(range_, status) for asked, range_, status in self.gets if asked == name]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    told: FileServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:  # noqa: N802
        self._answer(body=False)

    def do_GET(self) -> None:  # noqa: N802
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        told, name = self.told, self.path.rsplit("/", 1)[-1]
        data = told.files.get(name)
        if body and told.failures:
            return self._fail(name, told.failures.pop(0))
        if data is None:
            return self._fail(name, 404)
        start = self._start(data)
        if start >= len(data) > 0:
            return self._fail(name, 416)
        status = 206 if start else 200
        self.send_response(status)
        self.send_header("Content-Type", told.content_type)
        self.send_header("ETag", told.etag(data))
        if told.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if body:
            told.gets.append((name, self.headers["Range"], status))
            self._send(data[start:])

    def _start(self, data: bytes) -> int:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        same = self.headers["If-Range"] in (None, self.told.etag(data)) or not self.told.if_range
        return int(match[1]) if match and same and self.told.ranges else 0

    def _fail(self, name: str, status: int) -> None:
        if self.command == "GET":
            self.told.gets.append((name, self.headers["Range"], status))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, data: bytes) -> None:
        cut = self.told.cuts.pop(0) if self.told.cuts else None
        data = data[:cut]
        for start in range(0, len(data), self.told.block):
            block = data[start : start + self.told.block]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if self.told.chunked else block)
            time.sleep(self.told.pause)
        if cut is None and self.told.chunked:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = cut is not None

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client may be killed
            super().handle()


@contextlib.contextmanager
def serve() -> Iterator[FileServer]:
    told = FileServer()
    handler = type("Handler", (_Handler,), {"told": told})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        told.url = f"http://127.0.0.1:{server.server_address[1]}/data"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
