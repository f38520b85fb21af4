"""An HTTP server that answers as a Kubeflow Pipelines API server, with what the test puts into it."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BEGAN = "2026-01-05T02:00:00Z"


class Api(BaseHTTPRequestHandler):
    """Answers what the test put into ``answers``: path without query -> (status, body), or several, one each time.

    A body may be a function of the query (parameter -> value). What was asked is put under ``asked``, and the request's
    headers, with names in small letters, under ``headers``.
    """

    answers: dict[str, Any]

    def do_GET(self) -> None:  # noqa: N802
        answer = self.answers.get(self.path.split("?")[0], (404, {}))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        status, body = answer
        if callable(body):
            body = body(dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query)))
        self.answers.setdefault("headers", []).append({name.lower(): value for name, value in self.headers.items()})
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
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    server.server_close()


class MadeUpServer:
    """Runs with their tasks, the newest first, recurring runs, and what they were compiled to."""

    def __init__(self, host: str, answers: dict[str, Any]) -> None:
        self.host, self.answers = host, answers
        self.runs: list[dict[str, Any]] = []
        answers["/apis/v2beta1/experiments"] = (
            200,
            {"experiments": [{"experiment_id": "e", "display_name": "autotag"}]},
        )
        answers["/apis/v2beta1/pipelines"] = (200, {"pipelines": [{"pipeline_id": "music"}]})
        answers["/apis/v2beta1/runs"] = (200, self._list)

    def _list(self, query: dict[str, str]) -> dict[str, Any]:
        runs = self.runs
        if "filter" in query:
            for predicate in json.loads(query["filter"])["predicates"]:
                assert predicate["key"] == "state"
                if predicate["operation"] == "IN":
                    runs = [run for run in runs if run["state"] in predicate["string_values"]["values"]]
                else:
                    assert predicate["operation"] == "NOT_EQUALS"
                    runs = [run for run in runs if run["state"] != predicate["string_value"]]
        first, size = int(query.get("page_token") or 0), 2
        more = {"next_page_token": str(first + size)} if len(runs) > first + size else {}
        return {"runs": runs[first : first + size], **more}

    def add_run(
        self, run_id: str, state: str, minute: int, pipeline: str = "music", version: str = "v", **tasks: str
    ) -> None:
        """Add a run that began at 2:00 on 5 January 2026 and ended so many minutes later; 0 where it goes on.

        ``tasks`` are steps and their states, each of 90 s with its driver.
        """
        run = {
            "run_id": run_id,
            "display_name": run_id,
            "state": state,
            "pipeline_version_reference": {"pipeline_id": pipeline, "pipeline_version_id": version},
            "created_at": BEGAN,
            "finished_at": f"2026-01-05T02:{minute:02d}:00Z" if minute else "1970-01-01T00:00:00Z",
        }
        self.runs.insert(0, run)
        details = [{"display_name": "root", "state": "RUNNING"}, {"display_name": "root-driver", "state": "SUCCEEDED"}]
        for name, task_state in tasks.items():
            step = name.replace("_", "-")
            times = {"start_time": BEGAN, "end_time": "2026-01-05T02:00:10Z"}
            details.append({"display_name": f"{step}-driver", "state": "SUCCEEDED", **times})
            times = {"start_time": "2026-01-05T02:00:15Z", "end_time": "2026-01-05T02:01:30Z"}
            details.append({"display_name": step, "state": task_state, **times})
            details.append({"display_name": "executor", "state": task_state, **times})
        self.answers[f"/apis/v2beta1/runs/{run_id}"] = (200, {**run, "run_details": {"task_details": details}})

    def add_version(self, version: str, shards: str | None, code: str = "", pipeline: str = "music") -> None:
        """Add a version of a pipeline that keeps its shards in a folder; None for a pipeline that is not ours."""
        values = {"work_dir": shards, "code": code}
        parameters = {key: {"runtimeValue": {"constant": value}} for key, value in values.items()}
        tasks = {"ClipExampleGen": {"inputs": {"parameters": parameters}}} if shards else {"hello": {}}
        spec = {"pipeline_spec": {"root": {"dag": {"tasks": tasks}}}, "platform_spec": {}}
        path = f"/apis/v2beta1/pipelines/{pipeline}/versions/{version}"
        self.answers[path] = (200, {"pipeline_id": pipeline, "pipeline_version_id": version, "pipeline_spec": spec})

    def add_schedule(self, version: str, pipeline: str = "music") -> None:
        """Add a recurring run of a version."""
        recurring = {
            "recurring_run_id": f"of {version}",
            "display_name": "weekly",
            "pipeline_version_reference": {"pipeline_id": pipeline, "pipeline_version_id": version},
        }
        _, before = self.answers.get("/apis/v2beta1/recurringruns", (200, {"recurringRuns": []}))
        self.answers["/apis/v2beta1/recurringruns"] = (200, {"recurringRuns": [*before["recurringRuns"], recurring]})
