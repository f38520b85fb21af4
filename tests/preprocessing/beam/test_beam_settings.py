"""Beam engines: settings that are checked, what Beam gets of them, and what is said where something is missing."""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import threading

import pytest

from preprocessing.beam.flink import check_flink_cluster
from preprocessing.beam.options import parse_options
from preprocessing.beam.requirements import check_requirements, check_worker_command
from preprocessing.beam.settings import RUNNERS, BeamSettings, settings_of
from preprocessing.errors import BadInputError


@pytest.fixture
def setup_file(tmp_path):
    path = tmp_path / "setup.py"
    path.write_text("")
    return str(path)


def test_direct_runner_is_the_default_and_starts_processes_where_asked_for_or_where_they_pay():
    assert BeamSettings().arguments() == [
        "--runner=DirectRunner",
        "--direct_running_mode=in_memory",
        "--direct_num_workers=1",
    ]
    assert "--direct_num_workers=2" in BeamSettings(workers=2).arguments(10)
    assert BeamSettings(workers=1).arguments(10_000)[1] == "--direct_running_mode=in_memory"
    assert BeamSettings(workers=4).arguments(10_000)[1] == "--direct_running_mode=multi_processing"
    own = ("--direct_running_mode=multi_threading", "--direct_num_workers=3")
    assert BeamSettings(options=own).arguments(10_000) == ["--runner=DirectRunner", *own]


def test_flink_gets_its_master_version_parallelism_and_worker_pool():
    settings = BeamSettings("flink", flink_master="f:8081", parallelism=8, worker_pool="localhost:50000")
    assert settings.arguments() == [
        "--runner=FlinkRunner",
        "--flink_version=1.19",
        "--flink_master=f:8081",
        "--parallelism=8",
        "--environment_type=EXTERNAL",
        "--environment_config=localhost:50000",
        "--environment_cache_millis=60000",
    ]


def test_environments_become_beams_own():
    command = BeamSettings("flink", flink_master="f:1", worker_command="/opt/worker").arguments()
    assert "--environment_type=PROCESS" in command
    assert json.loads(command[-2].partition("=")[2]) == {"command": "/opt/worker"}
    image = BeamSettings("spark", spark_master="spark://s:7077", image="autotag:1").arguments()
    assert {"--environment_type=DOCKER", "--environment_config=autotag:1", "--spark_master_url=spark://s:7077"} <= set(
        image
    )


def test_paths_that_go_to_workers_are_absolute_however_they_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = BeamSettings(
        "flink",
        flink_master="f:1",
        worker_command="bin/worker",
        options=("--staging_location=stage", "--artifacts_dir", "a/b", "--savepoint_path=s3://x/y", "--job_name=stage"),
    )
    arguments = settings.arguments()
    assert f"--environment_config={json.dumps({'command': f'{tmp_path}/bin/worker'})}" in arguments
    assert arguments[-5:] == [
        f"--staging_location={tmp_path}/stage",
        "--artifacts_dir",
        f"{tmp_path}/a/b",
        "--savepoint_path=s3://x/y",
        "--job_name=stage",
    ]


@pytest.mark.parametrize(
    "master", ["localhost:8081", "127.0.0.1:8081", "http://[::1]:8081/", "[local]", socket.gethostname()]
)
def test_workers_program_is_looked_for_where_the_workers_start_here(master, tmp_path):
    settings = BeamSettings("flink", flink_master=master, worker_command=f"{tmp_path}/worker")
    with pytest.raises(BadInputError, match=f"{tmp_path}/worker: there is no such file"):
        check_worker_command(settings)
    (tmp_path / "worker").write_text("#!/bin/sh\n")
    with pytest.raises(BadInputError, match="may not be run"):
        check_worker_command(settings)
    (tmp_path / "worker").chmod(0o755)
    check_worker_command(settings)


def test_workers_program_on_other_machines_is_not_looked_for_here():
    for master in ("192.0.2.1:8081", "no-such-host.invalid:8081"):
        check_worker_command(BeamSettings("flink", flink_master=master, worker_command="/none/worker"))
    with pytest.raises(BadInputError, match="/none/worker: there is no such file"):
        check_worker_command(BeamSettings("spark", spark_master="local[2]", worker_command="/none/worker"))


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("--paralelism", "--parallelism"),
        ("--Parallelism=2", "--parallelism"),
        ("--max_workers_num=3", "--max_num_workers"),
        ("--environment_cache_mil=3", "--environment_cache_millis"),
        ("--shard-clip", "--shard-clips"),
    ],
)
def test_slip_is_named_with_what_was_meant(slip, meant):
    for runner in ("--runner=FlinkRunner", "--runner=DirectRunner"):
        for words in ([slip], [slip, "2"]):
            with pytest.raises(BadInputError, match=f"^{slip}: no such option; did you mean {meant}"):
                parse_options([runner, *words], ["--shard-clips"])


