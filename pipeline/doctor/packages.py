"""Which extras of the installation are whole, and which engines load and compute."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Iterator
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.doctor.findings import Finding, State, install
from pipeline.doctor.loading import load_apart

PROJECT: Final = "autotag"

ENGINES: Final = {
    "litert": ("ai_edge_litert", "tag"),
    "openvino": ("openvino", "engines"),
    "onnxruntime": ("onnxruntime", "engines"),
    "tensorflow": ("tensorflow", "export"),
}
"""Name -> (package, extra that brings it), as serving.engines.runtimes has them in AUTO_ORDER."""

EMBEDDING_ENGINES: Final = tuple(name for name in ENGINES if name != "litert")
"""Those of EMBEDDING_ORDER."""

ENGINE_PACKAGES: Final = frozenset({"ai-edge-litert", "onnxruntime", "openvino"})
"""Distributions of which a job needs one alone."""


SHOWN: Final = 4
"""Most packages that are named of those that an extra lacks."""

BASE: Final = ("preprocessing.audio.loading", "preprocessing.features", "serving.model_info")
"""Modules that import what every installation has."""


def versions() -> list[Finding]:
    """Return autotag's version and Python's."""
    python = f"{platform.python_version()} at {sys.executable}"
    return [
        Finding("autotag", "program", "ok", f"{importlib.metadata.version(PROJECT)} at {_place()}"),
        Finding("Python", "program", "ok", f"{python}, {platform.system()} {platform.machine()}"),
    ]


def base() -> Finding:
    """Look whether the packages load that every installation has."""
    _, error = load_apart("modules", *BASE)
    if error:
        return Finding("base packages", "program", "broken", error, "pip install --force-reinstall autotag")
    return Finding("base packages", "program", "ok", "numpy, scipy, librosa, soundfile, soxr and the like")


def extras() -> list[Finding]:
    """Return a finding for each extra, by what stands in the installed packages' metadata; nothing is imported."""
    names = importlib.metadata.metadata(PROJECT).get_all("Provides-Extra") or []
    return [_extra(name) for name in names]


def _extra(name: str) -> Finding:
    lacks = lacking(name)
    if not lacks:
        return Finding(name, "extra", "ok")
    shown = ", ".join(lacks[:SHOWN]) + f" and {len(lacks) - SHOWN} more" * (len(lacks) > SHOWN)
    return Finding(name, "extra", "missing", f"lacks {shown}", install(name))


def lacking(extra: str, project: str = PROJECT) -> list[str]:
    """Return the requirements of an extra that are not met, as they are written; of packages' own extras too."""
    return list(_lacking(extra, project))


def _lacking(extra: str, project: str) -> Iterator[str]:
    for need in map(Requirement, importlib.metadata.requires(project) or ()):
        if need.marker is None or need.marker.evaluate({"extra": ""}) or not need.marker.evaluate({"extra": extra}):
            continue
        try:
            version = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            yield need.name
            continue
        if not need.specifier.contains(version, prereleases=True) and project == PROJECT:
            yield f"{need.name}{need.specifier} ({version} is here)"
        for inner in need.extras:
            yield from _lacking(inner, need.name)


def engine(name: str) -> Finding:
    """Look whether an engine loads and computes."""
    package, extra = ENGINES[name]
    if importlib.util.find_spec(package) is None:
        return Finding(name, "engine", "missing", "not installed", install(extra))
    detail, error = load_apart("engine", name)
    state: State = "broken" if error else "ok"
    return Finding(name, "engine", state, error or detail, install(extra) if error else "")


def is_engine(requirement: str) -> bool:
    """Whether a requirement is one of the engines'."""
    return canonicalize_name(Requirement(requirement.partition(" ")[0]).name) in ENGINE_PACKAGES


def _place() -> str:
    spec = importlib.util.find_spec("pipeline")
    assert spec is not None
    assert spec.origin is not None
    return spec.origin.removesuffix("/pipeline/__init__.py")
