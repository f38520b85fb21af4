"""What lies in a folder that a job, a download or a run has written, to compare with what should be there."""

from __future__ import annotations

import hashlib
from pathlib import Path


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hashes(folder: Path, pattern: str = "*") -> dict[str, str]:
    """Path within ``folder`` -> hash of all that a job leaves there at any depth, its lock aside."""
    files = [path for path in sorted(folder.rglob(pattern)) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): hash_of(path) for path in files}


def unpacked(folder: Path) -> dict[str, bytes]:
    """Path within ``folder`` -> content of what is in MagnaTagATune's folders ``0`` to ``f``."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("?/*")}
