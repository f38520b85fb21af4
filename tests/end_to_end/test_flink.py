"""The job and the pipeline's Beam steps on a real Flink cluster: JobManager, TaskManagers, Beam workers as processes.

``make test-flink`` runs this; elsewhere it is skipped, for a cluster takes memory and time. What runs a Beam job needs
Beam's job server jar in Beam's cache and is skipped with that reason without it; the cluster itself is started anyhow.
FLINK_HOME may name a folder with Flink's lib; else that of flink-cluster/ is taken, or one is fetched from PyPI.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from apache_beam.utils.subprocess_server import JavaJarServer
from apache_beam.version import __version__ as beam_version
from command_runner import AUTOTAG
from folders import hash_of, hashes
from ports import free_port

from preprocessing.beam.flink import FLINK_VERSION, FlinkJob
from preprocessing.examples import Example, read_records

ROOT = Path(__file__).parents[2]
JAR = Path(JavaJarServer.JAR_CACHE) / f"beam-runners-flink-{FLINK_VERSION}-job-server-{beam_version}.jar"
CLIPS = 600
SHARD_CLIPS, TAGS = 10, 20
ENDED = ("FINISHED", "CANCELED", "FAILED")
"""States that a job on Flink does not leave."""
HEAP_MB = 456
"""deploy/flink/cluster.py's of a slot."""

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
        done = subprocess.run([*self.call, action], capture_output=True, text=True, env=self.environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("FLINK_")}

    def rest(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.master}{path}", timeout=20) as answer:
            return json.load(answer)

    def processes(self) -> dict[str, int]:
        with contextlib.suppress(FileNotFoundError):  # nothing is started
            return dict(json.loads((self.folder / "processes.json").read_text()))
        return {}

    def at_work(self, since: float) -> tuple[str, psutil.Process]:
        """The TaskManager and the Beam worker that did most since a time: not one that another job left."""
        found = [
            (sum(worker.cpu_times()[:2]), name, worker)
            for name, pid in self.processes().items()
            for worker in workers_of(pid)
            if worker.create_time() >= since
        ]
        _, name, worker = max(found, key=lambda one: one[0])
        return name, worker

    def jobs(self) -> dict[str, str]:
        """Job's id -> its state."""
        return {job["jid"]: job["state"] for job in self.rest("/jobs/overview")["jobs"]}

    def ended(self, before: Iterable[str]) -> dict[str, str]:
        """Jobs that were not there before -> how each ended, which may take a cancelled one a while."""
        deadline = time.monotonic() + 300
        while True:
            states = {job: state for job, state in self.jobs().items() if job not in before}
            if all(state in ENDED for state in states.values()):
                return states
            assert time.monotonic() < deadline, f"the tasks do not end: {states}"
            time.sleep(0.5)

    def failures(self, job: str) -> list[str]:
        """What made Flink start a job's tasks again."""
        entries = self.rest(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
        return [str(entry["stacktrace"]) for entry in entries]


def workers_of(pid: int) -> list[psutil.Process]:
    """A process's Beam workers."""
    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "preprocessing.sdk_worker" in child.cmdline():
                    found.append(child)
    return found


@pytest.fixture(scope="module", autouse=True)
def signals() -> Iterator[None]:
    """Ctrl-C reaches what is started here, from a script's background too, and SIGTERM leaves no cluster behind."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One JobManager and three TaskManagers of one slot each: one to spare for jobs of two."""
    folder = tmp_path_factory.mktemp("flink")
    named = os.environ.get("FLINK_HOME")
    home = Path(named or ROOT / "flink-cluster" / "flink" / "pyflink")
    rest = free_port()
    script = str(ROOT / "deploy" / "flink" / "cluster.py")
    options = [f"--folder={folder}", f"--rest-port={rest}", f"--rpc-port={free_port()}", "--taskmanagers=3"]
    options.append("--timeout=300")
    if named or home.exists():
        options.append(f"--home={home}")
    cluster = Cluster(folder, f"localhost:{rest}", (sys.executable, script, *options))
    try:
        cluster("start")
        yield cluster
    finally:
        stop(cluster)


def stop(cluster: Cluster) -> None:
    """Stop the cluster and look that nothing of it is left."""
    sessions = set(cluster.processes().values())
    cluster("stop")
    assert not [process for process in psutil.process_iter() if session_of(process) in sessions]


@pytest.fixture(scope="module")
def renewed(cluster: Cluster) -> Cluster:
    """The cluster started again: each job leaves classes in its processes, and a test takes one of them away."""
    stop(cluster)
    cluster("start")
    return cluster


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
    settings = {item["key"]: item["value"] for item in cluster.rest("/jobmanager/config")}
    assert settings["taskmanager.network.sort-shuffle.min-buffers"] == "64"
    assert settings["restart-strategy.type"] == "fixed-delay"


def test_taskmanagers_have_the_memory_that_their_size_is_made_of(cluster: Cluster) -> None:
    for number in (1, 2, 3):
        found = cluster.rest(f"/taskmanagers/taskmanager-{number}")
        memory = {name: size >> 20 for name, size in found["memoryConfiguration"].items()}
        assert memory["totalProcessMemory"] == 3600
        assert (memory["taskOffHeap"], memory["networkMemory"]) == (512, 256)
        assert memory["taskHeap"] >= HEAP_MB


def test_second_start_in_the_same_folder_is_refused(cluster: Cluster) -> None:
    cluster("start", code=1)
    assert cluster.rest("/overview")["taskmanagers"] == 3


def test_autotag_says_that_the_cluster_is_too_small(cluster: Cluster, tmp_path: Path) -> None:
    options = flink_options(cluster, parallelism=4)
    said = autotag("preprocess", ROOT, ROOT / "none.csv", tmp_path / "out", *options, code=2)
    assert "has 3 task slots and the job wants 4" in said


@pytest.mark.skipif(not shutil.which("javac"), reason="compiles a plain Flink job, and there is no javac")
@pytest.mark.parametrize(
    ("lacking", "setting"),
    [
        (
            "direct",
            "too little direct memory for gRPC to the Beam workers: raise taskmanager.memory.task.off-heap.size",
        ),
        ("program", "cannot start /none/worker (--worker-command, beam.worker_command): No such file or directory"),
        ("heap", "too little heap: raise taskmanager.memory.process.size"),
    ],
)
def test_what_a_job_lacked_is_read_from_the_cluster(
    cluster: Cluster, failing_job: list[str], lacking: str, setting: str
) -> None:
    url, name = f"http://{cluster.master}", f"lacks-{lacking}"
    environment = {**os.environ, "FLINK_CONF_DIR": str(cluster.folder / "conf")}
    done = subprocess.run([*failing_job, lacking, name], capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert setting in (FlinkJob(url, name, frozenset()).why_it_failed() or "")


@pytest.fixture(scope="module")
def failing_job(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The call that sends FailingJob.java to the cluster."""
    folder = tmp_path_factory.mktemp("job")
    home = next(
        word.partition("=")[2]
        for word in [*cluster.call, f"--home={cluster.folder}/flink/pyflink"]
        if "--home=" in word
    )
    source = Path(__file__).with_name("FailingJob.java")
    subprocess.run(["javac", "-nowarn", "-cp", f"{home}/lib/*", "-d", folder, source], check=True, capture_output=True)
    with zipfile.ZipFile(folder / "job.jar", "w") as jar:
        for path in folder.glob("*.class"):
            jar.write(path, path.name)
    opened = [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in ("java.lang", "java.util")]
    client = ["org.apache.flink.client.cli.CliFrontend", "run", "-m", cluster.master, "-c", "FailingJob"]
    return ["java", *opened, "-cp", f"{home}/lib/*", *client, str(folder / "job.jar")]


def test_program_of_the_workers_that_is_missing_is_named_at_once(cluster: Cluster, tmp_path: Path) -> None:
    options = [*flink_options(cluster)[:-1], "--worker-command=none/worker"]
    began = time.monotonic()
    said = autotag("preprocess", ROOT, ROOT / "none.csv", tmp_path / "out", *options, code=2)
    assert time.monotonic() - began < 20
    assert f"{Path.cwd()}/none/worker: there is no such file" in said
    assert cluster.jobs().keys() == cluster.ended([]).keys()


def flink_options(cluster: Cluster, parallelism: int = 2) -> list[str]:
    return [
        "--runner=flink",
        f"--flink-master={cluster.master}",
        f"--parallelism={parallelism}",
        f"--worker-command={os.path.relpath(cluster.folder / 'worker')}",
    ]


@contextlib.contextmanager
def started(call: Sequence[object], said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its output in a file, in a session whose processes (a job server) end with the block."""
    with said.open("wb") as file:
        process = subprocess.Popen([*map(str, call)], stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def autotag(*arguments: object, code: int = 0) -> str:
    """Call the command line; returns what it printed, on both streams."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        with started([AUTOTAG, *arguments], said) as process:
            returned = process.wait()
        text = said.read_text(errors="replace")
    assert returned == code, f"exit {returned}\n{text}"
    return text


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, and what the direct runner makes of them in ``direct``."""
    folder = tmp_path_factory.mktemp("corpus")
    autotag("make-corpus", folder / "clips", "--clips", CLIPS, "--seed", 3)
    autotag(*preprocess(folder, "direct"), "--workers", 1)
    return folder


def preprocess(folder: Path, out: str) -> list[object]:
    """Words of the command, with relative paths: TaskManagers and workers run in the cluster's folder."""
    clips = os.path.relpath(folder / "clips")
    sizes = ["--shard-clips", SHARD_CLIPS, "--tags", TAGS]
    return ["preprocess", clips, f"{clips}/annotations_final.csv", os.path.relpath(folder / out), *sizes]


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
    assert list(cluster.ended(before).values()) == ["FINISHED"]


def struck(cluster: Cluster, corpus: Path, out: str, strike: Callable[[int, float], None]) -> tuple[int, str]:
    """Run a job, strike when a quarter of its shards are there, and return its exit code and what it said.

    Args:
        strike: called with the job's process id and the time when it was started.
    """
    call = [AUTOTAG, *preprocess(corpus, out), *flink_options(cluster)]
    shards = len(list((corpus / "direct").glob("*.tfrecord")))
    said, since = corpus / f"{out}.log", time.time()

    def there() -> int:
        return len(list((corpus / out).glob(".shards/*.json")))

    with started(call, said) as process:
        deadline = time.monotonic() + 600
        while there() < shards / 4:
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, f"no shards came\n{said.read_text()}"
            time.sleep(0.02)
        strike(process.pid, since)
        assert there() < shards, "the job was over before the strike: give it more clips"
        code = process.wait(timeout=900)
    return code, said.read_text()


def disturbed(cluster: Cluster, corpus: Path, out: str, strike: Callable[[str, psutil.Process], None]) -> None:
    """Run a job, strike its busiest TaskManager and worker, and wait for its end."""
    before = cluster.jobs()
    code, said = struck(cluster, corpus, out, lambda _, since: strike(*cluster.at_work(since)))
    assert code == 0, said
    ended = cluster.ended(before)
    assert list(ended.values()) == ["FINISHED"]
    (job,) = ended
    assert cluster.failures(job), "the strike hit nothing that the job needed"


@needs_job_server
def test_job_whose_worker_is_killed_loses_and_doubles_nothing(cluster: Cluster, corpus: Path) -> None:
    disturbed(cluster, corpus, "worker-killed", lambda _, worker: worker.kill())
    assert_whole(corpus, "worker-killed")
    assert cluster.rest("/overview")["taskmanagers"] == 3


@needs_job_server
def test_job_whose_taskmanager_is_killed_loses_and_doubles_nothing(cluster: Cluster, corpus: Path) -> None:
    def kill(name: str, _: psutil.Process) -> None:
        os.kill(cluster.processes()[name], signal.SIGKILL)

    disturbed(cluster, corpus, "taskmanager-killed", kill)
    assert_whole(corpus, "taskmanager-killed")
    deadline = time.monotonic() + 120
    while cluster.rest("/overview")["taskmanagers"] != 2:
        assert time.monotonic() < deadline, "the killed TaskManager is still counted"
        time.sleep(0.5)


def test_logs_of_the_cluster_before_are_there_whole(renewed: Cluster) -> None:
    for name in ("jobmanager", "taskmanager-3"):
        before = (renewed.folder / "log.1" / f"{name}.log").read_text()
        assert f"Starting {'StandaloneSessionClusterEntrypoint' if name == 'jobmanager' else 'TaskManager'}" in before
        assert "RECEIVED SIGNAL 15: SIGTERM. Shutting down as requested." in before
        assert "RECEIVED SIGNAL" not in (renewed.folder / "log" / f"{name}.log").read_text()


def test_cluster_that_was_stopped_starts_again_in_its_folder(renewed: Cluster) -> None:
    assert renewed.rest("/overview")["slots-total"] == 3
    assert renewed.jobs() == {}


def configuration(cluster: Cluster, corpus: Path, name: str) -> Path:
    """The file that configures a small pipeline whose Beam steps run on the cluster."""
    config = {
        "name": name,
        "root": os.path.relpath(corpus / name),
        "data": {
            "audio_dir": os.path.relpath(corpus / "clips"),
            "annotations": os.path.relpath(corpus / "clips" / "annotations_final.csv"),
            "heads": {"tags": {"top": TAGS}},
            "shard_clips": SHARD_CLIPS,
        },
        "networks": {"mel_1d": {"epochs": 1, "batch_size": 16}},
        "ensemble": ["mel_1d"],
        "combiner": {"epochs": 2},
        "gate": {"min_roc_auc": 0.0},
        "beam": {
            "runner": "flink",
            "flink_master": cluster.master,
            "parallelism": 2,
            "worker_command": os.path.relpath(cluster.folder / "worker"),
        },
    }
    path = corpus / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@needs_job_server
@pytest.mark.timeout(3600)
def test_pipelines_beam_steps_run_on_flink(renewed: Cluster, corpus: Path) -> None:
    """ExampleGen, StatisticsGen, Transform and Evaluator on the cluster, all else here, to a pushed model."""
    path = configuration(renewed, corpus, "on-flink")
    before = renewed.jobs()
    autotag("run", path)
    states = list(renewed.ended(before).values())
    assert len(states) >= 4
    assert set(states) == {"FINISHED"}
    run = subprocess.run([AUTOTAG, "runs", path, "--json"], check=True, stdout=subprocess.PIPE)
    newest = json.loads(run.stdout)[-1]
    assert (newest["state"], newest["blessed"]) == ("done", True)
    shards = {shard.name: hash_of(shard) for shard in (corpus / "on-flink" / "shards").glob("*/*.tfrecord")}
    assert shards == {shard.name: hash_of(shard) for shard in (corpus / "direct").glob("*.tfrecord")}


@needs_job_server
def test_ctrl_c_cancels_the_job_and_the_next_call_finishes_it(renewed: Cluster, corpus: Path) -> None:
    before = renewed.jobs()
    code, said = struck(renewed, corpus, "stopped", lambda group, _: os.killpg(group, signal.SIGINT))
    assert code == 1
    assert "autotag: stopped; " in said
    assert list(renewed.ended(before).values()) == ["CANCELED"]
    assert not (corpus / "stopped" / "summary.json").exists()
    autotag(*preprocess(corpus, "stopped"), *flink_options(renewed))
    assert_whole(corpus, "stopped")


@needs_job_server
@pytest.mark.timeout(3600)
def test_ctrl_c_cancels_a_tfx_nodes_job_and_the_next_run_finishes_it(renewed: Cluster, corpus: Path) -> None:
    path, said = configuration(renewed, corpus, "stopped-run"), corpus / "stopped-run.log"
    call = [AUTOTAG, "run", path, "--to-node", "StatisticsGen"]
    before = renewed.jobs()
    with started(call, said) as process:
        deadline = time.monotonic() + 900
        while sorted(state for job, state in renewed.jobs().items() if job not in before) != ["FINISHED", "RUNNING"]:
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, f"no second job came\n{said.read_text()}"
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(timeout=300)
    assert code == 1
    assert "Component StatisticsGen is running." in said.read_text()
    assert "autotag: stopped; " in said.read_text()
    assert sorted(renewed.ended(before).values()) == ["CANCELED", "FINISHED"]
    assert "1 nodes ran, 1 taken from earlier runs" in autotag(*call[1:])
