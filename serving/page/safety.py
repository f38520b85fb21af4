"""Who may ask, and what browsers are told: the page answers its own scripts and nobody else's.

- The Host header must name this server: a foreign name that was made to point here (DNS rebinding) is refused. IP
  addresses cannot be rebound, so that where the server listens on all addresses any of them will do.
- A request that a browser says comes from another site is refused (Fetch Metadata, Origin), but for opening the page
  itself; what changes something must say that it comes from the page.
- A token, where one is set, is asked of everybody: once in the address, from then on in a cookie for this site alone.
- Every answer has a content security policy without inline scripts and styles, and must not be framed or embedded.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from preprocessing.errors import BadInputError
from serving.page.answers import error_answer

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
ANY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})
SHORTEST_TOKEN: Final = 16
TOKEN_FORM: Final = re.compile(r"[\w.~-]+", re.ASCII)
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
MOST_QUERY_BYTES: Final = 8 << 10

POLICY: Final = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=(), payment=(), usb=()",
}
NOT_KEPT: Final = "no-store"
_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::(?P<port>\d{1,5}))?")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        names: hosts, in small letters, by which the server may be called; without brackets.
        any_address: whether any IP address will do for a name.
        token: that everybody must have; None for nobody.
    """

    names: frozenset[str]
    any_address: bool = False
    token: str | None = None

    @classmethod
    def of(cls, host: str, token: str | None, names: Iterable[str] = ()) -> Access:
        """Return the access to a server that listens on a host.

        Args:
            host: name or address.
            token: of the person; must be there where others than this machine can reach the host.
            names: by which it may be called, too.

        Raises:
            BadInputError: the token is missing or can be guessed.
        """
        if token is not None and (len(token) < SHORTEST_TOKEN or not TOKEN_FORM.fullmatch(token)):
            raise BadInputError(
                f"the token must have {SHORTEST_TOKEN} letters or digits at least, or others could guess it"
            )
        if token is None and not is_loopback(host):
            raise BadInputError(f"without a token the page is for this machine alone, and {host} is not")
        known = {*LOOPBACK_NAMES, host.lower(), *(name.lower() for name in names)} - ANY_ADDRESS
        if not is_loopback(host):
            known |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        return cls(frozenset(known), host in ANY_ADDRESS, token)

    def knows(self, host: str) -> bool:
        """Whether a Host header names this server."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found["name"].strip("[]").lower().rstrip(".")
        if name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.any_address


class Guard:
    """Lets through to the application who may ask, and adds the headers to every answer.

    Args:
        app: the application.
        access: who may.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", NOT_KEPT)
            await send(message)

        refusal = self._refusal(scope) or self._welcome(scope)
        await (refusal or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._access.knows(hosts[0]):
            return error_answer(421, "this server is not called so: open the address that autotag page printed")
        if len(scope["query_string"]) > MOST_QUERY_BYTES:
            return error_answer(414, f"the address has more than {MOST_QUERY_BYTES:,} bytes")
        if not self._own(scope, headers):
            return error_answer(403, "only the page itself may ask this: the request came from another site, or did "
                                     "not say where from (Origin or Sec-Fetch-Site)")  # fmt: skip
        if self._access.token is not None and not self._has_token(scope, headers):
            return error_answer(401, "open the address that autotag page printed, with its token")
        return None

    def _own(self, scope: Scope, headers: Headers) -> bool:
        """Whether a request comes from the page, or opens it."""
        site, origins = headers.get("sec-fetch-site"), headers.getlist("origin")
        same = f"{scope['scheme']}://{headers['host'].lower()}"
        if any(origin.lower() != same for origin in origins):
            return False
        if scope["method"] not in SAFE_METHODS:
            return site in (None, "same-origin") and (site is not None or bool(origins))
        opening = scope["path"] == "/" and headers.get("sec-fetch-dest", "document") == "document"
        return site in (None, "same-origin", "none") or opening

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        given = [*_cookies(headers, self._cookie(scope)), *_tokens(scope)]
        expected = (self._access.token or "").encode()
        return any([hmac.compare_digest(one.encode("utf-8", "replace"), expected) for one in given])

    def _welcome(self, scope: Scope) -> Response | None:
        """Turn a token in the address into a cookie, and the address into one without.

        The browser goes on from a page of this site: after a redirect from another one it would not send the cookie.
        """
        if not (_tokens(scope) and scope["path"] == "/" and scope["method"] in SAFE_METHODS):
            return None
        answer = HTMLResponse('<!doctype html><meta http-equiv="refresh" content="0; url=/"><a href="/">autotag</a>')
        if self._access.token is not None:
            answer.set_cookie(self._cookie(scope), self._access.token, path="/", httponly=True, samesite="strict",
                              secure=scope["scheme"] == "https")  # fmt: skip
        return answer

    @staticmethod
    def _cookie(scope: Scope) -> str:
        """Cookies are the same for all ports of a host."""
        server = scope.get("server")
        return f"autotag-{server[1] if server else 0}"


def _cookies(headers: Headers, name: str) -> list[str]:
    pairs = [part.strip().partition("=") for line in headers.getlist("cookie") for part in line.split(";")]
    return [value for key, _, value in pairs if key == name]


def _tokens(scope: Scope) -> list[str]:
    if scope["path"] != "/":
        return []
    try:
        pairs = parse_qsl(bytes(scope["query_string"]).decode("latin-1"), max_num_fields=16)
    except ValueError:
        return []
    return [value for name, value in pairs if name == "token"]