def test_dataflow_gets_image_or_setup_file(setup_file):
    google = {"project": "p", "region": "europe-west1", "temp_location": "gs://bucket/tmp"}
    image = BeamSettings("dataflow", image="gcr.io/p/autotag:1", **google).arguments()
    assert image == [
        "--runner=DataflowRunner",
        "--project=p",
        "--region=europe-west1",
        "--temp_location=gs://bucket/tmp",
        "--sdk_container_image=gcr.io/p/autotag:1",
    ]
    gcsfs = ("--requirements_file=requirements.txt",)
    packed = BeamSettings("dataflow", setup_file=setup_file, options=gcsfs, **google).arguments()
    assert {f"--setup_file={setup_file}", *gcsfs} <= set(packed)
    with pytest.raises(BadInputError, match="brings autotag without gcsfs"):
        BeamSettings("dataflow", setup_file=setup_file, **google)


def test_dataflow_without_credentials_is_said_before_google_is_asked(monkeypatch, tmp_path):
    pytest.importorskip("apache_beam.io.gcp.gcsfilesystem", reason="Beam's Google packages are not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # this is no machine of Google's
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    settings = BeamSettings("dataflow", project="p", region="r", temp_location="gs://bucket/tmp", image="i")
    with pytest.raises(BadInputError, match="no Google credentials were found; call `gcloud auth"):
        check_requirements(parse_options(settings.arguments()))


@pytest.mark.parametrize("runner", ["prism", "dataflow"])
def test_engine_without_options_of_its_own_refuses_what_beam_does_not_know(runner):
    google = {"project": "p", "region": "r", "temp_location": "gs://bucket/tmp", "image": "i"}
    settings = BeamSettings(runner, **(google if runner == "dataflow" else {}), options=("--frobnicate=3",))
    with pytest.raises(BadInputError, match="no such option of autotag preprocess or of Beam: --frobnicate=3"):
        parse_options(settings.arguments())


def test_word_that_is_no_option_is_refused_for_every_engine():
    settings = BeamSettings("flink", flink_master="f:1", image="i", options=("--objectReuse", "yes"))
    said = "--objectReuse: not an option of Beam's Python, and yes: not an option; .* is written --option=value"
    with pytest.raises(BadInputError, match=said):
        parse_options(settings.arguments())


def test_local_engines_need_no_environment():
    assert "--flink_master=[local]" in BeamSettings("flink", flink_master="[local]").arguments()
    assert "--spark_master_url=local[2]" in BeamSettings("spark", spark_master="local[2]").arguments()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"runner": "stork"}, "Beam runner 'stork': expected one of direct, flink, spark, dataflow, prism"),
        ({"workers": 0}, r"--workers \(beam.workers\) 0: expected 1 or more"),
        ({"parallelism": 2}, r"--parallelism \(beam.parallelism\) belongs to the runner flink, not to direct"),
        ({"runner": "flink", "workers": 2}, "--workers .* belongs to the runner direct"),
        ({"runner": "flink"}, "--flink-master .* is missing: HOST:PORT"),
        ({"runner": "flink", "flink_master": "f:1"}, "say how its workers are started"),
        ({"runner": "flink", "options": ("--job_endpoint=j:8099",)}, "say how its workers are started"),
        (
            {"runner": "flink", "flink_master": "f:1", "image": "i", "worker_pool": "p:1"},
            "--image .* and --worker-pool .* say one",
        ),
        ({"runner": "spark"}, "--spark-master .* is missing"),
        ({"runner": "dataflow"}, "--project .* is missing"),
        ({"runner": "dataflow", "project": "p", "region": "r"}, "--temp-location .* is missing"),
        (
            {"runner": "dataflow", "project": "p", "region": "r", "temp_location": "/tmp"},
            "--temp-location .* /tmp: expected a gs:// folder",
        ),
        (
            {"runner": "dataflow", "project": "p", "region": "r", "temp_location": "gs://B/tmp"},
            "--temp-location .* gs://B/tmp: expected a gs:// folder",
        ),
        (
            {"runner": "dataflow", "project": "p", "region": "r", "temp_location": "gs://bucket"},
            "its workers have no autotag: give --image .* or --setup-file",
        ),
        ({"runner": "flink", "flink_master": "f:1", "setup_file": "/no/setup.py"}, "expected a file named setup.py"),
        ({"options": ("--runner=FlinkRunner",)}, "Beam option --runner: say it as --runner"),
        ({"options": ("--flink_master=f:1",)}, "Beam option --flink_master: say it as --flink-master"),
    ],
)
def test_settings_that_cannot_work_are_named(settings, words):
    with pytest.raises(BadInputError, match=words):
        BeamSettings(**settings)


