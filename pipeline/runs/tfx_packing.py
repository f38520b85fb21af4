"""Keeps TFX from packing itself for the workers of every Beam job.

TFX makes a package of its whole installation in a new temporary folder for each node that runs a Beam job, and leaves
it there: a schedule's runs would fill the disk. It is for workers without TFX. Ours have it: preprocessing.beam asks
that autotag is installed where they run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tfx.utils import dependency_utils


@contextlib.contextmanager
def tfx_not_packed() -> Iterator[None]:
    """Let executors that are made in the block send the workers of their Beam jobs nothing of TFX."""
    pack = dependency_utils.make_beam_dependency_flags
    dependency_utils.make_beam_dependency_flags = list
    try:
        yield
    finally:
        dependency_utils.make_beam_dependency_flags = pack
