from __future__ import annotations

import contextlib
import http.client
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from page_server import Listener, Page, listening_models, local_access, running_page

from preprocessing.errors import BadInputError
from serving.page.app import Settings
from serving.page.safety import Access

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    models = listening_models(tmp_path_factory.mktemp("models"), Listener())
    with running_page(Settings(models, local_access())) as page:
        yield page


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """As it is where it listens on all addresses."""
    models = listening_models(tmp_path_factory.mktemp("models"), Listener())
    with running_page(Settings(models, Access.of("0.0.0.0", TOKEN, ["music.example"]))) as page:
        yield page


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "localhost.", "localhost:9", "127.0.0.1:80"]
)
def test_names_of_this_machine_are_answered(page: Page, host: str) -> None:
    assert page.client.get("/api/state", headers={"host": host, "origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "evil.example:8470", "localhost@evil.example",
     "192.0.2.7", "127.0.0.2", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "",
     "localhost, evil.example", "local host", "localhost:port", "[localhost]", "localhost/", "http://localhost"],
)  # fmt: skip
def test_other_names_are_refused_as_after_dns_rebinding(page: Page, host: str) -> None:
    for path in ("/", "/api/state", "/static/index.html", "/none"):
        answer = httpx.get(page.base + path, headers={"host": host})
        assert answer.status_code in (400, 421), path
        assert "folder" not in answer.text


def test_request_with_two_hosts_or_none_is_refused(page: Page) -> None:
    for hosts in ("", "Host: localhost\r\nHost: evil.example\r\n", "Host: localhost\r\nHost: localhost\r\n"):
        with socket.create_connection(("127.0.0.1", page.port)) as connection:
            connection.sendall(f"GET /api/state HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.split(b" ", 2)[1] in (b"400", b"421")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://{host}"},
        {"origin": "http://localhost"},
        {"origin": "http://{host}.evil.example"},
        {"origin": "http://{host}", "sec-fetch-site": "cross-site"},
        {"origin": "http://{host}", "sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"referer": "http://{host}/"},
    ],
)
def test_what_changes_something_must_come_from_the_page(page: Page, headers: dict[str, str]) -> None:
    host = f"127.0.0.1:{page.port}"
    sent = {name: value.format(host=host) for name, value in headers.items()}
    for method, path in (
        ("POST", "/api/tag"),
        ("POST", "/api/paths"),
        ("PUT", "/api/corrections"),
        ("POST", "/api/uploads"),
    ):
        answer = httpx.request(method, page.base + path, json={}, headers=sent)
        assert answer.status_code == 403, (method, path)
        assert "another site" in answer.json()["error"]


@pytest.mark.parametrize("headers", [{"origin": "http://{host}"}, {"sec-fetch-site": "same-origin"}])
def test_the_page_itself_may_ask(page: Page, headers: dict[str, str]) -> None:
    sent = {name: value.format(host=f"127.0.0.1:{page.port}") for name, value in headers.items()}
    assert httpx.post(page.base + "/api/paths", json={"path": 5}, headers=sent).status_code == 400


def test_other_sites_may_open_the_page_and_nothing_else(page: Page) -> None:
    cross = {"sec-fetch-site": "cross-site"}
    opening = {**cross, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert httpx.get(page.base + "/", headers=opening).status_code == 200
    for path in ("/api/state", "/api/audio?song=file:a.wav", "/static/index.html", "/api/peaks?song=file:a.wav"):
        assert httpx.get(page.base + path, headers=opening).status_code == 403, path
    assert httpx.get(page.base + "/", headers={**cross, "sec-fetch-dest": "iframe"}).status_code == 403
    assert httpx.get(page.base + "/api/state", headers={"origin": "http://evil.example"}).status_code == 403


def test_every_answer_has_the_headers_that_keep_others_out(page: Page) -> None:
    for path in ("/", "/api/state", "/none", "/static/none.js", "/api/audio?song=file:x.wav"):
        headers = page.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"\*|https?:", policy)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers
        assert headers["cache-control"] in ("no-store", "no-cache", "private, no-cache")
        assert "server" not in headers
    assert page.client.get("/api/state").headers["cache-control"] == "no-store"


def test_wrong_methods_and_addresses_are_json_sentences(page: Page) -> None:
    for method, path, status in (
        ("DELETE", "/api/tag", 405),
        ("PUT", "/api/tag", 405),
        ("GET", "/api/tag", 405),
        ("POST", "/api/state", 405),
        ("PATCH", "/", 405),
        ("TRACE", "/", 405),
        ("OPTIONS", "/api/tag", 405),
        ("GET", "/api", 404),
        ("GET", "/api/tag/", 404),
        ("GET", "/index.html", 404),
    ):
        answer = page.client.request(method, path)
        assert answer.status_code == status, (method, path)
        assert set(answer.json()) == {"error"}
    assert page.client.head("/").content == b""


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"path": 1}', "application/json", 400),
        (b'{"path": "a", "else": 1}', "application/json", 400),
        (b'{"path": NaN}', "application/json", 400),
        (b"[" * 60_000, "application/json", 400),
        (b'{"path": "' + b"a" * 70_000 + b'"}', "application/json", 413),
        (b'{"path": "a"}', "text/plain", 415),
        (b"path=a", "application/x-www-form-urlencoded", 415),
        (b'{"path": "a"}', "multipart/form-data", 415),
        (b'{"path": "' + b"1" * 5000 + b'"}', "application/json; charset=utf-8", 400),
    ],
)
def test_bodies_are_read_within_bounds(page: Page, content: bytes, kind: str, status: int) -> None:
    answer = page.client.post("/api/paths", content=content, headers={"content-type": kind})
    folder_missing = 404
    assert answer.status_code in (status, folder_missing)
    assert (answer.status_code == folder_missing) == (b'"path": "1' in content)


