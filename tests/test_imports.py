"""Which way imports run, as ARCHITECTURE.md has it, and what stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "preprocessing": set(),
    "datasets": {"preprocessing"},
    "models": {"preprocessing"},
    "serving": {"models", "preprocessing"},
    "components": {"datasets", "models", "preprocessing", "serving"},
    "pipeline": {"components", "datasets", "models", "preprocessing", "serving"},
}
HEAVY = ("tensorflow", "tfx", "keras", "apache_beam", "kfp", "pydantic")


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and module of each import, those inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole module"
            yield node.lineno, str(node.module)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_room_imports_one_that_stands_above_it(room: str) -> None:
    paths = sorted((ROOT / room).rglob("*.py"))
    assert paths
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in paths
        for line, name in imported(path.read_text(encoding="utf-8"))
        if (top := name.partition(".")[0]) in MAY_IMPORT and top != room and top not in MAY_IMPORT[room]
    ]
    assert not wrong


def test_networks_are_of_keras_alone() -> None:
    for path in (ROOT / "models").rglob("*.py"):
        tops = {name.partition(".")[0] for _, name in imported(path.read_text(encoding="utf-8"))}
        assert not tops & {"tensorflow", "tf_keras", "tfx", "torch", "jax"}, path


@pytest.mark.parametrize(
    ("what", "unwanted"),
    [
        ("pipeline.cli", HEAVY),
        ("serving.client", HEAVY[:-1]),
        ("models.registry", HEAVY),
        ("datasets.registry", HEAVY),
        ("preprocessing.settings", HEAVY),
        ("preprocessing.beam.settings", HEAVY),
        ("preprocessing.job", ("tensorflow", "tfx", "keras", "kfp", "pydantic")),
        ("pipeline.compare.run", HEAVY[:-1]),
        ("pipeline.reports.report", HEAVY[:-1]),
    ],
)
def test_what_a_person_waits_for_imports_nothing_heavy(what: str, unwanted: tuple[str, ...]) -> None:
    code = f"import sys, {what}; print([name for name in {unwanted!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
