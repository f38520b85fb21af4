"""What the page's server says: JSON, errors as one sentence, and what it reads of a request, within bounds."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from preprocessing.errors import AutotagError
from preprocessing.names import escaped, to_json

MOST_JSON_BYTES: Final = 64 << 10
MOST_FIELDS: Final = 32
BODY_SECONDS: Final = 20.0
"""For a body in JSON to come."""


class PageError(AutotagError):
    """A request that is not fulfilled.

    Args:
        status: of HTTP.
        message: one sentence for the person at the page.
        retry_after: seconds after which it may go better.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class JsonAnswer(Response):
    """A value as JSON in UTF-8; what is no text (a name's bytes) as lone surrogates."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Serialise; not a number has no place in it."""
        return to_json(content).encode()


def error_answer(status: int, message: str, headers: dict[str, str] | None = None) -> JsonAnswer:
    """``{"error": sentence}``."""
    return JsonAnswer({"error": escaped(message)}, status, headers)


class Query:
    """A request's query, each field once; bytes that are not UTF-8 are kept as surrogates.

    Args:
        request: whose.
        known: fields that there may be.

    Raises:
        PageError: there is another field, one twice, or too many.
    """

    def __init__(self, request: Request, *known: str) -> None:
        raw = bytes(request.scope["query_string"]).decode("utf-8", "surrogateescape")
        try:
            pairs = parse_qsl(raw, keep_blank_values=True, errors="surrogateescape", max_num_fields=MOST_FIELDS)
        except ValueError:
            raise PageError(400, f"the address has more than {MOST_FIELDS} fields") from None
        self._values: dict[str, str] = {}
        for name, value in pairs:
            if name not in known:
                raise PageError(400, f"there is no field {name!r} here; there are: {', '.join(known) or 'none'}")
            if self._values.setdefault(name, value) is not value:
                raise PageError(400, f"the field {name} is given twice")

    def text(self, name: str, default: str | None = None) -> str:
        """Return a field; without a default it must be there.

        Raises:
            PageError: it is not.
        """
        value = self._values.get(name, default)
        if value is None:
            raise PageError(400, f"the field {name} is missing")
        return value

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        """Return a whole number.

        Raises:
            PageError: it is none, or out of range.
        """
        text = self._values.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
            raise PageError(400, f"{name} must be a whole number from {least} to {most}, got {text[:40]!r}")
        return int(text)

    def seconds(self, name: str) -> float | None:
        """Return a number of seconds from 0 on; None where it is not given.

        Raises:
            PageError: it is none.
        """
        text = self._values.get(name)
        return None if text is None else _seconds(name, text)


def _seconds(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number < 1e7:
        raise PageError(400, f"{name} must be a number of seconds, got {str(value)[:40]!r}")
    return number


class Body:
    """A request's body: one JSON object with known fields."""

    def __init__(self, values: dict[str, Any], *known: str) -> None:
        unknown = [name for name in values if name not in known]
        if unknown:
            raise PageError(400, f"there is no field {unknown[0][:40]!r} here; there are: {', '.join(known)}")
        self._values = values

    def text(self, name: str) -> str:
        """Return a field that must be there, a text.

        Raises:
            PageError: it is not.
        """
        value = self._values.get(name)
        if not isinstance(value, str):
            raise PageError(400, f"the field {name} must be a text")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a text, or None where the field is null or not there; errors as in text."""
        return None if self._values.get(name) is None else self.text(name)

    def texts(self, name: str, least: int, most: int) -> list[str]:
        """Return a list of texts.

        Raises:
            PageError: it is none, or has too few or too many.
        """
        value = self._values.get(name)
        if (
            not isinstance(value, list)
            or not all(isinstance(one, str) for one in value)
            or not least <= len(value) <= most
        ):
            raise PageError(400, f"the field {name} must be a list of {least} to {most} texts")
        return value

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self._values.get(name) is not None

    def seconds(self, name: str) -> float | None:
        """Return a number of seconds; None where the field is null or not there; errors as in Query.seconds."""
        value = self._values.get(name)
        return None if value is None else _seconds(name, value)


async def read_body(request: Request, *known: str, most_bytes: int = MOST_JSON_BYTES) -> Body:
    """Read a body that is a JSON object.

    Raises:
        PageError: it is of another kind, too large, too slow, or has other fields than the known ones.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise PageError(415, "the body must be JSON, with the header Content-Type: application/json")
    try:
        data = await asyncio.wait_for(_read(request, most_bytes), BODY_SECONDS)
    except asyncio.TimeoutError:
        raise PageError(408, f"the body did not come within {BODY_SECONDS:g} s") from None
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise PageError(400, "the body is not JSON") from None
    if not isinstance(values, dict):
        raise PageError(400, "the body must be a JSON object")
    return Body(values, *known)


async def _read(request: Request, most_bytes: int) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most_bytes:
            raise PageError(413, f"the body has more than {most_bytes:,} bytes")
    return bytes(data)
