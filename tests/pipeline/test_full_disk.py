"""Errors as libraries raise them on a full disk, and the one line that is said of them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from pipeline.runs.full_disk import full_disk_error


def raised(text: str, cause: BaseException | None = None) -> RuntimeError:
    error = RuntimeError(text)
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/run/a/model.keras")


@pytest.mark.parametrize(
    ("error", "path"),
    [
        (FULL, "/run/a/model.keras"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), None),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/home/x"), "/home/x"),
        (raised("while training", FULL), "/run/a/model.keras"),
        (shutil.Error([("/a/x", "/b/x", "[Errno 28] No space left on device: '/b/x'")]), "/b/x"),
        (
            raised("UnknownError: /run/a/shard-00000; No space left on device [while running 'Write']"),
            "/run/a/shard-00000",
        ),
        (raised("Unable to write (file write failed: errno = 28, error message = 'No space left on device')"), None),
        (raised("Error when executing query: database or disk is full query: INSERT INTO x"), None),
    ],
    ids=["python", "without a name", "quota", "behind another", "copied tree", "tensorflow", "hdf5", "sqlite"],
)
def test_full_disk_is_found_behind_what_libraries_make_of_it(
    error: Exception, path: str | None, tmp_path: Path
) -> None:
    found = full_disk_error("Transform", error, (str(tmp_path / "not" / "there"),), "make room")
    assert found
    text = str(found)
    assert text.startswith(
        f"Transform: No space left on device ({path})" if path else "Transform: No space left on device;"
    )
    assert text.endswith(f" at {tmp_path}; make room")
    assert "\n" not in text


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), ValueError("no space in the name")])
def test_other_errors_are_left_alone(error: Exception, tmp_path: Path) -> None:
    assert full_disk_error("Transform", error, (str(tmp_path),), "make room") is None


def test_error_that_is_its_own_cause_ends(tmp_path: Path) -> None:
    error = ValueError("x")
    error.__cause__ = error
    assert full_disk_error("Transform", error, (str(tmp_path),), "make room") is None
