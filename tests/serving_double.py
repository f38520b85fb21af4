"""A double of TensorFlow Serving for tests: a real gRPC server and a real HTTP server, both on ports of their own.

It answers as TF Serving does (its generated services, its REST API, its words for bad requests) from a SavedModel or,
where no network is needed, from a made-up model that computes probabilities from the bytes of each window. It can be
told to fail::

    with serving_double() as double:
        double.fail_next("unavailable", times=2)
        TagClient(double.grpc_address).tag_pcm([pcm])

``python tests/serving_double.py MODEL_DIR --grpc-port 8500 --rest-port 8501`` runs it by hand.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import inspect
import io
import json
import math
import os
import re
import socket
import threading
import time
import wave
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Protocol

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from preprocessing.audio.samples import from_pcm
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.constants import SAMPLE_RATE
from preprocessing.digits import is_number
from preprocessing.silence import is_silent, mean_of_heard
from serving.model_info import ModelInfo

EMPTY_FIELDS_TOO = next(
    name
    for name in ("always_print_fields_with_no_presence", "including_default_value_fields")  # from protobuf 5, before
    if name in inspect.signature(MessageToDict).parameters
)

TAGS = ("guitar", "no vocals", "piano", "drums", "fast", "männer")
THRESHOLDS = (0.5, 0.25, 0.125, 0.5, 0.75, 0.999)
EMBEDDING_SIZE = 8

Fault = Literal[
    "unavailable", "exhausted", "internal", "slow", "drip", "cut", "wrong_shape", "no_tags", "merged", "nan", "garbage"
]
Arrays = dict[str, np.ndarray[Any, Any]]

SLOW_SECONDS = 1.5


class RefusedError(Exception):
    """What the graph refuses (INVALID_ARGUMENT, 400)."""


@dataclass(frozen=True)
class Tensor:
    """Type and shape of an input or output; None: any rank."""

    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    method: str = "tensorflow/serving/predict"


class Model(Protocol):
    signatures: dict[str, Signature]

    def __call__(self, signature: str, value: np.ndarray[Any, Any]) -> Arrays:
        """Answer the one input of a signature; raise RefusedError."""


class MadeUpModel:
    """Probabilities drawn from the CRC of each window's samples: other bytes or other windows, other tags.

    Without a card it is one that was pushed before models had the signature ``model_card``.
    """

    def __init__(
        self,
        tags: tuple[str, ...] = TAGS,
        thresholds: tuple[float, ...] = THRESHOLDS,
        salt: int = 0,
        card: ModelInfo | None = None,
    ) -> None:
        self.tags = tags
        self.thresholds = np.array(thresholds, np.float32)
        self.salt = salt
        self.card = card
        self.clip = PAPER_CLIP if card is None else card.clip
        text, tagging = (
            Tensor("DT_STRING", None),
            {
                "predictions": Tensor("DT_FLOAT", (-1, len(tags))),
                "tags": Tensor("DT_STRING", (-1, len(tags))),
                "thresholds": Tensor("DT_FLOAT", (-1, len(tags))),
                "above_threshold": Tensor("DT_BOOL", (-1, len(tags))),
                "no_tag": Tensor("DT_BOOL", (-1,)),
                "windows": Tensor("DT_INT32", (-1,)),
                "window_predictions": Tensor("DT_FLOAT", (-1, -1, len(tags))),
                "silent": Tensor("DT_BOOL", (-1,)),
                "silent_windows": Tensor("DT_BOOL", (-1, -1)),
            },
        )
        embedding = {
            "embedding": Tensor("DT_FLOAT", (-1, EMBEDDING_SIZE)),
            "windows": Tensor("DT_INT32", (-1,)),
            "silent_windows": Tensor("DT_BOOL", (-1, -1)),
        }
        self.signatures = {
            "pcm": Signature({"pcm": text}, tagging),
            "wav": Signature({"wav": text}, tagging),
            "embedding": Signature({"pcm": text}, embedding),
        }
        if card is not None:
            cards = {"model_card": Tensor("DT_STRING", (-1,))}
            self.signatures["model_card"] = Signature({"request": text}, cards)

    def __call__(self, signature: str, value: np.ndarray[Any, Any]) -> Arrays:
        if value.ndim != 1 or not len(value):
            raise RefusedError(f"{signature}: expected a list of clips, got shape {list(value.shape)}")
        if signature == "model_card":
            assert self.card is not None
            return {"model_card": np.array([self.card.to_json().encode()] * len(value), object)}
        pcm = [read_wav(clip) for clip in value] if signature == "wav" else list(value)
        if any(not clip or len(clip) % 2 for clip in pcm):
            raise RefusedError("pcm: expected int16 samples, one at least")
        windows = [made_up_windows(clip, self.clip) for clip in pcm]
        counts = np.array([len(clip) for clip in windows], np.int32)
        width = EMBEDDING_SIZE if signature == "embedding" else len(self.tags)
        by_window = np.zeros((len(pcm), max(counts), width), np.float32)
        silent = np.zeros((len(pcm), max(counts)), np.bool_)
        for row, silences, clip in zip(by_window, silent, windows, strict=True):
            silences[: len(clip)] = [is_silent(from_pcm(np.frombuffer(w, "<i2")), self.clip.sample_rate) for w in clip]
            row[: len(clip)] = [self._draw(window, width) for window in clip]
            row[silences] = 0
        means = [
            mean_of_heard(row[:count], silences[:count])
            for row, silences, count in zip(by_window, silent, counts, strict=True)
        ]
        predictions = np.stack(means)
        if signature == "embedding":
            return {"embedding": predictions, "windows": counts, "silent_windows": silent}
        all_silent = silent.sum(axis=1) == counts
        heard = (
            predictions >= self.thresholds
            if self.card is None
            else self.card.heads.decide(predictions, self.thresholds)
        )
        above = heard & ~all_silent[:, None]
        return {
            "predictions": predictions,
            "tags": np.array([[tag.encode() for tag in self.tags]] * len(pcm), object),
            "thresholds": np.tile(self.thresholds, (len(pcm), 1)),
            "above_threshold": above,
            "no_tag": ~above.any(axis=1),
            "windows": counts,
            "window_predictions": by_window,
            "silent": all_silent,
            "silent_windows": silent,
        }

    def _draw(self, window: bytes, count: int) -> np.ndarray[Any, Any]:
        return np.random.default_rng(zlib.crc32(window) + self.salt).random(count, np.float32)


def made_up_windows(pcm: bytes, clip: ClipFormat = PAPER_CLIP) -> list[bytes]:
    """The exported graph's rule: every clip's length; the last ends where the audio ends if half a second is left."""
    size = 2 * clip.samples
    if len(pcm) <= size:
        return [(pcm * -(-size // len(pcm)))[:size]]
    starts = [*range(0, len(pcm) - size + 1, size)]
    if len(pcm) - starts[-1] - size >= 2 * round(0.5 * clip.sample_rate):
        starts.append(len(pcm) - size)
    return [pcm[start : start + size] for start in starts]


def read_wav(data: bytes) -> bytes:
    try:
        with wave.open(io.BytesIO(data)) as file:
            if file.getframerate() != SAMPLE_RATE:
                raise RefusedError(f"wav: expected {SAMPLE_RATE} Hz, got {file.getframerate()}")
            if file.getsampwidth() != 2:
                raise RefusedError(f"wav: expected 16-bit PCM, got {8 * file.getsampwidth()}")
            frames = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
    except (wave.Error, EOFError) as error:
        raise RefusedError(f"wav: no RIFF file: {error}") from error
    return frames.mean(axis=1).astype("<i2").tobytes()


class SavedModel:
    """A SavedModel loaded with TensorFlow; ``model_dir`` as serving.graph.export writes it."""

    def __init__(self, model_dir: Path | str | None = None, loaded: Any = None) -> None:
        import tensorflow as tf

        self._tf = tf
        self._model = loaded if loaded is not None else tf.saved_model.load(str(model_dir))
        self.signatures = {name: self._describe(name, one) for name, one in self._model.signatures.items()}

    def _describe(self, name: str, signature: Any) -> Signature:
        inputs = {key: _tensor(spec) for key, spec in signature.structured_input_signature[1].items()}
        outputs = {key: _tensor(spec) for key, spec in signature.structured_outputs.items()}
        method = "classify" if name == "classify" else "predict"
        return Signature(inputs, outputs, f"tensorflow/serving/{method}")

    def __call__(self, signature: str, value: np.ndarray[Any, Any]) -> Arrays:
        (name,) = self.signatures[signature].inputs
        try:
            outputs = self._model.signatures[signature](**{name: self._tf.constant(value)})
        except (self._tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            raise RefusedError(str(getattr(error, "message", error))) from error
        return {key: output.numpy() for key, output in outputs.items()}


def _tensor(spec: Any) -> Tensor:
    from tensorflow.core.framework import types_pb2

    shape = None if spec.shape.rank is None else tuple(-1 if size is None else size for size in spec.shape)
    return Tensor(types_pb2.DataType.Name(spec.dtype.as_datatype_enum), shape)


@dataclass(frozen=True)
class Seen:
    """One predict request that came in: what was asked, how many clips, and how large the message was."""

    transport: Literal["grpc", "rest"]
    version: int
    signature: str
    clips: int
    size: int


@dataclass
class ServingDouble:
    """The running double. ``requests`` and ``reloads`` came in; ``labels`` and ``versions`` may be changed.

    ``tensor_content``: answer with the tensors' bytes, as the real server does when it is told to, instead of lists.
    """

    versions: dict[int, Model]
    labels: dict[str, int]
    name: str
    grpc_port: int = 0
    rest_port: int = 0
    tensor_content: bool = False
    requests: list[Seen] = field(default_factory=list)
    reloads: list[Any] = field(default_factory=list)
    most_at_once: int = 0
    _faults: deque[Fault] = field(default_factory=deque)
    _at_once: int = 0
    _changes: list[tuple[int, Callable[[], Any]]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def grpc_address(self) -> str:
        return f"localhost:{self.grpc_port}"

    @property
    def rest_address(self) -> str:
        return f"localhost:{self.rest_port}"

    def address(self, transport: str) -> str:
        return self.grpc_address if transport == "grpc" else self.rest_address

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        """Let the next predict requests fail; after all faults told, requests are answered again."""
        self._faults.extend([fault] * times)

    def after_requests(self, count: int, change: Callable[[], Any]) -> None:
        """Change something once so many more predict requests have been answered, as a rollout does."""
        self._changes.append((len(self.requests) + count, change))

    def find(self, name: str, version: int | None, label: str | None) -> int:
        """The version asked for; raise ServerError."""
        if name != self.name:
            raise ServerError("NOT_FOUND", f"Servable not found for request: {_request(name, version)}")
        if label is not None and label not in self.labels:
            raise ServerError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
        found = self.labels[label] if label is not None else max(self.versions) if version is None else version
        if found not in self.versions:
            raise ServerError("NOT_FOUND", f"Servable not found for request: {_request(name, found)}")
        return found

    def predict(self, seen: Seen, value: np.ndarray[Any, Any]) -> Arrays:
        model = self.versions[seen.version]
        with self._lock:
            self.requests.append(seen)
            fault = self._faults.popleft() if self._faults else None
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            _fail_before(fault)
            try:
                outputs = model(seen.signature, value)
            except RefusedError as error:
                raise ServerError("INVALID_ARGUMENT", str(error)) from error
        finally:
            with self._lock:
                self._at_once -= 1
                due = [one for one in self._changes if one[0] <= len(self.requests)]
                for one in due:
                    self._changes.remove(one)
                    one[1]()
        return _spoil(outputs, fault)

    def input_name(self, version: int, signature: str) -> str:
        signatures = self.versions[version].signatures
        if signature not in signatures:
            raise ServerError(
                "FAILED_PRECONDITION", f'Serving signature name: "{signature}" not found in signature def'
            )
        (name,) = signatures[signature].inputs
        return name


def _request(name: str, version: int | None) -> str:
    return f"Latest({name})" if version is None else f"Specific({name}, {version})"


class ServerError(Exception):
    """An error as gRPC names it, with TF Serving's words."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


