"""compose.yaml: the demo's pieces on one machine, with the settings that they have on Kubernetes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

ROOT = Path(__file__).parents[2]
FLINK = ROOT / "deploy" / "flink" / "kubernetes"


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def cluster() -> dict[tuple[str, str], Any]:
    """The Kubernetes session cluster's objects, (kind, name) -> object."""
    documents = [document for path in FLINK.glob("*.yaml") for document in yaml.safe_load_all(path.read_text())]
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


def pod(cluster: dict[tuple[str, str], Any], kind: str, name: str) -> dict[str, Any]:
    spec = cluster[kind, name]["spec"]["template"]["spec"]
    return {one["name"]: one for one in [*spec["containers"], *spec.get("initContainers", [])]}


def properties(service: Any) -> Any:
    return yaml.safe_load(service["environment"]["FLINK_PROPERTIES"])


def test_serving_is_taken_from_its_own_file_and_not_said_twice(compose: Any) -> None:
    assert compose["include"] == ["serving/server/tfserving/compose.yaml"]
    serving = yaml.safe_load((ROOT / "serving/server/tfserving/compose.yaml").read_text())
    assert not serving["services"].keys() & compose["services"].keys()
    ports = [
        port.split(":")[1]
        for file in (serving, compose)
        for service in file["services"].values()
        for port in service.get("ports", [])
    ]
    assert len(ports) == len(set(ports))


def test_flink_has_the_settings_of_the_kubernetes_cluster(compose: Any, cluster: Any) -> None:
    config = yaml.safe_load(cluster["ConfigMap", "flink-config"]["data"]["config.yaml"])
    services = compose["services"]
    ours = properties(services["jobmanager"])
    assert {key: value for key, value in ours.items() if value != "jobmanager"} == {
        key: config[key] for key, value in ours.items() if value != "jobmanager"
    }
    java = "env.java.opts.all"  # Flink's own image has them in its configuration, which a ConfigMap replaces
    assert config.keys() - ours.keys() == {java}
    for name in ("taskmanager-1", "taskmanager-2"):
        assert properties(services[name]) == ours
    image = pod(cluster, "Deployment", "flink-jobmanager")["jobmanager"]["image"]
    assert services["jobmanager"]["image"].endswith(f"/{image}")
    job_server = pod(cluster, "Job", "autotag-preprocess")["beam-job-server"]["image"]
    assert services["job-server"]["image"].endswith(f"/{job_server}")


def test_each_taskmanager_has_a_pool_of_its_own_in_its_network(compose: Any, cluster: Any) -> None:
    services = compose["services"]
    pool = pod(cluster, "Deployment", "flink-taskmanager")["beam-workers"]
    for number in (1, 2):
        workers = services[f"workers-{number}"]
        assert workers["network_mode"] == f"service:taskmanager-{number}"
        assert [*workers["entrypoint"], *workers["command"]] == [*pool["command"], *pool["args"]]
        assert workers["volumes"] == services["autotag"]["volumes"]  # the client and its workers see the same data
        assert workers["image"] == services["autotag"]["image"]


def test_containers_of_the_image_run_without_rights_on_a_read_only_root(compose: Any) -> None:
    for name in ("workers-1", "workers-2", "autotag"):
        service = compose["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert any(mount.startswith("/tmp") for mount in service["tmpfs"])


def test_commands_in_the_files_comment_are_ones_that_autotag_takes() -> None:
    from pipeline.commands import make_corpus, preprocess

    text = re.sub(r" *\\\n# *", " ", (ROOT / "compose.yaml").read_text())
    told = dict(re.findall(r"^# +docker compose run --rm autotag ([\w-]+) (.*)$", text, re.MULTILINE))
    commands: dict[str, click.Command] = {"make-corpus": make_corpus.command, "preprocess": preprocess.command}
    assert told.keys() == commands.keys()
    for name, command in commands.items():
        known = {option for parameter in command.params for option in parameter.opts}
        options = set(re.findall(r"(?<= )--[\w-]+(?= )", told[name]))
        assert options
        assert options <= known


def test_podman_compose_reads_it_whole() -> None:
    program = shutil.which("podman-compose", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not program or not shutil.which("podman"):
        pytest.skip("needs podman-compose (pip install podman-compose), which needs podman")
    done = subprocess.run(
        [program, "-f", str(ROOT / "compose.yaml"), "--profile", "cli", "config"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert {"serving", "proxy", "jobmanager", "job-server", "taskmanager-1", "workers-1", "autotag"} <= services.keys()
