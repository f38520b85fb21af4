"""What a job that died on Flink lacked, in the cluster's own words of it: exceptions over REST, TaskManagers' logs."""

from __future__ import annotations

import http.server
import json
import threading

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from preprocessing.beam.flink_failures import advice_on
from preprocessing.beam.interrupts import InterruptiblePipeline
from preprocessing.errors import AutotagError

JOB = "e56d47ec8ca1eef5265edc70c451d5da"
BEGUN = f"2026-11-29 05:05:17,028 INFO  TaskExecutor - Receive slot request 2a12 for job {JOB} from resource manager.\n"
DIRECT = (
    "2026-11-29 05:05:19,500 ERROR grpc - in gRPC\njava.lang.OutOfMemoryError: Cannot reserve 33554432 bytes of direct "
    "buffer memory (allocated: 917504000, limit: 939524096)\n\tat java.nio.Bits.reserveMemory(Bits.java:178)\n"
)
CLOSED = "java.lang.IllegalStateException: call is closed"
PROGRAM = (
    'java.io.IOException: Cannot run program "/none/worker": error=2, No such file or directory\n\tat x\n'
    "Caused by: java.io.IOException: error=2, No such file or directory"
)


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        (
            "java.io.IOException: Insufficient number of network buffers: required 512, but only 3 available",
            "network.min",
        ),
        ("Insufficient number of network buffers: required 512", "sort-shuffle.min-buffers to 64"),
        (CLOSED, "taskmanager.memory.task.off-heap.size"),
        (
            "java.lang.OutOfMemoryError: Direct buffer memory. The direct out-of-memory error has occurred.",
            "off-heap.size",
        ),
        (DIRECT, "taskmanager.memory.task.off-heap.size"),
        ("io.netty.util.internal.OutOfDirectMemoryError: failed to allocate 16777216 byte(s)", "off-heap.size"),
        ("java.lang.OutOfMemoryError: Java heap space", "taskmanager.memory.process.size"),
        ("java.lang.OutOfMemoryError: GC overhead limit exceeded", "taskmanager.memory.process.size"),
        (
            "java.lang.OutOfMemoryError: Metaspace. The metaspace out-of-memory error has occurred.",
            "jvm-metaspace.size",
        ),
        ("java.lang.OutOfMemoryError: unable to create native thread: possibly out of memory", "ulimit -u"),
        (PROGRAM, "cannot start /none/worker (--worker-command, beam.worker_command): No such file or directory"),
        (PROGRAM.replace("error=2, No such file or directory", "error=13, Permission denied"), "Permission denied"),
        ("NoResourceAvailableException: Could not acquire the minimum required resources.", "more TaskManagers"),
        (
            "java.util.concurrent.TimeoutException: Heartbeat of TaskManager with id taskmanager-2 timed out.",
            "TaskManager taskmanager-2 was lost",
        ),
        (
            "JobMasterException: TaskManager with id 10.0.0.1:6122-ab(10.0.0.1:6122) is no longer reachable.",
            "TaskManager 10.0.0.1:6122-ab was lost",
        ),
    ],
)
def test_setting_to_raise_is_named(text: str, setting: str) -> None:
    assert setting in (advice_on([text]) or "")


def test_cause_is_named_before_what_it_brings_about() -> None:
    assert "too little direct memory" in (advice_on([CLOSED, BEGUN + DIRECT]) or "")
    assert "too little heap" in (advice_on([CLOSED, "java.lang.OutOfMemoryError: Java heap space"]) or "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        BEGUN,
        "INFO  TaskManagerRunner -     -XX:MaxMetaspaceSize=805306368 -XX:MaxDirectMemorySize=939524096",
        "java.lang.ClassCastException: x",
    ],
)
def test_a_healthy_log_and_other_errors_are_not_taken_for_a_lack(text: str) -> None:
    assert advice_on([text]) is None


class Runner(PipelineRunner):
    """Beam's client of a job server: the innermost exception is all that it tells."""

    def __init__(self, said: str, sent: threading.Event) -> None:
        self._said, self._sent = said, sent

    def run_pipeline(self, pipeline, options):
        self._sent.set()
        said = self._said

        class Result(PipelineResult):
            def wait_until_finish(self, duration=None):
                raise RuntimeError(f"Pipeline autotag-1 failed in state FAILED: {said}")

        return Result(PipelineState.FAILED)


@pytest.fixture
def cluster():
    """Flink's REST interface, with the shapes of 1.19.3: an earlier job of the same name died of its heap."""
    sent = threading.Event()
    answers: dict[str, object] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 http.server's name
            found = answers.get(self.path)
            jobs = [{"jid": "old", "name": "music"}] + ([{"jid": JOB, "name": "music"}] if sent.is_set() else [])
            found = {"jobs": jobs} if self.path == "/jobs/overview" else found
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(found.encode() if isinstance(found, str) else json.dumps(found).encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", answers, sent
        server.shutdown()


def failure(master: str, sent: threading.Event, said: str) -> Exception:
    options = PipelineOptions(["--runner=FlinkRunner", f"--flink_master={master}", "--job_name=music"])
    pipeline = InterruptiblePipeline(runner=Runner(said, sent), options=options)
    _ = pipeline | beam.Create([1])
    with pytest.raises((AutotagError, RuntimeError)) as raised:
        pipeline.run_to_end()
    return raised.value


def test_true_cause_is_found_in_the_taskmanagers_log_since_the_job_began(cluster) -> None:
    master, answers, sent = cluster
    answers[f"/jobs/{JOB}/exceptions"] = {
        "root-exception": CLOSED,
        "exceptionHistory": {"entries": [{"stacktrace": CLOSED, "taskManagerId": "taskmanager-2"}]},
    }
    answers["/taskmanagers"] = {"taskmanagers": [{"id": "taskmanager-1"}, {"id": "taskmanager-2"}]}
    before = "job old\njava.lang.OutOfMemoryError: Metaspace\n"
    answers["/taskmanagers/taskmanager-2/log"] = before + BEGUN + DIRECT
    error = failure(master, sent, CLOSED)
    assert str(error).startswith("the job on Flink failed: its TaskManagers have too little direct memory for gRPC")
    assert "call is closed" in str(error.__cause__)


def test_program_that_the_client_is_not_told_is_in_the_clusters_exceptions(cluster) -> None:
    master, answers, sent = cluster
    answers[f"/jobs/{JOB}/exceptions"] = {"root-exception": PROGRAM, "exceptionHistory": {"entries": []}}
    error = failure(master, sent, "java.io.IOException: error=2, No such file or directory")
    assert "cannot start /none/worker (--worker-command, beam.worker_command): No such file" in str(error)


def test_what_the_client_is_told_counts_where_the_cluster_says_nothing(cluster) -> None:
    master, _, sent = cluster
    said = str(failure(master, sent, "java.io.IOException: Insufficient number of network buffers: required 512"))
    assert "taskmanager.network.sort-shuffle.min-buffers" in said


def test_our_own_error_of_a_worker_and_unknown_ones_stay_what_they_are(cluster) -> None:
    master, answers, sent = cluster
    answers[f"/jobs/{JOB}/exceptions"] = {"root-exception": CLOSED}
    own = failure(master, sent, "RuntimeError: AutotagError: a.mp3 cannot be read")
    assert isinstance(own, RuntimeError)
    answers[f"/jobs/{JOB}/exceptions"] = {"root-exception": "java.lang.ClassCastException: x"}
    assert "ClassCastException" in str(failure(master, sent, "java.lang.ClassCastException: x"))
