"""Hash of the project's own source, which goes into components' properties so that TFX's cache sees changed code.

TFX's cache key holds the dotted name of a user function and not what stands behind it. What stands behind it is found
by following the imports of the project's own packages.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from models.registry import Network

PACKAGES: Final = ("components", "datasets", "models", "preprocessing", "serving")
NOT_FOLLOWED: Final = ("models.registry", "serving.pretrained")
"""Modules, and packages, that say nothing of one network: the list of all networks, of which each network's own entry
is hashed, and what fetches trained weights, which are hashed themselves where they are used."""


def source_hash(*modules: str) -> str:
    """Hash of modules' code and of all that they import of the project, comments and layout left out.

    Args:
        modules: dotted names; nothing is imported but the packages that they lie in.

    Returns:
        16 hexadecimal digits.

    Raises:
        ValueError: a module has no source.
    """
    digest = hashlib.sha256()
    for name in import_closure(*modules):
        digest.update(_syntax(name).encode())
    return digest.hexdigest()[:16]


def network_hash(network: Network, *modules: str) -> str:
    """``source_hash`` of a network's own file, of its entry in the registry, and of what trains or serves it."""
    digest = hashlib.sha256(f"{network!r}{source_hash(network.module, *modules)}".encode())
    return digest.hexdigest()[:16]


def import_closure(*modules: str) -> tuple[str, ...]:
    """Return the modules and all modules of the project that they import, directly or not, sorted.

    Imports inside functions count. NOT_FOLLOWED are left out unless they are asked for.

    Raises:
        ValueError: a module has no source.
    """
    found: set[str] = set()
    open_ = list(modules)
    while open_:
        name = open_.pop()
        if name in found:
            continue
        found.add(name)
        open_ += [imported for imported in _imports(name) if not _left_out(imported)]
    return tuple(sorted(found))


def _left_out(name: str) -> bool:
    return any(name == left or name.startswith(f"{left}.") for left in NOT_FOLLOWED)


@functools.cache
def _imports(name: str) -> tuple[str, ...]:
    """Modules of the project that a module names in its imports."""
    return tuple(dict.fromkeys(_named_modules(ast.parse(_source(name)))))


def _named_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            candidates = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            candidates = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in candidates if name.split(".")[0] in PACKAGES and _file(name) is not None)


@functools.cache
def _file(name: str) -> Path | None:
    """Where a module's source lies; None where it is a package without source or no module at all."""
    package, _, _ = name.partition(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    base = Path(spec.submodule_search_locations[0]).parent.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _source(name: str) -> str:
    path = _file(name)
    if path is None:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ValueError(f"no source for the module {name}")
        path = Path(spec.origin)
    return path.read_text(encoding="utf-8")


@functools.cache
def _syntax(name: str) -> str:
    return ast.dump(ast.parse(_source(name)))


EXAMPLE_SOURCE: Final = ("preprocessing.shards", "preprocessing.manifest")
"""What makes an example."""
TRAINING_SOURCE: Final = ("components.training",)
"""What trains a network, besides its own file."""
ENSEMBLE_SOURCE: Final = ("components.ensemble_trainer",)
"""What combines networks and exports them, besides their own files."""
