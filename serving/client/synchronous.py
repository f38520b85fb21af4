"""The client that waits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
        most_windows: windows of 29.1 s in one request.

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
        most_windows: int = MOST_WINDOWS,
    ) -> None:
        target = Target(address, transport, model, version, label, tls, root_certificates)
        self._settings = CallSettings(target, as_policy(retries), timeout, deadline, most_windows)
        self._transport = _open(target)

    def __enter__(self) -> TagClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def tag_pcm(self, clips: Sequence[bytes]) -> list[ClipTags]:
        """Tag clips of any length: int16 little-endian mono at 16 kHz each.

        Raises:
            BadInputError: a clip is no such audio.
            TagServerError: see serving.client.errors.
        """
        return self._exchange(PCM_SIGNATURE, lambda: tagging(given_blocks(clips), self._settings.most_windows))

    def tag_file(self, path: Path | str) -> ClipTags:
        """Tag an audio file of any format and length.

        Raises:
            ClipError: it cannot be read or decoded.
            TagServerError: see serving.client.errors.
        """
        file = FilePcm(path)
        (clip,) = self._exchange(PCM_SIGNATURE, lambda: tagging([file], self._settings.most_windows))
        return file.told(clip)

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
        return self._exchange(EMBEDDING_SIGNATURE, lambda: embedding(given_blocks(clips), self._settings.most_windows))

    def embed_file(self, path: Path | str) -> ClipEmbedding:
        """Embed an audio file; errors as in tag_file."""
        file = FilePcm(path)
        (clip,) = self._exchange(EMBEDDING_SIGNATURE, lambda: embedding([file], self._settings.most_windows))
        return file.told(clip)

    def status(self) -> list[VersionStatus]:
        """Ask which versions the server has, and in what state.

        Raises:
            TagServerError: see serving.client.errors.
        """
        status: list[VersionStatus] = self._send(StatusAsk(), Deadline(self._settings.deadline))
        return status

    def metadata(self) -> ModelMetadata:
        """Ask which version answers, and which signatures it has.

        Raises:
            TagServerError: see serving.client.errors.
        """
        metadata: ModelMetadata = self._send(MetadataAsk(), Deadline(self._settings.deadline))
        return metadata

    def _exchange(self, signature: str, begin: Callable[[], Exchange[Clip]]) -> list[Clip]:
        """Hold an exchange with one version; from its beginning with another, where that one goes away meanwhile."""
        deadline = Deadline(self._settings.deadline)
        for beginning in range(1, MOST_BEGINNINGS + 1):
            version = self._settings.target.version
            if version is None and self._settings.names_versions:
                version = self._send(MetadataAsk(), deadline).version
            try:
                return self._exchange_with(version, signature, begin(), deadline)
            except ModelNotFoundError:
                if self._settings.target.version is not None or beginning == MOST_BEGINNINGS:
                    raise
        raise AssertionError("unreachable")

    def _exchange_with(
        self, version: int | None, signature: str, exchange: Exchange[Clip], deadline: Deadline
    ) -> list[Clip]:
        clips, learnt = advance(exchange)
        while clips:
            answer: Answer = self._send(PredictAsk(signature, clips, version), deadline)
            version = answer.version
            clips, learnt = advance(exchange, answer)
        return learnt

    def _send(self, ask: Ask, deadline: Deadline) -> Any:
        attempts = Attempts(self._settings.policy, deadline.left(self._settings.timeout))
        while True:
            try:
                return self._transport.send(ask, attempts.left())
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


def _open(target: Target) -> Any:
    """Import what the transport needs and nothing else."""
    if target.transport == "grpc":
        from serving.client.grpc_wire import GrpcTransport

        return GrpcTransport(target)
    from serving.client.rest_wire import RestTransport

    return RestTransport(target)
