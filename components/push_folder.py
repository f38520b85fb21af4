"""What lies in a push folder: numbered versions, each with a note of what it is. Needs no TFX."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from serving.model_versions import version_folders

PUSH_RECORD = "push.json"
"""In each pushed version: ``model``, its address; ``model_id``, in ML Metadata; ``test_set``, its clips and tags."""
TEST_SET = "test_set"


def versions(base: str) -> list[str]:
    """Names of the versions in a push folder, the oldest first; [] where there is no such folder."""
    try:
        return [folder.name for folder in version_folders(Path(base), whole=False)]
    except FileNotFoundError:
        return []


def newest_version(base: str) -> str | None:
    """Name of the newest version in a push folder, None where there is none."""
    found = versions(base)
    return found[-1] if found else None


def push_record(version_dir: str) -> dict[str, Any]:
    """Return what a pushed version says of itself (PUSH_RECORD), {} where it says nothing."""
    try:
        with open(os.path.join(version_dir, PUSH_RECORD), encoding="utf-8") as file:
            record = json.load(file)
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def pushed_model(version_dir: str) -> str | None:
    """Address of the model that a pushed version was copied from, None where it does not say."""
    return push_record(version_dir).get("model")


def possible_baselines(base: str) -> set[str]:
    """Return the versions that components.baseline may choose for some candidate.

    Of each test set the newest version, and the newest of another model, since a model is not measured against itself.
    """
    chosen: dict[Any, list[tuple[str, Any]]] = {}
    for version in reversed(versions(base)):
        record = push_record(os.path.join(base, version))
        of_test_set = chosen.setdefault(record.get(TEST_SET), [])
        if len(of_test_set) < 2 and record.get("model") not in [model for _, model in of_test_set]:
            of_test_set.append((version, record.get("model")))
    return {version for found in chosen.values() for version, _ in found}
