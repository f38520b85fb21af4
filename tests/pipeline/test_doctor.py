"""`autotag doctor` on this machine as it is, and with things hidden, broken or put in place of others."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from command_runner import autotag, invoke
from ports import free_port

from pipeline.doctor import machine, packages
from pipeline.doctor.examination import _LOOKS, Examined
from pipeline.doctor.findings import Finding
from pipeline.doctor.jobs import JOBS, Job, find_job, lacks_of
from pipeline.doctor.loading import load_apart
from preprocessing.errors import BadInputError
from serving.engines.runtimes import AUTO_ORDER, EMBEDDING_ORDER


def program(folder: Path, name: str, script: str) -> Path:
    """An executable of this name, in a folder that can be PATH."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def module_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules stand before those that are installed, in child processes too."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def healthy() -> list[Finding]:
    return [Finding(name, section, "ok") for name, (section, _) in _LOOKS.items()]


@pytest.mark.parametrize(
    ("name", "distribution"), [("litert", "ai-edge-litert"), ("onnxruntime", "onnxruntime"), ("openvino", "openvino")]
)
def test_an_engine_computes_and_says_its_version(name: str, distribution: str) -> None:
    finding = packages.engine(name)
    assert finding.state == "ok", finding.detail
    assert finding.detail.startswith(importlib.metadata.version(distribution))
    assert not finding.remedy


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            "raise ImportError('libfoo.so.1: cannot open\\nshared object file')",
            "libfoo.so.1: cannot open shared object",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV when it was loaded"),
        ("import os; os._exit(3)", "ended with 3 when it was loaded"),
        ("class InferenceSession:\n def __init__(self, *a, **k): raise RuntimeError('no CPU')", "RuntimeError: no CPU"),
        ("import sys; print('noise'); print('{', file=sys.stderr); raise SystemExit(1)", "{"),
    ],
)
def test_an_engine_that_does_not_load_is_reported_with_its_reason(module_folder: Path, source: str, why: str) -> None:
    (module_folder / "onnxruntime.py").write_text(source)
    finding = packages.engine("onnxruntime")
    assert (finding.state, finding.remedy) == ("broken", "pip install 'autotag[engines]'")
    assert why in finding.detail


def test_an_engine_that_computes_wrongly_is_broken(module_folder: Path) -> None:
    (module_folder / "onnxruntime.py").write_text(
        "class InferenceSession:\n def __init__(self, *a, **k): pass\n def run(self, *a): return [[2.0, 5.0]]"
    )
    assert packages.engine("onnxruntime").detail.startswith("ArithmeticError")


def test_an_engine_that_is_not_installed_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    finding = packages.engine("litert")
    assert (finding.state, finding.remedy) == ("missing", "pip install 'autotag[tag]'")


def test_what_lies_in_the_current_folder_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    assert load_apart("modules", "numpy") == ("", "")


def test_broken_base_package_is_a_finding_and_hinders_every_job(module_folder: Path) -> None:
    (module_folder / "numpy.py").write_text("raise ImportError('numpy was built for another Python')")
    done = autotag("doctor", "--for", "client", "--json", code=1)
    said = json.loads(done.stdout)
    base = next(finding for finding in said["findings"] if finding["name"] == "base packages")
    assert base["state"] == "broken"
    assert "numpy was built for another Python" in base["detail"]
    assert not said["jobs"][0]["ready"]
    assert "Traceback" not in done.stderr


def test_extra_lacks_what_is_not_installed_too_old_or_an_extra_of_a_package(module_folder: Path) -> None:
    for name, requires in {
        "autotag": ["inner[more]>=1; extra == 'some'", "old<2; extra == 'some'", "always", "other; extra == 'other'"],
        "inner": ["absent; extra == 'more'", "unasked; extra == 'less'"],
        "old": [],
    }.items():
        folder = module_folder / f"{name}-2.5.dist-info"
        folder.mkdir()
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            "Version: 2.5",
            *(f"Requires-Dist: {one}" for one in requires),
        ]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
    assert packages.lacking("some") == ["absent", "old<2 (2.5 is here)"]
    assert packages.lacking("other") == ["other"]
    assert packages.lacking("none") == []


