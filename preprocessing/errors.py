"""Errors that a person can mend: each message says what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator


class AutotagError(Exception):
    """Base of the project's own errors."""


class BadInputError(AutotagError):
    """Input that stops the whole command (exit code 2): a bad CSV, a missing folder, an unknown setting."""


class ClipError(AutotagError):
    """One clip that cannot be used. Never stops a job: the clip is rejected with this reason.

    Args:
        kind: short machine-readable name of the reason, for counting (``empty``, ``undecodable``, ...).
        detail: what was seen, for a person.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.detail = detail


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those behind it, each once."""
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        seen.append(found)
        yield found
        found = found.__cause__ or found.__context__
