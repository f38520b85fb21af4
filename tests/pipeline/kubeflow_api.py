"""An HTTP server that answers as a Kubeflow Pipelines API server, with what the test puts into it."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Api(BaseHTTPRequestHandler):
    """Answers what the test put into ``answers``: path without query -> (status, body), or several, one each time.

    A body may be a function of the query (parameter -> value). What was asked is put under ``asked``, and the request's
    headers under ``headers``.
    """

    answers: dict[str, Any]

    def do_GET(self) -> None:  # noqa: N802
        answer = self.answers.get(self.path.split("?")[0], (404, {}))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        status, body = answer
        if callable(body):
            body = body(dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query)))
        self.answers.setdefault("headers", []).append(dict(self.headers))
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answers.setdefault("asked", []).append((self.command, self.path, asked))
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serve_api() -> Iterator[tuple[str, dict[str, Any]]]:
    """Serve on a port of this machine; yields the address and the answers."""
    answers: dict[str, Any] = {"/apis/v2beta1/healthz": (200, {"multi_user": False})}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (Api,), {"answers": answers}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    server.server_close()