def test_what_is_packed_does_not_reach_a_pools_workers(setup_file):
    with pytest.raises(BadInputError, match="install autotag where they run"):
        BeamSettings("flink", flink_master="f:1", worker_pool="p:1", setup_file=setup_file)


def test_command_line_values_that_were_not_given_keep_their_defaults():
    values = {"runner": "flink", "flink_master": "f:1", "image": "i", "workers": None}
    assert settings_of(values, ["--job_name=x"]) == BeamSettings(
        "flink", flink_master="f:1", image="i", options=("--job_name=x",)
    )


class _Overview(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802 http.server's name
        body = json.dumps({"slots-total": 2}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def flink():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Overview) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_cluster_with_too_few_slots_is_said_before_the_job(flink):
    check_flink_cluster(flink, 2)
    check_flink_cluster(f"http://{flink}", -1)
    with pytest.raises(BadInputError, match="has 2 task slots and the job wants 3"):
        check_flink_cluster(flink, 3)


def test_cluster_that_does_not_answer_is_said():
    with pytest.raises(BadInputError, match="Flink at 127.0.0.1:9 does not answer: .* is the cluster up"):
        check_flink_cluster("127.0.0.1:9", 1)


def options(*arguments: str):
    return parse_options(arguments)


def test_missing_java_is_said(flink):
    with pytest.raises(BadInputError, match="no-java: not found, and Beam's job server needs Java"):
        check_requirements(
            options("--runner=FlinkRunner", f"--flink_master={flink}", "--job_server_java_launcher=no-java")
        )


@pytest.mark.skipif(not shutil.which("java"), reason="no Java")
@pytest.mark.parametrize("runner", ["flink", "spark"])
def test_missing_job_server_jar_is_said(runner, tmp_path):
    arguments = {"flink": ["--flink_master=[local]"], "spark": ["--spark_master_url=local"]}[runner]
    jar = f"--{runner}_job_server_jar={tmp_path}/no.jar"
    with pytest.raises(BadInputError, match="Beam's job server cannot be had: .*no.jar"):
        check_requirements(options(f"--runner={RUNNERS[runner]}", *arguments, jar))


def test_job_server_that_runs_already_needs_no_jar(flink):
    check_requirements(
        options(
            "--runner=FlinkRunner",
            f"--flink_master={flink}",
            "--job_endpoint=localhost:8099",
            "--job_server_java_launcher=no-java",
        )
    )


def test_missing_prism_binary_is_said(tmp_path):
    with pytest.raises(BadInputError, match=r"go install github.com/apache/beam/sdks/v2/go/cmd/prism@v\d"):
        check_requirements(options("--runner=PrismRunner", f"--prism_location={tmp_path}/prism"))


def test_prism_on_the_path_is_taken(tmp_path, monkeypatch):
    binary = tmp_path / "prism"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    timeout = "--job_server_timeout=2592000"  # Beam's own of 60 s would end longer jobs
    assert BeamSettings("prism").arguments() == ["--runner=PrismRunner", f"--prism_location={binary}", timeout]
    own = BeamSettings("prism", options=("--job_server_timeout=5",)).arguments()
    assert own == ["--runner=PrismRunner", f"--prism_location={binary}", "--job_server_timeout=5"]
    check_requirements(options(*BeamSettings("prism").arguments()))


def test_what_beam_finds_wrong_is_said_in_one_line():
    settings = BeamSettings("flink", flink_master="[local]", options=("--environment_type=PROCESS",))
    with pytest.raises(BadInputError, match=r"^Beam: Pipeline has validations errors: .*process_command.*$"):
        check_requirements(options(*settings.arguments()))