class CutError(Exception):
    """End the connection without an answer."""


class GarbageError(Exception):
    """Answer with something else."""


class DripError(Exception):
    """Answer so slowly that no pause between two bytes is long."""


def _fail_before(fault: Fault | None) -> None:
    if fault == "unavailable":
        raise ServerError("UNAVAILABLE", "the double is not available")
    if fault == "exhausted":
        raise ServerError("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted")
    if fault == "internal":
        raise ServerError("INTERNAL", "the double failed")
    if fault == "slow":
        time.sleep(SLOW_SECONDS)
    if fault == "cut":
        raise CutError
    if fault == "garbage":
        raise GarbageError
    if fault == "drip":
        raise DripError


def _spoil(outputs: Arrays, fault: Fault | None) -> Arrays:
    name = "embedding" if "embedding" in outputs else "predictions"
    if fault == "wrong_shape":
        return {**outputs, name: outputs[name][:, None, :]}
    if fault == "no_tags":
        return {key: value for key, value in outputs.items() if key != "tags"}
    if fault == "merged":  # as where the server's batching puts a clip of more windows beside
        extra = np.zeros((len(outputs[name]), 5, outputs[name].shape[1]), np.float32)
        return {**outputs, "window_predictions": np.concatenate([outputs["window_predictions"], extra], axis=1)}
    if fault == "nan":
        spoilt = outputs[name].copy()
        spoilt[0, -1] = math.nan
        return {**outputs, name: spoilt}
    return outputs