def test_huge_heads_are_refused(page: Page) -> None:
    for line in ("GET /" + "a" * 100_000, "GET /api/state HTTP/1.1\r\nHost: localhost\r\nX: " + "a" * 100_000):
        with socket.create_connection(("127.0.0.1", page.port), timeout=10) as connection:
            connection.sendall(line.encode())
            answer = connection.recv(65536)
        assert answer.split(b" ", 2)[1] == b"400"
    assert page.client.get("/api/files?query=" + "a" * 20_000).status_code == 414
    assert page.client.get("/api/files?" + "&".join(f"a{n}=1" for n in range(100))).status_code in (400, 404)


def test_connection_on_which_nothing_is_asked_is_let_go(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.page.server.FIRST_SECONDS", 0.2)
    for said in (b"", b"GET / HTT", b"GET / HTTP/1.1\r\nHost: localhost\r\n"):
        with socket.create_connection(("127.0.0.1", page.port), timeout=10) as connection:
            connection.sendall(said)
            assert connection.recv(1) == b""
    assert page.client.get("/api/state").is_success


@pytest.mark.parametrize(
    ("asked", "drop"),
    [
        (b"POST /api/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n", b"A"),
    ],
)
def test_connection_that_was_answered_and_drips_on_is_let_go(
    page: Page, monkeypatch: pytest.MonkeyPatch, asked: bytes, drop: bytes
) -> None:
    monkeypatch.setattr("serving.page.server.FIRST_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", page.port), timeout=0.05) as connection:
        connection.sendall(asked)
        assert _is_let_go(connection, drop, 5)


def _is_let_go(connection: socket.socket, drop: bytes, seconds: float) -> bool:
    """Whether the server ends a connection on which a byte comes now and then."""
    latest = time.monotonic() + seconds
    while time.monotonic() < latest:
        try:
            connection.sendall(drop)
            if connection.recv(4096) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_connection_that_is_used_again_and_again_is_kept(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.page.server.FIRST_SECONDS", 0.4)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)) as connection:
        connection.connect()
        own = connection.sock.getsockname()
        for _ in range(8):
            connection.request("GET", "/api/state", headers={"Host": "localhost"})
            assert connection.getresponse().read()
            assert connection.sock.getsockname() == own
            time.sleep(0.15)


def test_address_of_this_machine_that_was_chosen_is_answered() -> None:
    access = Access.of("127.0.0.5", None)
    assert access.knows("127.0.0.5:8470")
    assert not access.knows("127.0.0.6")
    assert not Access.of("0.0.0.0", TOKEN).knows("evil.example")


def test_no_token_is_asked_on_this_machine_and_one_is_elsewhere() -> None:
    assert Access.of("localhost", None).token is None
    assert Access.of("127.0.0.5", None).token is None
    for host in ("0.0.0.0", "::", "192.0.2.1", "music.example", ""):
        with pytest.raises(BadInputError, match="for this machine alone"):
            Access.of(host, None)
    for token in ("", "short", "a token with spaces in it", "x" * 15):
        with pytest.raises(BadInputError, match="16 letters"):
            Access.of("0.0.0.0", token)


@pytest.mark.parametrize("host", ["192.0.2.7", "[2001:db8::1]:8470", "music.example", "localhost"])
def test_server_on_all_addresses_is_known_by_any_of_them_and_by_names_it_was_told(far: Page, host: str) -> None:
    headers = {"host": host, "cookie": f"autotag-{far.port}={TOKEN}"}
    assert httpx.get(far.base + "/api/state", headers=headers).status_code == 200
    assert httpx.get(far.base + "/api/state", headers={**headers, "host": "evil.example"}).status_code == 421


def test_token_in_the_address_becomes_a_cookie(far: Page) -> None:
    with httpx.Client(base_url=far.base) as browser:
        assert browser.get("/").status_code == 401
        assert browser.get("/api/state").status_code == 401
        welcome = browser.get(f"/?token={TOKEN}")
        assert welcome.status_code == 200
        assert 'url=/"' in welcome.text
        assert TOKEN not in welcome.text
        cookie = welcome.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "path=/" in cookie
        assert browser.get("/api/state").status_code == 200
        assert "autotag" in browser.get("/").text


@pytest.mark.parametrize(
    "token", ["", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "%00", "\udcff".encode("utf-8", "surrogateescape")]
)
def test_wrong_tokens_are_refused(far: Page, token: str | bytes) -> None:
    assert httpx.get(far.base + "/", params={"token": token}).status_code == 401
    if token and isinstance(token, str):
        assert httpx.get(far.base + "/api/state", headers={"cookie": f"autotag-{far.port}={token}"}).status_code == 401
    assert httpx.get(f"{far.base}/api/state?token={TOKEN}").status_code == 401


def test_policy_is_kept_by_the_pages_own_files() -> None:
    """No script or style stands in the page itself, and nothing is loaded from elsewhere."""
    text = (Path(__file__).resolve().parents[3] / "serving" / "page" / "static" / "index.html").read_text("utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|(src|href)=[\"']?(https?:)?//", text)
