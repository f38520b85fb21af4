"""A double of TensorFlow Serving's version management, for tests of what moves labels and starts servers.

Follows tensorflow_serving/model_servers/server_core.cc: a reload is refused where a label would go to a version that is
not available (unless the label is new and the option for it was given); versions are loaded and unloaded behind the
reload, the folder is looked at again and again, and the ports open when all is loaded. Predict does no computing: it
answers with the version that was meant. A version whose folder has a file ``broken`` does not load.

``python model_service_double.py --port=... --model_config_file=...`` stands in for ``tensorflow_model_server``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any

import grpc
from google.protobuf import text_format

from preprocessing.digits import is_number
from serving.client import messages

START, LOADING, AVAILABLE, END = 10, 20, 30, 50


class VersionManager:
    """States of the versions of one model, and its labels."""

    def __init__(self, allow_labels_early: bool = False, load_seconds: float = 0.05) -> None:
        self.allow_labels_early = allow_labels_early
        self.load_seconds = load_seconds
        self.states: dict[int, int] = {}
        self.labels: dict[str, int] = {}
        self.reloads: list[Any] = []
        self.refuse: str | None = None
        self._config: Any = None
        self._lock = threading.RLock()
        self._closed = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def reload(self, config: Any) -> None:
        (model,) = config.model_config_list.config
        with self._lock:
            self.reloads.append(config)
            if self.refuse and any(version in model.version_labels.values() for version in map(int, [self.refuse])):
                raise PermissionError(f"Request to assign label to version {self.refuse} was refused")
            for label, version in model.version_labels.items():
                early = self.allow_labels_early and self.labels.get(label, version) == version
                if not early and self.states.get(version) != AVAILABLE:
                    raise PermissionError(
                        f"Request to assign label to version {version} of model {model.name}, which is not currently "
                        "available for inference"
                    )
            self.labels = dict(model.version_labels)
            self._config = model

    def aspired(self) -> set[int]:
        if self._config is None:
            return set()
        there = sorted(int(path.name) for path in Path(self._config.base_path).iterdir() if is_number(path.name))
        policy = self._config.model_version_policy
        kind = policy.WhichOneof("policy_choice")
        if kind == "specific":
            return set(policy.specific.versions) & set(there)
        if kind == "all":
            return set(there)
        return set(there[-(policy.latest.num_versions or 1) :])

    def broken(self, version: int) -> bool:
        return (Path(self._config.base_path) / str(version) / "broken").exists()

    def ready(self) -> bool:
        with self._lock:
            return bool(self.aspired()) and all(self.states.get(number) == AVAILABLE for number in self.aspired())

    def resolve(self, spec: Any) -> int | None:
        with self._lock:
            available = [number for number, state in self.states.items() if state == AVAILABLE]
            choice = spec.WhichOneof("version_choice")
            if choice == "version":
                return spec.version.value if spec.version.value in available else None
            if choice == "version_label":
                version = self.labels.get(spec.version_label)
                return version if version in available else None
            return max(available, default=None)

    def _run(self) -> None:
        while not self._closed.wait(0.02):
            with self._lock:
                wanted = self.aspired()
                new = [number for number in wanted if self.states.get(number) not in (LOADING, AVAILABLE)]
                for number in new:
                    self.states[number] = LOADING
                    if not self.broken(number):
                        threading.Timer(self.load_seconds, self._loaded, (number,)).start()
                if not any(self.states[number] == LOADING for number in wanted if not self.broken(number)):
                    for number in set(self.states) - wanted:
                        self.states[number] = END

    def _loaded(self, number: int) -> None:
        with self._lock:
            if self.states[number] == LOADING:
                self.states[number] = AVAILABLE


def _service(manager: VersionManager) -> list[grpc.GenericRpcHandler]:
    def status(request: Any, context: grpc.ServicerContext) -> Any:
        if request.model_spec.name != "autotag" or not manager.states:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {request.model_spec.name}")
        answer = messages.GetModelStatusResponse()
        for version, state in sorted(manager.states.items(), reverse=True):
            answer.model_version_status.add(version=version, state=state)
        return answer

    def reload(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            manager.reload(request.config)
        except PermissionError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return messages.ReloadConfigResponse()

    def predict(request: Any, context: grpc.ServicerContext) -> Any:
        version = manager.resolve(request.model_spec)
        if version is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request")
        answer = messages.PredictResponse()
        answer.model_spec.name = "autotag"
        answer.model_spec.version.value = version
        return answer

    calls = {
        messages.GET_MODEL_STATUS: (status, messages.GetModelStatusRequest, messages.GetModelStatusResponse),
        messages.HANDLE_RELOAD_CONFIG: (reload, messages.ReloadConfigRequest, messages.ReloadConfigResponse),
        messages.PREDICT: (predict, messages.PredictRequest, messages.PredictResponse),
    }
    services: dict[str, dict[str, grpc.RpcMethodHandler]] = {}
    for path, (function, request, response) in calls.items():
        _, service, method = path.split("/")
        services.setdefault(service, {})[method] = grpc.unary_unary_rpc_method_handler(
            function, request_deserializer=request.FromString, response_serializer=response.SerializeToString
        )
    return [grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()]


@contextmanager
def running(manager: VersionManager, port: int = 0, certificate: tuple[Path, Path] | None = None) -> Iterator[str]:
    """Serve the manager over gRPC, encrypted with a certificate (key, chain), and give its address."""
    server = grpc.server(futures.ThreadPoolExecutor(16))
    for handler in _service(manager):
        server.add_generic_rpc_handlers((handler,))
    if certificate is None:
        port = server.add_insecure_port(f"localhost:{port}")
    else:
        pair = [(certificate[0].read_bytes(), certificate[1].read_bytes())]
        port = server.add_secure_port(f"localhost:{port}", grpc.ssl_server_credentials(pair))
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None)
        manager.close()


def _rest(manager: VersionManager, port: int) -> ThreadingTCPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            names = {LOADING: "LOADING", AVAILABLE: "AVAILABLE", END: "END"}
            states = [{"version": str(number), "state": names[state]} for number, state in manager.states.items()]
            self.reply({"model_version_status": states})

        def do_POST(self) -> None:  # noqa: N802
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.reply({"predictions": len(body["instances"]), "signature": body["signature_name"]})

        def reply(self, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return ThreadingTCPServer(("localhost", port), Handler)  # HTTPServer asks the resolver for its own name


def main() -> None:
    """Take the options of tensorflow_model_server that autotag gives it; others end the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rest_api_port", type=int, required=True)
    parser.add_argument("--model_config_file", type=Path, required=True)
    parser.add_argument("--monitoring_config_file", type=Path, required=True)
    parser.add_argument("--batching_parameters_file", type=Path)
    parser.add_argument("--enable_batching", default="false")
    parser.add_argument("--mixed_precision", choices=["", "bfloat16"], default="")
    parser.add_argument("--allow_version_labels_for_unavailable_models", default="false")
    for name in ("rest_api_timeout_in_ms", "grpc_max_threads"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("num_load_threads", "max_num_load_retries", "load_retry_interval_micros"):
        parser.add_argument(f"--{name}", type=int)
    options = parser.parse_args()
    print(f"Running the double with {' '.join(sys.argv[1:])}", flush=True)
    for file in (options.monitoring_config_file, options.batching_parameters_file):
        assert file is None or file.read_text()
    if os.environ.get("DOUBLE_IGNORES_SIGTERM"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    config = messages.ModelServerConfig()
    text_format.Parse(options.model_config_file.read_text(), config)
    manager = VersionManager(options.allow_version_labels_for_unavailable_models == "true")
    manager.reload(config)
    end = time.monotonic() + 2
    while not manager.ready():
        if time.monotonic() > end:
            print("Failed to start server. Error: Unknown: 1 servable(s) did not become available", flush=True)
            sys.exit(255)
        time.sleep(0.02)
    rest = _rest(manager, options.rest_api_port)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    with running(manager, options.port):
        threading.Event().wait(float(os.environ.get("DOUBLE_ENDS_AFTER", 600)))
    print("the double has had enough", flush=True)
    sys.exit(3)


if __name__ == "__main__":
    main()
