"""The pipeline on the real Kubeflow Pipelines: API server, scheduler, driver and launcher, each pod a process.

Needs the kit with those programs, named by AUTOTAG_KUBEFLOW_KIT or lying at ../shared/kubeflow beside the checkout, and
a machine on which this user may make network namespaces and mounts. A small corpus and one network: what is tested is
that every step runs with what KFP hands it, and what passes from one run to the next.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_runner import AUTOTAG
from prometheus_text import Samples, parse

CHECKOUT = Path(__file__).parents[2]
KIT = Path(os.environ.get("AUTOTAG_KUBEFLOW_KIT", CHECKOUT.parent / "shared" / "kubeflow"))
HOST = "http://10.96.0.12:8888"
METADATA = "10.96.0.10:8080"
WORKFLOWS = "workflows.argoproj.io"


def why_not() -> str | None:
    """Why the test cannot run here; None where it can."""
    if not (KIT / "up.sh").exists():
        return f"no Kubeflow kit at {KIT} (set AUTOTAG_KUBEFLOW_KIT)"
    if os.geteuid() != 0:
        return "the Kubeflow kit needs root"
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False).returncode:
        return "no network and mount namespaces may be made here"
    return None


REPORT = """
import datetime, json, sys, urllib.request
began = datetime.datetime.now(datetime.timezone.utc)
at = lambda seconds: (began + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
workflow, phase, nodes = json.load(sys.stdin), sys.argv[2], json.loads(sys.argv[3])
named = {f"n-{number}": node for number, node in enumerate(nodes)}
workflow["status"] = {"phase": phase, "nodes": {
    id_: {"id": id_, "name": f"{name}.{id_}", "displayName": name, "type": "DAG", "phase": state, "templateName": "x",
          "startedAt": at(0), "finishedAt": at(60) if state != "Running" else None}
    for id_, (name, state) in named.items()
}}
if phase != "Running":
    workflow["status"]["finishedAt"] = at(90)
    workflow["metadata"]["labels"]["workflows.argoproj.io/completed"] = "true"
data = json.dumps(json.dumps(workflow)).encode()
url = f"{sys.argv[1]}/apis/v2beta1/workflows"
urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"}))
"""
"""Reports a Workflow's state to the API server as KFP's persistence agent does, which the kit has not."""


pytestmark = [pytest.mark.timeout(1800), pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]


@dataclass
class Cluster:
    """A running cluster, and a folder that its pods see as a volume."""

    folder: Path
    home: Path
    name: str

    def inside(
        self, *command: object, code: int | None = 0, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the cluster's network; ``given`` is its input."""
        done = subprocess.run(
            [KIT / "in_kubeflow.sh", *map(str, command)],
            env={**os.environ, "KUBEFLOW_HOME": str(self.home), "PYTHONPATH": str(CHECKOUT)},
            cwd=self.folder,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert code is None or done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def autotag(self, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.inside(AUTOTAG, "kubeflow", *arguments, "--host", HOST, code=code)

    def workflows(self) -> list[dict[str, Any]]:
        """The Workflows of this test's pipeline, the oldest first."""
        text = self.inside("kubectl", "-n", "kubeflow", "get", WORKFLOWS, "-o", "json").stdout
        found = [item for item in json.loads(text)["items"] if item["metadata"]["name"].startswith(self.name)]
        return sorted(found, key=lambda item: str(item["metadata"]["creationTimestamp"]))

    def run(self, *overrides: str, config: str = "config.yaml") -> "Ran":
        """Submit a pipeline and run the Workflow that the server made of it."""
        before = {workflow["metadata"]["name"] for workflow in self.workflows()}
        settings = [word for override in overrides for word in ("--set", override)]
        self.autotag("submit", config, *settings)
        (workflow,) = [
            workflow
            for workflow in self.workflows()
            if workflow["metadata"]["name"] not in before and not from_schedule(workflow)
        ]
        logs = self.folder / "logs" / workflow["metadata"]["name"]
        logs.parent.mkdir(exist_ok=True)
        path = logs.with_suffix(".yaml")
        path.write_text(yaml.safe_dump(workflow))
        done = subprocess.run(
            [sys.executable, KIT / "run_workflow.py", path, logs, "--cache"],
            env={
                **os.environ,
                "KUBEFLOW_HOME": str(self.home),
                "POD_MOUNTS": str(self.folder),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            tail = "\n".join(log.read_text()[-2000:] for log in sorted(logs.glob("*executor.log"))[-3:])
            pytest.fail(f"{done.stdout}\n{done.stderr}\n{tail}")
        return Ran(logs, workflow)

    def report(self, workflow: dict[str, Any], phase: str, *nodes: tuple[str, str]) -> None:
        """Report a Workflow's state, with its nodes' names and states, as KFP's persistence agent does."""
        self.inside(sys.executable, "-c", REPORT, HOST, phase, json.dumps(nodes), given=json.dumps(workflow))

    def metrics(self, *options: str) -> Samples:
        """What is written for Prometheus of the newest run that has ended."""
        path = self.folder / "metrics.prom"
        self.autotag("runs", "config.yaml", "--metrics-file", path, *options)
        return parse(path.read_text())

    def value(self, samples: Samples, name: str, **labels: str) -> float:
        return samples[f"autotag_{name}", tuple(sorted({"pipeline": self.name, **labels}.items()))]

    def pushed(self) -> list[Path]:
        return sorted((self.folder / "work" / "pushed").glob("[0-9]*"))


@dataclass
class Ran:
    """A Workflow that was run, by what its pods left."""

    logs: Path
    workflow: dict[str, Any]

    def ended(self, cluster: Cluster, phase: str = "Succeeded") -> None:
        """Let the server know how it ended, with the states that Argo's nodes have then."""
        steps = sorted({path.name.split(".")[0].removesuffix("-driver") for path in self.logs.glob("*-driver.log")})
        drivers = [(f"{step}-driver", "Succeeded") for step in steps]
        cluster.report(self.workflow, phase, ("root", phase), *drivers, *((step, phase) for step in steps))

    def executed(self) -> set[str]:
        """The steps whose container ran, not taken from KFP's cache."""
        return {path.name.removesuffix(".executor.log") for path in self.logs.glob("*.executor.log")}

    def log(self, step: str) -> str:
        return (self.logs / f"{step}.executor.log").read_text()

    def pod(self, step: str) -> dict[str, Any]:
        patch = json.loads((self.logs / f"{step}.pod-spec-patch.json").read_text())
        return {**patch, **patch["containers"][0]}


def from_schedule(workflow: dict[str, Any]) -> bool:
    return "scheduledworkflows.kubeflow.org/scheduledWorkflowName" in workflow["metadata"].get("labels", {})


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster, a corpus, a configuration, and a recurring run every minute."""
    home = Path(os.environ.get("KUBEFLOW_HOME", f"{tempfile.gettempdir()}/kubeflow"))
    new = not (home / "state").exists()
    name = f"small-{uuid.uuid4().hex[:6]}"
    found = Cluster(tmp_path_factory.mktemp("kubeflow"), home, name)
    environment = {**os.environ, "KUBEFLOW_HOME": str(home)}
    running = found.inside("kubectl", "-n", "kubeflow", "get", WORKFLOWS, code=None).returncode == 0
    if not running:
        subprocess.run([KIT / "up.sh", sys.executable], env=environment, check=True, stdout=subprocess.DEVNULL)
    try:
        found.folder.joinpath("config.yaml").write_text(yaml.safe_dump(configuration(found)))
        subprocess.run(
            [AUTOTAG, "make-corpus", found.folder / "corpus", "--clips", "40", "--seed", "3"],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            check=True,
            capture_output=True,
        )
        found.autotag("schedule", "config.yaml", "--cron", "0 * * * * *")
        yield found
        found.autotag("unschedule", name, "config.yaml")
    finally:
        if not running:
            subprocess.run([KIT / "down.sh", *(["wipe"] if new else [])], env=environment, check=False)


def configuration(cluster: Cluster) -> dict[str, Any]:
    return {
        "name": cluster.name,
        "data": {
            "audio_dir": str(cluster.folder / "corpus"),
            "annotations": str(cluster.folder / "corpus" / "annotations_final.csv"),
            "ratio": [8, 4, 4],
            "heads": {"tags": {"top": 12}},
            "shard_clips": 40,
        },
        "networks": {"mel_1d": {"epochs": 1, "batch_size": 8}},
        "ensemble": ["mel_1d"],
        "gate": {"min_roc_auc": 0.0, "max_drop": 1.0},
        "kubeflow": {
            "experiment": cluster.name,
            "image": "autotag:test",
            "work_dir": str(cluster.folder / "work"),
            "volumes": [{"claim": "autotag-data", "path": str(cluster.folder)}],
            "env": {"PYTHONPATH": str(CHECKOUT)},
            "steps": {"Trainer_mel_1d": {"cpu": "2", "gpus": 1, "node_selector": {"pool": "gpu"}}},
        },
    }


@pytest.fixture(scope="module")
def first(cluster: Cluster) -> Ran:
    return cluster.run()


def test_first_run_ends_with_a_pushed_model(cluster: Cluster, first: Ran) -> None:
    (version,) = cluster.pushed()
    assert (version / "saved_model.pb").stat().st_size > 100_000
    assert (version / "variables" / "variables.index").exists(), "subfolders arrive whole"
    assert len(json.loads((version / "model.json").read_text())["tags"]) == 12
    assert "the candidate is compared with none" in first.log("Baseline")


def test_figures_of_a_run_stand_in_kubeflows_metadata_and_are_written_for_prometheus(
    cluster: Cluster, first: Ran
) -> None:
    first.ended(cluster)
    samples = cluster.metrics("--metadata", METADATA)
    (version,) = cluster.pushed()
    card = json.loads((version / "model.json").read_text())
    assert cluster.value(samples, "test_roc_auc") == pytest.approx(card["scores"]["test"]["roc_auc"], abs=1e-5)
    assert cluster.value(samples, "test_pr_auc") == pytest.approx(card["scores"]["test"]["pr_auc"], abs=1e-5)
    assert cluster.value(samples, "gate_min_roc_auc") == 0
    assert not any(name == "autotag_gate_baseline_roc_auc" for name, _ in samples), "there was none"
    assert cluster.value(samples, "model_blessed") == cluster.value(samples, "model_pushed") == 1
    assert cluster.value(samples, "clips", kind="clips") == cluster.value(samples, "clips", kind="examples") == 40
    assert cluster.value(samples, "attempt_success") == 1
    (info,) = [dict(labels) for name, labels in samples if name == "autotag_run_info"]
    assert (info["ensemble"], info["version"]) == ("mel_1d", version.name)
    nodes = {dict(labels)["node"] for name, labels in samples if name == "autotag_node_seconds"}
    assert {"ClipExampleGen", "Trainer_mel_1d", "Pusher"} <= nodes
    assert all(dict(labels)["node"] in nodes for name, labels in samples if name == "autotag_node_cached")
    assert not sum(number for (name, _), number in samples.items() if name == "autotag_node_cached")
    alone = cluster.metrics()
    assert not {name for name, _ in alone} & {"autotag_test_roc_auc", "autotag_model_pushed", "autotag_node_cached"}
    assert cluster.value(alone, "attempt_success") == 1


def test_pods_have_what_the_settings_ask(first: Ran) -> None:
    trainer, pusher = first.pod("Trainer-mel-1d"), first.pod("Pusher")
    assert trainer["resources"]["limits"] == {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"}
    assert trainer["resources"]["requests"]["cpu"] == "2"
    assert trainer["nodeSelector"] == {"pool": "gpu"}
    assert "nodeSelector" not in pusher
    assert pusher["resources"]["limits"] == {"cpu": "1", "memory": "4Gi"}
    assert pusher["volumes"][0]["persistentVolumeClaim"]["claimName"] == "autotag-data"


def test_next_model_is_measured_against_the_pushed_one_and_the_rest_comes_from_the_cache(
    cluster: Cluster, first: Ran
) -> None:
    before = cluster.pushed()
    ran = cluster.run("networks.mel_1d.learning_rate=0.002")
    assert ran.executed() == {"Trainer-mel-1d", "EnsembleTrainer", "Baseline", "Evaluator", "Pusher"}
    assert f"baseline: {before[-1]}" in ran.log("Baseline")
    assert len(cluster.pushed()) == len(before) + 1


def test_model_below_the_gate_is_not_pushed(cluster: Cluster, first: Ran) -> None:
    before = cluster.pushed()
    ran = cluster.run("networks.mel_1d.learning_rate=0.002", "gate.min_roc_auc=0.999")
    assert ran.executed() == {"Baseline", "Evaluator", "Pusher"}
    assert "not pushed: the model did not pass the gate" in ran.log("Pusher")
    assert cluster.pushed() == before
    ran.ended(cluster)
    samples = cluster.metrics("--metadata", METADATA)
    assert cluster.value(samples, "model_blessed") == cluster.value(samples, "model_pushed") == 0
    assert cluster.value(samples, "gate_min_roc_auc") == pytest.approx(0.999)
    assert cluster.value(samples, "test_roc_auc") < 0.999
    assert cluster.value(samples, "gate_baseline_roc_auc") >= 0
    assert cluster.value(samples, "node_cached", node="Trainer_mel_1d") == 1
    assert cluster.value(samples, "node_cached", node="Evaluator") == 0
    assert cluster.value(samples, "clips", kind="clips") == 40, "of a step that came from the cache"


def test_garbage_collection_waits_for_runs_and_leaves_what_they_and_schedules_use(cluster: Cluster, first: Ran) -> None:
    first.ended(cluster)
    shards = cluster.folder / "work" / "shards"
    (code,) = [path for path in shards.iterdir() if not path.name.startswith(".")]
    old = shards / "0123456789abcdef"
    old.mkdir()
    (old / "train-00000-of-00001.tfrecord").write_bytes(b"old")
    for path in (old, *old.iterdir()):
        os.utime(path, (1e9, 1e9))
    pushed = cluster.pushed()

    def collect(code: int) -> subprocess.CompletedProcess[str]:
        return cluster.inside(
            AUTOTAG, "gc", "config.yaml", "--keep", "1", "--kubeflow", "--host", HOST, "--paths", code=code
        )

    cluster.report(first.workflow, "Running", ("root", "Running"))
    assert "goes on in" in collect(2).stderr
    assert old.exists()
    unreported = [one for one in cluster.workflows() if "pipeline/persistedFinalState" not in one["metadata"]["labels"]]
    for workflow in (first.workflow, *unreported):
        cluster.report(workflow, "Succeeded", ("root", "Succeeded"))
    assert str(old) in collect(0).stdout
    assert not old.exists()
    assert code.exists()
    assert cluster.pushed() == pushed


def test_recurring_run_makes_one_workflow_at_a_time_on_its_cron(cluster: Cluster) -> None:
    def made() -> list[dict[str, Any]]:
        return [workflow for workflow in cluster.workflows() if from_schedule(workflow)]

    def wait(count: int) -> list[dict[str, Any]]:
        ends = time.monotonic() + 150
        while len(made()) < count and time.monotonic() < ends:
            time.sleep(2)
        return made()

    (waiting,) = wait(1)
    assert len(made()) == 1, "the second waits for the first to end"
    patch = {"metadata": {"labels": {"workflows.argoproj.io/completed": "true"}}, "status": {"phase": "Succeeded"}}
    cluster.inside(
        "kubectl", "-n", "kubeflow", "patch", WORKFLOWS, waiting["metadata"]["name"], "--type=merge", "-p",
        json.dumps(patch),
    )  # fmt: skip
    assert len(wait(2)) == 2


def test_schedule_is_idempotent_by_name_and_dry_run_changes_nothing(cluster: Cluster) -> None:
    def there() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(cluster.autotag("schedules", "config.yaml", "--json").stdout)
        return found

    (before,) = there()
    assert before["schedule"]["at_once"] == 1
    assert before["schedule"]["catch_up"] is False
    done = cluster.autotag("schedule", "config.yaml", "--cron", "0 * * * * *")
    assert "nothing to change" in done.stdout
    assert there() == [before]
    done = cluster.autotag("schedule", "config.yaml", "--cron", "0 0 2 * * 1", "--dry-run")
    assert "time: 0 * * * * * -> 0 0 2 * * 1" in done.stdout
    assert there() == [before]
    cluster.autotag("schedule", "config.yaml", "--cron", "0 0 2 * * 1")
    (after,) = there()
    assert after["schedule"] == {**before["schedule"], "cron": "0 0 2 * * 1"}


def test_schedule_moves_to_another_experiment(cluster: Cluster) -> None:
    def there(experiment: str) -> list[dict[str, Any]]:
        done = cluster.autotag("schedules", "config.yaml", "--experiment", experiment, "--json")
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    (before,) = there(cluster.name)
    cron = ("--cron", before["schedule"]["cron"])
    done = cluster.autotag("schedule", "config.yaml", *cron, "--experiment", f"{cluster.name}-2")
    assert f"experiment: {cluster.name} -> {cluster.name}-2" in done.stdout
    assert there(cluster.name) == []
    (moved,) = there(f"{cluster.name}-2")
    assert moved["schedule"] == {**before["schedule"], "experiment": f"{cluster.name}-2"}
    cluster.autotag("schedule", "config.yaml", *cron)
    assert there(f"{cluster.name}-2") == []


def test_submit_waits_for_the_end_and_says_which_step_failed(cluster: Cluster) -> None:
    before = {workflow["metadata"]["name"] for workflow in cluster.workflows()}
    submitted = subprocess.Popen(
        [KIT / "in_kubeflow.sh", AUTOTAG, "kubeflow", "submit", "config.yaml", "--host", HOST, "--wait",
         "--service-account", "tagger"],
        env={**os.environ, "KUBEFLOW_HOME": str(cluster.home), "PYTHONPATH": str(CHECKOUT)},
        cwd=cluster.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    new: list[dict[str, Any]] = []
    ends = time.monotonic() + 240
    while not new and time.monotonic() < ends and submitted.poll() is None:
        time.sleep(2)
        new = [one for one in cluster.workflows() if one["metadata"]["name"] not in before and not from_schedule(one)]
    assert new, submitted.communicate()
    assert new[0]["spec"]["serviceAccountName"] == "tagger"

    began = ("ClipExampleGen-driver", "Succeeded")
    cluster.report(
        new[0], "Running", ("root", "Running"), began, ("ClipExampleGen", "Running"), ("executor", "Running")
    )
    time.sleep(8)
    cluster.report(new[0], "Failed", ("root", "Failed"), began, ("ClipExampleGen", "Failed"), ("Pusher", "Omitted"))
    out, err = submitted.communicate(timeout=60)
    assert submitted.returncode == 1, out + err
    assert [line.split()[1:] for line in out.splitlines()[2:]] == [
        ["ClipExampleGen:", "running"],
        ["ClipExampleGen:", "failed"],
    ]
    assert "step ClipExampleGen failed" in err
    assert "Traceback" not in err


def test_runs_are_listed(cluster: Cluster, first: Ran) -> None:
    found = json.loads(cluster.autotag("runs", "config.yaml", "--json").stdout)
    assert any(run["schedule"] is None for run in found)


def test_servers_errors_are_said_in_words(cluster: Cluster) -> None:
    done = cluster.autotag("runs", "config.yaml", "--experiment", "nowhere", code=2)
    assert "has no experiment 'nowhere'" in done.stderr
    assert cluster.name in done.stderr
    done = cluster.autotag("schedule", "config.yaml", "--name", "x", "--cron", "0 0 25 * * 1", code=1)
    assert "refused to make the recurring run x" in done.stderr
    done = cluster.autotag("unschedule", "nothing", "config.yaml", code=2)
    assert "no recurring run 'nothing'" in done.stderr
    program = "from pipeline.kubeflow.server import Server\nServer({!r}).publish('refused', 'schemaVersion: 2.0.0\\n')"
    done = cluster.inside(sys.executable, "-c", program.format(HOST), code=1)
    assert "refused to take the pipeline refused" in done.stderr
    done = cluster.inside(AUTOTAG, "kubeflow", "runs", "config.yaml", "--host", "http://10.96.0.12:1", code=1)
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_kubeflow_checks_the_file_that_compile_writes(cluster: Cluster, tmp_path: Path) -> None:
    cluster.inside(AUTOTAG, "kubeflow", "compile", "config.yaml", "-o", tmp_path / "pipeline.yaml")
    check = tmp_path / "kfpcheck"
    with check.open("wb") as file:
        subprocess.run(["xz", "-dc", KIT / "bin" / "kfpcheck.xz"], stdout=file, check=True)
    check.chmod(0o755)
    done = subprocess.run(
        [check, "-o", tmp_path, tmp_path / "pipeline.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


COMPARED = ("dieleman_mel", "mfcc_cnn_shallow", "both")


def comparison(cluster: Cluster) -> dict[str, Any]:
    """Of the run's data set, under the run's name and in its folder, so that examples and all come from the cache."""
    run = configuration(cluster)
    return {
        "name": cluster.name,
        "root": str(cluster.folder / "local"),
        "data": {"work": run["data"]},
        "networks": {"dieleman_mel": {"epochs": 2, "precision": "float32"}, "mfcc_cnn_shallow": {"epochs": 1}},
        "ensembles": {"both": {"of": ["dieleman_mel", "mfcc_cnn_shallow"], "combiner": "logistic"}},
        "kubeflow": {**run["kubeflow"], "work_dir": str(cluster.folder), "steps": {"Trainer_*": {"cpu": "2"}}},
    }


def test_comparison_on_kubeflow_says_what_a_local_one_says_and_trains_nothing_again(
    cluster: Cluster, first: Ran
) -> None:
    cluster.folder.joinpath("comparison.yaml").write_text(yaml.safe_dump(comparison(cluster)))
    local = subprocess.Popen(
        [AUTOTAG, "compare", "comparison.yaml"], cwd=cluster.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, text=True,
    )  # fmt: skip
    try:
        ran = cluster.run(config="comparison.yaml")
        out, err = local.communicate(timeout=600)
        assert local.returncode == 0, out + err
    finally:
        local.kill()
    trained = {
        f"{step}-{name.replace('_', '-')}--paper--0" for name in COMPARED[:2] for step in ("Trainer", "NetworkScorer")
    }
    assert ran.executed() == {*trained, "EnsembleScorer-both--paper--0", "Comparison"}
    assert ran.pod("Trainer-dieleman-mel--paper--0")["resources"]["limits"]["cpu"] == "2"
    files = [cluster.folder / f"comparison.{kind}" for kind in ("csv", "json", "html")]
    assert all(path.exists() for path in files)
    theirs, ours = rows(cluster.folder / "comparison.json"), rows(cluster.folder / "local" / "comparison.json")
    assert set(theirs) == set(ours) == set(COMPARED)
    for network, row in theirs.items():
        for metric, figure in row["figures"].items():
            assert figure == pytest.approx(ours[network]["figures"][metric], abs=1e-4), (network, metric)
        for cost in ("parameters", "megabytes_float32", "megabytes_int8"):
            assert row["costs"][cost] == pytest.approx(ours[network]["costs"][cost], rel=1e-4), (network, cost)
        assert row["current"]
    assert "dieleman_mel" in files[2].read_text()

    for path in files:
        path.unlink()
    again = cluster.run("note=trained once", config="comparison.yaml")
    assert again.executed() == {"Comparison"}
    assert rows(cluster.folder / "comparison.json") == theirs
    assert "trained once" in files[2].read_text()


def rows(path: Path) -> dict[str, Any]:
    """Rows of a comparison's results by network."""
    return {row["network"]: row for row in json.loads(path.read_text())["rows"]}
