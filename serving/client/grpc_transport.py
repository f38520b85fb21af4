"""Requests over gRPC: TF Serving's messages, errors and channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from serving.client import messages
from serving.client.errors import (
    BadResponseError,
    DeadlineError,
    ModelNotFoundError,
    ServerBusyError,
    ServerFailedError,
    ServerUnavailableError,
    TagServerError,
    refusal,
)
from serving.client.requests import MetadataRequest, PredictRequest, Request, Response
from serving.client.target import ModelMetadata, Signature, Target, TensorDescription, VersionStatus

CHANNEL_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),  # else a channel refuses for a second and more what is tried again
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

_Code: Final = grpc.StatusCode
_REFUSED: Final = {
    _Code.INVALID_ARGUMENT,
    _Code.FAILED_PRECONDITION,
    _Code.OUT_OF_RANGE,
    _Code.UNIMPLEMENTED,
    _Code.PERMISSION_DENIED,
    _Code.UNAUTHENTICATED,
}


class GrpcTransport:
    """A channel that sends one request at a time for each thread that calls it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._channel = open_channel(grpc, target)

    def send(self, request: Request, seconds: float) -> Any:
        """Return the answer to a request that may take so many seconds.

        Raises:
            TagServerError: see serving.client.errors.
        """
        method, message = encode(request, self._target)
        try:
            data = self._channel.unary_unary(method)(message, timeout=seconds)
        except grpc.RpcError as error:
            raise error_of(error, self._target) from error
        return decode(request, data)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class AsyncGrpcTransport:
    """A channel for one event loop."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._channel = open_channel(grpc.aio, target)

    async def send(self, request: Request, seconds: float) -> Any:
        """Return the answer to a request that may take so many seconds.

        Raises:
            TagServerError: see serving.client.errors.
        """
        method, message = encode(request, self._target)
        try:
            data = await self._channel.unary_unary(method)(message, timeout=seconds)
        except grpc.RpcError as error:
            raise error_of(error, self._target) from error
        return decode(request, data)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


def open_channel(kind: Any, target: Target) -> grpc.Channel | grpc.aio.Channel:
    """Open a channel of ``grpc`` or ``grpc.aio``."""
    if not target.encrypted:
        return kind.insecure_channel(target.address, options=CHANNEL_OPTIONS)
    credentials = grpc.ssl_channel_credentials(target.root_certificate_bytes())
    return kind.secure_channel(target.address, credentials, options=CHANNEL_OPTIONS)


def encode(request: Request, target: Target) -> tuple[str, bytes]:
    """Return the method's path and the serialised request."""
    if isinstance(request, PredictRequest | MetadataRequest) and request.version is not None:
        target = target.of_version(request.version)
    spec = messages.ModelSpec(name=target.model)
    if target.version is not None:
        spec.version.value = target.version
    if target.label is not None:
        spec.version_label = target.label
    if isinstance(request, PredictRequest):
        spec.signature_name = request.signature
        message = messages.PredictRequest(model_spec=spec)
        message.inputs[request.input].CopyFrom(messages.to_tensor(list(request.clips)))
        return messages.PREDICT, message.SerializeToString()
    if isinstance(request, MetadataRequest):
        message = messages.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        return messages.GET_MODEL_METADATA, message.SerializeToString()
    return messages.GET_MODEL_STATUS, messages.GetModelStatusRequest(model_spec=spec).SerializeToString()


def decode(request: Request, data: bytes) -> Any:
    """Return what the serialised response says.

    Raises:
        BadResponseError: it is no such response.
    """
    try:
        if isinstance(request, PredictRequest):
            return _decode_predict(messages.PredictResponse.FromString(data))
        if isinstance(request, MetadataRequest):
            return _decode_metadata(messages.GetModelMetadataResponse.FromString(data))
        return _decode_status(messages.GetModelStatusResponse.FromString(data))
    except (DecodeError, ValueError, KeyError) as error:
        raise BadResponseError(f"the server's answer is not TF Serving's: {error}") from error


def _decode_predict(response: Message) -> Response:
    outputs = {name: messages.from_tensor(tensor) for name, tensor in response.outputs.items()}
    if not response.model_spec.HasField("version"):
        raise ValueError("it does not say which version of the model gave it")
    return Response(outputs, response.model_spec.version.value)


def _decode_status(response: Message) -> list[VersionStatus]:
    return [
        VersionStatus(status.version, messages.ModelVersionStatus.State.Name(status.state), status.status.error_message)
        for status in response.model_version_status
    ]


def _decode_metadata(response: Message) -> ModelMetadata:
    if "signature_def" not in response.metadata:
        raise ValueError("no signature_def in the metadata")
    definitions = messages.SignatureDefMap.FromString(response.metadata["signature_def"].value).signature_def
    signatures = {
        name: Signature(_describe(one.inputs), _describe(one.outputs), one.method_name)
        for name, one in sorted(definitions.items())
    }
    return ModelMetadata(response.model_spec.version.value, signatures)


def _describe(tensors: Mapping[str, Message]) -> dict[str, TensorDescription]:
    return {
        name: TensorDescription(
            messages.data_type_name(info.dtype),
            None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim),
        )
        for name, info in sorted(tensors.items())
    }


def error_of(error: grpc.RpcError, target: Target) -> TagServerError:
    """Return our error for gRPC's, with what to do."""
    code, words = error.code(), error.details() or "no details"
    if code == _Code.DEADLINE_EXCEEDED:
        return DeadlineError(
            f"{target}: no answer in time ({words}): give a larger timeout, or see what slows the server"
        )
    if code == _Code.NOT_FOUND or "servable version label" in words:
        return ModelNotFoundError(f"{target} is not there: {words}. Ask status() which versions are")
    if code == _Code.RESOURCE_EXHAUSTED and "larger than max" not in words:
        return ServerBusyError(f"{target} is busy: {words}. Ask with fewer jobs, or start it with more threads")
    if code == _Code.UNAVAILABLE or "RST_STREAM" in words:
        return ServerUnavailableError(
            f"{target} cannot be reached: {words}. Is the server running, and is this its gRPC port (8500 by custom)?"
        )
    if code in _REFUSED or code == _Code.RESOURCE_EXHAUSTED:
        return refusal(str(target), code.name, words)
    return ServerFailedError(f"{target} failed ({code.name}): {words}. Its log says more")
