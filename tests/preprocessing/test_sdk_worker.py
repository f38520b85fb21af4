"""The program that starts a Beam worker: what it tells the worker, and a whole job through Beam's real worker pool."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import subprocess
import sys

import grpc
import pytest
from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc
from audio_samples import clip_paths, encoded, tone, write_corpus
from folders import hashes
from ports import free_port

from datasets.reading import read_manifest
from preprocessing.beam.settings import BeamSettings
from preprocessing.job import run_job
from preprocessing.sdk_worker import worker_environment
from preprocessing.settings import PreprocessSettings

SETTINGS = PreprocessSettings(split="folder", n_tags=3, shard_clips=8)


class _Provision(beam_provision_api_pb2_grpc.ProvisionServiceServicer):
    def GetProvisionInfo(self, request, context):  # noqa: N802 gRPC's name
        assert ("worker_id", "w-1") in {(item.key, item.value) for item in context.invocation_metadata()}
        info = beam_provision_api_pb2.ProvisionInfo(runner_capabilities=["a", "b"])
        info.pipeline_options.update({"beam:option:parallelism:v1": 2, "beam:option:job_name:v1": "x"})
        info.control_endpoint.url = "control:1"
        info.logging_endpoint.url = "logging:1"
        return beam_provision_api_pb2.GetProvisionInfoResponse(info=info)


@pytest.fixture
def endpoint():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(_Provision(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_worker_is_told_the_jobs_options_and_where_to_report(endpoint):
    told = worker_environment(["--id=w-1", f"--provision_endpoint={endpoint}", "--artifact_endpoint=unused:1"])
    assert json.loads(told["PIPELINE_OPTIONS"]) == {"beam:option:parallelism:v1": 2, "beam:option:job_name:v1": "x"}
    parallelism = json.loads(told["PIPELINE_OPTIONS"])["beam:option:parallelism:v1"]
    assert isinstance(parallelism, int), "Beam refuses 2.0"
    assert told["CONTROL_API_SERVICE_DESCRIPTOR"] == 'url: "control:1"'
    assert told["LOGGING_API_SERVICE_DESCRIPTOR"] == 'url: "logging:1"'
    assert told["RUNNER_CAPABILITIES"] == "a b"
    assert told["WORKER_ID"] == "w-1"


def test_addresses_that_the_runner_gives_take_precedence(endpoint):
    given = ["--control_endpoint=mine:2", "--logging_endpoint=mine:3"]
    told = worker_environment(["--id=w-1", f"--provision_endpoint={endpoint}", *given])
    assert told["CONTROL_API_SERVICE_DESCRIPTOR"] == 'url: "mine:2"'
    assert told["LOGGING_API_SERVICE_DESCRIPTOR"] == 'url: "mine:3"'


def test_what_a_worker_prints_does_not_fill_the_pools_pipe(endpoint):
    code = """
import sys
from apache_beam.runners.worker import sdk_worker_main
from preprocessing import sdk_worker
sdk_worker_main.main = lambda _: print("x" * 200_000)
sdk_worker.main(sys.argv[1:])
"""
    call = [sys.executable, "-c", code, "--id=w-1", f"--provision_endpoint={endpoint}"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.wait(60) == 0  # as worker_pool_main: nobody reads
        assert process.stdout.read() == b""


@pytest.fixture
def pool(tmp_path):
    """Beam's worker pool as it runs beside a TaskManager; its address."""
    port = free_port()
    worker = tmp_path / "worker"
    worker.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m preprocessing.sdk_worker "$@"\n')
    worker.chmod(0o755)
    arguments = [f"--service_port={port}", f"--container_executable={worker}"]
    module = "apache_beam.runners.worker.worker_pool_main"
    log = open(tmp_path / "pool.log", "w+")  # noqa: SIM115 closed below
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=log, stderr=log)
    channel = grpc.insecure_channel(f"localhost:{port}")
    grpc.channel_ready_future(channel).result(timeout=60)
    channel.close()
    yield f"localhost:{port}"
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(30)
    process.kill()
    log.close()


def test_job_through_a_worker_pool_writes_the_same_bytes(pool, tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus", dict.fromkeys(clip_paths(32), encoded(tone(0.2))))
    monkeypatch.chdir(tmp_path)  # the pool and its workers run in another folder
    manifest = read_manifest("corpus", "corpus/annotations_final.csv", SETTINGS)
    run_job(manifest, "corpus", "direct", SETTINGS)
    # Beam's own job server in this process stands in for Flink's: environment and worker are the real ones.
    settings = BeamSettings("flink", worker_pool=pool, options=("--job_endpoint=embed",))
    run_job(manifest, "corpus", "pool", SETTINGS, settings.arguments())
    assert hashes(tmp_path / "pool") == hashes(tmp_path / "direct")
    assert f"Starting worker with command ['{tmp_path}/worker'" in (tmp_path / "pool.log").read_text()
