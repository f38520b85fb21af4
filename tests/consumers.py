"""The example consumers in other languages, made ready to run: for the double and for a real server alike.

::

    tag = prepare("go", tmp_path)   # skips the test where the toolchain or its modules are not to be had
    done = tag("localhost:8500", path, label="stable")
    assert printed(done) == [("guitar", 0.912), ...]
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SERVING = Path(__file__).parent.parent / "serving" / "client"
LANGUAGES = {"curl": "rest", "go": "grpc", "node": "grpc"}
"""Language -> what it speaks."""

Done = subprocess.CompletedProcess[str]
Consumer = Callable[..., Done]
"""(address ``host:port`` of what it speaks, path, label=None, top=5, **environment) -> the ended process."""


def prepare(language: str, folder: Path) -> Consumer:
    """Copy an example to ``folder``, fetch and build what it needs there, and return how to run it."""
    for tool in {"curl": ("curl", "base64"), "go": ("go",), "node": ("node", "npm")}[language]:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}, which is not on PATH")
    example = folder / "examples" / language
    shutil.copytree(SERVING / "protos", folder / "protos")
    shutil.copytree(SERVING / "examples" / language, example, ignore=shutil.ignore_patterns("node_modules"))
    if language == "go":
        _build(["go", "build", "-o", "tag", "."], example, GOTOOLCHAIN="local", GOFLAGS="-mod=readonly")
        return lambda address, path, label=None, top=5, **environment: _run(
            [str(example / "tag"), *_options(address, label, top, "-")], path, **environment
        )
    if language == "node":
        _build(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], example)
        call = ["node", str(example / "tag.mjs")]
        return lambda address, path, label=None, top=5, **environment: _run(
            [*call, *_options(address, label, top, "--")], path, **environment
        )
    call = ["sh", str(example / "tag.sh")]
    return lambda address, path, label=None, top=5, **environment: _run(
        call, path, SERVER=f"http://{address}", **({"LABEL": label} if label else {}), **environment
    )


def printed(done: Done) -> list[tuple[str, float]]:
    """What a consumer printed: (tag, probability), rounded to three places, the most probable first."""
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("{"):
        outputs = json.loads(done.stdout)["outputs"]
        tags = zip(outputs["tags"][0], outputs["predictions"][0], strict=True)
        return sorted(((tag, round(probability, 3)) for tag, probability in tags), key=lambda pair: -pair[1])[:5]
    return [(tag, float(number)) for number, tag in (line.split("  ", 1) for line in done.stdout.splitlines())]


def _options(address: str, label: str | None, top: int, dash: str) -> list[str]:
    chosen = [f"{dash}label", label] if label else []
    return [f"{dash}server", address, *chosen, f"{dash}top", str(top)]


def _build(call: list[str], folder: Path, **environment: str) -> None:
    done = subprocess.run(
        call, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        unreachable = ("dial tcp", "no such host", "ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN", "i/o timeout")
        if any(word in done.stderr for word in unreachable):
            pytest.skip(f"{' '.join(call)}: the modules cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
        raise AssertionError(f"{' '.join(call)} failed:\n{done.stdout}{done.stderr}")


def _run(call: list[str], path: Path, **environment: str) -> Done:
    return subprocess.run(
        [*call, str(path)], env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )
