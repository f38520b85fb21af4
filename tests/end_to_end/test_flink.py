"""The job and the pipeline's Beam steps on a real Flink cluster: JobManager, TaskManagers, Beam workers as processes.

``make test-flink`` runs this; elsewhere it is skipped, for a cluster takes memory and time. What runs a Beam job needs
Beam's job server jar in Beam's cache and is skipped with that reason without it; the cluster itself is started anyhow.
FLINK_HOME may name a folder with Flink's lib; else that of flink-cluster/ is taken, or one is fetched from PyPI.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from apache_beam.utils.subprocess_server import JavaJarServer
from apache_beam.version import __version__ as beam_version

from preprocessing.examples import Example, read_records
from preprocessing.runners import FLINK_VERSION

ROOT = Path(__file__).parents[2]
JAR = Path(JavaJarServer.JAR_CACHE) / f"beam-runners-flink-{FLINK_VERSION}-job-server-{beam_version}.jar"
CLIPS = 400
SHARD_CLIPS, TAGS = 10, 20

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("AUTOTAG_TEST_FLINK"), reason="takes a cluster's memory: make test-flink"),
    pytest.mark.skipif(not shutil.which("java"), reason="Flink needs Java 11 or 17, and there is no java"),
]
needs_job_server = pytest.mark.skipif(not JAR.exists(), reason=f"Beam's job server is not in Beam's cache: {JAR}")


@dataclass(frozen=True)
class Cluster:
    """A running cluster and how it is called."""

    folder: Path
    master: str
    call: tuple[str, ...]

    def __call__(self, action: str, code: int = 0) -> str:
        done = subprocess.run([*self.call, action], capture_output=True, text=True, timeout=600, env=self.environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("FLINK_")}

    def rest(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.master}{path}", timeout=20) as answer:
            return json.load(answer)

    def processes(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.folder / "processes.json").read_text())
        return found

    def busy(self) -> str:
        """A TaskManager that has a task of the running job."""
        found = self.rest("/taskmanagers")["taskmanagers"]
        return next(str(manager["id"]) for manager in found if manager["freeSlots"] < manager["slotsNumber"])

    def worker_of(self, name: str) -> psutil.Process:
        """The Beam worker that a TaskManager started last: one of an earlier job may still be ending."""
        children = psutil.Process(self.processes()[name]).children(recursive=True)
        workers = [child for child in children if is_worker(child)]
        return max(workers, key=lambda worker: worker.create_time())

    def jobs(self) -> dict[str, str]:
        """Job's id -> its state."""
        return {job["jid"]: job["state"] for job in self.rest("/jobs/overview")["jobs"]}

    def failures(self, job: str) -> list[str]:
        """What made Flink start a job's tasks again."""
        entries = self.rest(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
        return [str(entry["stacktrace"]) for entry in entries]


def is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "preprocessing.sdk_worker" in process.cmdline()
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One JobManager and three TaskManagers of one slot each: one to spare for jobs of two."""
    folder = tmp_path_factory.mktemp("flink")
    named = os.environ.get("FLINK_HOME")
    home = Path(named or ROOT / "flink-cluster" / "flink" / "pyflink")
    rest = free_port()
    script = str(ROOT / "deploy" / "flink" / "cluster.py")
    options = [f"--folder={folder}", f"--rest-port={rest}", f"--rpc-port={free_port()}", "--taskmanagers=3"]
    if named or home.exists():
        options.append(f"--home={home}")
    cluster = Cluster(folder, f"localhost:{rest}", (sys.executable, script, *options))
    cluster("start")
    yield cluster
    sessions = set(cluster.processes().values())
    cluster("stop")
    assert not [process for process in psutil.process_iter() if session_of(process) in sessions]


def session_of(process: psutil.Process) -> int | None:
    """The session of a living process: a TaskManager's workers are in the TaskManager's."""
    with contextlib.suppress(psutil.Error, OSError):
        return os.getsid(process.pid) if process.status() != psutil.STATUS_ZOMBIE else None
    return None


def test_cluster_has_its_slots_and_says_so(cluster: Cluster) -> None:
    overview = cluster.rest("/overview")
    assert overview["taskmanagers"] == 3
    assert overview["slots-total"] == 3
    assert overview["flink-version"].startswith(FLINK_VERSION)
    assert "3 TaskManagers, 3 of 3 slots free" in cluster("status")
    workers = cluster.rest("/taskmanagers")["taskmanagers"]
    assert {worker["id"] for worker in workers} == {"taskmanager-1", "taskmanager-2", "taskmanager-3"}
    network = {item["key"]: item["value"] for item in cluster.rest("/jobmanager/config")}
    assert network["taskmanager.memory.network.max"] == "256m"
    assert network["restart-strategy.type"] == "fixed-delay"


def test_second_start_in_the_same_folder_is_refused(cluster: Cluster) -> None:
    cluster("start", code=1)
    assert cluster.rest("/overview")["taskmanagers"] == 3


def test_autotag_says_that_the_cluster_is_too_small(cluster: Cluster, tmp_path: Path) -> None:
    options = flink_options(cluster, parallelism=4)
    done = autotag("preprocess", ROOT, ROOT / "none.csv", tmp_path / "out", *options, code=2)
    assert "has 3 task slots and the job wants 4" in done.stderr


def flink_options(cluster: Cluster, parallelism: int = 2) -> list[str]:
    return [
        "--runner=flink",
        f"--flink-master={cluster.master}",
        f"--parallelism={parallelism}",
        f"--worker-command={cluster.folder}/worker",
    ]


def autotag(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    call = [str(Path(sys.executable).parent / "autotag"), *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, and what the direct runner makes of them in ``direct``."""
    folder = tmp_path_factory.mktemp("corpus")
    autotag("make-corpus", folder / "clips", "--clips", CLIPS, "--seed", 3)
    autotag(*preprocess(folder, "direct"), "--workers", 1)
    return folder


def preprocess(folder: Path, out: str) -> list[object]:
    clips = folder / "clips"
    sizes = ["--shard-clips", SHARD_CLIPS, "--tags", TAGS]
    return ["preprocess", clips, clips / "annotations_final.csv", folder / out, *sizes]


def hashes(out: Path) -> dict[str, str]:
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def clip_counts(out: Path) -> Counter[str]:
    """How often each clip's example is there."""
    counts: Counter[str] = Counter()
    for path in out.glob("*.tfrecord"):
        with path.open("rb") as file:
            counts.update(
                Example.FromString(record).features.feature["clip_id"].bytes_list.value[0].decode()
                for record in read_records(file)
            )
    return counts


def assert_whole(corpus: Path, out: str) -> None:
    """Nothing doubled, nothing lost, nothing left over: the direct runner's files, byte by byte."""
    counts = clip_counts(corpus / out)
    assert len(counts) == CLIPS
    assert set(counts.values()) == {1}
    assert hashes(corpus / out) == hashes(corpus / "direct")


@needs_job_server
def test_flink_writes_the_bytes_that_the_direct_runner_writes(cluster: Cluster, corpus: Path) -> None:
    before = cluster.jobs()
    autotag(*preprocess(corpus, "flink"), *flink_options(cluster))
    assert_whole(corpus, "flink")
    after = cluster.jobs()
    assert [after[job] for job in after.keys() - before] == ["FINISHED"]


def struck(
    cluster: Cluster, corpus: Path, out: str, strike: Callable[[subprocess.Popen[str]], None]
) -> tuple[int, str]:
    """Run a job, strike when a quarter of its shards are there, and return its exit code and what it said."""
    call = [str(Path(sys.executable).parent / "autotag"), *map(str, preprocess(corpus, out)), *flink_options(cluster)]
    shards = len(list((corpus / "direct").glob("*.tfrecord")))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(call, **pipes, start_new_session=True, text=True) as process:  # type: ignore[call-overload]
        try:
            deadline = time.monotonic() + 300
            while len(list((corpus / out).glob(".shards/*.json"))) < shards / 4:
                assert process.poll() is None, process.stdout.read()
                assert time.monotonic() < deadline, "no shards came"
                time.sleep(0.02)
            strike(process)
            there = len(list((corpus / out).glob(".shards/*.json")))
            said = process.communicate(timeout=900)[0]
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert there < shards, "the job was over before the strike: give it more clips"
    return process.returncode, said


def disturbed(cluster: Cluster, corpus: Path, out: str, strike: Callable[[], None]) -> None:
    """Run a job, strike when a quarter of its shards are there, and wait for its end."""
    before = cluster.jobs()
    code, said = struck(cluster, corpus, out, lambda _: strike())
    assert code == 0, said
    after = cluster.jobs()
    (job,) = after.keys() - before
    assert after[job] == "FINISHED"
    assert cluster.failures(job), "the strike hit nothing that the job needed"


@needs_job_server
def test_job_whose_worker_is_killed_loses_and_doubles_nothing(cluster: Cluster, corpus: Path) -> None:
    disturbed(cluster, corpus, "worker-killed", lambda: cluster.worker_of(cluster.busy()).send_signal(signal.SIGKILL))
    assert_whole(corpus, "worker-killed")


@needs_job_server
def test_job_whose_taskmanager_is_killed_loses_and_doubles_nothing(cluster: Cluster, corpus: Path) -> None:
    disturbed(
        cluster, corpus, "taskmanager-killed", lambda: os.kill(cluster.processes()[cluster.busy()], signal.SIGKILL)
    )
    assert_whole(corpus, "taskmanager-killed")
    assert cluster.rest("/overview")["taskmanagers"] == 2


@needs_job_server
@pytest.mark.timeout(3600)
def test_pipelines_beam_steps_run_on_flink(cluster: Cluster, corpus: Path) -> None:
    """ExampleGen, StatisticsGen, Transform and Evaluator on the cluster, all else here, to a pushed model."""
    config = {
        "name": "on-flink",
        "root": str(corpus / "run"),
        "data": {
            "audio_dir": str(corpus / "clips"),
            "annotations": str(corpus / "clips" / "annotations_final.csv"),
            "n_tags": TAGS,
            "shard_clips": SHARD_CLIPS,
        },
        "branches": {"mel_1d": {"epochs": 1, "batch_size": 16}},
        "ensemble": ["mel_1d"],
        "combiner": {"epochs": 2},
        "gate": {"min_roc_auc": 0.0},
        "beam": {
            "runner": "flink",
            "flink_master": cluster.master,
            "parallelism": 2,
            "worker_command": f"{cluster.folder}/worker",
        },
    }
    path = corpus / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    before = cluster.jobs()
    autotag("run", path)
    after = cluster.jobs()
    states = [after[job] for job in after.keys() - before]
    assert len(states) >= 4
    assert set(states) == {"FINISHED"}
    run = json.loads(autotag("runs", path, "--json").stdout)[-1]
    assert (run["state"], run["blessed"]) == ("done", True)
    shards = {shard.name: hash_of(shard) for shard in (corpus / "run" / "shards").glob("*/*.tfrecord")}
    assert shards == {shard.name: hash_of(shard) for shard in (corpus / "direct").glob("*.tfrecord")}


@needs_job_server
def test_ctrl_c_cancels_the_job_and_the_next_call_finishes_it(cluster: Cluster, corpus: Path) -> None:
    before = cluster.jobs()
    code, said = struck(cluster, corpus, "stopped", lambda process: os.killpg(process.pid, signal.SIGINT))
    assert code == 1
    assert "autotag: stopped; " in said
    (job,) = cluster.jobs().keys() - before
    deadline = time.monotonic() + 240
    while cluster.jobs()[job] != "CANCELED":
        assert cluster.jobs()[job] == "CANCELLING"
        assert time.monotonic() < deadline, "the tasks do not end"
        time.sleep(0.5)
    assert not (corpus / "stopped" / "summary.json").exists()
    autotag(*preprocess(corpus, "stopped"), *flink_options(cluster))
    assert_whole(corpus, "stopped")


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
