"""A typed client for the pushed model behind TF Serving, over gRPC or REST, without TensorFlow.

::

    from serving.client import TagClient

    with TagClient("localhost:8500") as client:
        song = client.tag_file("song.mp3")
        print(song.top(5))
        for result in client.tag_files(paths, jobs=4):  # in the order of the paths
            print(result.path, result.error or result.clip.top(3))

``AsyncTagClient`` is the same with ``await``. Audio of any format, rate and length goes in (``tag_file``), or mono
int16 PCM at the model's rate (``tag_pcm``; ``client.card().clip`` says which, 16 kHz by custom); it travels as bytes
through the signatures ``pcm`` and ``embedding``. Songs longer than one request should carry are decoded, sent and
merged piece by piece, so that memory does not grow with the file.
Errors are documented in ``serving.client.errors``.
"""

from serving.client.asynchronous import AsyncTagClient
from serving.client.calls import FileResult
from serving.client.cards import Card
from serving.client.errors import (
    BadResponseError,
    DeadlineError,
    ModelNotFoundError,
    RequestRefusedError,
    ServerBusyError,
    ServerFailedError,
    ServerUnavailableError,
    TagServerError,
)
from serving.client.results import ClipEmbedding, ClipTags
from serving.client.retries import RetryPolicy
from serving.client.synchronous import TagClient
from serving.client.target import ModelMetadata, Signature, TensorDescription, VersionStatus

__all__ = [
    "AsyncTagClient",
    "BadResponseError",
    "Card",
    "ClipEmbedding",
    "ClipTags",
    "DeadlineError",
    "FileResult",
    "ModelMetadata",
    "ModelNotFoundError",
    "RequestRefusedError",
    "RetryPolicy",
    "ServerBusyError",
    "ServerFailedError",
    "ServerUnavailableError",
    "Signature",
    "TagClient",
    "TagServerError",
    "TensorDescription",
    "VersionStatus",
]
