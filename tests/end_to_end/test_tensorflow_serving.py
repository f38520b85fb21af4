"""A real TensorFlow Serving answers as the model itself does, serves new versions, and lives through wrong requests.

Needs the server's binary: TENSORFLOW_MODEL_SERVER=/path/to/tensorflow_model_server.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
import soundfile as sf
import yaml
from bounding_proxy import REASON, bounding_proxy, nginx_with_lua
from command_runner import invoke
from consumers import LANGUAGES, prepare, printed
from exported_model import TAGS, Exported, pcm_bytes, stored_example, tone
from guarded_server import claim, guarded
from ports import free_port

from preprocessing.audio.samples import to_pcm
from preprocessing.constants import CLIP_SAMPLES, SAMPLE_RATE
from preprocessing.examples import read_records
from serving.client import messages
from serving.model_info import read_model_info
from serving.server import server_settings
from serving.server.labels import Labels, read_labels
from serving.server.model_config import config_text, server_config
from serving.server.model_server import ModelServer

SERVER = os.environ.get("TENSORFLOW_MODEL_SERVER")
pytestmark = pytest.mark.skipif(
    not SERVER, reason="needs TensorFlow Serving: set TENSORFLOW_MODEL_SERVER to the path of tensorflow_model_server"
)
FILES = Path(__file__).parents[2] / "serving" / "server" / "tfserving"
TOLERANCE = 1e-5
BFLOAT16_TOLERANCE = 0.05
"""Of networks without training whose last layer is scaled so that they say something."""
START_SECONDS = 180.0
Arrays = dict[str, np.ndarray[Any, Any]]


# The server


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    grpc_port: int
    rest_port: int
    log: Path

    @property
    def address(self) -> str:
        return f"localhost:{self.grpc_port}"

    @property
    def url(self) -> str:
        return f"http://localhost:{self.rest_port}/v1/models/autotag"

    def alive(self) -> bool:
        return self.process.poll() is None

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def call(self, path: str, request: Any, response: Any, timeout: float = 120) -> Any:
        with grpc.insecure_channel(self.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
            method = channel.unary_unary(
                path, request_serializer=type(request).SerializeToString, response_deserializer=response.FromString
            )
            return method(request, timeout=timeout)

    def grpc(self, signature: str, value: Any, name: str = "", **spec: Any) -> Arrays:
        request = predict_request(signature, value, name, **spec)
        answer = self.call(messages.PREDICT, request, messages.PredictResponse)
        return {key: messages.from_tensor(tensor) for key, tensor in answer.outputs.items()}

    def rest(self, body: Any, verb: str = "predict", part: str = "", **options: Any) -> requests.Response:
        text = json.dumps(body)  # NaN goes through, as the server takes it
        return requests.post(f"{self.url}{part}:{verb}", data=text, timeout=120, **options)

    def states(self) -> dict[int, int]:
        client = ModelServer(self.address)
        try:
            return {version: state.state for version, state in client.status().items()}
        finally:
            client.close()

    def wait_for(self, condition: Callable[[dict[int, int]], bool], seconds: float = 60) -> dict[int, int]:
        """Wait until the versions' states are as they should be."""
        end = time.monotonic() + seconds
        while not condition(states := self.states()):
            assert time.monotonic() < end, f"{states}: {self.log_text()[-3000:]}"
            time.sleep(0.1)
        return states


def predict_request(signature: str, value: Any, name: str = "", label: str = "", version: int = 0) -> Any:
    request = messages.PredictRequest()
    request.model_spec.name = "autotag"
    request.model_spec.signature_name = signature
    if label:
        request.model_spec.version_label = label
    if version:
        request.model_spec.version.value = version
    request.inputs[name or INPUTS[signature]].CopyFrom(messages.to_tensor(value))
    return request


