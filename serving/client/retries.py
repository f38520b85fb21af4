"""When to ask again, and how long to wait before: exponential back-off with jitter, within the time that is left.

Jitter as in 'Exponential Backoff and Jitter' (AWS Architecture Blog, 2015), 'equal jitter': half of the wait is fixed
and half is drawn, so that clients that failed together do not come back together, and none comes back at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from serving.client.errors import DeadlineError, ServerUnavailableError, TagServerError


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how soon to ask again.

    Attributes:
        retries: requests after the first.
        first_wait: seconds before the first of them; each further wait is twice as long.
        longest_wait: seconds, at most (a longer Retry-After of the server's is kept to).
    """

    retries: int = 5
    first_wait: float = 0.2
    longest_wait: float = 5.0

    def wait(self, attempt: int, drawn: float) -> float:
        """Seconds after attempt 0, 1, ...; ``drawn`` is from [0, 1)."""
        whole: float = min(self.longest_wait, self.first_wait * 2.0 ** min(attempt, 99))
        return whole * (1 + drawn) / 2


class Deadline:
    """A moment that is not moved by retries.

    Args:
        seconds: from now; None for never.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.seconds = seconds
        self._end = None if seconds is None else clock() + seconds

    def left(self, at_most: float) -> float:
        """Seconds left, ``at_most`` so many.

        Raises:
            DeadlineError: none.
        """
        if self._end is None:
            return at_most
        left = self._end - self._clock()
        if left <= 0:
            raise DeadlineError(
                f"not done after the {self.seconds:g} s that the call was given: give a larger deadline"
            )
        return min(left, at_most)


class Attempts:
    """The attempts at one request.

    Args:
        policy: how often and how soon.
        seconds: for all of them and the waits between.
    """

    def __init__(self, policy: RetryPolicy, seconds: float) -> None:
        self._policy = policy
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._failed = 0

    def left(self) -> float:
        """Seconds left for the next attempt.

        Raises:
            DeadlineError: none.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlineError(
                f"no answer within {self._seconds:g} s: give a larger timeout, or see what slows the server"
            )
        return left

    def wait_after(self, error: TagServerError) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            TagServerError: the one given, where no further attempt is worth it: no passing trouble, tried often enough,
                or the time would be over.
        """
        if not isinstance(error, ServerUnavailableError) or self._failed >= self._policy.retries:
            raise error
        wait = max(error.retry_after, self._policy.wait(self._failed, random.random()))
        if time.monotonic() + wait >= self._end:
            raise error
        self._failed += 1
        return wait
