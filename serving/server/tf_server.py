"""Start TensorFlow Serving on a folder of pushed versions, wait until it answers, stop it without leaving anything.

The server is a ``tensorflow_model_server`` on this machine or, where there is none, TF Serving's image in Docker or
podman. Its files (tfserving/ beside this) are written with this machine's paths to a private temporary folder,
which a container sees at the same path; so does it the model, and whatever talks to the server names paths that are
right inside and outside.
"""

from __future__ import annotations

import collections
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

from preprocessing.child_processes import end_with_parent
from preprocessing.digits import is_number
from preprocessing.errors import AutotagError, BadInputError
from serving.model_info import SAVED_MODEL_NAME
from serving.server.versions import (
    AVAILABLE,
    LABELS_NAME,
    MODEL_NAME,
    Labels,
    ModelServer,
    VersionState,
    config_text,
    read_labels,
    server_config,
    versions_in,
    write_whole,
)

PROGRAM: Final = "tensorflow_model_server"
PROGRAM_VARIABLE: Final = "TENSORFLOW_MODEL_SERVER"
IMAGE: Final = "docker.io/tensorflow/serving:2.16.1"
ENGINES: Final = ("docker", "podman")
FILES: Final = Path(__file__).with_name("tfserving")
MODEL_CONFIG: Final = "models.config"
MONITORING_CONFIG: Final = "monitoring.config"
BATCHING_CONFIG: Final = "batching.config"
GRPC_THREADS: Final = 64
"""TF Serving's default of 4 a core answers RESOURCE_EXHAUSTED to the 9th client at once on 2 cores."""
BFLOAT16_FLAGS: Final = ("avx512_bf16", "amx_bf16")
"""In /proc/cpuinfo."""
ENVIRONMENT: Final = {
    # glibc keeps what is freed for each of eight arenas a core.
    "MALLOC_ARENA_MAX": "2",
    # With bfloat16: the front ends' Fourier transforms and mel filters are products of matrices too and need float32.
    # All in bfloat16, probabilities moved by up to 0.13 (0.004 on average); so, by 0.008 (0.0002).
    "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_ALLOWLIST_REMOVE": "MatMul,BatchMatMul,BatchMatMulV2,Einsum",
}
"""Of the server, where ours says nothing else."""
GRACE_SECONDS: Final = 20.0
"""How long a server may take to stop before it is killed."""
LOG_LINES: Final = 25
POLL_SECONDS: Final = 0.2

HOW_TO_GET: Final = f"""TensorFlow Serving is not on this machine. One of these brings it:
  - Docker or podman:  docker pull {IMAGE.removeprefix("docker.io/")}
  - Debian and Ubuntu, x86-64, with TensorFlow's own package source added (how: tensorflow.org/tfx/serving/setup):
    apt-get install tensorflow-model-server
  - a {PROGRAM} of your own, on PATH, in {PROGRAM_VARIABLE} or by --server-binary PATH"""


@dataclass(frozen=True)
class Model:
    """What is served.

    Attributes:
        base_path: the folder of versions, absolute.
        config: the ModelServerConfig.
        awaited: versions that must be available before the server counts as ready; () for any one.
    """

    base_path: Path
    config: Any
    awaited: tuple[int, ...]


def choose_model(model_dir: Path) -> Model:
    """Take a folder of versions, with the labels that `autotag promote` wrote there, or one version.

    Raises:
        BadInputError: there is no model, a version's folder is no number, or a labelled version is gone.
    """
    folder = model_dir.absolute()
    if (folder / SAVED_MODEL_NAME).is_file():
        if not is_number(folder.name):
            raise BadInputError(
                f"{model_dir} is one version of a model, and TensorFlow Serving wants its folder's name to be a "
                "number: copy it to a folder named 1, or give the folder of versions"
            )
        version = int(folder.name)
        return Model(folder.parent, server_config(Labels(), str(folder.parent), [version]), (version,))
    versions = versions_in(folder)
    if not versions:
        raise BadInputError(
            f"no model at {model_dir}: no numbered version with {SAVED_MODEL_NAME} in it. "
            "If the last run was not blessed, nothing was pushed: see `autotag runs`"
        )
    labels = read_labels(folder)
    for label, version in labels.current.items():
        if version not in versions:
            raise BadInputError(
                f"{folder / LABELS_NAME} has {label} at version {version}, which is not there; there are "
                f"{', '.join(map(str, versions))}. Name another: autotag promote VERSION {model_dir} --label {label} "
                "--no-server"
            )
    config = server_config(labels, str(folder), labels.loaded(versions))
    return Model(folder, config, tuple(sorted(set(labels.current.values()))))


@dataclass(frozen=True)
class Settings:
    """How the server runs: its ports on this machine, whether it batches requests, and multiplies in bfloat16."""

    grpc_port: int = 8500
    rest_port: int = 8501
    batching: bool = False
    bfloat16: bool = False


def arguments(files: Path, settings: Settings) -> list[str]:
    """Return the server's arguments for the files that ``write_files`` left in a folder."""
    given = [
        f"--port={settings.grpc_port}",
        f"--rest_api_port={settings.rest_port}",
        "--rest_api_timeout_in_ms=120000",
        f"--grpc_max_threads={GRPC_THREADS}",
        f"--model_config_file={files / MODEL_CONFIG}",
        "--allow_version_labels_for_unavailable_models=true",
        f"--monitoring_config_file={files / MONITORING_CONFIG}",
        # A version that does not load is given up at once and keeps no other from being loaded; by default it is tried
        # for five minutes, and everything else waits.
        "--num_load_threads=2",
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=1000000",
    ]
    if settings.batching:
        given += ["--enable_batching=true", f"--batching_parameters_file={files / BATCHING_CONFIG}"]
    if settings.bfloat16:
        given.append("--mixed_precision=bfloat16")
    return given


