"""The command line with TFX imported already: each call is a fork of one waiting process, which saves its imports.

For tests that call the program many times; one call at least should be the installed program's own. Run as a program,
this is the waiting process: a line of JSON for a call comes in, its exit code goes out.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import NoReturn

IMPORTED = (
    "pipeline.cli",
    "pipeline.commands.import_weights",
    "pipeline.commands.run",
    "pipeline.commands.runs",
    "pipeline.create",
    "pipeline.runs.local_runner",
    "pipeline.runs.node_runner",
    "components.ensemble_trainer",
    "components.training",
    "tensorflow_model_analysis",
)
"""Nothing of these begins a thread that a fork would miss: TensorFlow and gRPC begin theirs with the first work."""


class WarmProgram:
    """Calls the command line in forks of a waiting process, which ends with the block."""

    def __enter__(self) -> WarmProgram:
        root = Path(__file__).parents[1]
        environment = {**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
            bufsize=1,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)

    def __call__(self, *arguments: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, which must be the exit code ``code``."""
        assert self._process.stdin
        assert self._process.stdout
        words = list(map(str, arguments))
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            call = {"arguments": words, "cwd": str(cwd), "out": str(out), "err": str(err)}
            self._process.stdin.write(json.dumps(call) + "\n")
            returned = int(self._process.stdout.readline())
            done = subprocess.CompletedProcess(words, returned, out.read_text(), err.read_text())
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


def wait() -> None:
    """Import, and answer calls until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        process = os.fork()
        if not process:
            _be_the_program(**json.loads(line))
        _, status = os.waitpid(process, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")


def _be_the_program(arguments: list[str], cwd: str, out: str, err: str) -> NoReturn:
    from pipeline.cli import main

    code: object = 1
    try:
        os.chdir(cwd)
        for number, path in ((0, os.devnull), (1, out), (2, err)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
        sys.argv = ["autotag", *arguments]
        main()
    except SystemExit as stopped:
        code = stopped.code
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    wait()
