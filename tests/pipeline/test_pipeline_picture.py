"""The picture of the pipeline in README and docs is that of the components that there are."""

from __future__ import annotations

import importlib.util
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "generated" / "pipeline_picture.py"


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pipeline_picture", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_pictures_are_those_of_the_demos_pipeline(drawing: ModuleType) -> None:
    for path, text in drawing.pictures().items():
        assert path.read_text(encoding="utf-8") == text, f"draw it again: python {SCRIPT.name}"
        assert ElementTree.fromstring(text).tag.endswith("svg")


def test_lines_in_one_column_never_overlap(drawing: ModuleType) -> None:
    row = drawing.Row
    rows = [
        row("A", (), "", ("x", "y"), ()),
        row("B", (), "", ("z",), (("A", "x"),)),
        row("C", (), "", (), (("A", "y"), ("B", "z"))),
    ]
    columns = drawing.lanes_of(rows)
    assert len(set(columns.values())) == 3
