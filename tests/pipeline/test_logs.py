from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import click
import pytest
from command_runner import autotag

from pipeline.console import logs
from pipeline.console.logs import JsonFormatter, RunFilter, json_log
from preprocessing.errors import AutotagError, BadInputError

ROOT = Path(__file__).parents[2]


def record(message: str = "text", name: str = "pipeline.here", level: int = logging.INFO, **extra: Any) -> Any:
    made = logging.makeLogRecord({"msg": message, "name": name, "levelno": level, "levelname": "INFO", **extra})
    return json.loads(JsonFormatter().format(made))


def run_program(body: str) -> tuple[int, list[dict[str, Any]]]:
    """Run in a process of its own, whose error stream is real; returns exit code and the lines of its log."""
    imports = "import logging, os, sys, click\nfrom pipeline.console.logs import *\n"
    program = f"{imports}log = logging.getLogger('pipeline.x')\n{body}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_is_an_object_with_time_level_run_node_and_message() -> None:
    line = record("50 of 100 clips", clips_done=50, clips=100)
    assert list(line) == ["time", "level", "logger", "run", "node", "message", "clips", "clips_done"]
    assert (line["level"], line["run"], line["node"]) == ("info", None, None)
    assert (line["message"], line["clips_done"], line["clips"]) == ("50 of 100 clips", 50, 100)
    assert datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00")).tzinfo == datetime.timezone.utc


def test_lines_of_other_threads_belong_to_the_node_too() -> None:
    lines = []
    with logs.of_run("2026"), logs.of_node("Transform"):
        thread = threading.Thread(target=lambda: lines.append(record()))
        thread.start()
        thread.join()
    assert (lines[0]["run"], lines[0]["node"]) == ("2026", "Transform")
    assert (record()["run"], record()["node"]) == (None, None)


def test_a_node_that_fails_leaves_no_name_behind() -> None:
    with contextlib.suppress(ValueError), logs.of_node("Transform"):
        raise ValueError
    assert record()["node"] is None


def test_a_text_with_line_breaks_stays_on_one_line() -> None:
    made = logging.makeLogRecord({"msg": "one\ntwo \u2028 three", "levelname": "INFO"})
    assert "\n" not in JsonFormatter().format(made)


@pytest.mark.parametrize(
    ("name", "level", "seen"),
    [
        ("components.fitting", logging.INFO, True),
        ("absl", logging.INFO, False),
        ("tensorflow", logging.WARNING, False),
        ("absl", logging.ERROR, True),
    ],
)
def test_what_people_follow_a_run_by_is_let_through(name: str, level: int, seen: bool) -> None:
    assert RunFilter().filter(logging.makeLogRecord({"name": name, "levelno": level})) is seen


def test_a_librarys_traceback_of_a_full_disk_is_its_last_line() -> None:
    text = "Traceback (most recent call last):\n  File x\nOSError: No space left on device"
    made = logging.makeLogRecord({"name": "apache_beam.x", "levelno": logging.ERROR, "msg": text})
    assert RunFilter().filter(made)
    assert made.getMessage() == "OSError: No space left on device"
    made = logging.makeLogRecord({"name": "apache_beam.x", "levelno": logging.ERROR, "msg": "a\nValueError: b"})
    assert RunFilter().filter(made)
    assert made.getMessage() == "a\nValueError: b"


def test_what_libraries_write_to_the_error_stream_becomes_a_line() -> None:
    code, lines = run_program(
        "with json_log():\n"
        "    os.write(2, b'[mp3] bad frame\\nI1121 08:00:14.1 1 a.cc:1] chatter\\n')\n"
        "    os.write(2, b'E1121 08:00:14.1 1 a.cc:1] refused\\n')\n"
        "    os.system('echo from a child >&2')\n"
        "    log.info('own')\n"
    )
    assert code == 0
    messages = {line["message"]: line["level"] for line in lines}
    assert messages == {
        "[mp3] bad frame": "warning",
        "E1121 08:00:14.1 1 a.cc:1] refused": "error",
        "from a child": "warning",
        "own": "info",
    }


def test_many_bytes_of_a_library_do_not_block() -> None:
    code, lines = run_program("with json_log():\n    for _ in range(300):\n        os.write(2, b'x' * 9999 + b'\\n')\n")
    assert (code, len(lines)) == (0, 300)


def test_the_error_stream_is_as_before_afterwards() -> None:
    code, lines = run_program("with json_log():\n    log.info('a')\nos.write(2, b'{\"after\": 1}\\n')\n")
    assert code == 0
    assert lines[-1] == {"after": 1}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInputError("no such file"), 2),
        (AutotagError("it failed"), 1),
        (KeyboardInterrupt(), 1),
        (ValueError("x"), 1),
    ],
)
def test_an_error_is_the_last_line_and_gives_the_exit_code(
    error: BaseException, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(click.exceptions.Exit) as raised, json_log():
        raise error
    assert raised.value.exit_code == code
    last = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert last["level"] == "error"
    assert ("Traceback" in last.get("error", "")) is isinstance(error, ValueError)


def test_the_line_that_ends_a_run_says_its_run_and_node(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.exceptions.Exit), json_log(), logs.of_run("2026"), logs.of_node("Transform"):
        raise AutotagError("it failed")
    last = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert (last["message"], last["run"], last["node"]) == ("it failed", "2026", "Transform")
    with pytest.raises(click.exceptions.Exit), json_log():
        raise AutotagError("it cannot begin")
    last = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert (last["message"], last["run"], last["node"]) == ("it cannot begin", None, None)


def test_preprocess_logs_counts_as_json(tmp_path: Path) -> None:
    autotag("make-corpus", "corpus", "--clips", 40, cwd=tmp_path)
    (broken := next((tmp_path / "corpus").glob("*/*.mp3"))).write_bytes(b"no mp3" * 100)
    environment = {**os.environ, "AUTOTAG_LOG": "json"}
    options = ["corpus/annotations_final.csv", "out", "--tags", 5, "--ratio", "2:1:1"]
    done = autotag("preprocess", "corpus", *options, cwd=tmp_path, env=environment)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert (lines[-1]["clips"], lines[-1]["examples"], lines[-1]["rejected"]) == (40, 39, 1)
    assert broken.name in (tmp_path / "out" / "rejected.jsonl").read_text()
    assert "written: out" in done.stdout
    done = autotag("preprocess", "corpus", "none.csv", "out", cwd=tmp_path, env=environment, code=2)
    assert "none.csv" in json.loads(done.stderr)["message"]
