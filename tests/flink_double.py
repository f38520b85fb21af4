"""A stand-in for a Flink cluster and for Beam's job server, which take a job and never end it."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

JOB_SERVER = """#!{python}
# Stands in for Java with Beam's job server for Flink.
import pathlib, sys, time
from apache_beam.runners.portability.local_job_service import BeamJob, LocalJobServicer

class Job(BeamJob):
    def run(self):
        pathlib.Path("{sent}").touch()
        time.sleep(600)

job_service = LocalJobServicer("{staged}", Job)
job_service.start_grpc_server(int(sys.argv[sys.argv.index("--job-port") + 1]))
time.sleep(600)
"""
NAME = "music"
"""Of the job, and of one that was on the cluster before."""


class FlinkDouble:
    """Both, while the block runs.

    Args:
        folder: for their files; must not be there.

    Attributes:
        calls: what was asked of the cluster besides its state.
        master: the cluster's address.
        options: Beam's options for the job.
    """

    def __init__(self, folder: Path) -> None:
        self._sent, java, jar = folder / "sent", folder / "java", folder / "job-server.jar"
        (folder / "staged").mkdir(parents=True)
        java.write_text(JOB_SERVER.format(python=sys.executable, sent=self._sent, staged=folder / "staged"))
        java.chmod(0o755)
        jar.touch()
        self.calls: list[str] = []
        self._cluster = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _rest(self.calls, self._sent))
        self.master = f"127.0.0.1:{self._cluster.server_port}"
        self.options = [
            f"--job_name={NAME}",
            f"--job_server_java_launcher={java}",
            f"--flink_job_server_jar={jar}",
        ]

    def __enter__(self) -> FlinkDouble:
        threading.Thread(target=self._cluster.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._cluster.shutdown()
        self._cluster.server_close()

    def run_until_ctrl_c(self, program: Sequence[str]) -> tuple[int, str]:
        """Run a program, press Ctrl-C a second after it sent its job; returns its exit code and what it said."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(program, **pipes, start_new_session=True, text=True) as process:  # type: ignore[call-overload]
            deadline = time.monotonic() + 300
            while not self._sent.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            time.sleep(1)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the job server ends, too
            said, _ = process.communicate(timeout=60)
        assert self._sent.exists(), said
        return process.returncode, said


def _rest(calls: list[str], sent: Path) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        """A cluster's REST interface, where another job of the same name is there before ours."""

        def answer(self, body: Any) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def do_GET(self) -> None:  # noqa: N802 http.server's name
            jobs = [{"jid": "earlier", "name": NAME, "state": "RUNNING"}, {"jid": "other", "name": "x"}]
            ours = [{"jid": "ours", "name": NAME, "state": "RUNNING"}] if sent.exists() else []
            self.answer({"slots-total": 2} if self.path == "/overview" else {"jobs": [*jobs, *ours]})

        def do_PATCH(self) -> None:  # noqa: N802 http.server's name
            calls.append(self.path)
            self.answer({})

        def log_message(self, *_: object) -> None:
            pass

    return Handler