@contextlib.contextmanager
def serving_double(
    versions: dict[int, Model] | None = None,
    labels: dict[str, int] | None = None,
    name: str = "autotag",
    certificate: tuple[Path, Path] | None = None,
    grpc_port: int = 0,
    rest_port: int = 0,
) -> Iterator[ServingDouble]:
    """Run the double.

    Args:
        versions: models by version; else version 1, made up.
        labels: versions by label.
        name: the model's.
        certificate: files of key and certificate (PEM): serve with TLS.
        grpc_port: 0 for any that is free; also ``rest_port``.
    """
    double = ServingDouble(versions if versions is not None else {1: MadeUpModel()}, labels or {}, name)
    with _grpc_server(double, grpc_port, certificate), _rest_server(double, rest_port, certificate):
        yield double


# gRPC


@contextlib.contextmanager
def _grpc_server(double: ServingDouble, port: int, certificate: tuple[Path, Path] | None) -> Iterator[None]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.server(ThreadPoolExecutor(16), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_PredictionService(double), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(double), server)
    if certificate is None:
        double.grpc_port = server.add_insecure_port(f"localhost:{port}")
    else:
        pair = [(certificate[0].read_bytes(), certificate[1].read_bytes())]
        double.grpc_port = server.add_secure_port(f"localhost:{port}", grpc.ssl_server_credentials(pair))
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()


