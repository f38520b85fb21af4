"""The client that waits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preprocessing.errors import AutotagError
from serving.client.calls import (
    DEFAULT_JOBS,
    DEFAULT_TIMEOUT,
    LOOK_AHEAD,
    Call,
    CallSettings,
    FilePcm,
    FileResult,
    Result,
    as_policy,
    card_call,
    check_jobs,
    embed_call,
    given_blocks,
    tag_call,
)
from serving.client.cards import Card, KnownCards
from serving.client.errors import ModelNotFoundError, TagServerError
from serving.client.requests import MetadataRequest, Request, StatusRequest
from serving.client.results import ClipEmbedding, ClipTags
from serving.client.retries import Attempts, Deadline, RetryPolicy
from serving.client.target import DEFAULT_MODEL, ModelMetadata, Target, Transport, VersionStatus

if TYPE_CHECKING:
    from serving.client.grpc_transport import GrpcTransport
    from serving.client.rest_transport import RestTransport


class TagClient:
    """A model behind TF Serving. Can be shared by threads; nothing is sent before the first call.

    Args:
        address: ``host:port``; over REST also a URL.
        transport: ``grpc`` (compact, port 8500 by custom) or ``rest`` (a third more bytes, port 8501).
        model: its name on the server.
        version: ask this version alone; else the newest, or
        label: the version with this label, such as ``stable``.
        tls: encrypt, trusting the system's authorities, or
        root_certificates: those in this PEM file.
        timeout: seconds for one request with all its retries.
        deadline: seconds for a whole call, which for a song of hours is many requests; None for no such limit.
        retries: how often to ask again where the server is unavailable or busy, or a policy with the waits too.
        most_windows: windows of the model's clip length in one request; None for as many as 3.9 minutes have.

    Raises:
        BadInputError: the arguments contradict each other, or the certificates cannot be read.
    """

    def __init__(
        self,
        address: str,
        *,
        transport: Transport = "grpc",
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        label: str | None = None,
        tls: bool = False,
        root_certificates: Path | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        deadline: float | None = None,
        retries: int | RetryPolicy = RetryPolicy(),  # noqa: B008 (frozen)
        most_windows: int | None = None,
    ) -> None:
        target = Target(address, transport, model, version, label, tls, root_certificates)
        self._settings = CallSettings(target, as_policy(retries), timeout, deadline, most_windows)
        self._known = KnownCards()
        self._transport = _open(target)

    def __enter__(self) -> TagClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def tag_pcm(self, clips: Sequence[bytes]) -> list[ClipTags]:
        """Tag clips of any length: int16 little-endian mono at the model's rate each (``card``; 16 kHz by custom).

        Raises:
            BadInputError: a clip is no such audio.
            TagServerError: see serving.client.errors.
        """
        return self._run(tag_call(self._settings, self._known, lambda _: given_blocks(clips)))

    def tag_file(self, path: Path | str) -> ClipTags:
        """Tag an audio file of any format and length.

        Raises:
            ClipError: it cannot be read or decoded.
            TagServerError: see serving.client.errors.
        """
        file = FilePcm(path)
        (clip,) = self._run(tag_call(self._settings, self._known, file.audio))
        return file.with_completeness(clip)

    def tag_files(self, paths: Iterable[Path | str], jobs: int = DEFAULT_JOBS) -> Iterator[FileResult]:
        """Tag audio files, ``jobs`` at a time, and yield what became of each in the order of ``paths``.

        An error of one file is in its result, and the others go on. Ending the iteration early lets those that are
        under way finish and begins no other.

        Raises:
            BadInputError: ``jobs`` is less than 1.
        """
        check_jobs(jobs)
        return self._tag_files(paths, jobs)

    def embed_pcm(self, clips: Sequence[bytes]) -> list[ClipEmbedding]:
        """Embed clips; arguments and errors as in tag_pcm."""
        return self._run(embed_call(self._settings, self._known, lambda _: given_blocks(clips)))

    def embed_file(self, path: Path | str) -> ClipEmbedding:
        """Embed an audio file; errors as in tag_file."""
        file = FilePcm(path)
        (clip,) = self._run(embed_call(self._settings, self._known, file.audio))
        return file.with_completeness(clip)

    def status(self) -> list[VersionStatus]:
        """Ask which versions the server has, and in what state.

        Raises:
            TagServerError: see serving.client.errors.
        """
        status: list[VersionStatus] = self._send(StatusRequest(), Deadline(self._settings.deadline))
        return status

    def metadata(self) -> ModelMetadata:
        """Ask which version answers, and which signatures it has.

        Raises:
            TagServerError: see serving.client.errors.
        """
        metadata: ModelMetadata = self._send(MetadataRequest(), Deadline(self._settings.deadline))
        return metadata

    def card(self, version: int | None = None) -> Card:
        """Ask what a version says of itself; without one, the version that answers. Asked once and then known.

        Raises:
            TagServerError: see serving.client.errors.
        """
        known = None if version is None else self._known.find(version)
        if known is not None:
            return known
        return self._run(card_call(self._settings, self._known, version))

    def _run(self, call: Call[Result]) -> Result:
        """Send what the call asks, until it has its result."""
        deadline = Deadline(self._settings.deadline)
        request = call.start()
        while request is not None:
            try:
                response = self._send(request, deadline)
            except ModelNotFoundError as error:
                request = call.throw(error)
            else:
                request = call.send(response)
        return call.result

    def _send(self, request: Request, deadline: Deadline) -> Any:
        attempts = Attempts(self._settings.policy, deadline.left(self._settings.timeout))
        while True:
            try:
                return self._transport.send(request, attempts.left())
            except TagServerError as error:
                time.sleep(attempts.wait_after(error))

    def _tag_files(self, paths: Iterable[Path | str], jobs: int) -> Iterator[FileResult]:
        begun: deque[Future[FileResult]] = deque()
        with ThreadPoolExecutor(jobs, thread_name_prefix="tag") as pool:
            try:
                for path in paths:
                    begun.append(pool.submit(self._file_result, Path(path)))
                    if len(begun) == LOOK_AHEAD * jobs:
                        yield begun.popleft().result()
                while begun:
                    yield begun.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _file_result(self, path: Path) -> FileResult:
        try:
            return FileResult(path, self.tag_file(path), None)
        except AutotagError as error:
            return FileResult(path, None, error)


def _open(target: Target) -> GrpcTransport | RestTransport:
    """Import what the transport needs and nothing else."""
    if target.transport == "grpc":
        from serving.client.grpc_transport import GrpcTransport

        return GrpcTransport(target)
    from serving.client.rest_transport import RestTransport

    return RestTransport(target)