def multiplies_in_bfloat16(cpu_info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's CPU has instructions for it; without them TensorFlow's are slower than float32's."""
    try:
        text = cpu_info.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = {flag for line in text.splitlines() if line.startswith("flags") for flag in line.partition(":")[2].split()}
    return not flags.isdisjoint(BFLOAT16_FLAGS)


def write_files(folder: Path, model: Model) -> None:
    """Write the server's files to a folder.

    Raises:
        BadInputError: the configuration cannot be written.
        OSError: another file cannot.
    """
    write_whole(folder / MODEL_CONFIG, config_text(model.config))
    for name in (MONITORING_CONFIG, BATCHING_CONFIG):
        shutil.copyfile(FILES / name, folder / name)


class Launcher(Protocol):
    """A way to start the server."""

    def command(self, given: Sequence[str], files: Path, model: Model, settings: Settings) -> list[str]:
        """Return the command that runs the server in the foreground."""

    def clean_up(self) -> None:
        """Remove what the command may have left; called when it has ended."""


@dataclass(frozen=True)
class Program:
    """A ``tensorflow_model_server`` on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def command(self, given: Sequence[str], files: Path, model: Model, settings: Settings) -> list[str]:
        """Return the program and its arguments."""
        del files, model, settings
        return [str(self.path), *given]

    def clean_up(self) -> None:
        """Do nothing: the process is all that there is."""


@dataclass(frozen=True)
class Container:
    """TF Serving's image, run by Docker or podman as the calling user, its ports open to this machine alone."""

    engine: str
    image: str
    name: str

    def __str__(self) -> str:
        return f"{self.image} in {Path(self.engine).name}"

    def command(self, given: Sequence[str], files: Path, model: Model, settings: Settings) -> list[str]:
        """Return the engine's ``run`` with the model and the files at their own paths, read-only."""
        user = [f"--user={os.getuid()}:{os.getgid()}"]
        if Path(self.engine).name == "podman" and os.getuid() != 0:
            user.append("--userns=keep-id")
        ports = (settings.grpc_port, settings.rest_port)
        return [
            *(self.engine, "run", "--rm", "--init", f"--name={self.name}", "--entrypoint=tensorflow_model_server"),
            *("--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges", *user),
            *(f"--publish=127.0.0.1:{port}:{port}" for port in ports),
            *(f"--env={name}={value}" for name, value in ENVIRONMENT.items()),
            *(f"--mount=type=bind,source={folder},target={folder},readonly" for folder in (files, model.base_path)),
            self.image,
            *given,
        ]

    def clean_up(self) -> None:
        """Remove the container, whatever became of the engine's own process."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([self.engine, "rm", "--force", self.name], capture_output=True, timeout=GRACE_SECONDS)


def find_launcher(program: Path | None = None, image: str | None = None) -> Launcher:
    """Find TensorFlow Serving: a program named, in the environment or on PATH, else an image.

    Args:
        program: the server's program, None to look for one.
        image: an image to be used whether or not there is a program, None for TF Serving's where there is none.

    Raises:
        BadInputError: the program named is none.
        AutotagError: there is no TensorFlow Serving here, with how to get it.
    """
    if image is None or program is not None:
        if program is not None:
            return Program(_executable(program, "--server-binary"))
        if named := os.environ.get(PROGRAM_VARIABLE):
            return Program(_executable(Path(named), PROGRAM_VARIABLE))
        if found := shutil.which(PROGRAM):
            return Program(Path(found))
    wanted, reasons = image or IMAGE, []
    for engine in ENGINES:
        if path := shutil.which(engine):
            reason = _get_image(path, wanted)
            if reason is None:
                return Container(path, wanted, f"autotag-serve-{os.getpid()}-{secrets.token_hex(3)}")
            reasons.append(f"  ({engine} is here, and could not give {wanted}: {reason})")
    raise AutotagError("\n".join((HOW_TO_GET, *reasons)))


def _executable(path: Path, said_by: str) -> Path:
    if not path.is_file() or not os.access(path, os.X_OK):
        raise BadInputError(f"{said_by} says {path}, and that is no program that can be run")
    return path.absolute()


def _get_image(engine: str, image: str) -> str | None:
    """Return None where the image is there or was pulled, else why not."""
    if subprocess.run([engine, "image", "inspect", image], capture_output=True).returncode == 0:
        return None
    pull = subprocess.run([engine, "pull", image], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if pull.returncode == 0:
        return None
    lines = pull.stderr.strip().splitlines()
    return lines[-1] if lines else f"`{engine} pull` ended with {pull.returncode}"


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

    def last_words(self) -> str:
        """Return the last lines that the server wrote, indented."""
        self._reader.join(timeout=1 if self.ended.is_set() else 0)
        return "\n".join(f"  {line}" for line in list(self._last)) or "  (it wrote nothing)"

    def end(self) -> str:
        """Return how an ended server ended, with its last lines."""
        code = self.process.returncode
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        return f"{how}. Its last lines:\n{self.last_words()}"

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
            f"Its last lines:\n{self.last_words()}"
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