def _answered(call: Callable[[Any], Any], request: Any, context: Any) -> Any:
    try:
        return call(request)
    except ServerError as error:
        context.abort(getattr(grpc.StatusCode, error.code), error.words)
    except CutError:
        context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
    except GarbageError:
        return predict_pb2.PredictResponse()
    except DripError:
        time.sleep(SLOW_SECONDS)
        return predict_pb2.PredictResponse()


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, double: ServingDouble) -> None:
        self.double = double

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _answered(self._predict, request, context)

    def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _answered(self._classify, request, context)

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _answered(self._metadata, request, context)

    def _predict(self, request: Any) -> Any:
        import tensorflow as tf

        version = _version(self.double, request.model_spec)
        signature = request.model_spec.signature_name or "serving_default"
        name = self.double.input_name(version, signature)
        if set(request.inputs) != {name}:
            raise ServerError("INVALID_ARGUMENT", f"input keys {sorted(request.inputs)}, expected {[name]}")
        value = tf.make_ndarray(request.inputs[name])
        seen = Seen("grpc", version, signature, value.shape[0] if value.ndim else 0, request.ByteSize())
        outputs = self.double.predict(seen, value)
        response = predict_pb2.PredictResponse()
        for key, output in outputs.items():
            if not request.output_filter or key in request.output_filter:
                response.outputs[key].CopyFrom(tf.make_tensor_proto(output))
                if not self.double.tensor_content:
                    _list_values(response.outputs[key], output)
        _answer_spec(response.model_spec, request.model_spec.name, version, signature)
        return response

    def _classify(self, request: Any) -> Any:
        version = _version(self.double, request.model_spec)
        signature = request.model_spec.signature_name or "serving_default"
        self.double.input_name(version, signature)
        examples = [example.SerializeToString() for example in request.input.example_list.examples]
        seen = Seen("grpc", version, signature, len(examples), request.ByteSize())
        outputs = self.double.predict(seen, np.array(examples, object))
        response = classification_pb2.ClassificationResponse()
        for classes, scores in zip(outputs["classes"], outputs["scores"], strict=True):
            row = response.result.classifications.add()
            for label, score in zip(classes, scores, strict=True):
                row.classes.add(label=label.decode(), score=score)
        _answer_spec(response.model_spec, request.model_spec.name, version, signature)
        return response

    def _metadata(self, request: Any) -> Any:
        version = _version(self.double, request.model_spec)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _answer_spec(response.model_spec, request.model_spec.name, version, "")
        response.metadata["signature_def"].Pack(_signature_map(self.double.versions[version]))
        return response


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, double: ServingDouble) -> None:
        self.double = double

    def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _answered(self._status, request, context)

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.double.reloads.append(request)
        for config in request.config.model_config_list.config:
            missing = sorted(set(config.version_labels.values()) - set(self.double.versions))
            if config.name == self.double.name and missing:
                context.abort(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"Request to assign label to version {missing[0]} of model {config.name}, "
                    "which is not currently available for inference",
                )
            if config.name == self.double.name:
                self.double.labels = dict(config.version_labels)
        return model_management_pb2.ReloadConfigResponse()

    def _status(self, request: Any) -> Any:
        spec = request.model_spec
        chosen = spec.WhichOneof("version_choice") is not None
        version = _version(self.double, spec)
        response = get_model_status_pb2.GetModelStatusResponse()
        for one in sorted(self.double.versions, reverse=True):
            if one == version or not chosen:
                response.model_version_status.add(version=one, state="AVAILABLE")
        return response


