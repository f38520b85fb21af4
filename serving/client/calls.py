"""The calls that both clients make, up to the point where one waits and the other awaits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from preprocessing.audio import open_audio, to_pcm
from preprocessing.decoding import Heard
from preprocessing.errors import AutotagError, BadInputError
from serving.client.answers import Answer, Clip, ClipTags, Exchange
from serving.client.retries import RetryPolicy
from serving.client.target import Target

DEFAULT_TIMEOUT: Final = 60.0
DEFAULT_JOBS: Final = 4

MOST_WINDOWS: Final = 8
"""Windows in one request: 3.9 minutes, 7.5 MB over gRPC and 10 MB over REST. (A song's last has up to one more.)"""

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
        most_windows: windows in one request.

    Raises:
        BadInputError: a value cannot be.
    """

    target: Target
    policy: RetryPolicy
    timeout: float
    deadline: float | None
    most_windows: int

    @property
    def names_versions(self) -> bool:
        """Whether a version has to be asked by its number: an answer over REST does not say which one gave it."""
        return self.target.transport == "rest"

    def __post_init__(self) -> None:
        for name, seconds in (("timeout", self.timeout), ("deadline", self.deadline)):
            if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
                raise BadInputError(f"{name} is {seconds}: give a positive number of seconds")
        if self.most_windows < 1 or self.policy.retries < 0:
            raise BadInputError(
                f"most_windows is {self.most_windows} and retries {self.policy.retries}: at least 1 and at least 0"
            )


def as_policy(retries: int | RetryPolicy) -> RetryPolicy:
    """Take a number of retries for the usual policy with that number."""
    return retries if isinstance(retries, RetryPolicy) else RetryPolicy(retries=retries)


def advance(exchange: Exchange[Clip], answer: Answer | None = None) -> tuple[tuple[bytes, ...], list[Clip]]:
    """Give an exchange its answer and return the next request; or none, and what was learnt in the end."""
    try:
        return tuple(exchange.send(answer)), []  # type: ignore[arg-type]  # None starts it
    except StopIteration as done:
        return (), done.value


class FilePcm:
    """An audio file as blocks of int16 mono at 16 kHz, whatever its format, rate and length.

    Each iteration decodes anew, and raises ClipError where the file cannot be read or decoded.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._heard: Heard | None = None

    def __iter__(self) -> Iterator[bytes]:
        """Yield the blocks."""
        with open_audio(self._path) as stream:
            for samples in stream.blocks:
                yield to_pcm(samples).tobytes()
            self._heard = stream.heard

    def told(self, clip: Clip) -> Clip:
        """Return what was learnt of the file with the word about how much of it was heard."""
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
