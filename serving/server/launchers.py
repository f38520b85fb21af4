"""Ways to start TensorFlow Serving: a ``tensorflow_model_server`` on this machine or, where there is none, an image.

A container sees the server's files and the model at the paths that they have here, so whatever talks to the server
names paths that are right inside and outside.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from preprocessing.errors import AutotagError, BadInputError
from serving.server.served_model import Model
from serving.server.server_settings import ENVIRONMENT, Settings

PROGRAM: Final = "tensorflow_model_server"
PROGRAM_VARIABLE: Final = "TENSORFLOW_MODEL_SERVER"
IMAGE: Final = "docker.io/tensorflow/serving:2.16.1"
ENGINES: Final = ("docker", "podman")
REMOVE_SECONDS: Final = 20.0
"""How long an engine may take to remove a container."""

HOW_TO_GET: Final = f"""TensorFlow Serving is not on this machine. One of these brings it:
  - Docker or podman:  docker pull {IMAGE.removeprefix("docker.io/")}
  - Debian and Ubuntu, x86-64, with TensorFlow's own package source added (how: tensorflow.org/tfx/serving/setup):
    apt-get install tensorflow-model-server
  - a {PROGRAM} of your own, on PATH, in {PROGRAM_VARIABLE} or by --server-binary PATH"""


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
            subprocess.run([self.engine, "rm", "--force", self.name], capture_output=True, timeout=REMOVE_SECONDS)


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