def _list_values(tensor: Any, output: np.ndarray[Any, Any]) -> None:
    """Put numbers into the list of their type, as the real server does."""
    fields = {"f": tensor.float_val, "i": tensor.int_val, "b": tensor.bool_val}
    if output.dtype.kind in fields:
        tensor.ClearField("tensor_content")
        fields[output.dtype.kind][:] = output.ravel().tolist()


def _version(double: ServingDouble, spec: Any) -> int:
    choice = spec.WhichOneof("version_choice")
    return double.find(
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


def _answer_spec(spec: Any, name: str, version: int, signature: str) -> None:
    spec.name, spec.signature_name, spec.version.value = name, signature, version


def _signature_map(model: Model) -> Any:
    from tensorflow.core.framework import types_pb2

    described = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in model.signatures.items():
        definition = described.signature_def[name]
        definition.method_name = signature.method
        for tensors, target in ((signature.inputs, definition.inputs), (signature.outputs, definition.outputs)):
            for key, tensor in tensors.items():
                info = target[key]
                info.name, info.dtype = f"{name}_{key}:0", types_pb2.DataType.Value(tensor.dtype)
                if tensor.shape is None:
                    info.tensor_shape.unknown_rank = True
                for size in tensor.shape or ():
                    info.tensor_shape.dim.add(size=size)
    return described


# REST


HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "INTERNAL": 500,
}
PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?(?P<verb>:predict|/metadata)?"
)


