"""What a Kubeflow Pipelines server answers, in words; the real server is asked in tests/end_to_end."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kubeflow_api import serve_api

from pipeline.commands import kubeflow
from pipeline.kubeflow import server_runs
from pipeline.kubeflow.connection import Token
from pipeline.kubeflow.schedules import FoundSchedule, Schedule, check_cron, describe_changes
from pipeline.kubeflow.server import Server
from pipeline.kubeflow.server_runs import OUTAGE_SECONDS
from preprocessing.errors import AutotagError, BadInputError

WEEKLY = Schedule("music", "0 0 2 * * 1", "a" * 64, "minio://mlpipeline/v2/artifacts", "autotag")


@pytest.fixture
def api() -> Iterator[tuple[str, dict[str, Any]]]:
    with serve_api() as served:
        yield served


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


def test_schedule_in_another_experiment_is_another_place() -> None:
    found = FoundSchedule(WEEKLY, "id", "experiment", "enabled")
    assert describe_changes([found], replace(WEEKLY, experiment="weekly")) == ["music: experiment: autotag -> weekly"]


def test_no_address_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    with pytest.raises(BadInputError, match="give --host"):
        Server(None)


def test_server_that_is_down_or_another_is_said(api: tuple[str, dict[str, Any]]) -> None:
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


def test_refusal_is_said_in_the_servers_words(api: tuple[str, dict[str, Any]]) -> None:
    host, answers = api
    answers["/apis/v2beta1/pipelines"] = (200, {})
    answers["/apis/v2beta1/pipelines/upload"] = (400, {"error_message": "unsupported\n schema 2.0.0", "code": 3})
    with pytest.raises(AutotagError, match=r"refused to take the pipeline music: unsupported schema 2.0.0 \(400"):
        Server(host).publish("music", "schemaVersion: 2.0.0\n")
    answers["/apis/v2beta1/pipelines"] = (401, "login first")
    with pytest.raises(AutotagError, match=r"look for the pipeline music: 401 Unauthorized login first"):
        Server(host).publish("music", "x")


def test_unknown_experiment_is_said_with_the_known_ones(api: tuple[str, dict[str, Any]]) -> None:
    host, answers = api
    answers["/apis/v2beta1/experiments"] = (200, {})
    with pytest.raises(BadInputError, match="no experiment 'music'; it has none"):
        Server(host).runs("music", 5)


def test_commands_list_what_the_server_has(api: tuple[str, dict[str, Any]]) -> None:
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


def test_what_is_no_api_is_said_in_one_line(api: tuple[str, dict[str, Any]]) -> None:
    host, answers = api
    answers["/apis/v2beta1/healthz"] = (200, "<html>Log in</html>")
    with pytest.raises(AutotagError, match="asks for a login"):
        Server(host)
    with pytest.raises(AutotagError, match="does not answer"):
        Server("http://localhost:88x8")
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=_answer_with, args=(other, b"\x00\x00\x12\x04no http"), daemon=True).start()
        with pytest.raises(AutotagError, match="does not answer"):
            Server(f"http://127.0.0.1:{other.getsockname()[1]}")


def _answer_with(listening: socket.socket, data: bytes) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(data + b"\r\n")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('"go away"', "403 Forbidden go away"),
        ("<html><body>Forbidden</body></html>", "403 Forbidden$"),
        ({"error": "no such namespace"}, r"no such namespace \(403 Forbidden\)"),
    ],
)
def test_refusal_of_any_form_is_one_line(api: tuple[str, dict[str, Any]], body: Any, words: str) -> None:
    host, answers = api
    answers["/apis/v2beta1/pipelines"] = (403, body)
    with pytest.raises(AutotagError, match=words):
        Server(host).publish("music", "x")


def test_two_pipelines_of_one_name_are_said(api: tuple[str, dict[str, Any]]) -> None:
    host, answers = api
    answers["/apis/v2beta1/pipelines"] = (200, {"pipelines": [{"pipeline_id": "a"}, {"pipeline_id": "b"}]})
    with pytest.raises(AutotagError, match="look for the pipeline music: Multiple pipelines"):
        Server(host).publish("music", "x")


def answer_of_run(state: str, error: str | None = None, **tasks: str | None) -> tuple[int, dict[str, Any]]:
    details = [{"display_name": name.replace("_", "-"), "state": state} for name, state in tasks.items()]
    body = {"run_id": "r", "state": state, "run_details": {"task_details": details}}
    return 200, body | ({"error": {"message": error}} if error else {})


def test_run_is_waited_for_and_each_steps_states_are_told(api: tuple[str, dict[str, Any]]) -> None:
    host, answers = api
    answers["/apis/v2beta1/runs/r"] = [
        (200, {"run_id": "r"}),
        answer_of_run("RUNNING", root="RUNNING", root_driver="SUCCEEDED", Transform_driver="RUNNING"),
        answer_of_run("RUNNING", Transform_driver="SUCCEEDED", Transform="RUNNING", executor="RUNNING"),
        answer_of_run("RUNNING", Transform_driver="SUCCEEDED", Transform="RUNNING", executor="RUNNING"),
        (503, "restarting"),
        answer_of_run("SUCCEEDED", root="SUCCEEDED", Transform="SUCCEEDED", Pusher="SUCCEEDED"),
    ]
    told: list[tuple[str, str]] = []
    slept: list[float] = []
    ended = Server(host).wait("r", ["Transform", "Pusher"], lambda *change: told.append(change), slept.append)
    assert told == [("Transform", "running"), ("Transform", "succeeded"), ("Pusher", "succeeded")]
    assert (ended.state, ended.failed_steps, len(slept)) == ("succeeded", [], 5)


@pytest.mark.parametrize("tasks", [{"Transform": "FAILED"}, {"Transform_driver": "ERROR", "Transform": "OMITTED"}])
def test_failed_step_is_named(api: tuple[str, dict[str, Any]], tasks: dict[str, str]) -> None:
    host, answers = api
    answers["/apis/v2beta1/runs/r"] = answer_of_run("FAILED", "out of memory", SchemaGen="SUCCEEDED", **tasks)
    ended = Server(host).wait("r", ["SchemaGen", "Transform"], lambda *change: None)
    assert (ended.state, ended.failed_steps, ended.error) == ("failed", ["Transform"], "out of memory")


def test_waiting_ends_when_the_server_stays_away_or_does_not_know_the_run(api: tuple[str, dict[str, Any]]) -> None:
    host, answers = api
    slept: list[float] = []
    with pytest.raises(AutotagError, match="refused to say how the run r is"):
        Server(host).wait("r", [], lambda *change: None, slept.append)
    assert slept == []
    answers["/apis/v2beta1/runs/r"] = (503, "<html>")
    with pytest.raises(AutotagError, match="503"):
        Server(host).wait("r", [], lambda *change: None, slept.append)
    assert sum(slept) == OUTAGE_SECONDS


COMPILED = "root: {dag: {tasks: {Transform: {}, Pusher: {}}}}\n"


@pytest.fixture
def takes_runs(api: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """A server that takes pipelines, runs and recurring runs; what is compiled is COMPILED."""
    _, answers = api
    monkeypatch.setattr(kubeflow, "compile_settings", lambda settings, data_versions: COMPILED)
    monkeypatch.setattr(kubeflow, "data_versions", lambda settings: {})
    monkeypatch.setattr(server_runs, "POLL_SECONDS", 0.01)
    version = {"pipeline_version_id": "v", "pipeline_id": "p", "display_name": "one"}
    answers["/apis/v2beta1/pipelines"] = (200, {"pipelines": [{"pipeline_id": "p"}]})
    answers["/apis/v2beta1/pipelines/p/versions"] = (200, {"pipeline_versions": [version]})
    answers["/apis/v2beta1/pipelines/p/versions/v"] = (200, version)
    answers["/apis/v2beta1/pipelines/upload_version"] = (200, version)
    answers["/apis/v2beta1/experiments"] = (200, {"experiments": [{"experiment_id": "e", "display_name": "autotag"}]})
    answers["/apis/v2beta1/runs"] = (200, {"run_id": "r"})
    answers["/apis/v2beta1/recurringruns"] = (200, {"recurring_run_id": "s"})
    return api


def posted(answers: dict[str, Any], end: str) -> dict[str, Any]:
    (body,) = [body for method, path, body in answers["asked"] if method == "POST" and path.endswith(end)]
    found: dict[str, Any] = json.loads(body)
    return found


def test_submit_waits_and_ends_with_the_runs_end(takes_runs: tuple[str, dict[str, Any]]) -> None:
    host, answers = takes_runs
    answers["/apis/v2beta1/runs/r"] = [
        answer_of_run("RUNNING", Transform="RUNNING"),
        answer_of_run("SUCCEEDED", Transform="SUCCEEDED", Pusher="SUCCEEDED"),
    ]
    done = CliRunner().invoke(kubeflow.command, ["submit", "--host", host, "--wait", "--name", "weekly"])
    assert done.exit_code == 0, done.output
    assert [line[10:] for line in done.output.splitlines()[2:-1]] == [
        "Transform: running",
        "Transform: succeeded",
        "Pusher: succeeded",
    ]
    assert done.output.splitlines()[-1] == "run weekly: succeeded"
    answers["/apis/v2beta1/runs/r"] = answer_of_run("FAILED", "quota", Transform="FAILED", Pusher=None)
    failed = CliRunner().invoke(kubeflow.command, ["submit", "--host", host, "--wait", "--name", "weekly"])
    assert failed.exit_code == 1
    assert "Pusher" not in failed.output, "left out"
    assert str(failed.exception).startswith("run weekly failed: step Transform failed; quota; the steps' logs are at ")
    answers["/apis/v2beta1/runs/r"] = answer_of_run("CANCELED")
    stopped = CliRunner().invoke(kubeflow.command, ["submit", "--host", host, "--wait"])
    assert "canceled" in str(stopped.exception)
    assert not isinstance(stopped.exception, BadInputError)


def test_submit_without_wait_does_not_ask_after_the_run(takes_runs: tuple[str, dict[str, Any]]) -> None:
    host, answers = takes_runs
    done = CliRunner().invoke(kubeflow.command, ["submit", "--host", host, "--service-account", "tagger"])
    assert done.exit_code == 0, done.output
    assert posted(answers, "/runs")["service_account"] == "tagger"
    done = CliRunner().invoke(kubeflow.command, ["submit", "--host", host, "--set", "kubeflow.service_account=x-y"])
    assert done.exit_code == 0, done.output
    bodies = [
        json.loads(body) for method, path, body in answers["asked"] if method == "POST" and path.endswith("/runs")
    ]
    assert [body["service_account"] for body in bodies] == ["tagger", "x-y"]
    assert not any(path.endswith("/runs/r") for _, path, _ in answers["asked"])


def test_stopping_to_wait_says_that_the_run_goes_on(
    takes_runs: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = takes_runs

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "wait", interrupt)
    stopped = CliRunner().invoke(kubeflow.command, ["submit", "--host", host, "--wait"])
    assert isinstance(stopped.exception, AutotagError)
    assert f"goes on: {host}/#/runs/details/r" in str(stopped.exception)


def recurring(service_account: str) -> dict[str, Any]:
    return {
        "recurring_run_id": "s",
        "display_name": "autotag",
        "pipeline_version_reference": {"pipeline_id": "p", "pipeline_version_id": "v"},
        "runtime_config": {"pipeline_root": WEEKLY.pipeline_root},
        "service_account": service_account,
        "max_concurrency": "1",
        "trigger": {"cron_schedule": {"cron": "0 0 2 * * 1"}},
        "mode": "ENABLE",
        "status": "ENABLED",
        "no_catchup": True,
        "experiment_id": "e",
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (["--service-account", "other"], "other"),
        (["--set", "kubeflow.service_account=other"], "other"),
        (["--set", "kubeflow.service_account=weekly", "--service-account", "other"], "other"),
        ([], "tagger"),
    ],
)
def test_schedule_changes_the_service_account_only_where_one_is_given(
    takes_runs: tuple[str, dict[str, Any]], given: list[str], sent: str
) -> None:
    host, answers = takes_runs
    there = {"recurringRuns": [recurring("tagger")], "recurring_run_id": "new"}
    answers["/apis/v2beta1/recurringruns"] = (200, there)
    answers["/apis/v2beta1/recurringruns/s"] = (200, {})
    done = CliRunner().invoke(kubeflow.command, ["schedule", "--host", host, "--cron", "0 0 3 * * 1", *given])
    assert done.exit_code == 0, done.output
    assert ("service account: tagger -> other" in done.output) is bool(given)
    assert posted(answers, "/recurringruns")["service_account"] == sent


def test_schedule_moves_with_its_pipeline_to_another_experiment(takes_runs: tuple[str, dict[str, Any]]) -> None:
    host, answers = takes_runs
    others = {**recurring("tagger"), "recurring_run_id": "theirs", "experiment_id": "theirs"}
    others["pipeline_version_reference"] = {"pipeline_id": "another", "pipeline_version_id": "v"}
    experiments = [{"experiment_id": "e", "display_name": "autotag"}, {"experiment_id": "w", "display_name": "weekly"}]
    named, all_ = {"experiments": experiments[1:]}, {"experiments": experiments}
    answers["/apis/v2beta1/experiments"] = (200, lambda query: named if "filter" in query else all_)
    answers["/apis/v2beta1/recurringruns"] = (200, {"recurringRuns": [recurring("tagger"), others]})
    answers["/apis/v2beta1/recurringruns/s"] = (200, {})
    command = ["schedule", "--host", host, "--cron", "0 0 2 * * 1", "--experiment", "weekly"]
    dry = CliRunner().invoke(kubeflow.command, [*command, "--dry-run"])
    assert "autotag: experiment: autotag -> weekly" in dry.output, dry.exception
    assert not any(method == "DELETE" for method, _, _ in answers["asked"])
    done = CliRunner().invoke(kubeflow.command, command)
    assert done.exit_code == 0, done.output
    assert posted(answers, "/recurringruns")["experiment_id"] == "w"
    deleted = [path.split("/")[-1] for method, path, _ in answers["asked"] if method == "DELETE"]
    assert deleted == ["s"], "of another pipeline's nothing"


def test_token_goes_with_every_request_and_into_no_message(
    api: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host, answers = api
    monkeypatch.setenv("PIPELINES_TOKEN", "secret-1\n")
    answers["/apis/v2beta1/experiments"] = (401, {"message": "Request not authenticated"})
    done = CliRunner().invoke(kubeflow.command, ["runs", "--host", host, "--token-env", "PIPELINES_TOKEN"])
    assert len(answers["headers"]) >= 2
    assert {headers.get("authorization") for headers in answers["headers"]} == {"Bearer secret-1"}
    assert "Request not authenticated (401 Unauthorized)" in str(done.exception)
    assert "secret" not in str(done.exception) + done.output
    file = tmp_path / "token"
    file.write_text("secret-2")
    server = Server(host, token=Token(file=str(file)))
    file.write_text("secret-3")
    answers["headers"].clear()
    with pytest.raises(AutotagError):
        server.runs("autotag", 1)
    assert {headers.get("authorization") for headers in answers["headers"]} == {"Bearer secret-3"}, "renewed meanwhile"


def test_token_does_not_follow_to_where_the_server_redirects(
    api: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, answers = api
    monkeypatch.setenv("PIPELINES_TOKEN", "secret")
    answers["/login"] = (200, "<html>Log in</html>")
    with socket.create_server(("127.0.0.1", 0)) as other:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {host}/login\r\nContent-Length: 0\r\nConnection: close\r\n"
        threading.Thread(target=_answer_with, args=(other, moved.encode()), daemon=True).start()
        with pytest.raises(AutotagError, match="asks for a login"):
            Server(f"http://127.0.0.1:{other.getsockname()[1]}", token=Token("PIPELINES_TOKEN"))
    assert [headers.get("authorization") for headers in answers["headers"]] == [None]


@pytest.mark.parametrize("text", [None, "", " \n", "two words", "z\u00e4h", "line\nline"])
def test_what_is_no_token_is_said_without_it(text: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PIPELINES_TOKEN", raising=False)
    path = tmp_path / "token"
    if text is not None:
        monkeypatch.setenv("PIPELINES_TOKEN", text)
        path.write_text(text, encoding="utf-8")
    for token in (Token("PIPELINES_TOKEN"), Token(file=str(path))):
        with pytest.raises(BadInputError, match=r"PIPELINES_TOKEN|token") as error:
            token.read()
        assert not text or not text.strip() or text not in str(error.value)
    done = CliRunner().invoke(kubeflow.command, ["runs", "--host", "http://127.0.0.1:9", "--token-env", "NOTHING"])
    assert str(done.exception) == "the variable NOTHING holds no token"


def test_wrong_cron_is_refused_before_anything_is_asked() -> None:
    done = CliRunner().invoke(kubeflow.command, ["schedule", "--cron", "0 2 * * 1"])
    assert isinstance(done.exception, BadInputError)
