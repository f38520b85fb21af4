"""Ctrl-C while one of TFX's own nodes runs its Beam job elsewhere."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from flink_double import FlinkDouble

AUTOTAG = str(Path(sys.executable).parent / "autotag")
PRISM = shutil.which("prism") or shutil.which("prism", path=os.path.expanduser("~/go/bin"))

pytestmark = pytest.mark.timeout(900)


def autotag(*arguments: object) -> str:
    done = subprocess.run([AUTOTAG, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose examples are there, so that StatisticsGen is the first node with something to do."""
    folder = tmp_path_factory.mktemp("stopped")
    clips = folder / "clips"
    autotag("make-corpus", clips, "--clips", 48, "--seed", 3)
    data = {
        "audio_dir": str(clips),
        "annotations": str(clips / "annotations_final.csv"),
        "n_tags": 20,
        "shard_clips": 6,
        "ratio": [8, 4, 4],
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"root": str(folder / "run"), "data": data}))
    autotag("run", path, "--to-node", "ClipExampleGen")
    return path


def to_statistics(config: Path, **beam: object) -> list[str]:
    """The command line that runs the pipeline as far as StatisticsGen, on another runner."""
    elsewhere = config.with_name(f"{beam['runner']}.yaml")
    elsewhere.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"beam": beam}))
    return [AUTOTAG, "run", str(elsewhere), "--to-node", "StatisticsGen"]


def assert_stopped(code: int, said: str) -> None:
    assert code == 1, said
    assert "Component StatisticsGen is running." in said
    assert "autotag: stopped; " in said
    assert "Traceback" not in said


def test_ctrl_c_cancels_a_tfx_nodes_job_on_flink_and_the_next_run_finishes_it(config: Path, tmp_path: Path) -> None:
    with FlinkDouble(tmp_path / "double") as flink:
        call = to_statistics(
            config, runner="flink", flink_master=flink.master, worker_command="worker", options=flink.options
        )
        code, said = flink.run_until_ctrl_c(call)
    assert_stopped(code, said)
    assert flink.calls == ["/jobs/ours?mode=cancel"]
    assert "StatisticsGen" in autotag("runs", config, "--nodes")
    said = autotag("run", config, "--to-node", "StatisticsGen")
    assert "1 nodes ran, 1 taken from earlier runs" in said


@pytest.mark.skipif(not PRISM, reason="needs Beam's prism in PATH or ~/go/bin")
def test_ctrl_c_ends_a_tfx_nodes_job_on_prism(config: Path) -> None:
    call = to_statistics(config, runner="prism")
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        deadline = time.monotonic() + 300
        while not (prism := prisms(process.pid)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert prism, said
    assert_stopped(process.returncode, said)
    assert not any(child.is_running() for child in prism)


def prisms(pid: int) -> list[psutil.Process]:
    try:
        return [child for child in psutil.Process(pid).children() if child.name() == "prism"]
    except psutil.NoSuchProcess:
        return []
