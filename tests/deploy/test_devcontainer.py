"""The development container: the Python and the tools that the rest of the repository asks for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())


def test_its_python_is_the_lock_files_and_the_images() -> None:
    version = (ROOT / ".python-version").read_text().strip()
    assert CONTAINER["image"].startswith(f"docker.io/library/python:{version}-")
    assert f"ARG PYTHON_VERSION={version}\n" in (ROOT / "Dockerfile").read_text()
    assert CONTAINER["image"].endswith("bookworm")


def test_it_makes_the_environment_by_the_target_that_people_call() -> None:
    targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    called = re.findall(r"make ([\w-]+)", CONTAINER["postCreateCommand"])
    assert called == ["venv"]
    assert set(called) <= set(targets)


def test_commits_are_checked_by_the_locked_tools() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    lock = (ROOT / "requirements" / "py310-tfx116.txt").read_text()
    for hook in repository["hooks"]:
        program = hook["entry"].split()[0]
        assert program.startswith(".venv/bin/")
        assert f"\n{program.removeprefix('.venv/bin/')}==" in lock
    assert "pre-commit install" in CONTAINER["postCreateCommand"]
    assert "\npre-commit==" in lock
