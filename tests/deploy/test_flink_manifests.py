"""deploy/flink: manifests that Kubernetes takes, and the same settings on Kubernetes as on one machine."""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from preprocessing.beam.flink import FLINK_VERSION
from preprocessing.beam.settings import settings_of

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "deploy" / "flink" / "kubernetes").glob("*.yaml"))


def load_cluster() -> Any:
    spec = importlib.util.spec_from_file_location("cluster", ROOT / "deploy" / "flink" / "cluster.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def objects() -> dict[tuple[str, str], Any]:
    """(kind, name) -> object."""
    loaded = [document for path in MANIFESTS for document in yaml.safe_load_all(path.read_text())]
    return {(document["kind"], document["metadata"]["name"]): document for document in loaded}


def containers(name: str, kind: str = "Deployment") -> dict[str, Any]:
    pod = objects()[kind, name]["spec"]["template"]["spec"]
    return {container["name"]: container for container in [*pod["containers"], *pod.get("initContainers", [])]}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifest_is_what_kubernetes_expects(path: Path) -> None:
    pytest.importorskip("kubernetes_validate")
    program = str(Path(sys.executable).with_name("kubernetes-validate"))
    done = subprocess.run([program, "--strict", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_versions_of_flink_and_of_the_job_server_agree() -> None:
    flink = containers("flink-jobmanager")["jobmanager"]["image"]
    assert flink == containers("flink-taskmanager")["taskmanager"]["image"] == f"flink:{load_cluster().FLINK}-java17"
    assert load_cluster().FLINK.startswith(f"{FLINK_VERSION}.")
    job_server = containers("autotag-preprocess", "Job")["beam-job-server"]["image"]
    assert f"flink{FLINK_VERSION}_" in job_server


def test_job_server_has_the_version_of_the_locked_beam() -> None:
    lock = (ROOT / "requirements" / "py310-tfx116.txt").read_text()
    beam = next(line for line in lock.splitlines() if line.startswith("apache-beam"))
    version = beam.partition("==")[2].split()[0]
    assert containers("autotag-preprocess", "Job")["beam-job-server"]["image"].endswith(f":{version}")


def test_every_taskmanager_has_a_pool_of_its_own_where_the_job_looks_for_it() -> None:
    pool = containers("flink-taskmanager")["beam-workers"]
    port = next(argument.partition("=")[2] for argument in pool["args"] if argument.startswith("--service_port"))
    job = containers("autotag-preprocess", "Job")["autotag"]
    assert f"--worker-pool=localhost:{port}" in job["args"]
    assert pool["image"] == job["image"]
    assert pool["envFrom"] == job["envFrom"]


def parsed(cluster: Any, *arguments: str) -> argparse.Namespace:
    before, sys.argv = sys.argv, ["cluster.py", *arguments]
    try:
        found: argparse.Namespace = cluster.parse()
    finally:
        sys.argv = before
    return found


def in_mb(size: str) -> int:
    return int(size.removesuffix("m"))


def test_flink_settings_are_those_of_the_cluster_on_one_machine(tmp_path: Path) -> None:
    cluster = load_cluster()
    arguments = parsed(cluster, "start", "--folder", str(tmp_path))
    one_machine = yaml.safe_load((cluster.write_configuration(tmp_path, arguments) / "config.yaml").read_text())
    config = yaml.safe_load(objects()["ConfigMap", "flink-config"]["data"]["config.yaml"])
    same = [
        "taskmanager.numberOfTaskSlots",
        "jobmanager.memory.process.size",
        "jobmanager.memory.jvm-metaspace.size",
        "taskmanager.memory.process.size",
        "taskmanager.memory.jvm-metaspace.size",
        "taskmanager.memory.network.min",
        "taskmanager.memory.network.max",
        "taskmanager.network.sort-shuffle.min-buffers",
        "taskmanager.memory.task.off-heap.size",
        "restart-strategy.type",
    ]
    assert {key: config[key] for key in same} == {key: one_machine[key] for key in same}
    assert config["env.java.opts.all"].split() == cluster.JAVA_17


def test_one_slot_at_parallelism_2_has_what_a_pipelines_steps_were_seen_to_need() -> None:
    settings = load_cluster().memory_settings(parsed(load_cluster(), "start"))
    assert settings["taskmanager.memory.process.size"] == "3600m"
    assert settings["taskmanager.memory.task.off-heap.size"] == "512m"
    assert settings["taskmanager.memory.network.max"] == settings["taskmanager.memory.network.min"] == "256m"
    assert settings["taskmanager.network.sort-shuffle.min-buffers"] == 64  # Flink's 512: "Insufficient number ..."


@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("parallelism", [1, 2, 8, 32, 128])
def test_memory_grows_with_slots_and_parallelism_and_leaves_each_slot_its_heap(slots: int, parallelism: int) -> None:
    cluster = load_cluster()
    memory = cluster.memory_for(slots, parallelism, 768)
    process, flink = memory.process, memory.process - 768 - min(max(memory.process // 10, 192), 1024)
    assert flink * 0.6 - 256 - memory.network - memory.off_heap >= slots * cluster.HEAP_MB - 1
    assert memory.off_heap == slots * 512
    buffers = memory.network * 1024 // 32
    assert buffers >= slots * cluster.STAGES * (64 + 2 * parallelism + 8)
    more = cluster.memory_for(slots + 1, parallelism, 768), cluster.memory_for(slots, 4 * parallelism, 768)
    assert more[0].process > process
    assert more[1].network > memory.network or parallelism == 1
    assert more[1].process >= process


def test_manifests_memory_is_enough_for_the_parallelism_that_they_name() -> None:
    said = next(path for path in MANIFESTS if path.name == "session-cluster.yaml").read_text()
    parallelism = int(re.findall(r"memory is for jobs of parallelism (\d+)", said)[0])
    settings = load_cluster().memory_settings(parsed(load_cluster(), "settings", f"--parallelism={parallelism}"))
    config = yaml.safe_load(objects()["ConfigMap", "flink-config"]["data"]["config.yaml"])
    assert {key: config[key] for key in settings} == settings
    larger = load_cluster().memory_for(1, parallelism + 3, 768)
    assert larger.network > in_mb(settings["taskmanager.memory.network.max"])


def test_memory_that_is_given_is_taken(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = load_cluster()
    monkeypatch.setenv("FLINK_NETWORK_MEMORY", "1g")
    given = parsed(cluster, "settings", "--task-off-heap=700m", "--taskmanager-memory=5g", "--slots=2")
    cluster.settings(given)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["taskmanager.memory.task.off-heap.size"] == "700m"
    assert printed["taskmanager.memory.network.min"] == printed["taskmanager.memory.network.max"] == "1024m"
    assert printed["taskmanager.memory.process.size"] == "5120m"
    assert printed["taskmanager.numberOfTaskSlots"] == 2
    with pytest.raises(SystemExit):
        parsed(cluster, "settings", "--task-off-heap=much")
    assert "--task-off-heap: 'much': expected a size such as 512m or 2g" in capsys.readouterr().err


def test_logs_of_five_earlier_starts_are_kept(tmp_path: Path) -> None:
    cluster = load_cluster()
    for start in range(8):
        cluster.set_logs_aside(tmp_path)
        cluster.write_configuration(tmp_path, parsed(cluster, "start", "--folder", str(tmp_path)))
        (tmp_path / "log" / "taskmanager-1.log").write_text(f"start {start}")
    kept = {path.parent.name: path.read_text() for path in tmp_path.glob("log*/taskmanager-1.log")}
    assert kept == {"log": "start 7", **{f"log.{number}": f"start {7 - number}" for number in range(1, 6)}}
    assert "append = true" in (tmp_path / "conf" / "log4j.properties").read_text()


def test_ports_of_services_and_containers_are_fixed_in_flinks_configuration() -> None:
    config = yaml.safe_load(objects()["ConfigMap", "flink-config"]["data"]["config.yaml"])
    fixed = {
        "jobmanager": {config["jobmanager.rpc.port"], config["blob.server.port"], config["rest.port"]},
        "taskmanager": {config["taskmanager.rpc.port"]},
    }
    for name, ports in fixed.items():
        assert {port["containerPort"] for port in containers(f"flink-{name}")[name]["ports"]} == ports
    service = objects()["Service", "flink-jobmanager"]["spec"]
    assert {port["port"] for port in service["ports"]} == fixed["jobmanager"]
    assert config["jobmanager.rpc.address"] == config["rest.address"] == "flink-jobmanager"


def test_pool_listens_before_its_taskmanager_can_get_a_task() -> None:
    pod = objects()["Deployment", "flink-taskmanager"]["spec"]["template"]["spec"]
    (pool,) = pod["initContainers"]
    assert pool["restartPolicy"] == "Always"
    assert f"--service_port={pool['startupProbe']['tcpSocket']['port']}" in pool["args"]


def test_programs_of_the_image_are_started_by_tini_which_hands_sigterm_on() -> None:
    pool, job = containers("flink-taskmanager")["beam-workers"], containers("autotag-preprocess", "Job")["autotag"]
    assert pool["command"][:3] == ["tini", "-g", "--"]
    assert "command" not in job  # the image's entry point, which does the same
    assert "exec tini -g --" in (ROOT / "deploy" / "image" / "entrypoint.sh").read_text()


def test_only_pods_of_the_cluster_and_its_clients_reach_flink() -> None:
    spec = objects()["NetworkPolicy", "flink"]["spec"]
    cluster, client = (rule["from"][0]["podSelector"]["matchLabels"] for rule in spec["ingress"])
    assert spec["podSelector"]["matchLabels"] == cluster
    for name in ("flink-jobmanager", "flink-taskmanager"):
        labels = objects()["Deployment", name]["spec"]["template"]["metadata"]["labels"]
        assert cluster.items() <= labels.items()
    job = objects()["Job", "autotag-preprocess"]["spec"]["template"]
    assert client.items() <= job["metadata"]["labels"].items()
    config = yaml.safe_load(objects()["ConfigMap", "flink-config"]["data"]["config.yaml"])
    assert spec["ingress"][1]["ports"] == [{"port": config["rest.port"]}]


def test_memory_limits_are_what_flink_is_told() -> None:
    config = yaml.safe_load(objects()["ConfigMap", "flink-config"]["data"]["config.yaml"])
    for name in ("jobmanager", "taskmanager"):
        limit = containers(f"flink-{name}")[name]["resources"]["limits"]["memory"]
        assert limit == config[f"{name}.memory.process.size"].replace("m", "Mi")


def test_stop_ends_the_workers_that_a_killed_taskmanager_left(tmp_path: Path) -> None:
    cluster = load_cluster()
    code = "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    call = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, start_new_session=True, text=True) as leader:
        assert leader.stdout
        worker = int(leader.stdout.readline())
        cluster.save(tmp_path, {"taskmanager-1": leader.pid})
        leader.kill()
    assert cluster.running(tmp_path) == {}
    assert cluster.members(leader.pid)
    cluster.stop(argparse.Namespace(folder=str(tmp_path)))
    assert not cluster.members(leader.pid)
    assert not psutil.pid_exists(worker) or psutil.Process(worker).status() == "zombie"


def test_stop_leaves_a_stranger_that_has_a_number_of_ours(tmp_path: Path) -> None:
    cluster = load_cluster()
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        cluster.save(tmp_path, {"taskmanager-1": stranger.pid})
        cluster.stop(argparse.Namespace(folder=str(tmp_path)))
        assert stranger.poll() is None
        stranger.kill()


def test_what_a_worker_says_before_it_is_connected_is_kept(tmp_path: Path) -> None:
    cluster = load_cluster()
    cluster.write_configuration(tmp_path, parsed(cluster, "start", "--folder", str(tmp_path)))
    done = subprocess.run([tmp_path / "worker", "--id=1"], capture_output=True)
    assert done.returncode == 2
    assert "--provision_endpoint" in (tmp_path / "log" / "workers.log").read_text()


def test_the_jobs_command_is_one_that_autotag_takes() -> None:
    arguments = containers("autotag-preprocess", "Job")["autotag"]["args"]
    own = dict(argument[2:].split("=", 1) for argument in arguments if argument.startswith("--"))
    job_endpoint = own.pop("job_endpoint")
    values = {name.replace("-", "_"): value for name, value in own.items()}
    values["parallelism"] = int(values["parallelism"])
    settings = settings_of(values, [f"--job_endpoint={job_endpoint}"])
    assert "--environment_type=EXTERNAL" in settings.arguments()
    slots = objects()["Deployment", "flink-taskmanager"]["spec"]["replicas"]
    assert settings.parallelism is not None
    assert settings.parallelism <= slots


@pytest.mark.parametrize(
    ("kind", "name"),
    [("Deployment", "flink-jobmanager"), ("Deployment", "flink-taskmanager"), ("Job", "autotag-preprocess")],
)
def test_pods_are_what_a_restricted_namespace_takes(kind: str, name: str) -> None:
    context = objects()[kind, name]["spec"]["template"]["spec"]["securityContext"]
    assert context["runAsNonRoot"]
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(name, kind).values():
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


def test_programs_of_the_image_run_on_a_read_only_root() -> None:
    for container in (
        containers("flink-taskmanager")["beam-workers"],
        containers("autotag-preprocess", "Job")["autotag"],
    ):
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert any(mount["mountPath"] == "/tmp" for mount in container["volumeMounts"])
