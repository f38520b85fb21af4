"""MkDocs calls this when it builds the documentation: pages that are made from the program, and texts of the root.

Nothing that is made here lies in the repository. What a page says stands in the code: descriptions of settings in
pipeline/settings/config.py, help of commands in pipeline/commands, cards of data sets in datasets/, networks in
models/registry.py.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the pages are of this checkout, whatever is installed

import command_pages  # noqa: E402
import registry_pages  # noqa: E402
import settings_pages  # noqa: E402

PAGES: Final = {
    "reference/commands.md": command_pages.commands,
    "reference/configuration.md": settings_pages.configuration,
    "reference/comparisons.md": settings_pages.comparisons,
    "reference/networks.md": registry_pages.networks,
    "reference/data-sets.md": registry_pages.data_sets,
    "reference/trained-models.md": registry_pages.trained_models,
    "reference/deformations.md": registry_pages.deformations,
}
"""Page -> what makes its text."""

TEXTS: Final = {
    "ARCHITECTURE.md": "explanation/architecture.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "deploy/flink/README.md": "how-to/flink.md",
    "deploy/dataflow/README.md": "how-to/dataflow.md",
}
"""Texts that people look for elsewhere in the repository -> where they stand here."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the version at the foot of every page."""
    version = re.search(r'^VERSION = "(.+)"$', (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert version is not None
    config.copyright = f"autotag {version[1]}"
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those that MkDocs has found."""
    for page, text in PAGES.items():
        files.append(File.generated(config, page, content=text()))
    for name, page in TEXTS.items():
        files.append(File.generated(config, page, content=moved((ROOT / name).read_text(encoding="utf-8"))))
    return files


def moved(text: str) -> str:
    """Return a text of the root with its links as they are from a folder of ``docs/``."""
    text = re.sub(r"\]\(docs/", "](../", text)
    text = re.sub(r'(src(?:set)?=")docs/', r"\1../", text)
    for name, page in TEXTS.items():
        text = text.replace(f"]({name}", f"](../{page}")
    return text
