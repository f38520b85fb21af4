"""The client that awaits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from preprocessing.errors import AutotagError
from serving.client.answers import (
    EMBEDDING_SIGNATURE,
    PCM_SIGNATURE,
    Answer,
    Clip,
    ClipEmbedding,
    ClipTags,
    Exchange,
    embedding,
    tagging,
)
from serving.client.asks import Ask, MetadataAsk, PredictAsk, StatusAsk
from serving.client.calls import (
    DEFAULT_JOBS,
    DEFAULT_TIMEOUT,
    LOOK_AHEAD,
    MOST_BEGINNINGS,
    MOST_WINDOWS,
    CallSettings,
    FilePcm,
    FileResult,
    advance,
    as_policy,
    check_jobs,
    given_blocks,
)
from serving.client.errors import ModelNotFoundError, TagServerError
from serving.client.retries import Attempts, Deadline, RetryPolicy
from serving.client.target import DEFAULT_MODEL, ModelMetadata, Target, Transport, VersionStatus


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
        most_windows: int = MOST_WINDOWS,
    ) -> None:
        target = Target(address, transport, model, version, label, tls, root_certificates)
        self._settings = CallSettings(target, as_policy(retries), timeout, deadline, most_windows)
        self._transport: Any = None  # opened by the first call, in the loop that it is for

    async def __aenter__(self) -> AsyncTagClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            await self._transport.close()

    async def tag_pcm(self, clips: Sequence[bytes]) -> list[ClipTags]:
        """Tag clips of any length: int16 little-endian mono at 16 kHz each; errors as in TagClient.tag_pcm."""
        return await self._exchange(PCM_SIGNATURE, lambda: tagging(given_blocks(clips), self._settings.most_windows))

    async def tag_file(self, path: Path | str) -> ClipTags:
        """Tag an audio file of any format and length; errors as in TagClient.tag_file."""
        file = FilePcm(path)
        (clip,) = await self._exchange(PCM_SIGNATURE, lambda: tagging([file], self._settings.most_windows))
        return file.told(clip)

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
        return await self._exchange(
            EMBEDDING_SIGNATURE, lambda: embedding(given_blocks(clips), self._settings.most_windows)
        )

    async def embed_file(self, path: Path | str) -> ClipEmbedding:
        """Embed an audio file; errors as in tag_file."""
        file = FilePcm(path)
        (clip,) = await self._exchange(EMBEDDING_SIGNATURE, lambda: embedding([file], self._settings.most_windows))
        return file.told(clip)

    async def status(self) -> list[VersionStatus]:
        """Ask which versions the server has, and in what state; errors as in TagClient.status."""
        status: list[VersionStatus] = await self._send(StatusAsk(), Deadline(self._settings.deadline))
        return status

    async def metadata(self) -> ModelMetadata:
        """Ask which version answers, and which signatures it has; errors as in TagClient.metadata."""
        metadata: ModelMetadata = await self._send(MetadataAsk(), Deadline(self._settings.deadline))
        return metadata

    async def _exchange(self, signature: str, begin: Callable[[], Exchange[Clip]]) -> list[Clip]:
        """Hold an exchange with one version; from its beginning with another, where that one goes away meanwhile."""
        deadline = Deadline(self._settings.deadline)
        for beginning in range(1, MOST_BEGINNINGS + 1):
            version = self._settings.target.version
            if version is None and self._settings.names_versions:
                version = (await self._send(MetadataAsk(), deadline)).version
            try:
                return await self._exchange_with(version, signature, begin(), deadline)
            except ModelNotFoundError:
                if self._settings.target.version is not None or beginning == MOST_BEGINNINGS:
                    raise
        raise AssertionError("unreachable")

    async def _exchange_with(
        self, version: int | None, signature: str, exchange: Exchange[Clip], deadline: Deadline
    ) -> list[Clip]:
        clips, learnt = await asyncio.to_thread(advance, exchange)
        while clips:
            answer: Answer = await self._send(PredictAsk(signature, clips, version), deadline)
            version = answer.version
            clips, learnt = await asyncio.to_thread(advance, exchange, answer)
        return learnt

    async def _send(self, ask: Ask, deadline: Deadline) -> Any:
        if self._transport is None:
            self._transport = _open(self._settings.target)
        attempts = Attempts(self._settings.policy, deadline.left(self._settings.timeout))
        while True:
            try:
                return await self._transport.send(ask, attempts.left())
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


def _open(target: Target) -> Any:
    """Import what the transport needs and nothing else."""
    if target.transport == "grpc":
        from serving.client.grpc_wire import AsyncGrpcTransport

        return AsyncGrpcTransport(target)
    from serving.client.rest_wire import AsyncRestTransport

    return AsyncRestTransport(target)
