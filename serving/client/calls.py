"""The calls that both clients make, up to the point where one waits and the other awaits.

A ``Call`` has no transport: it yields requests and is sent the responses. It finds out which version answers and what
that one takes as a clip (serving.client.cards), cuts the audio accordingly, keeps to that version for the rest, and
begins again where the version goes away in the middle or another one that hears otherwise takes over.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from preprocessing.audio.decoding import Heard
from preprocessing.audio.samples import to_pcm
from preprocessing.audio.streams import open_audio
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.errors import AutotagError, BadInputError
from serving.client.cards import CARD_INPUT, CARD_SIGNATURE, Card, KnownCards, read_card
from serving.client.errors import BadResponseError, ModelNotFoundError
from serving.client.requests import MOST_CLIPS, MetadataRequest, PredictRequest, Request, Response
from serving.client.results import (
    EMBEDDING_SIGNATURE,
    PCM_SIGNATURE,
    Clip,
    ClipEmbedding,
    ClipTags,
    Exchange,
    embedding,
    tagging,
)
from serving.client.retries import RetryPolicy
from serving.client.target import ModelMetadata, Target

DEFAULT_TIMEOUT: Final = 60.0
DEFAULT_JOBS: Final = 4

MOST_SAMPLES: Final = 8 * PAPER_CLIP.samples
"""In one request, where nothing else is said: 3.9 minutes at 16 kHz, 7.5 MB over gRPC and 10 MB over REST. (A song's
last has up to one window more.)"""

MOST_BEGINNINGS: Final = 2
"""How often a call is begun: once more where the server lets the version go that gave the first answers."""

LOOK_AHEAD: Final = 2
"""Files begun or done for each job, while an earlier one is waited for."""


@dataclass(frozen=True)
class FileResult:
    """What became of one of several files: ``clip`` or, where it failed, ``error`` is there.

    The error is the ClipError of a file that cannot be decoded, or any TagServerError.
    """

    path: Path
    clip: ClipTags | None
    error: AutotagError | None


@dataclass(frozen=True)
class CallSettings:
    """How a client calls.

    Attributes:
        target: whom.
        policy: when to ask again.
        timeout: seconds for one request with all its retries.
        deadline: seconds for a whole call (a song of hours is many requests); None for no such limit.
        most_windows: windows in one request; None for as many as MOST_SAMPLES holds.

    Raises:
        BadInputError: a value cannot be.
    """

    target: Target
    policy: RetryPolicy
    timeout: float
    deadline: float | None
    most_windows: int | None

    @property
    def names_versions(self) -> bool:
        """Whether a version has to be asked by its number: an answer over REST does not say which one gave it."""
        return self.target.transport == "rest"

    def __post_init__(self) -> None:
        for name, seconds in (("timeout", self.timeout), ("deadline", self.deadline)):
            if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
                raise BadInputError(f"{name} is {seconds}: give a positive number of seconds")
        if (self.most_windows is not None and self.most_windows < 1) or self.policy.retries < 0:
            raise BadInputError(
                f"most_windows is {self.most_windows} and retries {self.policy.retries}: at least 1 and at least 0"
            )

    def windows_of(self, clip: ClipFormat) -> int:
        """Windows in one request to a model that takes such clips."""
        most = self.most_windows or max(1, MOST_SAMPLES // clip.samples)
        return min(most, MOST_CLIPS)


def as_policy(retries: int | RetryPolicy) -> RetryPolicy:
    """Take a number of retries for the usual policy with that number."""
    return retries if isinstance(retries, RetryPolicy) else RetryPolicy(retries=retries)


Result = TypeVar("Result")


class Call(Generic[Result]):
    """The requests of one call, one after another, and in the end its result.

    Every step may take time (a file is decoded in it), and none waits for a server.
    """

    def __init__(self, requests: Generator[Request, Any, Result]) -> None:
        self._requests = requests
        self._result: list[Result] = []

    @property
    def result(self) -> Result:
        """The result, once there is no further request."""
        (result,) = self._result
        return result

    def start(self) -> Request | None:
        """Return the first request."""
        return self._step(lambda: next(self._requests))

    def send(self, response: Any) -> Request | None:
        """Take a response and return the next request; None at the end."""
        return self._step(lambda: self._requests.send(response))

    def throw(self, error: ModelNotFoundError) -> Request | None:
        """Take it that the version asked is gone, and return the next request.

        Raises:
            ModelNotFoundError: there is none; it is the error given.
        """
        return self._step(lambda: self._requests.throw(error))

    def _step(self, step: Callable[[], Request]) -> Request | None:
        try:
            return step()
        except StopIteration as done:
            self._result.append(done.value)
            return None


Audio = Callable[[ClipFormat], Iterable[Iterable[bytes]]]
"""From what a model takes as a clip to clips of any length at that rate, each as blocks of its PCM."""


def tag_call(settings: CallSettings, known: KnownCards, audio: Audio) -> Call[list[ClipTags]]:
    """Tag clips through the signature ``pcm``; errors as serving.client.results.tagging has them."""

    def begin(card: Card) -> Exchange[ClipTags]:
        return tagging(audio(card.clip), settings.windows_of(card.clip), card)

    return Call(_with_one_version(settings, known, PCM_SIGNATURE, begin))


def embed_call(settings: CallSettings, known: KnownCards, audio: Audio) -> Call[list[ClipEmbedding]]:
    """Embed clips through the signature ``embedding``; errors as in tag_call."""

    def begin(card: Card) -> Exchange[ClipEmbedding]:
        return embedding(audio(card.clip), settings.windows_of(card.clip), card)

    return Call(_with_one_version(settings, known, EMBEDDING_SIGNATURE, begin))


def card_call(settings: CallSettings, known: KnownCards, version: int | None = None) -> Call[Card]:
    """Ask for the card of a version; without one, of that which answers now."""

    def requests() -> Generator[Request, Any, Card]:
        metadata: ModelMetadata = yield MetadataRequest(version)
        return (yield from _card_of(metadata, known))

    return Call(requests())


class _OtherModelError(BadResponseError):
    """A version answered for which the clips were not made ready."""


def _with_one_version(
    settings: CallSettings, known: KnownCards, signature: str, begin: Callable[[Card], Exchange[Clip]]
) -> Generator[Request, Any, list[Clip]]:
    """Hold an exchange with one version; from its beginning with another, where that one goes away meanwhile."""
    for beginning in range(1, MOST_BEGINNINGS + 1):
        try:
            card = yield from _card_to_begin_with(settings, known)
            return (yield from _exchange(settings, known, signature, begin, card))
        except (ModelNotFoundError, _OtherModelError):
            if settings.target.version is not None or beginning == MOST_BEGINNINGS:
                raise
    raise AssertionError("unreachable")


def _card_to_begin_with(settings: CallSettings, known: KnownCards) -> Generator[Request, Any, Card]:
    """Of the version that answered last, where an answer will say whether that holds; else ask which one answers."""
    version = settings.target.version
    card = known.find(version)
    if card is not None and (version is not None or not settings.names_versions):
        return card
    metadata: ModelMetadata = yield MetadataRequest()
    return (yield from _card_of(metadata, known))


def _card_of(metadata: ModelMetadata, known: KnownCards) -> Generator[Request, Any, Card]:
    card = known.find(metadata.version)
    if card is None:
        info = None
        if CARD_SIGNATURE in metadata.signatures:
            info = read_card((yield PredictRequest(CARD_SIGNATURE, (b"card",), metadata.version, CARD_INPUT)))
        card = Card(metadata.version, info)
    known.add(card)
    return card


def _exchange(
    settings: CallSettings,
    known: KnownCards,
    signature: str,
    begin: Callable[[Card], Exchange[Clip]],
    card: Card,
) -> Generator[Request, Any, list[Clip]]:
    version = card.version if settings.names_versions else settings.target.version
    exchange = begin(card)
    clips, result = _advance(exchange)
    while clips:
        response: Response = yield PredictRequest(signature, clips, version)
        if response.version != card.version:
            other = yield from _card_of((yield MetadataRequest(response.version)), known)
            if not card.fits(other):
                raise _OtherModelError(
                    f"{settings.target}: version {other.version} came in the middle and takes other clips than version "
                    f"{card.version}: ask again, or choose a version"
                )
            card = other
        version = response.version
        clips, result = _advance(exchange, response)
    return result


def _advance(exchange: Exchange[Clip], response: Response | None = None) -> tuple[tuple[bytes, ...], list[Clip]]:
    """Give an exchange its response and return the next request; or none, and the results."""
    try:
        return tuple(exchange.send(response)), []  # type: ignore[arg-type]  # None starts it
    except StopIteration as done:
        return (), done.value


class FilePcm:
    """An audio file as blocks of int16 mono at a model's rate, whatever its format, rate and length."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._heard: Heard | None = None

    def audio(self, clip: ClipFormat) -> list[Iterator[bytes]]:
        """Return the file as one clip."""
        return [self._blocks(clip)]

    def _blocks(self, clip: ClipFormat) -> Iterator[bytes]:
        with open_audio(self._path, sample_rate=clip.sample_rate) as stream:
            for samples in stream.blocks:
                yield to_pcm(samples).tobytes()
            self._heard = stream.heard

    def with_completeness(self, clip: Clip) -> Clip:
        """Return the file's result with how much of the file was heard.

        Before that the file has to be decoded.
        """
        assert self._heard is not None
        return dataclasses.replace(clip, complete=self._heard.complete, claimed_seconds=self._heard.claimed)


def given_blocks(clips: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    """Clips held in memory, as clips of one block each."""
    for clip in clips:
        yield (clip,)


def check_jobs(jobs: int) -> None:
    """Check how many files are to be under way at a time.

    Raises:
        BadInputError: fewer than one.
    """
    if jobs < 1:
        raise BadInputError(f"jobs is {jobs}: at least 1")
