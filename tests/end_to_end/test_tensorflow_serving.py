"""A real TensorFlow Serving answers as the model itself does, and lives through requests that are wrong.

Needs the server's binary: TENSORFLOW_MODEL_SERVER=/path/to/tensorflow_model_server.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from exported_model import TAGS, Exported, stored_example

from preprocessing.constants import CLIP_SAMPLES

SERVER = os.environ.get("TENSORFLOW_MODEL_SERVER")
pytestmark = pytest.mark.skipif(
    not SERVER, reason="needs TensorFlow Serving: set TENSORFLOW_MODEL_SERVER to the path of tensorflow_model_server"
)


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    grpc_port: int
    rest_port: int

    @property
    def url(self) -> str:
        return f"http://localhost:{self.rest_port}/v1/models/autotag"

    def rest(self, signature: str, **body: Any) -> requests.Response:
        text = json.dumps({"signature_name": signature, **body})  # NaN goes through, as the server takes it
        return requests.post(f"{self.url}:predict", data=text, timeout=120)

    def grpc(self, signature: str, **inputs: Any) -> dict[str, np.ndarray[Any, Any]]:
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        request = predict_pb2.PredictRequest()
        request.model_spec.name = "autotag"
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        with grpc.insecure_channel(f"localhost:{self.grpc_port}") as channel:
            answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=120)
        return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def wait_until_served(server: Server, log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.process.poll() is not None:
            break
        try:
            status = requests.get(server.url, timeout=5).json()
            if status["model_version_status"][0]["state"] == "AVAILABLE":
                return
        except (requests.ConnectionError, KeyError):
            pass
        time.sleep(0.2)
    pytest.fail(f"the server does not serve: {log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="module")
def server(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log.txt"
    grpc_port, rest_port = free_port(), free_port()
    call = [
        str(SERVER),
        f"--port={grpc_port}",
        f"--rest_api_port={rest_port}",
        "--model_name=autotag",
        f"--model_base_path={exported.path.parent}",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(call, stdout=output, stderr=output, env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"})
    running = Server(process, grpc_port, rest_port)
    try:
        wait_until_served(running, log)
        yield running
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def expected(loaded: Any, clips: Any) -> Any:
    """The model's own probabilities for ``clips``."""
    return loaded.signatures["waveform"](waveform=clips)["predictions"].numpy()


def test_waveform_over_grpc(server: Server, clips: Any, expected: Any) -> None:
    answer = server.grpc("waveform", waveform=clips)
    np.testing.assert_allclose(answer["predictions"], expected, atol=1e-3)
    assert [tag.decode() for tag in answer["tags"][1]] == list(TAGS)


def test_examples_over_grpc(server: Server, clips: Any, expected: Any) -> None:
    answer = server.grpc("serving_default", examples=[stored_example(clip) for clip in clips])
    np.testing.assert_allclose(answer["predictions"], expected, atol=2e-3)


def test_labels_over_grpc(server: Server, clips: Any) -> None:
    answer = server.grpc("labels", examples=[stored_example(clips[0], ("piano", "theremin"))])
    assert answer["labels"].tolist() == [[0, 0, 1, 0, 0, 0]]


def test_waveform_over_rest(server: Server, clips: Any, expected: Any) -> None:
    answer = server.rest("waveform", instances=clips[:1].tolist())
    assert answer.status_code == 200, answer.text[:500]
    (row,) = answer.json()["predictions"]
    np.testing.assert_allclose(row["predictions"], expected[0], atol=1e-3)
    assert row["tags"] == list(TAGS)


def test_examples_over_rest_in_base64(server: Server, clips: Any, expected: Any) -> None:
    rows = [{"b64": base64.b64encode(stored_example(clip)).decode()} for clip in clips]
    answer = server.rest("serving_default", instances=rows)
    assert answer.status_code == 200, answer.text[:500]
    probabilities = [row["predictions"] for row in answer.json()["predictions"]]
    np.testing.assert_allclose(probabilities, expected, atol=2e-3)


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
    server: Server, clips: Any, expected: Any, body: dict[str, Any], words: str
) -> None:
    answer = server.rest("waveform", **body)
    assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text[:500]
    assert server.process.poll() is None
    np.testing.assert_allclose(server.grpc("waveform", waveform=clips)["predictions"], expected, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((), RANK), ((CLIP_SAMPLES,), RANK), ((1, 1), LENGTH), ((1, CLIP_SAMPLES, 1), RANK), ((0, CLIP_SAMPLES), "clip")],
)
def test_wrong_waveform_over_grpc_is_invalid_argument_and_the_server_lives(
    server: Server, clips: Any, shape: tuple[int, ...], words: str
) -> None:
    import grpc

    with pytest.raises(grpc.RpcError) as caught:
        server.grpc("waveform", waveform=np.zeros(shape, np.float32))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()
    assert server.grpc("waveform", waveform=clips)["predictions"].shape == (2, len(TAGS))


def test_wrong_examples_over_rest_are_400_and_the_server_lives(server: Server, clips: Any) -> None:
    for example in (b"garbage", b"", stored_example(clips[0], log_mel=b"12"), stored_example(clips[0], waveform=None)):
        answer = server.rest("serving_default", instances=[{"b64": base64.b64encode(example).decode()}])
        assert answer.status_code == 400, answer.text[:500]
    assert server.process.poll() is None
    assert requests.get(server.url, timeout=10).json()["model_version_status"][0]["version"] == "10"
