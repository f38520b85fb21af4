"""TensorFlow Serving's files say what the server, Kubernetes and Compose understand, and say the same of one thing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import bounding_proxy
import pytest
import yaml
from google.protobuf import text_format

from pipeline.commands.guard import command as guard_command
from preprocessing.protobuf import message_classes
from serving.client.messages import ModelServerConfig
from serving.server import launchers, server_settings
from serving.server.labels import Labels
from serving.server.model_config import FOLLOWED_VERSIONS, MODEL_NAME, config_text, server_config

FILES = Path(__file__).parents[4] / "serving" / "server" / "tfserving"
MANIFESTS = sorted((FILES / "kubernetes").glob("*.yaml"))
KUBERNETES = "1.31"


def parse(name: str, message: Any) -> Any:
    text_format.Parse((FILES / name).read_text(encoding="utf-8"), message)
    return message


def others(kind: str) -> Any:
    return message_classes(Path(__file__).with_name("protos"))[f"tensorflow.serving.{kind}"]()


@pytest.mark.parametrize("name", ["models.config", "models.labels.config"])
def test_model_configurations_parse_with_tensorflow_servings_own_messages(name: str) -> None:
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig as Real

    (model,) = parse(name, Real()).model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (MODEL_NAME, "/models/autotag", "tensorflow")


def test_model_configurations_are_what_promote_writes() -> None:
    assert parse("models.config", ModelServerConfig()) == server_config(Labels(), "/models/autotag")
    labels = Labels({"stable": 1, "canary": 2})
    assert parse("models.labels.config", ModelServerConfig()) == server_config(labels, "/models/autotag")
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig as Real

    real = Real()
    text_format.Parse(config_text(server_config(labels, "/models/autotag")), real)
    assert dict(real.model_config_list.config[0].version_labels) == {"stable": 1, "canary": 2}


def test_version_before_stays_while_the_next_one_loads() -> None:
    (model,) = parse("models.config", ModelServerConfig()).model_config_list.config
    assert model.model_version_policy.latest.num_versions == FOLLOWED_VERSIONS >= 2


def test_batching_parameters_are_ones_that_the_server_takes() -> None:
    batching = parse("batching.config", others("BatchingParameters"))
    assert batching.max_batch_size.value == 32
    assert batching.num_batch_threads.value >= 1
    assert 0 < batching.batch_timeout_micros.value <= 20_000
    assert not batching.allowed_batch_sizes, "padding repeats a clip, which may be an hour long"


def test_metrics_are_where_prometheus_and_the_proxy_look() -> None:
    path = parse("monitoring.config", others("MonitoringConfig")).prometheus_config.path
    (scrape,) = yaml.safe_load((FILES / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape["metrics_path"] == path
    assert f"location = {path} {{" in (FILES / "proxy" / "nginx.conf").read_text()
    assert deployment()["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"] == path


def deployment() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FILES / "kubernetes" / "deployment.yaml").read_text(encoding="utf-8"))
    return loaded


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FILES / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def containers() -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in deployment()["spec"]["template"]["spec"]["containers"]}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifest_passes_the_strict_schema(path: Path) -> None:
    import kubernetes_validate

    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_kustomization_names_every_manifest_and_file_that_is_there() -> None:
    kustomization = yaml.safe_load((FILES / "kustomization.yaml").read_text(encoding="utf-8"))
    assert {FILES / name for name in kustomization["resources"]} == set(MANIFESTS)
    for generated in kustomization["configMapGenerator"]:
        assert all((FILES / name).is_file() for name in generated["files"])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kubectl_builds_the_kustomization_and_all_of_it_is_valid() -> None:
    import kubernetes_validate

    built = subprocess.run(["kubectl", "kustomize", str(FILES)], capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    documents = list(yaml.safe_load_all(built.stdout))
    for document in documents:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    names = {document["metadata"]["name"] for document in documents if document["kind"] == "ConfigMap"}
    (pod,) = [entry["spec"]["template"]["spec"] for entry in documents if entry["kind"] == "Deployment"]
    assert {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume} == names


def arguments_in(given: list[str]) -> dict[str, str]:
    return dict(argument.removeprefix("--").split("=", 1) for argument in given if argument.startswith("--"))


def configured_files() -> dict[str, set[str]]:
    """Names of the files in each ConfigMap."""
    kustomization = yaml.safe_load((FILES / "kustomization.yaml").read_text(encoding="utf-8"))
    return {
        entry["name"]: {Path(name).name for name in entry["files"]} for entry in kustomization["configMapGenerator"]
    }


def test_servers_arguments_name_files_that_are_mounted_and_ports_that_are_exposed() -> None:
    serving = containers()["serving"]
    given = arguments_in(serving["args"])
    mounts = {mount["name"]: mount["mountPath"] for mount in serving["volumeMounts"]}
    mounted = {f"{mounts['serving-config']}/{name}" for name in configured_files()["autotag-serving"]}
    assert {given["model_config_file"], given["monitoring_config_file"]} <= mounted
    (model,) = parse("models.config", ModelServerConfig()).model_config_list.config
    assert mounts["models"] == model.base_path
    ports = {port["name"]: port["containerPort"] for port in serving["ports"]}
    assert {"grpc": int(given["port"]), "rest-inner": int(given["rest_api_port"])} == ports
    for probe in ("startupProbe", "readinessProbe"):
        assert serving[probe]["httpGet"] == {"path": f"/v1/models/{MODEL_NAME}/metadata", "port": "rest-inner"}


def test_proxy_listens_where_the_service_and_the_probes_ask_and_asks_where_the_server_listens() -> None:
    text = (FILES / "proxy" / "nginx.conf").read_text(encoding="utf-8")
    listens = {int(port) for port in re.findall(r"listen (\d+);", text)}
    proxy = containers()["proxy"]
    ports = {port["name"]: port["containerPort"] for port in proxy["ports"]}
    assert set(ports.values()) == listens
    assert f"server 127.0.0.1:{arguments_in(containers()['serving']['args'])['rest_api_port']};" in text
    service = yaml.safe_load((FILES / "kubernetes" / "service.yaml").read_text(encoding="utf-8"))
    targets = {port["name"]: port["targetPort"] for port in service["spec"]["ports"]}
    assert targets == {"grpc": "grpc", "rest": "rest"}, "REST goes through the proxy"
    assert "rest-inner" not in (FILES / "kubernetes" / "network_policy.yaml").read_text(encoding="utf-8")
    assert configured_files()["autotag-proxy"] == {path.name for path in (FILES / "proxy").iterdir()}
    paths = re.findall(r"v1/models/([a-z]+)", text)
    assert set(paths) == {MODEL_NAME}


def test_grpc_which_can_reload_the_configuration_is_open_to_labelled_pods_alone() -> None:
    policy = yaml.safe_load((FILES / "kubernetes" / "network_policy.yaml").read_text(encoding="utf-8"))
    open_to = {port["port"]: rule.get("from") for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    assert open_to.keys() == {"grpc", "rest", "metrics"}
    assert open_to["grpc"] == [{"podSelector": {"matchLabels": {"autotag-client": "true"}}}]


def test_kubeflows_runs_push_to_the_claim_that_is_served() -> None:
    config = yaml.safe_load((FILES.parents[2] / "pipeline" / "configs" / "mtat-kubeflow.yaml").read_text())
    claim = yaml.safe_load((FILES / "kubernetes" / "volume.yaml").read_text(encoding="utf-8"))["metadata"]["name"]
    (served,) = [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in deployment()["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    pushed_to = {volume["claim"] for volume in config["kubeflow"]["volumes"] if volume["path"] == config["push_dir"]}
    assert pushed_to == {served} == {claim}


def test_labels_select_the_pods_everywhere() -> None:
    labels = deployment()["spec"]["template"]["metadata"]["labels"]
    for path in MANIFESTS:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        selector = document["spec"].get("selector") or document["spec"].get("podSelector")
        if selector:
            assert selector.get("matchLabels", selector) == labels, path.name


def test_containers_are_confined_and_their_images_pinned() -> None:
    pod = deployment()["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers().values():
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} == set(container["resources"]["limits"]) == set(container["resources"]["requests"])
    for service in compose()["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert not service["user"].startswith("0")
    images = [service["image"] for service in compose()["services"].values()]
    images += [container["image"] for container in containers().values()]
    assert all(re.fullmatch(r"docker\.io/[a-z/]+:v?[0-9][0-9a-z.-]+", image) for image in images)


def test_compose_and_kubernetes_and_autotag_serve_start_the_same_server() -> None:
    services = compose()["services"]
    assert services["serving"]["image"] == containers()["serving"]["image"] == launchers.IMAGE
    assert services["proxy"]["image"] == containers()["proxy"]["image"]
    in_compose, in_kubernetes = (
        arguments_in(services["serving"]["command"]),
        arguments_in(containers()["serving"]["args"]),
    )
    in_kubernetes.pop("grpc_channel_arguments")
    assert in_compose.pop("mixed_precision") == "${AUTOTAG_PRECISION:-}"
    assert in_compose == in_kubernetes
    here = arguments_in(server_settings.arguments(Path("/etc/autotag"), server_settings.Settings()))
    assert {name: here[name] for name in in_compose} == in_compose


def test_compose_mounts_files_that_are_there_and_publishes_the_proxy_instead_of_rest() -> None:
    services = compose()["services"]
    for service in services.values():
        for volume in service.get("volumes", ()):
            if isinstance(volume, dict):
                assert (volume["source"], volume["target"]) == (
                    "${MODEL_DIR:-../../../demo-run/pushed}",
                    "/models/autotag",
                )
                assert volume["read_only"]
                assert volume["bind"] == {"create_host_path": False}
                continue
            source, _, mode = volume.rsplit(":", 2)
            assert mode == "ro"
            assert source.startswith("./")
            assert (FILES / source).exists()
    assert services["serving"]["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8080"]
    assert services["proxy"]["network_mode"] == "service:serving"
    assert (FILES / "../../../demo-run/pushed").resolve().parts[-2:] == ("demo-run", "pushed")


def environments() -> dict[str, dict[str, str]]:
    return {
        "compose": compose()["services"]["serving"]["environment"],
        "kubernetes": {entry["name"]: entry["value"] for entry in containers()["serving"]["env"]},
    }


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_server_has_the_environment_that_autotag_serve_gives_it(where: str) -> None:
    assert environments()[where] == server_settings.ENVIRONMENT


def test_proxys_lines_for_debian_name_the_modules_that_the_tests_load() -> None:
    text = (FILES / "proxy" / "nginx.conf").read_text(encoding="utf-8")
    found = [Path(path).name for _, path in bounding_proxy.LOAD_MODULE.findall(text)]
    assert tuple(found) == bounding_proxy.DEBIAN_MODULES
    assert text.index("load_module") < text.index("\nevents {"), "nginx: load_module is specified too late"


class ComposeLoader(yaml.SafeLoader):
    """Reads Docker Compose's tags as what they are of."""


