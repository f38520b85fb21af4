"""Requests over TF Serving's REST API (https://www.tensorflow.org/tfx/serving/api_rest), in its columnar form."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import numpy as np

from preprocessing.digits import is_number
from serving.client.errors import (
    BadResponseError,
    DeadlineError,
    ModelNotFoundError,
    RequestRefusedError,
    ServerBusyError,
    ServerFailedError,
    ServerUnavailableError,
    TagServerError,
    refusal,
)
from serving.client.requests import MetadataRequest, PredictRequest, Request, Response
from serving.client.target import ModelMetadata, Signature, Target, TensorDescription, VersionStatus

BUSY: Final = 429
UNAVAILABLE: Final = (502, 503, 504)
MOST_WORDS: Final = 500
"""Characters of an error page that are shown."""


@dataclass(frozen=True)
class HttpResponse:
    """Status, headers and body of an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RestTransport:
    """A pool of connections, for any number of threads."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._client = httpx.Client(verify=_verification(target), limits=_UNLIMITED)

    def send(self, request: Request, seconds: float) -> Any:
        """Return the answer to a request that may take so many seconds.

        Raises:
            TagServerError: see serving.client.errors.
        """
        end = time.monotonic() + seconds
        try:
            with self._client.stream(**encode(request, self._target), timeout=seconds) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if time.monotonic() > end:
                        raise httpx.ReadTimeout("the answer comes too slowly")
            _let_go(response)
        except httpx.HTTPError as error:
            raise connection_error(error, self._target) from error
        return decode(request, HttpResponse(response.status_code, response.headers, bytes(body)), self._target)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class AsyncRestTransport:
    """A pool of connections for one event loop."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._client = httpx.AsyncClient(verify=_verification(target), limits=_UNLIMITED)

    async def send(self, request: Request, seconds: float) -> Any:
        """Return the answer to a request that may take so many seconds.

        Raises:
            TagServerError: see serving.client.errors.
        """
        call = self._client.request(**encode(request, self._target), timeout=seconds)
        try:
            response = await asyncio.wait_for(call, seconds)
            _let_go(response)
        except (httpx.HTTPError, asyncio.TimeoutError) as error:
            raise connection_error(error, self._target) from error
        return decode(request, HttpResponse(response.status_code, response.headers, response.content), self._target)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


_UNLIMITED: Final = httpx.Limits(max_connections=None, max_keepalive_connections=20)


def _let_go(response: httpx.Response) -> None:
    """Break the circle of response and stream: else megabytes of request stay until the garbage collector comes."""
    response.stream = httpx.ByteStream(b"")


def _verification(target: Target) -> ssl.SSLContext | bool:
    certificates = target.root_certificate_bytes()
    return True if certificates is None else ssl.create_default_context(cadata=certificates.decode("ascii", "replace"))


def encode(request: Request, target: Target) -> dict[str, Any]:
    """Return the request as httpx's arguments.

    Raises:
        ValueError: clips for no version: the answer would not say which one gave it.
    """
    if isinstance(request, PredictRequest):
        if request.version is None:
            raise ValueError("over REST a version has to be asked by its number")
        return {
            "method": "POST",
            "url": f"{target.of_version(request.version).versioned_url}:predict",
            "content": _predict_body(request),
            "headers": {"content-type": "application/json"},
        }
    if isinstance(request, MetadataRequest):
        if request.version is not None:
            target = target.of_version(request.version)
        return {"method": "GET", "url": f"{target.versioned_url}/metadata"}
    return {"method": "GET", "url": target.versioned_url}


def _predict_body(request: PredictRequest) -> bytes:
    """The JSON with its clips in base64, joined once: a detour through text would hold each clip several times."""
    clips = b", ".join(b'{"b64": "%b"}' % base64.b64encode(clip) for clip in request.clips)
    names = request.signature.encode("ascii"), request.input.encode("ascii")
    return b'{"signature_name": "%b", "inputs": {"%b": [%b]}}' % (*names, clips)


