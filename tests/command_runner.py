"""The ways to call the command line: the installed program, or one of its commands in this process through click."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner, Result

AUTOTAG = str(Path(sys.executable).parent / "autotag")
"""The program that the installation made."""


def autotag(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run the installed program to its end, which must be the exit code ``code``."""
    call = [AUTOTAG, *map(str, arguments)]
    done = subprocess.run(call, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def invoke(name: str, *arguments: object, catch_exceptions: bool = True) -> Result:
    """Call the command of ``pipeline.commands.NAME`` in this process; what it raises is in the result, or is raised."""
    command = importlib.import_module(f"pipeline.commands.{name}").command
    return separate_streams().invoke(command, [str(word) for word in arguments], catch_exceptions=catch_exceptions)


def separate_streams() -> CliRunner:
    """Return a runner whose result has stdout and stderr: from click 8.2 on always, before where it is asked for."""
    if "mix_stderr" in inspect.signature(CliRunner).parameters:
        return CliRunner(mix_stderr=False)
    return CliRunner()