@contextlib.contextmanager
def _rest_server(double: ServingDouble, port: int, certificate: tuple[Path, Path] | None) -> Iterator[None]:
    class Handler(_RestHandler):
        def setup(self) -> None:
            super().setup()
            self.double = double

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that hung up is nothing to print."""

    server = Server(("localhost", port), Handler)
    if certificate is not None:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate[1], certificate[0])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    double.rest_port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _RestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    double: ServingDouble

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:  # noqa: N802
        self._respond(self._get)

    def do_POST(self) -> None:  # noqa: N802
        self._respond(self._post)

    def _respond(self, answer: Callable[[], Any]) -> None:
        try:
            self._send(200, answer())
        except ServerError as error:
            self._send(HTTP_STATUS[error.code], {"error": error.words})
        except CutError:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        except GarbageError:
            self._send(200, "a proxy's page")
        except DripError:
            self._drip()

    def _send(self, status: int, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        for _ in range(round(SLOW_SECONDS / 0.05)):
            self.wfile.write(b" ")
            self.wfile.flush()
            time.sleep(0.05)
        self.close_connection = True

    def _version(self, verb: str | None) -> tuple[Any, int]:
        match = PATH.fullmatch(self.path)
        if match is None or match["verb"] != verb:
            raise ServerError("NOT_FOUND", f"Malformed request: {self.command} {self.path}")
        version = int(match["version"]) if match["version"] else None
        return match, self.double.find(match["name"], version, match["label"])

    def _get(self) -> Any:
        if self.path.endswith("/metadata"):
            match, version = self._version("/metadata")
            packed = MessageToDict(
                _signature_map(self.double.versions[version]),
                preserving_proto_field_name=True,
                **{EMPTY_FIELDS_TOO: True},
            )
            spec = {"name": match["name"], "signature_name": "", "version": str(version)}
            return {"model_spec": spec, "metadata": {"signature_def": packed}}
        match, version = self._version(None)
        chosen = [version] if match["version"] or match["label"] else sorted(self.double.versions, reverse=True)
        status = {"error_code": "OK", "error_message": ""}
        return {
            "model_version_status": [{"version": str(one), "state": "AVAILABLE", "status": status} for one in chosen]
        }

    def _post(self) -> Any:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        _, version = self._version(":predict")
        try:
            body = json.loads(data)
        except ValueError as error:
            raise ServerError("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
        signature = body.get("signature_name", "serving_default")
        name = self.double.input_name(version, signature)
        columnar = "inputs" in body
        dtype = self.double.versions[version].signatures[signature].inputs[name].dtype
        value = _value(_column(body, name, columnar), dtype)
        outputs = self.double.predict(Seen("rest", version, signature, len(value), len(data)), value)
        listed = {key: _as_json(key, output) for key, output in outputs.items()}
        if columnar:
            return {"outputs": listed if len(listed) > 1 else next(iter(listed.values()))}
        rows = [dict(zip(listed, row, strict=True)) for row in zip(*listed.values(), strict=True)]
        return {"predictions": rows if len(listed) > 1 else [next(iter(row.values())) for row in rows]}


def _column(body: Any, name: str, columnar: bool) -> Any:
    if columnar:
        inputs = body["inputs"]
        if not isinstance(inputs, dict) or "b64" in inputs:
            return inputs
        if name not in inputs:
            raise ServerError("INVALID_ARGUMENT", f"Missing named input: {name} in 'inputs' object.")
        return inputs[name]
    rows = body.get("instances", [])
    named = [isinstance(row, dict) and "b64" not in row for row in rows]
    if any(is_named and name not in row for is_named, row in zip(named, rows, strict=True)):
        raise ServerError("INVALID_ARGUMENT", f"JSON object: does not have named input: {name}")
    return [row[name] if is_named else row for is_named, row in zip(named, rows, strict=True)]


def _value(column: Any, dtype: str) -> np.ndarray[Any, Any]:
    if dtype != "DT_STRING":
        return np.array(column, np.float32)
    values = np.empty(len(column), object)
    for i, one in enumerate(column):
        if isinstance(one, dict) and not isinstance(one.get("b64"), str):
            raise ServerError("INVALID_ARGUMENT", "JSON object not formatted correctly for base64 data")
        try:
            values[i] = unescape_base64(one["b64"]) if isinstance(one, dict) else one.encode()
        except ValueError as error:
            raise ServerError("INVALID_ARGUMENT", "Unable to base64 decode") from error
    return values


def unescape_base64(text: str) -> bytes:
    """Decode as absl::Base64Unescape, which the server uses: white space and missing padding are taken.

    Raises:
        ValueError: another character, padding of a wrong length or not at the end, or a last group of one character.
    """
    letters = re.sub(r"[ \t\n\v\f\r]", "", text)
    content = letters.rstrip("=.")
    rest, padding = len(content) % 4, len(letters) - len(content)
    if not re.fullmatch("[A-Za-z0-9+/]*", content) or rest == 1 or padding not in (0, -len(content) % 4):
        raise ValueError(f"not base64: {text[:20]!r}")
    return base64.b64decode(content + "=" * (-len(content) % 4))


def _as_json(key: str, output: np.ndarray[Any, Any]) -> Any:
    if output.dtype != object:
        return output.tolist()
    if key.endswith("_bytes"):
        return [{"b64": base64.b64encode(one).decode()} for one in output.ravel()]
    return np.vectorize(bytes.decode, otypes=[object])(output).tolist()


@contextlib.contextmanager
def cutting_proxy(port: int, times: int = 1) -> Iterator[int]:
    """Yield the port of a TCP proxy that closes the first ``times`` connections in the middle of a request."""
    listener = socket.create_server(("localhost", 0))
    left = [times]

    def pump(source: socket.socket, target: socket.socket, limit: float) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while passed < limit and (data := source.recv(65_536)):
                target.sendall(data)
                passed += len(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("localhost", port))
                left[0] -= 1
                limit = 40_000 if left[0] >= 0 else math.inf
                threading.Thread(target=pump, args=(client, server, limit), daemon=True).start()
                threading.Thread(target=pump, args=(server, client, math.inf), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A double of TensorFlow Serving, for trying out.")
    parser.add_argument("model_dir", type=Path, help="a SavedModel, or a folder of numbered versions")
    parser.add_argument("--grpc-port", type=int, default=8500)
    parser.add_argument("--rest-port", type=int, default=8501)
    options = parser.parse_args()
    found = {int(path.name): path for path in options.model_dir.iterdir() if is_number(path.name)}
    found = found or {1: options.model_dir}
    versions: dict[int, Model] = {version: SavedModel(path) for version, path in found.items()}
    with serving_double(
        versions, {"stable": max(versions)}, grpc_port=options.grpc_port, rest_port=options.rest_port
    ) as double:
        print(f"gRPC {double.grpc_address}, REST {double.rest_address}, versions {sorted(versions)}; Ctrl-C ends it")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