def decode(request: Request, response: HttpResponse, target: Target) -> Any:
    """Return what the answer says.

    Raises:
        TagServerError: it is an error, or no answer of TF Serving's.
    """
    if response.status != 200:
        raise error_of(response, target)
    try:
        data = json.loads(response.body)
        if isinstance(request, PredictRequest):
            assert request.version is not None
            return Response(_decode_outputs(data["outputs"], request.signature), request.version)
        return _decode_metadata(data) if isinstance(request, MetadataRequest) else _decode_status(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadResponseError(f"the server's answer is not TF Serving's: {error!r}") from error


def _decode_outputs(outputs: Any, signature: str) -> dict[str, Any]:
    """Arrays by name. A lone output stands without its name, which is the signature's in models of this package."""
    if isinstance(outputs, list):
        return {signature: np.asarray(outputs)}
    return {name: np.asarray(value) for name, value in outputs.items()}


def _decode_status(data: Any) -> list[VersionStatus]:
    return [
        VersionStatus(int(status["version"]), status["state"], status.get("status", {}).get("error_message", ""))
        for status in data["model_version_status"]
    ]


def _decode_metadata(data: Any) -> ModelMetadata:
    signatures = {
        name: Signature(_describe(one["inputs"]), _describe(one["outputs"]), one["method_name"])
        for name, one in sorted(data["metadata"]["signature_def"]["signature_def"].items())
    }
    return ModelMetadata(int(data["model_spec"]["version"]), signatures)


def _describe(tensors: Any) -> dict[str, TensorDescription]:
    return {
        name: TensorDescription(
            info["dtype"],
            None
            if info["tensor_shape"].get("unknown_rank")
            else tuple(int(dim["size"]) for dim in info["tensor_shape"].get("dim", [])),
        )
        for name, info in sorted(tensors.items())
    }


def connection_error(error: Exception, target: Target) -> TagServerError:
    """Return our error where no whole answer came."""
    if isinstance(error, httpx.ConnectTimeout):
        return ServerUnavailableError(f"{target} cannot be reached in time: is the address right?")
    if isinstance(error, httpx.TimeoutException | asyncio.TimeoutError):
        return DeadlineError(f"{target}: no answer in time: give a larger timeout, or see what slows the server")
    return ServerUnavailableError(
        f"{target} cannot be reached: {error or type(error).__name__}. "
        "Is the server running, and is this its REST port (8501 by custom)?"
    )


def error_of(response: HttpResponse, target: Target) -> TagServerError:
    """Return our error for an HTTP status, with the server's words and what to do."""
    words, status = _error_message(response), response.status
    if status == BUSY:
        return ServerBusyError(f"{target} is busy: {words}. Ask with fewer jobs", _retry_after(response))
    if status in UNAVAILABLE:
        return ServerUnavailableError(f"{target} is not available (HTTP {status}): {words}", _retry_after(response))
    if status == 404 or "servable version label" in words:
        return ModelNotFoundError(f"{target} is not there: {words}. Ask status() which versions are")
    if status == 413:
        return RequestRefusedError(
            f"{target} takes no request of this size (HTTP 413): {words}. "
            "Send fewer windows at once (most_windows), or let the proxy in front of it take more"
        )
    if 400 <= status < 500:
        return refusal(str(target), f"HTTP {status}", words)
    return ServerFailedError(f"{target} failed (HTTP {status}): {words}. Its log says more")


def _error_message(response: HttpResponse) -> str:
    """The server's ``error``, or the beginning of whatever a proxy says."""
    try:
        return str(json.loads(response.body)["error"])[:MOST_WORDS]
    except (ValueError, KeyError, TypeError, RecursionError):
        return response.body[:MOST_WORDS].decode("utf-8", "replace").strip() or "no words"


def _retry_after(response: HttpResponse) -> float:
    """Seconds of a Retry-After header; 0 where there is none or it is a date."""
    value = response.headers.get("retry-after", "")
    return float(value) if is_number(value) else 0.0
