"""Start TensorFlow Serving on a folder of pushed versions, wait until it answers, stop it without leaving anything.

Its files are written with this machine's paths to a private temporary folder.
"""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from preprocessing.child_processes import end_with_parent
from preprocessing.errors import AutotagError, BadInputError
from serving.server.launchers import Launcher
from serving.server.model_config import MODEL_NAME
from serving.server.model_server import AVAILABLE, ModelServer, VersionState
from serving.server.served_model import Model
from serving.server.server_settings import ENVIRONMENT, Settings, arguments, write_files

GRACE_SECONDS: Final = 20.0
"""How long a server may take to stop before it is killed."""
LOG_LINES: Final = 25
POLL_SECONDS: Final = 0.2


def check_ports(settings: Settings) -> None:
    """See that both ports can be had.

    Raises:
        BadInputError: one is taken, or both are the same.
    """
    if settings.grpc_port == settings.rest_port:
        raise BadInputError(f"--grpc-port and --rest-port are both {settings.grpc_port}: give two")
    for option, port in (("--grpc-port", settings.grpc_port), ("--rest-port", settings.rest_port)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
                probe.listen()
            except OSError as error:
                raise BadInputError(
                    f"port {port} cannot be had ({error.strerror}): give another by {option}"
                ) from error


class RunningServer:
    """A server that was started: its process, and the end of what it said."""

    def __init__(self, process: subprocess.Popen[str], settings: Settings, log: IO[str] | None) -> None:
        self.process = process
        self.settings = settings
        self.ended = threading.Event()
        self._last = collections.deque[str](maxlen=LOG_LINES)
        self._reader = threading.Thread(target=self._read, args=(log,), daemon=True)
        self._reader.start()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def grpc_address(self) -> str:
        """Where gRPC is: host and port."""
        return f"localhost:{self.settings.grpc_port}"

    @property
    def rest_url(self) -> str:
        """Where REST is: the model's URL."""
        return f"http://localhost:{self.settings.rest_port}/v1/models/{MODEL_NAME}"

    def _read(self, log: IO[str] | None) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._last.append(line.rstrip("\n"))
            if log is not None:
                log.write(line)
                log.flush()

    def _watch(self) -> None:
        self.process.wait()
        self.ended.set()

    def last_lines(self) -> str:
        """Return the last lines that the server wrote, indented."""
        self._reader.join(timeout=1 if self.ended.is_set() else 0)
        return "\n".join(f"  {line}" for line in list(self._last)) or "  (it wrote nothing)"

    def end(self) -> str:
        """Return how an ended server ended, with its last lines."""
        code = self.process.returncode
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        return f"{how}. Its last lines:\n{self.last_lines()}"

    def wait_until_ready(self, awaited: Sequence[int], seconds: float, stop: threading.Event) -> tuple[int, ...]:
        """Wait until the server answers and the versions are loaded, and return those that are.

        Args:
            awaited: versions that must be available; none: any one.
            seconds: how long.
            stop: ends the waiting.

        Raises:
            AutotagError: it ended, or does not become ready; with its own last lines.
        """
        end = time.monotonic() + seconds
        states: Mapping[int, VersionState] = {}
        while time.monotonic() < end and not stop.is_set():
            if self.ended.is_set():
                raise AutotagError(f"TensorFlow Serving ended while it was starting, {self.end()}")
            states = self._states()
            available = tuple(sorted(number for number, state in states.items() if state.state == AVAILABLE))
            if available and set(awaited) <= set(available):
                return available
            self.ended.wait(POLL_SECONDS)
        if stop.is_set():
            return ()
        seen = "; ".join(f"version {number} is {state}" for number, state in sorted(states.items()))
        raise AutotagError(
            f"TensorFlow Serving is not ready after {seconds:.0f} s ({seen or 'it does not answer'}). "
            f"Its last lines:\n{self.last_lines()}"
        )

    def _states(self) -> dict[int, VersionState]:
        """What the server says of its versions; {} while it does not answer.

        A refused connection makes gRPC pause for seconds, so a socket looks first whether anybody is there.
        """
        address = ("127.0.0.1", self.settings.grpc_port)
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError:
            return {}
        client = ModelServer("{}:{}".format(*address), timeout=5)
        try:
            return client.status()
        except AutotagError:
            return {}
        finally:
            client.close()


@contextlib.contextmanager
def run_server(
    launcher: Launcher, model: Model, settings: Settings, files: Path, log: IO[str] | None = None
) -> Iterator[RunningServer]:
    """Start the server, and stop it when the block ends, however it ends.

    Args:
        files: an empty folder of the server's own, for its configuration.
        log: where its lines go as well.

    Raises:
        AutotagError: it cannot be started.
    """
    write_files(files, model)
    command = launcher.command(arguments(files, settings), files, model, settings)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for us, who stop it in order
            preexec_fn=end_with_parent,
        )
    except OSError as error:
        raise AutotagError(f"{command[0]} cannot be started: {error.strerror}") from error
    try:
        yield RunningServer(process, settings, log)
    finally:
        stop_process(process)
        launcher.clean_up()


def _environment() -> dict[str, str]:
    """Our own without the level that silences TensorFlow: the server's reasons are wanted."""
    return {**ENVIRONMENT, **{name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}}


def stop_process(process: subprocess.Popen[str], grace: float = GRACE_SECONDS) -> None:
    """Stop a process and its group, and kill them when the process does not end in time."""
    if process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
