"""What a process that was started by this one does when this one is killed."""

from __future__ import annotations

import contextlib
import ctypes
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent() -> None:
    """Let the kernel send SIGTERM to this process when its parent ends, however that ends (Linux; elsewhere nothing).

    For ``preexec_fn`` of ``subprocess.Popen``: prctl(2), PR_SET_PDEATHSIG.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
