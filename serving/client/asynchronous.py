"""The client that awaits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
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
    from serving.client.grpc_transport import AsyncGrpcTransport
    from serving.client.rest_transport import AsyncRestTransport


class AsyncTagClient:
    """A model behind TF Serving, for one event loop: TagClient with ``await``, arguments and errors included.

    Files are decoded in threads, so that the loop goes on.
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
        # Opened by the first call, in the loop that it is for.
        self._transport: AsyncGrpcTransport | AsyncRestTransport | None = None

    async def __aenter__(self) -> AsyncTagClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            await self._transport.close()

    async def tag_pcm(self, clips: Sequence[bytes]) -> list[ClipTags]:
        """Tag clips of any length: int16 little-endian mono at the model's rate; errors as in TagClient.tag_pcm."""
        return await self._run(tag_call(self._settings, self._known, lambda _: given_blocks(clips)))

    async def tag_file(self, path: Path | str) -> ClipTags:
        """Tag an audio file of any format and length; errors as in TagClient.tag_file."""
        file = FilePcm(path)
        (clip,) = await self._run(tag_call(self._settings, self._known, file.audio))
        return file.with_completeness(clip)

    def tag_files(self, paths: Iterable[Path | str], jobs: int = DEFAULT_JOBS) -> AsyncIterator[FileResult]:
        """Tag audio files, ``jobs`` at a time, and yield what became of each in the order of ``paths``.

        An error of one file is in its result, and the others go on. Closing the iterator cancels those under way.

        Raises:
            BadInputError: ``jobs`` is less than 1.
        """
        check_jobs(jobs)
        return self._tag_files(paths, jobs)

    async def embed_pcm(self, clips: Sequence[bytes]) -> list[ClipEmbedding]:
        """Embed clips; arguments and errors as in tag_pcm."""
        return await self._run(embed_call(self._settings, self._known, lambda _: given_blocks(clips)))

    async def embed_file(self, path: Path | str) -> ClipEmbedding:
        """Embed an audio file; errors as in tag_file."""
        file = FilePcm(path)
        (clip,) = await self._run(embed_call(self._settings, self._known, file.audio))
        return file.with_completeness(clip)

    async def status(self) -> list[VersionStatus]:
        """Ask which versions the server has, and in what state; errors as in TagClient.status."""
        status: list[VersionStatus] = await self._send(StatusRequest(), Deadline(self._settings.deadline))
        return status

    async def metadata(self) -> ModelMetadata:
        """Ask which version answers, and which signatures it has; errors as in TagClient.metadata."""
        metadata: ModelMetadata = await self._send(MetadataRequest(), Deadline(self._settings.deadline))
        return metadata

    async def card(self, version: int | None = None) -> Card:
        """Ask what a version says of itself, as TagClient.card does; errors as there."""
        known = None if version is None else self._known.find(version)
        if known is not None:
            return known
        return await self._run(card_call(self._settings, self._known, version))

    async def _run(self, call: Call[Result]) -> Result:
        """Send what the call asks, until it has its result."""
        deadline = Deadline(self._settings.deadline)
        request = await asyncio.to_thread(call.start)
        while request is not None:
            try:
                response = await self._send(request, deadline)
            except ModelNotFoundError as error:
                request = await asyncio.to_thread(call.throw, error)
            else:
                request = await asyncio.to_thread(call.send, response)
        return call.result

    async def _send(self, request: Request, deadline: Deadline) -> Any:
        if self._transport is None:
            self._transport = _open(self._settings.target)
        attempts = Attempts(self._settings.policy, deadline.left(self._settings.timeout))
        while True:
            try:
                return await self._transport.send(request, attempts.left())
            except TagServerError as error:
                await asyncio.sleep(attempts.wait_after(error))

    async def _tag_files(self, paths: Iterable[Path | str], jobs: int) -> AsyncIterator[FileResult]:
        free = asyncio.Semaphore(jobs)
        begun: deque[asyncio.Task[FileResult]] = deque()
        try:
            for path in paths:
                begun.append(asyncio.create_task(self._file_result(Path(path), free)))
                if len(begun) == LOOK_AHEAD * jobs:
                    yield await begun.popleft()
            while begun:
                yield await begun.popleft()
        finally:
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)

    async def _file_result(self, path: Path, free: asyncio.Semaphore) -> FileResult:
        async with free:
            try:
                return FileResult(path, await self.tag_file(path), None)
            except AutotagError as error:
                return FileResult(path, None, error)


def _open(target: Target) -> AsyncGrpcTransport | AsyncRestTransport:
    """Import what the transport needs and nothing else."""
    if target.transport == "grpc":
        from serving.client.grpc_transport import AsyncGrpcTransport

        return AsyncGrpcTransport(target)
    from serving.client.rest_transport import AsyncRestTransport

    return AsyncRestTransport(target)
