"""What can go wrong between a program and the server that tags for it.

::

    AutotagError
    ├── BadInputError              the client was asked for something that cannot be (address, odd bytes, no clip)
    ├── ClipError                  the audio file cannot be read or decoded; nothing was sent
    └── TagServerError             all that follows
        ├── ServerUnavailableError   nobody answers there, or not now; tried again, in vain
        │   └── ServerBusyError      the server has more to do than it takes on; tried again, in vain
        ├── DeadlineError            no answer in the time that was given
        ├── ModelNotFoundError       no such model, version or label on that server
        ├── RequestRefusedError      the server will not answer this request, now or later; never tried again
        ├── ServerFailedError        the server failed while answering; never tried again
        └── BadResponseError         the answer is no tagging answer: another model, NaN, a shape that does not fit

(ClipError and BadInputError are those of preprocessing.errors.)
"""

from __future__ import annotations

from preprocessing.errors import AutotagError


class TagServerError(AutotagError):
    """Base of what can go wrong once a request is to be sent."""


class ServerUnavailableError(TagServerError):
    """Nobody answers at the address, or a proxy says that nobody is there (gRPC UNAVAILABLE; HTTP 502, 503, 504).

    Args:
        message: what happened and what to do.
        retry_after: seconds that the server asks to wait, where it does.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerBusyError(ServerUnavailableError):
    """All of the server's threads or queues are full (gRPC RESOURCE_EXHAUSTED; HTTP 429)."""


class DeadlineError(TagServerError):
    """The time given to the call was over before the answer came."""


class ModelNotFoundError(TagServerError):
    """The server has no such model, version or label (gRPC NOT_FOUND; HTTP 404)."""


class RequestRefusedError(TagServerError):
    """The server refuses the request, in its own words (gRPC INVALID_ARGUMENT and its like; HTTP 4xx)."""


class ServerFailedError(TagServerError):
    """The server failed while answering (gRPC INTERNAL, UNKNOWN; HTTP 500), in its own words."""


class BadResponseError(TagServerError):
    """The server answered with something that is no tagging answer."""


def refusal(server: str, code: str, words: str) -> RequestRefusedError:
    """Return the error for a request that the server refuses: its words and, where they are known, what to do."""
    old = "not found in signature def" in words
    advice = ". The model was exported by an older version of autotag: push it again with this one" if old else ""
    return RequestRefusedError(f"{server} refuses the request ({code}): {words}{advice}")
