"""The version stands in setup.py; what people and programs read elsewhere is the same."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from command_runner import autotag

ROOT = Path(__file__).parents[1]


def found(pattern: str, name: str) -> list[str]:
    return re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)


(VERSION,) = found(r'^VERSION = "(.+)"$', "setup.py")


def test_version_is_one_of_three_numbers() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


def test_program_says_it() -> None:
    assert autotag("--version").stdout.strip() == f"autotag, version {VERSION}"


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("Dockerfile", r'^LABEL org\.opencontainers\.image\.version="(.+)"$'),
        ("deploy/kubeflow/gc-cronjob.yaml", r"image: registry\.example\.com/autotag:(\S+)"),
        ("pipeline/configs/mtat-kubeflow.yaml", r"image: registry\.example\.com/autotag:(\S+)"),
    ],
)
def test_files_that_are_no_program_say_it(name: str, pattern: str) -> None:
    assert found(pattern, name) == [VERSION]


def test_citation_says_it() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == VERSION


def test_changelog_begins_with_it_and_release_notes_are_that_section() -> None:
    sections = found(r"^## (\S+) \((?:unreleased|\d{4}-\d{2}-\d{2})\)$", "CHANGELOG.md")
    assert sections[0] == VERSION
    assert len(sections) == len(set(sections)) == len(found(r"^## ", "CHANGELOG.md"))
    notes = subprocess.run(
        ["make", "--silent", "release-notes"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert notes.startswith(f"## {VERSION} (")
    assert notes.count("\n## ") == 0
    assert "- " in notes