ComposeLoader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))


def guard_in_compose() -> dict[str, Any]:
    text = (FILES / "compose.guard.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.load(text, ComposeLoader)["services"]
    return loaded


def guard_in_kubernetes() -> dict[str, dict[str, Any]]:
    patch = yaml.safe_load((FILES / "guard" / "deployment.yaml").read_text(encoding="utf-8"))
    assert patch["metadata"]["name"] == deployment()["metadata"]["name"]
    return {entry["name"]: entry for entry in patch["spec"]["template"]["spec"]["containers"]}


def test_guard_listens_where_clients_ask_and_asks_where_the_server_listens() -> None:
    arguments = guard_in_kubernetes()["guard"]["args"]
    assert arguments == guard_in_compose()["guard"]["command"]
    options = guard_command.make_context("guard", list(arguments[1:])).params
    port = int(options["listen"].split(":")[1])
    assert options["server"] == f"localhost:{arguments_in(containers()['serving']['args'])['port']}"
    assert not options["reload"]
    assert guard_in_kubernetes()["guard"]["ports"] == [{"name": "grpc", "containerPort": port}]
    assert guard_in_compose()["serving"]["ports"] == [f"127.0.0.1:8500:{port}", "127.0.0.1:8501:8080"]


def test_guard_takes_the_name_of_the_port_that_clients_reach() -> None:
    serving, guarded = containers()["serving"], guard_in_kubernetes()["serving"]
    renamed = {port["containerPort"]: port["name"] for port in guarded["ports"]}
    assert renamed == {8500: "grpc-inner"}
    assert serving["livenessProbe"]["tcpSocket"]["port"] == "grpc"
    assert guarded["livenessProbe"]["tcpSocket"]["port"] == "grpc-inner"


def test_guard_is_confined_as_the_others_are() -> None:
    container = guard_in_kubernetes()["guard"]
    assert container["securityContext"] == containers()["proxy"]["securityContext"]
    assert {"cpu", "memory"} == set(container["resources"]["limits"]) == set(container["resources"]["requests"])
    service = guard_in_compose()["guard"]
    assert (service["read_only"], service["cap_drop"], service["user"]) == (True, ["ALL"], "65532:65532")


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kubectl_builds_the_kustomization_with_the_guard(tmp_path: Path) -> None:
    shutil.copytree(FILES, tmp_path / "tfserving")
    file = tmp_path / "tfserving" / "kustomization.yaml"
    text = file.read_text(encoding="utf-8")
    assert "# components:\n#   - guard\n" in text
    file.write_text(text.replace("# components:\n#   - guard\n", "components:\n  - guard\n"), encoding="utf-8")
    built = subprocess.run(["kubectl", "kustomize", str(file.parent)], capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    (pod,) = [
        document["spec"]["template"]["spec"]
        for document in yaml.safe_load_all(built.stdout)
        if document["kind"] == "Deployment"
    ]
    ports = {port["name"]: port["containerPort"] for one in pod["containers"] for port in one["ports"]}
    assert (ports["grpc"], ports["grpc-inner"]) == (8510, 8500)
