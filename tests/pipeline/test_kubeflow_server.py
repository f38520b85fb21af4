"""What a Kubeflow Pipelines server answers, in words; the real server is asked in tests/end_to_end."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.commands import kubeflow
from pipeline.kubeflow_server import FoundSchedule, Schedule, Server, check_cron, describe_changes
from preprocessing.errors import AutotagError, BadInputError

WEEKLY = Schedule("music", "0 0 2 * * 1", "a" * 64, "minio://mlpipeline/v2/artifacts")


class Api(BaseHTTPRequestHandler):
    """Answers what the test put into ``answers``: path without query -> (status, body)."""

    answers: dict[str, tuple[int, Any]]

    def do_GET(self) -> None:  # noqa: N802
        status, body = self.answers.get(self.path.split("?")[0], (404, {}))
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[tuple[str, dict[str, tuple[int, Any]]]]:
    answers: dict[str, tuple[int, Any]] = {"/apis/v2beta1/healthz": (200, {"multi_user": False})}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (Api,), {"answers": answers}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    server.server_close()


def test_cron_has_six_fields() -> None:
    assert check_cron(" 0 0  2 * * 1 ") == "0 0 2 * * 1"
    with pytest.raises(BadInputError, match=r"seconds first.*'0 0 2 \* \* 1'"):
        check_cron("0 2 * * 1")
    with pytest.raises(BadInputError, match="expected six fields"):
        check_cron("weekly")


def test_changes_of_a_schedule_are_named_and_equal_ones_are_none() -> None:
    found = FoundSchedule(WEEKLY, "id", "experiment", "enabled")
    assert describe_changes([found], WEEKLY) == []
    assert "would be made" in describe_changes([], WEEKLY)[0]
    assert "2 times" in describe_changes([found, found], WEEKLY)[0]
    wanted = replace(WEEKLY, cron="0 0 3 * * 1", pipeline="b" * 64)
    assert describe_changes([found], wanted) == [
        "music: time: 0 0 2 * * 1 -> 0 0 3 * * 1",
        "music: pipeline: aaaaaaaaaaaa -> bbbbbbbbbbbb",
    ]
    stopped = FoundSchedule(replace(WEEKLY, enabled=False), "id", "experiment", "disabled")
    assert describe_changes([stopped], WEEKLY) == ["music: enabled: False -> True"]


def test_no_address_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    with pytest.raises(BadInputError, match="give --host"):
        Server(None)


def test_server_that_is_down_or_another_is_said(api: tuple[str, dict[str, tuple[int, Any]]]) -> None:
    with pytest.raises(AutotagError, match="does not answer"):
        Server("http://127.0.0.1:9")
    with pytest.raises(AutotagError, match="does not answer"):
        Server("localhost:8888/no-scheme")
    host, answers = api
    answers["/apis/v2beta1/healthz"] = (503, "upstream")
    with pytest.raises(AutotagError, match="503"):
        Server(host)
    del answers["/apis/v2beta1/healthz"]
    with pytest.raises(AutotagError, match="is it a Kubeflow Pipelines API"):
        Server(host)


def test_refusal_is_said_in_the_servers_words(api: tuple[str, dict[str, tuple[int, Any]]]) -> None:
    host, answers = api
    answers["/apis/v2beta1/pipelines"] = (200, {})
    answers["/apis/v2beta1/pipelines/upload"] = (400, {"error_message": "unsupported\n schema 2.0.0", "code": 3})
    with pytest.raises(AutotagError, match=r"refused to take the pipeline music: unsupported schema 2.0.0 \(400"):
        Server(host).publish("music", "schemaVersion: 2.0.0\n")
    answers["/apis/v2beta1/pipelines"] = (401, "login first")
    with pytest.raises(AutotagError, match=r"look for the pipeline music: 401 Unauthorized login first"):
        Server(host).publish("music", "x")


def test_unknown_experiment_is_said_with_the_known_ones(api: tuple[str, dict[str, tuple[int, Any]]]) -> None:
    host, answers = api
    answers["/apis/v2beta1/experiments"] = (200, {})
    with pytest.raises(BadInputError, match="no experiment 'music'; it has none"):
        Server(host).runs("music", 5)


def test_commands_list_what_the_server_has(api: tuple[str, dict[str, tuple[int, Any]]]) -> None:
    host, answers = api
    experiment = {"experiment_id": "e", "display_name": "autotag"}
    answers["/apis/v2beta1/experiments"] = (200, {"experiments": [experiment]})
    run = {
        "run_id": "r-1",
        "display_name": "music [weekly]",
        "state": "FAILED",
        "created_at": "2026-01-05T02:00:00Z",
        "finished_at": "2026-01-05T02:30:00Z",
        "error": {"message": "step Transform failed"},
    }
    answers["/apis/v2beta1/runs"] = (200, {"runs": [run]})
    done = CliRunner().invoke(kubeflow.command, ["runs", "--host", host])
    assert done.exit_code == 0, done.output
    assert "music [weekly]  failed  2026-01-05 02:00  0:30:00  r-1" in done.output
    assert "step Transform failed" in done.output
    answers["/apis/v2beta1/recurringruns"] = (200, {})
    done = CliRunner().invoke(kubeflow.command, ["unschedule", "music", "--host", host])
    assert isinstance(done.exception, BadInputError)
    assert "no recurring run 'music'; it has none" in str(done.exception)


def test_wrong_cron_is_refused_before_anything_is_asked() -> None:
    done = CliRunner().invoke(kubeflow.command, ["schedule", "--cron", "0 2 * * 1"])
    assert isinstance(done.exception, BadInputError)