def test_without_path_every_program_is_missing_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for variable in ("TENSORFLOW_MODEL_SERVER", "AUTOTAG_CHROMIUM"):
        monkeypatch.delenv(variable, raising=False)
    for look in (machine.ffmpeg, machine.java, machine.server_program, machine.container_engine, machine.chromium):
        finding = look()
        assert finding.state == "missing", finding
        assert finding.remedy
    assert machine.graphics_card().state == "missing"


def test_ffmpeg_says_what_it_decodes_and_what_it_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(
        tmp_path,
        "ffmpeg",
        "case $2 in -decoders) echo ' A....D aac    AAC'; echo ' V....D ape   no audio';; esac\n"
        "case $1 in -version) echo 'ffmpeg version 9.9-x Copyright';; esac",
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = machine.ffmpeg()
    assert finding.state == "ok"
    assert finding.detail.startswith(f"9.9-x at {tmp_path}/ffmpeg: AAC; not ALAC, WMA, WavPack, APE")


@pytest.mark.parametrize(
    ("script", "why"),
    [("echo 'libavcodec.so: not found' >&2; exit 127", "libavcodec.so: not found"), ("exit 3", "ended with 3")],
)
def test_program_that_fails_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str) -> None:
    program(tmp_path, "ffmpeg", script)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.ffmpeg().state == "broken"
    assert why in machine.ffmpeg().detail


def test_program_that_hangs_or_cannot_be_started_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SECONDS", 0.2)
    monkeypatch.setenv("TENSORFLOW_MODEL_SERVER", str(program(tmp_path, "server", "exec /bin/sleep 5")))
    assert "did not answer" in machine.server_program().detail
    monkeypatch.setenv("TENSORFLOW_MODEL_SERVER", str(tmp_path / "nothing"))
    assert machine.server_program().state == "broken"
    assert "does not start" in machine.server_program().detail


def test_container_engine_without_a_running_server_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.container_engine().state == "broken"
    program(tmp_path, "podman", "case $1 in version) echo 4.3.1;; *) exit 1;; esac")
    finding = machine.container_engine()
    assert finding.state == "ok"
    assert finding.detail.startswith("podman 4.3.1; ")
    assert "is pulled when it is needed" in finding.detail


def test_graphics_cards_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "nvidia-smi", "echo 'NVIDIA A100, 40960 MiB, 535.1'; echo 'NVIDIA A100, 40960 MiB, 535.1'")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.graphics_card().detail == "NVIDIA A100, 40960 MiB, 535.1; NVIDIA A100, 40960 MiB, 535.1"


@pytest.fixture
def health() -> Iterator[tuple[str, list[int]]]:
    """A server's address, and a list with the status that it answers."""
    status = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            self.send_response(status[0] if self.path == "/apis/v2beta1/healthz" else 404)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", status
        server.shutdown()