@contextlib.contextmanager
def started(folder: Path, *flags: str) -> Iterator[Server]:
    """The server with these flags, when its ports are open; its log is in ``folder``."""
    grpc_port, rest_port = free_port(), free_port()
    log = folder / f"log-{grpc_port}.txt"
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    call = [str(SERVER), f"--port={grpc_port}", f"--rest_api_port={rest_port}", *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(
            call,
            stdout=output,
            stderr=output,
            env={**server_settings.ENVIRONMENT, **environment, "TF_ENABLE_ONEDNN_OPTS": "1"},
        )
    server = Server(process, grpc_port, rest_port, log)
    try:
        wait_until_open(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_open(server: Server) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.alive():
        try:
            for port in (server.grpc_port, server.rest_port):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"the server does not serve: {server.log_text()[-3000:]}")


def flags_for(config: Any, folder: Path) -> list[str]:
    """The flags of serving/server/tfserving for a model configuration, which is written to ``folder``."""
    file = folder / "models.config"
    file.write_text(config_text(config), encoding="utf-8")
    return [
        f"--model_config_file={file}",
        "--allow_version_labels_for_unavailable_models=true",
        f"--monitoring_config_file={FILES / 'monitoring.config'}",
        "--grpc_max_threads=64",
        "--rest_api_timeout_in_ms=120000",
        "--num_load_threads=2",
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=1000000",
    ]


@pytest.fixture(scope="module")
def server(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Version 10, labelled stable."""
    folder = tmp_path_factory.mktemp("server")
    config = server_config(Labels({"stable": 10}), str(exported.path.parent))
    with started(folder, *flags_for(config, folder)) as running:
        yield running


@pytest.fixture
def pushed(exported: Exported, tmp_path: Path) -> Path:
    """A folder of versions of this test's own, with version 10."""
    folder = tmp_path / "pushed"
    shutil.copytree(exported.path, folder / "10")
    return folder


def push(folder: Path, version: int, source: Path) -> None:
    """Add a version as the Pusher does: whole or not at all."""
    part = folder / f"part-of-{version}"
    shutil.copytree(source, part)
    part.rename(folder / str(version))


# What is sent, and what the model says itself

INPUTS = {
    "serving_default": "examples",
    "waveform": "waveform",
    "pcm": "pcm",
    "wav": "wav",
    "embedding": "pcm",
    "labels": "examples",
    "classify": "inputs",
}
PREDICTED = ("serving_default", "waveform", "pcm", "wav", "embedding", "labels")


def riff(samples: np.ndarray[Any, Any], channels: int = 1, rate: int = SAMPLE_RATE) -> bytes:
    file = io.BytesIO()
    sf.write(file, np.repeat(samples[:, None], channels, axis=1), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture(scope="module")
def values(clips: Any) -> dict[str, Any]:
    """What each signature is sent: two clips; of PCM and WAV, one longer than a window."""
    long, short = tone(40, 330), tone(3, 660)
    examples = [stored_example(clips[0], ("piano", "drums")), stored_example(clips[1])]
    pcm = [to_pcm(long).tobytes(), to_pcm(short).tobytes()]
    return {
        "serving_default": examples,
        "labels": examples,
        "classify": examples,
        "waveform": clips,
        "pcm": pcm,
        "embedding": pcm,
        "wav": [riff(long, channels=2), riff(short)],
    }


@pytest.fixture(scope="module")
def expected(loaded: Any, values: dict[str, Any]) -> dict[str, Arrays]:
    """The answers of the SavedModel, called directly."""
    import tensorflow as tf

    return {
        signature: {
            key: tensor.numpy()
            for key, tensor in loaded.signatures[signature](**{INPUTS[signature]: tf.constant(value)}).items()
        }
        for signature, value in values.items()
    }


def as_json(value: Any) -> list[Any]:
    """Rows of a request: numbers as they are, bytes in base64."""
    if isinstance(value, np.ndarray):
        rows: list[Any] = value.tolist()
        return rows
    return [{"b64": base64.b64encode(entry).decode()} for entry in value]


def assert_same(answer: dict[str, Any], expected: Arrays) -> None:
    assert set(answer) == set(expected)
    for key, value in expected.items():
        seen = np.asarray(answer[key])
        if value.dtype == object:
            words = [[entry.decode() if isinstance(entry, bytes) else entry for entry in row] for row in seen]
            assert words == [[entry.decode() for entry in row] for row in value], key
        elif value.dtype.kind == "f":
            np.testing.assert_allclose(seen, value, atol=TOLERANCE, rtol=0, err_msg=key)
        else:
            np.testing.assert_array_equal(seen, value, err_msg=key)


# Every signature, over gRPC and REST


@pytest.mark.parametrize("signature", PREDICTED)
def test_signature_over_grpc(server: Server, values: Any, expected: Any, signature: str) -> None:
    assert_same(server.grpc(signature, values[signature]), expected[signature])


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_card_is_the_pushed_versions_own(server: Server, exported: Exported, transport: Any) -> None:
    from serving.client import TagClient

    address = server.address if transport == "grpc" else f"localhost:{server.rest_port}"
    with TagClient(address, transport=transport) as client:
        assert client.card().info == read_model_info(exported.path)


@pytest.mark.parametrize("named", [False, True], ids=["plain", "named"])
@pytest.mark.parametrize("signature", PREDICTED)
def test_signature_over_rest_in_rows(server: Server, values: Any, expected: Any, signature: str, named: bool) -> None:
    rows = as_json(values[signature])
    if named:
        rows = [{INPUTS[signature]: row} for row in rows]
    answer = server.rest({"signature_name": signature, "instances": rows})
    assert answer.status_code == 200, answer.text[:500]
    predictions = answer.json()["predictions"]
    keys = list(expected[signature])
    if len(keys) == 1:  # a single output stands without its name
        predictions = [{keys[0]: row} for row in predictions]
    assert_same({key: [row[key] for row in predictions] for key in predictions[0]}, expected[signature])


@pytest.mark.parametrize("named", [False, True], ids=["plain", "named"])
@pytest.mark.parametrize("signature", PREDICTED)
def test_signature_over_rest_in_columns(
    server: Server, values: Any, expected: Any, signature: str, named: bool
) -> None:
    rows = as_json(values[signature])
    answer = server.rest({"signature_name": signature, "inputs": {INPUTS[signature]: rows} if named else rows})
    assert answer.status_code == 200, answer.text[:500]
    outputs = answer.json()["outputs"]
    keys = list(expected[signature])
    assert_same(outputs if len(keys) > 1 else {keys[0]: outputs}, expected[signature])


def test_answer_can_be_filtered(server: Server, values: Any, expected: Any) -> None:
    request = predict_request("pcm", values["pcm"])
    request.output_filter.append("predictions")
    answer = server.call(messages.PREDICT, request, messages.PredictResponse)
    outputs = {key: messages.from_tensor(tensor) for key, tensor in answer.outputs.items()}
    assert_same(outputs, {"predictions": expected["pcm"]["predictions"]})


def test_gzip_over_rest(server: Server, values: Any, expected: Any) -> None:
    body = json.dumps({"signature_name": "pcm", "instances": as_json(values["pcm"])}).encode()
    answer = requests.post(
        f"{server.url}:predict", data=gzip.compress(body), headers={"Content-Encoding": "gzip"}, timeout=120
    )
    assert answer.status_code == 200, answer.text[:500]
    rows = answer.json()["predictions"]
    np.testing.assert_allclose([row["predictions"] for row in rows], expected["pcm"]["predictions"], atol=TOLERANCE)


def test_classify_api_over_grpc(server: Server, values: Any, expected: Any) -> None:
    request = messages.ClassificationRequest()
    request.model_spec.name = "autotag"
    request.model_spec.signature_name = "classify"
    for example in values["classify"]:
        request.input.example_list.examples.add().ParseFromString(example)
    answer = server.call(messages.CLASSIFY, request, messages.ClassificationResponse)
    rows = answer.result.classifications
    assert [[entry.label for entry in row.classes] for row in rows] == [list(TAGS)] * 2
    scores = [[entry.score for entry in row.classes] for row in rows]
    np.testing.assert_allclose(scores, expected["classify"]["scores"], atol=TOLERANCE)


def test_classify_api_over_rest(server: Server, values: Any, expected: Any) -> None:
    def features(example: bytes) -> dict[str, Any]:
        parsed = messages.Example.FromString(example).features.feature
        return {
            name: {"b64": base64.b64encode(feature.bytes_list.value[0]).decode()}
            for name, feature in parsed.items()
            if len(feature.bytes_list.value) == 1
        }

    body = {"signature_name": "classify", "examples": [features(example) for example in values["classify"]]}
    answer = server.rest(body, "classify")
    assert answer.status_code == 200, answer.text[:500]
    results = answer.json()["results"]
    assert [[label for label, _ in row] for row in results] == [list(TAGS)] * 2
    scores = [[score for _, score in row] for row in results]
    np.testing.assert_allclose(scores, expected["classify"]["scores"], atol=TOLERANCE)


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_our_client(server: Server, values: Any, expected: Any, transport: Any) -> None:
    from serving.client import TagClient

    address = server.address if transport == "grpc" else f"localhost:{server.rest_port}"
    with TagClient(address, transport=transport, label="stable") as client:
        tagged = client.tag_pcm(values["pcm"])
    assert [list(clip.tags) for clip in tagged] == [list(TAGS)] * 2
    np.testing.assert_allclose([clip.probabilities for clip in tagged], expected["pcm"]["predictions"], atol=TOLERANCE)
    assert [clip.windows for clip in tagged] == expected["pcm"]["windows"].tolist()


# Metadata, status, labels, metrics, warm-up


def signature_definitions(server: Server) -> Any:
    request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "autotag"
    answer = server.call(messages.GET_MODEL_METADATA, request, messages.GetModelMetadataResponse)
    definitions = messages.SignatureDefMap()
    definitions.ParseFromString(answer.metadata["signature_def"].value)
    assert answer.model_spec.version.value == 10
    return definitions.signature_def


def test_metadata_over_grpc_and_rest_names_every_signature(server: Server) -> None:
    definitions = signature_definitions(server)
    over_rest = requests.get(f"{server.url}/metadata", timeout=30).json()
    assert over_rest["model_spec"]["version"] == "10"
    in_json = over_rest["metadata"]["signature_def"]["signature_def"]
    for signature, name in INPUTS.items():
        assert list(definitions[signature].inputs) == [name]
        assert list(in_json[signature]["inputs"]) == [name]
        assert set(definitions[signature].outputs) == set(in_json[signature]["outputs"])
    assert definitions["classify"].method_name == "tensorflow/serving/classify"
    assert in_json["waveform"]["inputs"]["waveform"]["dtype"] == "DT_FLOAT"


def test_status_over_grpc_and_rest(server: Server) -> None:
    assert server.states() == {10: 30}
    (status,) = requests.get(server.url, timeout=30).json()["model_version_status"]
    assert (status["version"], status["state"], status["status"]["error_code"]) == ("10", "AVAILABLE", "OK")


def test_label_and_version_choose_over_grpc_and_rest(server: Server, values: Any, expected: Any) -> None:
    wanted = expected["pcm"]["predictions"]
    for spec in ({"label": "stable"}, {"version": 10}):
        np.testing.assert_allclose(server.grpc("pcm", values["pcm"], **spec)["predictions"], wanted, atol=TOLERANCE)
    body = {"signature_name": "pcm", "instances": as_json(values["pcm"])}
    for part in ("/labels/stable", "/versions/10"):
        answer = server.rest(body, part=part)
        assert answer.status_code == 200, answer.text[:500]
        rows = answer.json()["predictions"]
        np.testing.assert_allclose([row["predictions"] for row in rows], wanted, atol=TOLERANCE)


def test_unknown_label_version_model_and_signature_say_so(server: Server, values: Any) -> None:
    body = {"signature_name": "pcm", "instances": as_json(values["pcm"][1:])}
    answer = server.rest(body, part="/labels/canary")
    assert "Unrecognized servable version label: canary" in answer.json()["error"]
    answer = server.rest(body, part="/versions/9")
    assert (answer.status_code, "Servable not found" in answer.json()["error"]) == (404, True)
    answer = requests.post(server.url.replace("autotag", "nope") + ":predict", json=body, timeout=30)
    assert (answer.status_code, "Servable not found" in answer.json()["error"]) == (404, True)
    answer = server.rest({**body, "signature_name": "nope"})
    assert 'Serving signature name: "nope" not found in signature def' in answer.json()["error"]
    for code, spec in ((grpc.StatusCode.NOT_FOUND, {"version": 9}), (None, {"label": "canary"})):
        with pytest.raises(grpc.RpcError) as caught:
            server.grpc("pcm", values["pcm"][1:], **spec)
        assert code in (None, caught.value.code())


def test_metrics_are_where_the_monitoring_file_says(server: Server, values: Any) -> None:
    server.grpc("pcm", values["pcm"][1:])
    answer = requests.get(f"http://localhost:{server.rest_port}/monitoring/prometheus/metrics", timeout=30)
    assert answer.status_code == 200
    assert ":tensorflow:serving:request_count" in answer.text
    assert 'model_name="autotag"' in answer.text


def test_warm_up_requests_are_read_when_the_version_is_loaded(server: Server, exported: Exported) -> None:
    with (exported.path / "assets.extra" / "tf_serving_warmup_requests").open("rb") as file:
        records = len(list(read_records(file)))
    assert records > 0
    read = re.search(r"Finished reading warmup data.*?warmup records read: (\d+)", server.log_text())
    assert read is not None, server.log_text()[-3000:]
    assert int(read[1]) == records


# Batching


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_consumers_in_other_languages_print_the_models_tags(
    server: Server, values: dict[str, Any], expected: dict[str, Arrays], language: str, tmp_path: Path
) -> None:
    song = tmp_path / "a.wav"
    song.write_bytes(values["wav"][0])
    port = server.rest_port if LANGUAGES[language] == "rest" else server.grpc_port
    tagged = printed(prepare(language, tmp_path / "built")(f"localhost:{port}", song))
    names = [tag.decode() for tag in expected["wav"]["tags"][0]]
    probabilities = dict(zip(names, map(float, expected["wav"]["predictions"][0]), strict=True))
    highest = sorted(probabilities.values(), reverse=True)[: len(tagged)]
    assert [probability for _, probability in tagged] == pytest.approx(highest, abs=1e-3)
    assert dict(tagged) == pytest.approx({tag: probabilities[tag] for tag, _ in tagged}, abs=1e-3)


@pytest.fixture(scope="module")
def batching_server(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("batching")
    flags = flags_for(server_config(Labels({"stable": 10}), str(exported.path.parent)), folder)
    parameters = f"--batching_parameters_file={FILES / 'batching.config'}"
    with started(folder, *flags, "--enable_batching=true", parameters) as running:
        yield running


def test_clips_that_are_answered_in_one_batch_get_their_own_answers(
    batching_server: Server, values: Any, expected: Any
) -> None:
    answers: dict[int, Arrays] = {}

    def ask(number: int) -> None:
        answers[number] = batching_server.grpc("pcm", [values["pcm"][number % 2]])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(16))
    for number, answer in answers.items():
        row, windows = number % 2, int(expected["pcm"]["windows"][number % 2])
        np.testing.assert_allclose(answer["predictions"][0], expected["pcm"]["predictions"][row], atol=TOLERANCE)
        assert answer["windows"].tolist() == [windows]
        np.testing.assert_allclose(
            answer["window_predictions"][0, :windows],
            expected["pcm"]["window_predictions"][row, :windows],
            atol=TOLERANCE,
        )


def test_every_signature_works_with_batching(batching_server: Server, values: Any, expected: Any) -> None:
    for signature in PREDICTED:
        assert_same(batching_server.grpc(signature, values[signature]), expected[signature])


def test_request_larger_than_a_batch_is_invalid_argument(batching_server: Server) -> None:
    with pytest.raises(grpc.RpcError, match="larger than maximum input batch size") as caught:
        batching_server.grpc("pcm", [b"\0\0"] * 33)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert batching_server.alive()


# The files of serving/server/tfserving


def with_base_path(name: str, base_path: Path, folder: Path) -> Path:
    """A committed model configuration, with this machine's path for /models/autotag."""
    text = (FILES / name).read_text(encoding="utf-8")
    assert text.count('"/models/autotag"') == 1
    (folder / name).write_text(text.replace("/models/autotag", str(base_path)), encoding="utf-8")
    return folder / name


def committed_arguments(where: str) -> list[str]:
    if where == "compose":
        arguments = yaml.safe_load((FILES / "compose.yaml").read_text())["services"]["serving"]["command"]
    else:
        deployment = yaml.safe_load((FILES / "kubernetes" / "deployment.yaml").read_text())
        (serving, _) = deployment["spec"]["template"]["spec"]["containers"]
        arguments = serving["args"]
    as_started = [re.sub(r"\$\{[A-Z_]+:-\}", "", argument) for argument in arguments]
    return [argument for argument in as_started if not re.match("--(port|rest_api_port)=", argument)]


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_committed_arguments_and_files_start_the_server(
    exported: Exported, tmp_path: Path, values: Any, expected: Any, where: str
) -> None:
    for name in ("monitoring.config", "batching.config"):
        shutil.copy(FILES / name, tmp_path)
    with_base_path("models.config", exported.path.parent, tmp_path)
    arguments = [argument.replace("/etc/autotag", str(tmp_path)) for argument in committed_arguments(where)]
    with started(tmp_path, *arguments) as running:
        assert_same(running.grpc("pcm", values["pcm"]), expected["pcm"])


def test_committed_configuration_with_labels_starts_the_server(
    exported: Exported, tmp_path: Path, values: Any, expected: Any
) -> None:
    for version in (1, 2):
        shutil.copytree(exported.path, tmp_path / "models" / str(version))
    file = with_base_path("models.labels.config", tmp_path / "models", tmp_path)
    flags = (f"--model_config_file={file}", "--allow_version_labels_for_unavailable_models=true")
    with started(tmp_path, *flags) as running:
        running.wait_for(lambda states: states == {1: 30, 2: 30})
        for label, version in (("stable", 1), ("canary", 2)):
            request = predict_request("pcm", values["pcm"], label=label)
            answer = running.call(messages.PREDICT, request, messages.PredictResponse)
            assert answer.model_spec.version.value == version
            assert_same({key: messages.from_tensor(tensor) for key, tensor in answer.outputs.items()}, expected["pcm"])


@pytest.mark.skipif(not server_settings.multiplies_in_bfloat16(), reason="needs a CPU with avx512_bf16 or amx_bf16")
def test_answers_in_bfloat16_are_nearly_those_in_float32(
    exported: Exported, tmp_path: Path, values: Any, expected: Any
) -> None:
    flags = flags_for(server_config(Labels({"stable": 10}), str(exported.path.parent)), tmp_path)
    with started(tmp_path, *flags, "--mixed_precision=bfloat16") as running:
        assert "Running inference with bfloat16 auto mixed precision" in running.log_text()
        for signature in ("pcm", "wav", "waveform", "serving_default"):
            answer = running.grpc(signature, values[signature])["predictions"]
            np.testing.assert_allclose(answer, expected[signature]["predictions"], atol=BFLOAT16_TOLERANCE)


# New versions, promotion and rollback


@dataclass
class Clients:
    """Eight clients that ask without pause, and what they got."""

    versions: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def ask(self, server: Server, label: str) -> None:
        request = predict_request("pcm", [pcm_bytes(0.5)], label=label)
        with grpc.insecure_channel(server.address) as channel:
            method = channel.unary_unary(
                messages.PREDICT,
                request_serializer=messages.PredictRequest.SerializeToString,
                response_deserializer=messages.PredictResponse.FromString,
            )
            while not self.done.is_set():
                try:
                    self.versions.append(method(request, timeout=60).model_spec.version.value)
                except grpc.RpcError as error:
                    self.failures.append(f"{error.code()}: {error.details()}")

    def wait_for(self, version: int, seconds: float = 60) -> None:
        """Wait until all of the last 16 answers are of this version."""
        end = time.monotonic() + seconds
        while set(self.versions[-16:]) != {version} or len(self.versions) < 16:
            assert time.monotonic() < end, f"{self.versions[-16:]}, {self.failures[:3]}"
            time.sleep(0.1)


@contextlib.contextmanager
def eight_clients(server: Server, label: str = "") -> Iterator[Clients]:
    clients = Clients()
    threads = [threading.Thread(target=clients.ask, args=(server, label)) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        clients.done.set()
        for thread in threads:
            thread.join()


def test_new_version_is_served_while_eight_clients_ask_and_no_request_fails(
    pushed: Path, exported: Exported, tmp_path: Path
) -> None:
    config = server_config(Labels(), str(pushed))
    with started(tmp_path, *flags_for(config, tmp_path)) as running, eight_clients(running) as clients:
        clients.wait_for(10)
        push(pushed, 20, exported.path)
        clients.wait_for(20)
        push(pushed, 30, exported.path)
        clients.wait_for(30)
        running.wait_for(lambda states: states.get(10) != 30)  # the two newest are kept
        time.sleep(1)
    assert clients.failures == []
    assert set(clients.versions) == {10, 20, 30}


def autotag(name: str, *arguments: object) -> str:
    """Run `autotag promote` or `autotag rollback`, and return what it printed."""
    result = invoke(name, *arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stdout + result.stderr
    return result.stdout


def test_promotion_and_rollback_while_eight_clients_ask_and_no_request_fails(
    pushed: Path, exported: Exported, tmp_path: Path
) -> None:
    config = server_config(Labels(), str(pushed))
    with started(tmp_path, *flags_for(config, tmp_path)) as running:
        autotag("promote", "10", pushed, "--server", running.address)
        push(pushed, 20, exported.path)
        with eight_clients(running, "stable") as labelled, eight_clients(running) as unlabelled:
            labelled.wait_for(10)
            autotag("promote", "newest", pushed, "--server", running.address)
            labelled.wait_for(20)
            unlabelled.wait_for(20)
            assert running.states()[10] == 30, "kept for the rollback"
            autotag("rollback", pushed, "--server", running.address)
            labelled.wait_for(10)
            unlabelled.wait_for(10)
            running.wait_for(lambda states: states[20] != 30)
        assert labelled.failures == unlabelled.failures == []
        assert read_labels(pushed).current == {"stable": 10}
        assert "available" in autotag("promote", "--show", pushed, "--server", running.address)


def test_second_label_beside_the_first(pushed: Path, exported: Exported, tmp_path: Path) -> None:
    push(pushed, 20, exported.path)
    config = server_config(Labels({"stable": 10}), str(pushed))
    with started(tmp_path, *flags_for(config, tmp_path)) as running:
        autotag("promote", "10", pushed, "--no-server")
        autotag("promote", "20", pushed, "--label", "canary", "--server", running.address)
        for label, version in (("stable", 10), ("canary", 20)):
            request = predict_request("pcm", [b"\0\0" * 1000], label=label)
            assert running.call(messages.PREDICT, request, messages.PredictResponse).model_spec.version.value == version


def test_server_starts_with_the_labels_that_were_promoted(pushed: Path, exported: Exported, tmp_path: Path) -> None:
    push(pushed, 20, exported.path)
    file = with_base_path("models.config", pushed, tmp_path)
    autotag("promote", "10", pushed, "--no-server", "--config", file)
    flags = (f"--model_config_file={file}", "--allow_version_labels_for_unavailable_models=true")
    with started(tmp_path, *flags) as running:
        request = predict_request("pcm", [b"\0\0" * 1000], label="stable")
        assert running.call(messages.PREDICT, request, messages.PredictResponse).model_spec.version.value == 10
        assert 20 not in running.states()


def test_broken_version_beside_a_good_one_is_not_served_and_cannot_be_promoted(
    pushed: Path, exported: Exported, tmp_path: Path
) -> None:
    from preprocessing.errors import AutotagError

    config = server_config(Labels(), str(pushed))
    with started(tmp_path, *flags_for(config, tmp_path)) as running, eight_clients(running) as clients:
        clients.wait_for(10)
        shutil.copytree(exported.path, tmp_path / "broken")
        (tmp_path / "broken" / "saved_model.pb").write_bytes(b"no model")
        push(pushed, 20, tmp_path / "broken")
        running.wait_for(lambda states: 20 in states)
        with pytest.raises(AutotagError, match="version 20 is"):
            autotag("promote", "20", pushed, "--server", running.address, "--wait", "8")
        assert read_labels(pushed).current == {}
        assert running.states()[10] == 30
        assert running.states()[20] != 30
        clients.wait_for(10)
    assert clients.failures == []
    assert set(clients.versions) == {10}


# Requests that are wrong


LENGTH = f"expected {CLIP_SAMPLES} samples a clip"
RANK = f"expected [clips, {CLIP_SAMPLES}]"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"instances": [1]}, RANK),
        ({"instances": [[1]]}, LENGTH),
        ({"instances": [[[1]]]}, RANK),
        ({"instances": [[[[1]]]]}, RANK),
        ({"inputs": 1}, RANK),
        ({"inputs": []}, RANK),
        ({"instances": [[0.0] * (CLIP_SAMPLES - 1)]}, LENGTH),
        ({"instances": [[float("nan")] * CLIP_SAMPLES]}, "expected finite values"),
        ({"instances": [[2] * CLIP_SAMPLES]}, "expected values from -1 to 1"),
    ],
    ids=["rank 1", "one sample", "rank 3", "rank 4", "scalar", "nothing", "one short", "NaN", "too loud"],
)
def test_wrong_waveform_over_rest_is_400_and_the_server_lives(
    server: Server, values: Any, expected: Any, body: dict[str, Any], words: str
) -> None:
    answer = server.rest({"signature_name": "waveform", **body})
    assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text[:500]
    assert_good_request_is_answered(server, values, expected)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((), RANK), ((CLIP_SAMPLES,), RANK), ((1, 1), LENGTH), ((1, CLIP_SAMPLES, 1), RANK), ((0, CLIP_SAMPLES), "clip")],
)
def test_wrong_waveform_over_grpc_is_invalid_argument_and_the_server_lives(
    server: Server, values: Any, expected: Any, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.grpc("waveform", np.zeros(shape, np.float32))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()
    assert_good_request_is_answered(server, values, expected)


@pytest.mark.parametrize(
    ("signature", "value", "words"),
    [
        ("wav", riff(tone(1, rate=22_050), rate=22_050), "16000 Hz"),
        ("wav", b"ID3\4 an MP3", "RIFF"),
        ("wav", riff(tone(1))[:30], "wav:"),
        ("pcm", b"", "pcm:"),
        ("pcm", b"odd", "pcm:"),
        ("embedding", b"odd", "pcm:"),
        ("serving_default", b"garbage", "examples:"),
        ("serving_default", b"", "examples:"),
    ],
    ids=["rate", "MP3", "cut", "empty", "odd", "odd for embedding", "garbage", "no example"],
)
def test_wrong_bytes_are_refused_over_both_and_the_server_lives(
    server: Server, values: Any, expected: Any, signature: str, value: bytes, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.grpc(signature, [value])
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()
    answer = server.rest({"signature_name": signature, "instances": as_json([value])})
    assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text[:500]
    assert_good_request_is_answered(server, values, expected)


def test_wrong_dtype_and_unknown_input_are_refused(server: Server, values: Any, expected: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.grpc("waveform", np.zeros((1, CLIP_SAMPLES), np.float64))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as caught:
        server.grpc("waveform", np.zeros((1, CLIP_SAMPLES), np.float32), "z")
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    answer = server.rest({"signature_name": "waveform", "instances": [{"z": [0.0]}]})
    assert (answer.status_code, "does not have named input" in answer.json()["error"]) == (400, True)
    assert_good_request_is_answered(server, values, expected)


def assert_good_request_is_answered(server: Server, values: Any, expected: Any) -> None:
    assert server.alive(), server.log_text()[-3000:]
    answer = server.grpc("pcm", values["pcm"][1:])
    np.testing.assert_allclose(answer["predictions"], expected["pcm"]["predictions"][1:], atol=TOLERANCE)


@pytest.mark.skipif(nginx_with_lua() is None, reason=REASON)
def test_nesting_that_would_end_the_server_is_stopped_by_the_proxy(
    server: Server, values: Any, expected: Any, tmp_path: Path
) -> None:
    with bounding_proxy(server.rest_port, tmp_path) as proxy:
        url = f"{proxy.url}/v1/models/autotag"
        for body in (b"[" * 100_000, b'{"instances": ' + b"[" * 1_000_000):
            answer = requests.post(f"{url}:predict", data=body, timeout=60)
            assert (answer.status_code, "nested deeper" in answer.json()["error"]) == (400, True)
        good = {"signature_name": "pcm", "instances": as_json(values["pcm"])}
        answer = requests.post(f"{url}/labels/stable:predict", json=good, timeout=120)
        assert answer.status_code == 200, answer.text[:500]
        rows = answer.json()["predictions"]
        np.testing.assert_allclose([row["predictions"] for row in rows], expected["pcm"]["predictions"], atol=TOLERANCE)
        assert requests.get(f"{url}/metadata", timeout=30).status_code == 200
        assert requests.get(f"{proxy.inner_url}/ready", timeout=30).status_code == 200
    assert_good_request_is_answered(server, values, expected)


# The guard in front of gRPC


def resident_bytes(server: Server) -> int:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_guard_keeps_claimed_shapes_off_the_server_and_passes_the_rest_on(
    server: Server, values: Any, expected: Any
) -> None:
    from serving.client import TagClient

    before = resident_bytes(server)
    with guarded(server.address) as address:
        with grpc.insecure_channel(address) as channel:
            for request in (claim([2**29], float_val=[0.0]), claim([60], dtype=7, string_val=[b"ab"])):
                with pytest.raises(grpc.RpcError, match="refused before it reached the model server"):
                    channel.unary_unary(messages.PREDICT)(request, timeout=60)
        assert resident_bytes(server) - before < 2**26
        with TagClient(address, label="stable") as client:
            tagged = client.tag_pcm(values["pcm"])
        np.testing.assert_allclose(
            [one.probabilities for one in tagged], expected["pcm"]["predictions"], atol=TOLERANCE
        )
    assert_good_request_is_answered(server, values, expected)


# autotag serve


def lines_until(process: subprocess.Popen[str], last: str) -> list[str]:
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.strip())
        if last in line:
            return lines
    assert process.stderr is not None
    raise AssertionError(f"{lines}, {process.stderr.read()}")


@pytest.mark.parametrize("batching", ["--batching", "--no-batching"])
def test_autotag_serve_starts_it_prints_requests_that_work_and_stops_it(
    pushed: Path, tmp_path: Path, batching: str
) -> None:
    ports = free_port(), free_port()
    call = [sys.executable, "-c", "from pipeline.cli import main; main()", "serve", str(pushed), batching]
    process = subprocess.Popen(
        [*call, "--grpc-port", str(ports[0]), "--rest-port", str(ports[1]), "--log", str(tmp_path / "log.txt")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=FILES.parents[2],
    )
    try:
        lines = lines_until(process, "printf")
        assert lines[0] == "serving version 10; Ctrl-C stops"
        (line,) = [line for line in lines if line.startswith("curl")]
        _, _, file, url = line.split()
        answer = requests.post(url, data=Path(file.removeprefix("@")).read_bytes(), timeout=60)
        assert answer.status_code == 200, answer.text[:500]
        (row,) = answer.json()["predictions"]
        assert (len(row["predictions"]), row["windows"]) == (len(TAGS), 1)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr.splitlines()[-2:]) == (0, ["stopping ...", "stopped"])
    finally:
        process.kill()
        process.wait()
    for port in ports:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=1)


def test_autotag_serve_gives_the_servers_own_words_where_the_model_is_broken(pushed: Path) -> None:
    (pushed / "10" / "saved_model.pb").write_bytes(b"no model")
    call = [sys.executable, "-c", "from pipeline.cli import main; main()", "serve", str(pushed), "--wait", "60"]
    ports: Sequence[str] = ("--grpc-port", str(free_port()), "--rest-port", str(free_port()))
    done = subprocess.run([*call, *ports], capture_output=True, text=True, timeout=150, cwd=FILES.parents[2])
    assert done.returncode == 1
    assert "Its last lines:" in done.stderr
    assert "Traceback" not in done.stderr
