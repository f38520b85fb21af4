"""The proxy of serving/server/tfserving in front of a port, where nginx with Lua is installed: for tests alone."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ports import free_port

FILES = Path(__file__).parents[1] / "serving" / "server" / "tfserving" / "proxy"
DEBIAN_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")
LOAD_MODULE = re.compile(r"^# (load_module (\S+);)$", re.MULTILINE)
"""What the configuration says to uncomment on Debian."""
REASON = "needs nginx with Lua: apt-get install --no-install-recommends nginx-light libnginx-mod-http-lua"


def nginx_with_lua() -> tuple[str, str] | None:
    """The program, and what its lines for Debian become; None where it is not installed."""
    if openresty := shutil.which("openresty"):
        return openresty, r"# \1"
    nginx, modules = shutil.which("nginx"), Path("/usr/lib/nginx/modules")
    if nginx is None or not all((modules / name).exists() for name in DEBIAN_MODULES):
        return None
    return nginx, r"\1"


@dataclass(frozen=True)
class Proxy:
    """A running proxy: where clients reach it, and where probes and Prometheus do."""

    url: str
    inner_url: str


@contextlib.contextmanager
def bounding_proxy(upstream: int, folder: Path) -> Iterator[Proxy]:
    """Run the committed files with other ports, another folder to write to, and a shorter wait for slow clients."""
    found = nginx_with_lua()
    assert found is not None, REASON
    program, modules = found
    text, before = LOAD_MODULE.sub(modules, (FILES / "nginx.conf").read_text(encoding="utf-8")), ""
    outer, inner = free_port(), free_port()
    for old, new in (
        ("listen 8080", f"listen 127.0.0.1:{outer}"),
        ("listen 8081", f"listen 127.0.0.1:{inner}"),
        ("127.0.0.1:8501", f"127.0.0.1:{upstream}"),
        ("/tmp/", f"{folder}/tmp/"),
        ("client_body_timeout 10s", "client_body_timeout 1s"),
        ("client_header_timeout 10s", "client_header_timeout 1s"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "tmp").mkdir()
    if os.getuid() == 0:  # else its workers become nobody, who cannot read a private folder
        before += "user root;\n"
    (folder / "nginx.conf").write_text(before + text, encoding="utf-8")
    shutil.copy(FILES / "bound_json.lua", folder)
    log = folder / "log.txt"
    call = [program, "-e", "stderr", "-p", str(folder), "-c", "nginx.conf", "-g", "daemon off;"]
    with log.open("wb") as output:
        process = subprocess.Popen(call, stdout=output, stderr=output)
    try:
        _wait_until_open(inner, process, log)
        yield Proxy(f"http://127.0.0.1:{outer}", f"http://127.0.0.1:{inner}")
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, log.read_text(errors="replace")
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"the proxy does not start: {log.read_text(errors='replace')}")
