"""``autotag serve``: TensorFlow Serving on the models that were pushed."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import signal
import struct
import sys
import tempfile
import threading
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import click

from preprocessing.constants import SAMPLE_RATE
from preprocessing.errors import AutotagError
from serving.server.launchers import IMAGE, PROGRAM, find_launcher
from serving.server.served_model import choose_model
from serving.server.server_settings import Settings, multiplies_in_bfloat16
from serving.server.tf_server import RunningServer, check_ports, run_server

DEFAULT_MODEL_DIR: Final = Path("demo-run/pushed")
EXAMPLE_SECONDS: Final = 4
CHECK_SECONDS: Final = 0.2
PORT: Final = click.IntRange(1, 65535)


@click.command("serve", short_help="Start TensorFlow Serving on the pushed models.")
@click.argument("model_dir", required=False, default=DEFAULT_MODEL_DIR, type=click.Path(path_type=Path))
@click.option("--grpc-port", default=8500, show_default=True, type=PORT)
@click.option("--rest-port", default=8501, show_default=True, type=PORT)
@click.option("--server-binary", type=click.Path(path_type=Path), help=f"A {PROGRAM} to use.")
@click.option("--image", help=f"Use this image in Docker or podman. Where there is no {PROGRAM}, it is {IMAGE}.")
@click.option("--batching/--no-batching", default=False, show_default=True, help="Answer requests in batches.")
@click.option(
    "--bfloat16/--float32",
    default=None,
    help="Multiply in bfloat16: two thirds of the CPU time, probabilities within 0.01.  [default: where the CPU can]",
)
@click.option(
    "--wait", default=180, show_default=True, type=click.IntRange(min=1), help="Seconds that loading may take."
)
@click.option(
    "--log", type=click.Path(dir_okay=False, allow_dash=True), help="Write the server's log there; - shows it."
)
def command(
    model_dir: Path,
    grpc_port: int,
    rest_port: int,
    server_binary: Path | None,
    image: str | None,
    batching: bool,
    bfloat16: bool | None,
    wait: int,
    log: str | None,
) -> None:
    """Start TensorFlow Serving on a folder of pushed versions, or on one version; Ctrl-C stops it.

    The server is --server-binary, else TENSORFLOW_MODEL_SERVER, else tensorflow_model_server on PATH, else TensorFlow
    Serving's image in Docker or podman. It serves the two newest versions and follows new pushes; once `autotag
    promote` has been used, the versions that were promoted.

    \b
    Example:
        autotag serve
        autotag serve demo-run/pushed --rest-port 9501 --log server.log
        autotag tag --server localhost:8500 song.mp3
    """
    model = choose_model(model_dir)
    settings = Settings(grpc_port, rest_port, batching, multiplies_in_bfloat16() if bfloat16 is None else bfloat16)
    check_ports(settings)
    launcher = find_launcher(server_binary, image)
    with (
        tempfile.TemporaryDirectory(prefix="autotag-serve-") as folder,
        _log_file(log) as log_file,
        _stop_signals() as stop,
    ):
        files = Path(folder).resolve() / "config"
        files.mkdir()
        request = Path(folder) / "request.json"
        request.write_text(example_request(), encoding="utf-8")
        click.echo(f"starting {launcher} ...", err=True)
        with run_server(launcher, model, settings, files, log_file) as server:
            versions = server.wait_until_ready(model.awaited, wait, stop)
            if not stop.is_set():
                show(server, versions, dict(model.config.model_config_list.config[0].version_labels), request)
            while not stop.is_set():
                if server.ended.wait(CHECK_SECONDS):
                    raise AutotagError(f"TensorFlow Serving ended by itself, {server.end()}")
            click.echo("stopping ...", err=True)
    click.echo("stopped", err=True)


def show(server: RunningServer, versions: tuple[int, ...], labels: dict[str, int], request: Path) -> None:
    """Print where the server is, and requests to paste."""
    named = ", ".join(
        f"{number} ({', '.join(names)})"
        if (names := [name for name, at in labels.items() if at == number])
        else str(number)
        for number in versions
    )
    url = server.rest_url
    if stable := labels.get("stable"):
        url += "/labels/stable" if stable in versions else ""
    click.echo(
        f"serving version{'s' if len(versions) > 1 else ''} {named}; Ctrl-C stops\n"
        f"  gRPC     {server.grpc_address}\n"
        f"  REST     {server.rest_url}\n"
        f"  metrics  http://localhost:{server.settings.rest_port}/monitoring/prometheus/metrics\n"
        "try\n"
        f"  autotag tag --server {server.grpc_address} song.mp3\n"
        f"  curl -d @{request} {url}:predict\n"
        f"  ({request.name}: {EXAMPLE_SECONDS} s of a tone as WAV in base64; a WAV of your own, 16 kHz and 16 bits:\n"
        """   printf '{"signature_name": "wav", "instances": [{"b64": "%s"}]}' "$(base64 -w0 clip.wav)" | """
        f"curl -d @- {url}:predict)"
    )
    sys.stdout.flush()


def example_request() -> str:
    """Return the body of a REST request: a tone as 16-bit WAV, in base64, for the signature ``wav``."""
    samples = [
        round(12_000 * math.sin(2 * math.pi * (440 if second < EXAMPLE_SECONDS // 2 else 660) * step / SAMPLE_RATE))
        for second in range(EXAMPLE_SECONDS)
        for step in range(SAMPLE_RATE)
    ]
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return json.dumps({"signature_name": "wav", "instances": [{"b64": base64.b64encode(data.getvalue()).decode()}]})


@contextlib.contextmanager
def _log_file(name: str | None) -> Iterator[IO[str] | None]:
    if name is None:
        yield None
        return
    with click.open_file(name, "w", encoding="utf-8") as file:
        yield sys.stderr if name == "-" else file


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second SIGINT does not wait for anything."""
    stop = threading.Event()

    def ask_to_stop(number: int, frame: object) -> None:
        del number, frame
        if stop.is_set():
            signal.signal(signal.SIGINT, signal.default_int_handler)
        stop.set()

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
