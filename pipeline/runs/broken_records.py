"""A TFRecord file that is cut or damaged under a node: found behind what libraries make of it, and named.

TensorFlow and Beam say that a record is broken and not of which file. So the files of all examples are looked through
when a node failed for that.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from preprocessing.errors import AutotagError, error_chain
from preprocessing.examples import record_damage

_TEXT: Final = re.compile(
    r"DataLossError|DATA_LOSS|truncated record|corrupted record|[Nn]ot a valid TFRecord|"
    r"ended before the end-of-stream marker|Error -3 while decompressing|CRC check failed"
)


def broken_records_error(node: str, error: BaseException, artifacts: str) -> AutotagError | None:
    """Return what to say of a node's error, None where no broken record is behind it.

    Args:
        node: its name.
        error: what it raised.
        artifacts: folder of all nodes' artifacts.
    """
    if not any(_TEXT.search(f"{type(found).__name__}: {found}") for found in error_chain(error)):
        return None
    for whole in (False, True):  # lengths first: they are read without the clips
        for file in _newest_first(Path(artifacts)):
            damage = record_damage(file, every_byte=whole)
            if damage:
                return AutotagError(
                    f"{node}: {file} is damaged: {damage}. Delete the folder {file.parent.parent} and run again: what "
                    "was in it is made anew"
                )
    return AutotagError(
        f"{node}: a TFRecord file is damaged ({' '.join(str(error).split())[:200]}), and none below {artifacts} is: "
        "run again"
    )


def _newest_first(artifacts: Path) -> list[Path]:
    """Files of examples; of several executions the last one's first, which is what a node reads as a rule."""
    files = sorted(artifacts.glob("*/*/*/Split-*/*"))
    return sorted(files, key=lambda file: -int(file.parents[1].name) if file.parents[1].name.isdecimal() else 0)