def test_kubeflow_server_is_asked_where_one_is_named(
    health: tuple[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, status = health
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    assert machine.kubeflow_server().state == "missing"
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", address)
    assert machine.kubeflow_server() == Finding("Kubeflow server", "machine", "ok", f"http://{address}")
    status[0] = 401
    assert "wants a token" in machine.kubeflow_server().detail
    status[0] = 502
    assert machine.kubeflow_server().state == "broken"
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    finding = machine.kubeflow_server()
    assert finding.state == "broken"
    assert "refused" in finding.detail


def test_memory_is_the_containers_where_that_is_less(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    everything = machine.memory_bytes([limit])
    assert everything is not None
    limit.write_text("max\n")
    assert machine.memory_bytes([limit]) == everything
    limit.write_text("1048576\n")
    assert machine.memory_bytes([limit]) == 1_048_576


def test_cache_is_told_with_its_models_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTAG_CACHE", str(tmp_path / "not" / "there"))
    assert machine.cache().detail.startswith(f"{tmp_path}/not/there: 0 bytes; ")
    (tmp_path / "models" / "musicnn-mtt").mkdir(parents=True)
    (tmp_path / "models" / "musicnn-mtt" / "x").write_bytes(bytes(2000))
    monkeypatch.setenv("AUTOTAG_CACHE", str(tmp_path))
    assert machine.cache().detail.startswith(f"{tmp_path}: 2.0 kB, models musicnn-mtt; ")


def test_jobs_name_extras_and_findings_that_are_there() -> None:
    extras = importlib.metadata.metadata("autotag").get_all("Provides-Extra")
    assert extras is not None
    for job in JOBS.values():
        assert set(job.extras) <= set(extras)
        assert job.looks <= _LOOKS.keys()
    assert tuple(packages.ENGINES) == AUTO_ORDER
    assert set(packages.EMBEDDING_ENGINES) == set(EMBEDDING_ORDER)


@pytest.mark.parametrize("job", JOBS.values(), ids=lambda job: job.name)
def test_modules_of_a_job_are_there(job: Job) -> None:
    own = ("pipeline", "preprocessing", "serving")
    for module in (*packages.BASE, *job.modules):
        assert importlib.util.find_spec(module if module.startswith(own) else module.partition(".")[0]), module


def test_one_engine_of_several_is_enough() -> None:
    others = [finding for finding in healthy() if finding.section != "engine"]
    dead = [Finding(name, "engine", "missing", "not installed", f"bring {name}") for name in AUTO_ORDER]
    assert not lacks_of(find_job("tag"), [*others, *dead[1:], Finding("litert", "engine", "ok")])
    (lack,) = lacks_of(find_job("tag"), [*others, *dead])
    assert lack.hinders
    assert lack.remedy == "bring litert"
    assert "openvino (not installed)" in lack.what


def test_what_makes_a_job_better_does_not_hinder_it() -> None:
    found = [one for one in healthy() if one.name != "ffmpeg"]
    (lack,) = lacks_of(find_job("tag"), [*found, Finding("ffmpeg", "audio", "missing", "no M4A", "apt-get it")])
    assert (lack.what, lack.remedy, lack.hinders) == ("ffmpeg (no M4A)", "apt-get it", False)


def test_kubeflow_may_be_without_a_server_and_not_with_a_dead_one() -> None:
    found = [one for one in healthy() if one.name != "Kubeflow server"]
    job = find_job("kubeflow")
    assert not lacks_of(job, [*found, Finding("Kubeflow server", "machine", "missing")])
    assert lacks_of(job, [*found, Finding("Kubeflow server", "machine", "broken", "refused")])[0].hinders


def test_module_of_a_job_that_does_not_load_hinders_it(module_folder: Path) -> None:
    assert not lacks_of(find_job("download"), healthy(), load=True)
    (module_folder / "httpx.py").write_text("raise RuntimeError('half installed')")
    (lack,) = lacks_of(find_job("download"), healthy(), load=True)
    assert (lack.what, lack.remedy) == ("RuntimeError: half installed", "pip install 'autotag[download]'")


def test_an_unknown_job_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BadInputError, match=r"no job is called 'dance'; there are tag, page, find"):
        find_job("dance")
    assert "no job is called 'dance'" in autotag("doctor", "--for", "dance", code=2).stderr


def test_command_ends_with_0_where_a_job_can_be_done_and_with_1_where_not(tmp_path: Path) -> None:
    said = json.loads(autotag("doctor", "--for", "download", "--json").stdout)
    assert [(job["name"], job["ready"], job["tried"]) for job in said["jobs"]] == [("download", True, True)]
    done = autotag("doctor", "--for", "serve", "--for", "flink", env={**os.environ, "PATH": str(tmp_path)}, code=1)
    assert "apt-get install openjdk-17-jre-headless" in done.stdout
    assert "tensorflow_model_server" in done.stdout


def test_without_a_job_the_command_ends_with_0_whatever_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = tuple(Finding(name, section, "missing", "gone [red]") for name, (section, _) in _LOOKS.items())
    jobs = tuple((job, tuple(lacks_of(job, nothing))) for job in JOBS.values())
    monkeypatch.setattr("pipeline.doctor.examination.examine", lambda asked: Examined(nothing, jobs, False))
    result = invoke("doctor")
    assert result.exit_code == 0
    assert "gone [red]" in result.stdout
    assert invoke("doctor", "--json").exit_code == 0
