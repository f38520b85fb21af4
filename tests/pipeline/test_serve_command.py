from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from ports import free_port

from pipeline.commands.serve import example_request
from preprocessing.errors import AutotagError, BadInputError
from serving.model_versions import SAVED_MODEL_NAME
from serving.server import launchers, served_model, server_settings, tf_server
from serving.server.labels import Labels
from serving.server.model_config import write_whole
from serving.server.model_server import ModelServer

ROOT = Path(__file__).parents[2]
MAIN = "from pipeline.cli import main; main()"


@pytest.fixture
def pushed(tmp_path: Path) -> Path:
    folder = tmp_path / "pushed models"
    for number in (1, 2, 3):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / SAVED_MODEL_NAME).write_bytes(b"")
    return folder


@pytest.fixture
def double(tmp_path: Path) -> Path:
    """An executable that stands in for tensorflow_model_server."""
    program = tmp_path / "tensorflow_model_server"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "from model_service_double import main\nmain()\n"
    )
    program.chmod(0o755)
    return program


def command(*arguments: object) -> list[str]:
    code = (
        "from pipeline.commands.serve import command; import pipeline.cli as c; c.COMMANDS['serve'] = ('serve', ''); "
    )
    return [sys.executable, "-c", code + MAIN, "serve", *map(str, arguments)]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """Without a TensorFlow Serving or container engine that this machine may have; temporary files in a known place."""
    (tmp_path / "temporary").mkdir(exist_ok=True)
    left = {name: value for name, value in os.environ.items() if name != "TENSORFLOW_MODEL_SERVER"}
    return {**left, "PATH": "/nowhere", "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "temporary"), **more}


class Started:
    """``autotag serve`` in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], grpc_port: int, rest_port: int) -> None:
        self.process, self.grpc_port, self.rest_port = process, grpc_port, rest_port

    def lines_until(self, last: str) -> list[str]:
        lines: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            lines.append(line.rstrip("\n"))
            if last in line:
                return lines
        assert self.process.stderr is not None
        raise AssertionError(f"never said {last!r}: {lines}, {self.process.stderr.read()}")

    def end(self) -> tuple[int, str]:
        assert self.process.stderr is not None
        _, stderr = self.process.communicate(timeout=40)
        return self.process.returncode, stderr


@contextmanager
def serving(tmp_path: Path, *arguments: object, **more: str) -> Iterator[Started]:
    ports = free_port(), free_port()
    process = subprocess.Popen(
        command(*arguments, "--grpc-port", ports[0], "--rest-port", ports[1]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path, **more),
    )
    try:
        yield Started(process, *ports)
    finally:
        process.kill()
        process.wait()


def run(tmp_path: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=60, env=environment(tmp_path, **more), cwd=tmp_path
    )


def servers_of(tmp_path: Path) -> list[int]:
    """Processes that run the double of this test."""
    name = str(tmp_path / "tensorflow_model_server")
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if (process.info["cmdline"] or [])[1:2] == [name] and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_asked_to_stop_and_leaves_nothing(
    tmp_path: Path, pushed: Path, double: Path, number: signal.Signals
) -> None:
    with serving(tmp_path, pushed, "--server-binary", double) as started:
        lines = started.lines_until("printf")
        assert lines[0] == "serving versions 2, 3; Ctrl-C stops"
        assert f"  gRPC     localhost:{started.grpc_port}" in lines
        client = ModelServer(f"localhost:{started.grpc_port}")
        assert {version: state.state for version, state in client.status().items()} == {2: 30, 3: 30}
        client.close()
        assert len(servers_of(tmp_path)) == 1
        started.process.send_signal(number)
        code, stderr = started.end()
    assert (code, stderr.splitlines()[1:]) == (0, ["stopping ...", "stopped"])
    assert servers_of(tmp_path) == []
    assert list((tmp_path / "temporary").iterdir()) == []


def test_printed_request_works_as_it_is_pasted(tmp_path: Path, pushed: Path, double: Path) -> None:
    with serving(tmp_path, pushed, "--server-binary", double) as started:
        lines = started.lines_until("printf")
        (line,) = [line.strip() for line in lines if line.strip().startswith("curl")]
        _, _, file, url = line.split()
        with urllib.request.urlopen(url, data=Path(file.removeprefix("@")).read_bytes(), timeout=20) as answer:
            assert json.load(answer) == {"predictions": 1, "signature": "wav"}


def test_labels_that_were_promoted_are_served(tmp_path: Path, pushed: Path, double: Path) -> None:
    write_whole(pushed / "labels.json", Labels().promoted("stable", 1).promoted("canary", 2).to_json())
    with serving(tmp_path, pushed, "--server-binary", double, "--batching") as started:
        lines = started.lines_until("printf")
    assert lines[0] == "serving versions 1 (stable), 2 (canary); Ctrl-C stops"
    assert any(line.endswith("/labels/stable:predict") for line in lines)


def test_one_version_is_served_alone(tmp_path: Path, pushed: Path, double: Path) -> None:
    with serving(tmp_path, pushed / "2", "--server-binary", double) as started:
        assert started.lines_until("printf")[0] == "serving version 2; Ctrl-C stops"


def test_server_is_found_in_the_environment_and_on_path(tmp_path: Path, pushed: Path, double: Path) -> None:
    for more in ({"TENSORFLOW_MODEL_SERVER": str(double)}, {"PATH": str(tmp_path)}):
        with serving(tmp_path, pushed, **more) as started:
            assert started.lines_until("printf")


def test_server_that_does_not_stop_is_killed(
    tmp_path: Path, pushed: Path, double: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOUBLE_IGNORES_SIGTERM", "1")
    model, settings = served_model.choose_model(pushed), server_settings.Settings(free_port(), free_port())
    files = tmp_path / "files"
    files.mkdir()
    with tf_server.run_server(launchers.Program(double), model, settings, files) as server:
        assert server.wait_until_ready((), 20, threading.Event()) == (2, 3)
        monkeypatch.setattr(tf_server.stop_process, "__defaults__", (0.5,))
        begin = time.monotonic()
    assert time.monotonic() - begin < 5
    assert server.process.returncode == -signal.SIGKILL


def test_server_goes_when_autotag_is_killed(tmp_path: Path, pushed: Path, double: Path) -> None:
    with serving(tmp_path, pushed, "--server-binary", double) as started:
        started.lines_until("printf")
        started.process.kill()
        started.process.wait()
        for _ in range(100):
            if not servers_of(tmp_path):
                return
            time.sleep(0.05)
    pytest.fail("the server outlives autotag")


def test_server_that_ends_by_itself_is_a_failure_with_its_last_lines(
    tmp_path: Path, pushed: Path, double: Path
) -> None:
    with serving(tmp_path, pushed, "--server-binary", double, DOUBLE_ENDS_AFTER="2") as started:
        code, stderr = started.end()
    assert code == 1
    assert "autotag: TensorFlow Serving ended by itself, exit code 3. Its last lines:" in stderr
    assert "  the double has had enough" in stderr


def test_model_that_does_not_load_gives_the_servers_last_lines(tmp_path: Path, pushed: Path, double: Path) -> None:
    for number in (2, 3):
        (pushed / str(number) / "broken").touch()
    done = run(tmp_path, pushed, "--server-binary", double, "--grpc-port", free_port(), "--rest-port", free_port())
    assert done.returncode == 1
    assert "TensorFlow Serving ended while it was starting, exit code 255" in done.stderr
    assert "1 servable(s) did not become available" in done.stderr
    assert "Traceback" not in done.stderr


def test_log_is_written_where_it_was_asked_for(tmp_path: Path, pushed: Path, double: Path) -> None:
    with serving(tmp_path, pushed, "--server-binary", double, "--log", tmp_path / "server.log") as started:
        started.lines_until("printf")
        assert "Running the double with --port=" in (tmp_path / "server.log").read_text()


def test_nothing_installed_is_one_clear_message_how_to_get_it(tmp_path: Path, pushed: Path) -> None:
    done = run(tmp_path, pushed, "--grpc-port", free_port(), "--rest-port", free_port())
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("autotag: TensorFlow Serving is not on this machine.")
    for words in (
        "docker pull tensorflow/serving:2.16.1",
        "apt-get install tensorflow-model-server",
        "--server-binary",
    ):
        assert words in done.stderr
    assert "Traceback" not in done.stderr


ENGINE = """#!/bin/sh
echo "$@" >> {log}
case "$1 $2" in
  "image inspect") exit {present} ;;
  "pull "*) echo "Error: no such registry" >&2; exit {pulled} ;;
  "run "*)
    until [ "$1" = {image} ]; do shift; done
    shift
    exec {program} "$@" ;;
