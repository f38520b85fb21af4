"""What a failed Flink job lacked: the setting to raise, out of what the cluster says of the job.

A client of Beam's job server is told the innermost exception alone, which is often only what the true cause brought
about: ``call is closed`` where gRPC found no direct memory, ``error=2`` where a program is missing. Flink's REST
interface has the exceptions in full, and the TaskManagers' logs.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

LOG_BYTES = 64 << 20
"""Of a TaskManager's log that are looked at."""
LOGS = 8
"""TaskManagers whose logs are looked at."""


@dataclass(frozen=True)
class Failure:
    """One way in which a job dies.

    Attributes:
        pattern: of exceptions and of lines in logs; never of a healthy job's log.
        advice: what to do, with the pattern's groups.
    """

    pattern: re.Pattern[str]
    advice: str


def _failure(pattern: str, advice: str) -> Failure:
    return Failure(re.compile(pattern, re.IGNORECASE), advice)


FAILURES = (
    _failure(
        r"insufficient number of network buffers",
        "its TaskManagers have too few network buffers: set taskmanager.network.sort-shuffle.min-buffers to 64 and "
        "raise taskmanager.memory.network.min and taskmanager.memory.network.max (cluster.py: --network-memory)",
    ),
    _failure(
        r"direct buffer memory|OutOfDirectMemoryError",
        "its TaskManagers have too little direct memory for gRPC to the Beam workers: raise "
        "taskmanager.memory.task.off-heap.size, and taskmanager.memory.process.size by as much (cluster.py: "
        "--task-off-heap)",
    ),
    _failure(
        r"OutOfMemoryError: (?:Compressed class space|Metaspace)|metaspace out-of-memory",
        "earlier jobs left too many classes in its processes: start the cluster anew, or raise "
        "taskmanager.memory.jvm-metaspace.size and jobmanager.memory.jvm-metaspace.size (cluster.py: --metaspace)",
    ),
    _failure(
        r"java heap space|GC overhead limit exceeded",
        "its TaskManagers have too little heap: raise taskmanager.memory.process.size (cluster.py: "
        "--taskmanager-memory), or jobmanager.memory.process.size (--jobmanager-memory) where it is the "
        "JobManager's log that says so",
    ),
    _failure(
        r"unable to create (?:new )?native thread",
        "its TaskManagers may start no more threads: raise the limit of processes (ulimit -u, the "
        "container's pids limit)",
    ),
    _failure(
        r"cannot run program \\?\"(?P<program>[^\"\\]+)\\?\"[^\n]*?(?:error=\d+, )?(?P<why>No such file or directory|"
        r"Permission denied|Exec format error)",
        "its TaskManagers cannot start {program} (--worker-command, beam.worker_command): {why}; it must be there "
        "on each of their machines",
    ),
    _failure(
        r"could not acquire the minimum required resources|NoResourceAvailableException",
        "it has too few free task slots: start more TaskManagers, wait for other jobs, or lower --parallelism",
    ),
    _failure(
        r"call is closed",
        "its TaskManagers lost the connection to their Beam workers, most often for want of direct memory: raise "
        "taskmanager.memory.task.off-heap.size, and taskmanager.memory.process.size by as much (cluster.py: "
        "--task-off-heap); the TaskManagers' logs have the cause",
    ),
    _failure(
        r"TaskManager with id (?P<id>\S+?)(?:\([^)]*\))? (?:timed out|is no longer reachable)",
        "TaskManager {id} was lost and no other could take over: its log says why, and where it was killed for memory "
        "its container needs more",
    ),
)
"""The causes first, then what they bring about."""


def advice_on(texts: Iterable[str]) -> str | None:
    """Return what to do about a failed job, None where that is not known.

    Args:
        texts: what is known of the failure. The first of FAILURES that any of them has is taken.
    """
    read = list(texts)
    for failure in FAILURES:
        for text in read:
            found = failure.pattern.search(text)
            if found:
                return failure.advice.format(**found.groupdict())
    return None


def failure_texts(url: str, jobs: Iterable[str]) -> Iterator[str]:
    """Yield what a cluster says of failed jobs: their exceptions, and its TaskManagers' logs since they began.

    What the cluster does not give (it is gone, or logs to its console) is left out.

    Args:
        url: of its REST interface.
        jobs: ids.
    """
    for job in jobs:
        said = _read(f"{url}/jobs/{job}/exceptions")
        strings = list(_strings(_json(said)))
        yield "\n".join(strings)
        workers = [worker.get("id", "") for worker in _json(_read(f"{url}/taskmanagers")).get("taskmanagers", [])]
        workers.sort(key=lambda worker: worker not in strings)  # those that the exceptions name first
        for worker in workers[:LOGS]:
            _, _, since = _read(f"{url}/taskmanagers/{worker}/log").partition(job)
            yield since


def _read(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            data: bytes = answer.read(LOG_BYTES)
            return data.decode(errors="replace")
    except (OSError, ValueError):
        return ""


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
