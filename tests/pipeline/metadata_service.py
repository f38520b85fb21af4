"""ML Metadata over gRPC, as the cluster's metadata-grpc-service: the wheel's store behind the service it declares."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from ml_metadata import errors
from ml_metadata.metadata_store import metadata_store
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as calls
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as service

STATUS = {code.value[0]: code for code in grpc.StatusCode}
STATES = {"running": mlmd.Execution.RUNNING, "done": mlmd.Execution.COMPLETE, "cached": mlmd.Execution.CACHED}


class KubeflowMetadata:
    """What KFP's driver and launcher (2.14.3) write of a run."""

    def __init__(self, store: Any, address: str) -> None:
        self.store = store
        self.address = address

    def add_step(self, run_id: str, task: str, state: str, outputs: Mapping[str, Mapping[str, float | str]]) -> None:
        """Write one step: output key -> the artifact's metadata."""
        type_id = self.store.put_context_type(mlmd.ContextType(name="system.PipelineRun"))
        context = self.store.get_context_by_type_and_name("system.PipelineRun", run_id)
        if context is None:
            self.store.put_contexts([mlmd.Context(type_id=type_id, name=run_id)])
            context = self.store.get_context_by_type_and_name("system.PipelineRun", run_id)
        kind = self.store.put_execution_type(mlmd.ExecutionType(name="system.ContainerExecution"))
        execution = mlmd.Execution(type_id=kind, last_known_state=STATES[state])
        execution.custom_properties["task_name"].string_value = task
        pairs = []
        for key, values in outputs.items():
            kind = self.store.put_artifact_type(mlmd.ArtifactType(name=f"tfx.{key}"))
            artifact = mlmd.Artifact(type_id=kind, uri=f"minio://mlpipeline/{run_id}/{task}/{key}")
            for name, value in values.items():
                field = "string_value" if isinstance(value, str) else "double_value"
                setattr(artifact.custom_properties[name], field, value)
            event = mlmd.Event(type=mlmd.Event.OUTPUT)
            event.path.steps.add(key=key)
            pairs.append((artifact, event))
        self.store.put_execution(execution, pairs, [context])


@contextlib.contextmanager
def serve_metadata(folder: Path) -> Iterator[KubeflowMetadata]:
    """Serve an empty store on a port of this machine."""
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(folder / "kubeflow.sqlite")
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    store = metadata_store.MetadataStore(config)
    lock = threading.Lock()  # the store is one connection

    def handler(name: str, request: Any, response: Any) -> grpc.RpcMethodHandler:
        def answer(message: Any, context: grpc.ServicerContext) -> Any:
            result = response()
            try:
                with lock:
                    store._call_method(name, message, result)
            except errors.StatusError as error:
                context.abort(STATUS[error.error_code], error.message)
            return result

        parse: Callable[[bytes], Any] = request.FromString
        return grpc.unary_unary_rpc_method_handler(answer, parse, response.SerializeToString)

    described = service.DESCRIPTOR.services_by_name["MetadataStoreService"]
    handlers = {
        method.name: handler(
            method.name, getattr(service, method.input_type.name), getattr(service, method.output_type.name)
        )
        for method in described.methods
        if hasattr(calls, method.name)
    }
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(described.full_name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield KubeflowMetadata(store, f"127.0.0.1:{port}")
    server.stop(None).wait()