esac
"""


def fake_engine(folder: Path, name: str, program: Path, present: int = 0, pulled: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    engine = folder / name
    engine.write_text(
        ENGINE.format(image=launchers.IMAGE, log=folder / "calls.txt", present=present, pulled=pulled, program=program)
    )
    engine.chmod(0o755)
    return engine


def test_image_is_run_as_the_user_with_the_model_read_only_and_removed(
    tmp_path: Path, pushed: Path, double: Path
) -> None:
    folder = tmp_path / "engines"
    fake_engine(folder, "docker", double)
    pushed = pushed.rename(tmp_path / "pushed")
    with serving(tmp_path, pushed, PATH=f"{folder}:/usr/bin:/bin") as started:
        assert started.lines_until("printf")[0] == "serving versions 2, 3; Ctrl-C stops"
        started.process.send_signal(signal.SIGINT)
        code, stderr = started.end()
    assert code == 0, stderr
    assert "starting docker.io/tensorflow/serving:2.16.1 in docker" in stderr
    inspect, started_with, removed = (folder / "calls.txt").read_text().splitlines()
    assert inspect == "image inspect docker.io/tensorflow/serving:2.16.1"
    for argument in (
        f"--mount=type=bind,source={pushed},target={pushed},readonly",
        f"--publish=127.0.0.1:{started.grpc_port}:{started.grpc_port}",
        f"--user={os.getuid()}:{os.getgid()}",
        "--read-only",
        "--cap-drop=all",
        "--rm",
    ):
        assert argument in started_with.split()
    (name,) = [argument for argument in started_with.split() if argument.startswith("--name=")]
    assert removed == f"rm --force {name.removeprefix('--name=')}"
    assert servers_of(tmp_path) == []


def test_image_is_pulled_where_it_is_not_there(tmp_path: Path, double: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "engines"
    fake_engine(folder, "podman", double, present=1)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("TENSORFLOW_MODEL_SERVER", raising=False)
    launcher = launchers.find_launcher(image="registry.example/serving:1")
    assert str(launcher) == "registry.example/serving:1 in podman"
    assert "pull registry.example/serving:1" in (folder / "calls.txt").read_text()


def test_engine_that_cannot_get_the_image_is_named_with_its_words(
    tmp_path: Path, double: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "engines"
    fake_engine(folder, "docker", double, present=1, pulled=1)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("TENSORFLOW_MODEL_SERVER", raising=False)
    with pytest.raises(AutotagError) as caught:
        launchers.find_launcher()
    assert "TensorFlow Serving is not on this machine" in str(caught.value)
    assert "docker is here, and could not give" in str(caught.value)
    assert "Error: no such registry" in str(caught.value)


def test_program_that_is_none_is_wrong_usage(tmp_path: Path, pushed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match="--server-binary says .*none, and that is no program"):
        launchers.find_launcher(tmp_path / "none")
    monkeypatch.setenv("TENSORFLOW_MODEL_SERVER", str(pushed))
    with pytest.raises(BadInputError, match="TENSORFLOW_MODEL_SERVER says"):
        launchers.find_launcher()


def test_port_in_use_is_said_before_anything_starts(tmp_path: Path, pushed: Path, double: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(tmp_path, pushed, "--server-binary", double, "--rest-port", port, "--grpc-port", free_port())
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"autotag: port {port} cannot be had (Address already in use): give another by --rest"
    )
    with pytest.raises(BadInputError, match="both 8500"):
        tf_server.check_ports(server_settings.Settings(8500, 8500))


def test_folder_without_a_model_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such folder"):
        served_model.choose_model(tmp_path / "none")
    with pytest.raises(BadInputError, match="no numbered version with saved_model.pb"):
        served_model.choose_model(tmp_path)
    (tmp_path / SAVED_MODEL_NAME).touch()
    with pytest.raises(BadInputError, match="wants its folder's name to be a number"):
        served_model.choose_model(tmp_path)


def test_label_of_a_version_that_was_deleted_is_said_before_anything_starts(pushed: Path) -> None:
    write_whole(pushed / "labels.json", Labels().promoted("stable", 9).to_json())
    with pytest.raises(BadInputError, match=r"has stable at version 9, which is not there; there are 1, 2, 3\."):
        served_model.choose_model(pushed)


def test_example_request_is_a_wav_of_the_models_rate() -> None:
    body = json.loads(example_request())
    with wave.open(io.BytesIO(base64.b64decode(body["instances"][0]["b64"]))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        assert file.getnframes() == 64_000


def test_command_loads_no_tensorflow() -> None:
    code = (
        "import sys, pipeline.commands.serve, pipeline.commands.promote, pipeline.commands.rollback; "
        "print([name for name in ('tensorflow', 'tfx', 'keras', 'librosa') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(("option", "given"), [("--bfloat16", True), ("--float32", False)])
def test_precision_is_what_was_asked_for(tmp_path: Path, pushed: Path, double: Path, option: str, given: bool) -> None:
    log = tmp_path / "log.txt"
    with serving(tmp_path, pushed, "--server-binary", double, option, "--log", log) as started:
        started.lines_until("printf")
    assert ("--mixed_precision=bfloat16" in log.read_text()) == given


@pytest.mark.parametrize(
    ("text", "can"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 sse", True),
        ("model name : avx512_bf16\nflags : fpu avx2", False),
        ("flags : amx_bf16", True),
        ("", False),
    ],
)
def test_precision_goes_by_the_instructions_of_the_cpu(tmp_path: Path, text: str, can: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert server_settings.multiplies_in_bfloat16(tmp_path / "cpuinfo") == can
    assert not server_settings.multiplies_in_bfloat16(tmp_path / "missing")


def test_server_gets_its_environment_unless_ours_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert tf_server._environment()["MALLOC_ARENA_MAX"] == "2"
    monkeypatch.setenv("MALLOC_ARENA_MAX", "7")
    assert tf_server._environment()["MALLOC_ARENA_MAX"] == "7"
