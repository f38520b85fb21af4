from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from command_runner import AUTOTAG, invoke
from page_server import write_song, write_version
from ports import free_port

from pipeline.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_song(tmp_path / "music" / "a.wav")
    write_version(tmp_path / "pushed" / "3")
    return tmp_path


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The installed program and the line that it says when the page can be opened."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AUTOTAG_CACHE": str(folder / "cache"), "TMPDIR": str(folder)}
    environment.pop("DISPLAY", None)
    process = subprocess.Popen(
        [AUTOTAG, "page", *arguments, "--port", "0"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        yield process, process.stderr.readline()
    finally:
        process.kill()
        process.wait()


def test_page_is_opened_by_one_command_and_ended_by_ctrl_c(folder: Path) -> None:
    with started(folder, "music", "--model", "pushed") as (process, line):
        address = re.match(r"autotag: (http://localhost:\d+)/  \(Ctrl-C ends it\)\n", line)
        assert address is not None, line
        state = httpx.get(f"{address[1]}/api/state").json()
        assert (state["folder"], state["files"]) == ("music", 1)
        assert state["corrections"] == str(folder / "music" / "autotag-corrections.csv")
        models = httpx.get(f"{address[1]}/api/models").json()
        assert (models[0]["name"], models[0]["default"]) == ("pushed/3", True)
        assert "musicnn-mtt" in [model["name"] for model in models]
        assert "autotag" in httpx.get(address[1]).text
        assert list(folder.glob("autotag-page-*"))
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=10)
        assert process.returncode == 0
        assert rest == ""
    assert not list(folder.glob("autotag-page-*"))
    assert [path.name for path in (folder / "music").iterdir()] == ["a.wav"]


def test_page_for_other_machines_has_a_token_in_its_address(folder: Path) -> None:
    with started(folder, "--host", "0.0.0.0", "--model", "pushed") as (_, line):
        found = re.match(r"autotag: (http://127\.0\.0\.1:\d+)/\?token=([\w-]{22})  ", line)
        assert found is not None, line
        assert httpx.get(found[1] + "/").status_code == 401
        with httpx.Client(base_url=found[1]) as browser:
            assert browser.get(f"/?token={found[2]}").status_code == 200
            assert browser.get("/api/state").json()["folder"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none"], "none: no such file or directory"),
        (["--model", "none"], "no model at none: no such folder, and no trained model of that name"),
        (["--host", "0.0.0.0", "--token", ""], "16 letters"),
        (["--host", "0.0.0.0", "--token", "short"], "16 letters"),
        (["--corrections", "c.csv"], "--corrections is of songs of a folder"),
        (["--index", "i.sqlite"], "--index is of songs of a folder"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--host", "192.0.2.1", "--port", "0"], "cannot assign requested address: choose another --port"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(
    folder: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = invoke("page", *arguments, "--no-browser")
    assert done.exit_code != 0
    assert words in f"{done.stderr} {done.exception}".replace("\n", " ")


def test_port_in_use_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.chdir(folder)
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        done = invoke("page", "--host", "127.0.0.1", "--port", port, "--no-browser", "--model", "pushed")
    assert f"127.0.0.1:{port}: address already in use: choose another --port" in str(done.exception)


def test_page_starts_without_tensorflow_tfx_and_beam() -> None:
    code = (
        "import sys, pipeline.commands.page, serving.page.app\n"
        "print([name for name in ('tensorflow', 'keras', 'tfx', 'apache_beam', 'sklearn') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_command_is_listed_with_examples() -> None:
    assert "page" in COMMANDS
    text = invoke("page", "--help").stdout
    assert "autotag page music --model my-run/pushed --model musicnn-mtt" in text
    assert "--host 0.0.0.0" in text
