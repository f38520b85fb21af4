"""A look at everything, side by side, and what comes of it for each job."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Final

from pipeline.doctor import machine, packages
from pipeline.doctor.findings import Finding
from pipeline.doctor.jobs import JOBS, Job, Lack, lacks_of

_LOOKS: Final[dict[str, tuple[str, Callable[[], Finding]]]] = {
    **{name: ("engine", functools.partial(packages.engine, name)) for name in reversed(packages.ENGINES)},
    "base packages": ("program", packages.base),
    "TensorFlow Serving": ("program", machine.server_program),
    "container engine": ("program", machine.container_engine),
    "Java": ("program", machine.java),
    "Flink job server": ("program", machine.flink_jar),
    "Chromium": ("program", machine.chromium),
    "libsndfile": ("audio", machine.libsndfile),
    "ffmpeg": ("audio", machine.ffmpeg),
    "cores": ("machine", machine.cores),
    "memory": ("machine", machine.memory),
    "disk": ("machine", machine.disk),
    "cache": ("machine", machine.cache),
    "GPU": ("machine", machine.graphics_card),
    "Kubeflow server": ("machine", machine.kubeflow_server),
}
"""Name -> (section, what looks); TensorFlow, the slowest, first."""

_ALWAYS: Final = frozenset({"base packages", "cores", "memory", "disk", "cache"})


@dataclass(frozen=True)
class Examined:
    """What was found.

    Attributes:
        findings: in the order in which they are shown.
        jobs: each job that was looked at, and what it lacks.
        tried: whether the jobs' modules were loaded, too.
    """

    findings: tuple[Finding, ...]
    jobs: tuple[tuple[Job, tuple[Lack, ...]], ...]
    tried: bool

    @property
    def hindered(self) -> bool:
        """Whether a job cannot be done."""
        return any(lack.hinders for _, lacks in self.jobs for lack in lacks)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "findings": [asdict(finding) for finding in self.findings],
            "jobs": [
                {
                    "name": job.name,
                    "commands": job.commands,
                    "ready": not any(lack.hinders for lack in lacks),
                    "tried": self.tried,
                    "lacks": [asdict(lack) for lack in lacks],
                }
                for job, lacks in self.jobs
            ],
        }


def examine(asked: Sequence[Job] = ()) -> Examined:
    """Look at this machine.

    Args:
        asked: jobs to look at alone, whose modules are loaded, too; none for all jobs, by what is installed.
    """
    wanted = _ALWAYS.union(*(job.looks for job in asked)) if asked else _LOOKS
    with ThreadPoolExecutor() as pool:
        looks = [pool.submit(_look, name) for name in _LOOKS if name in wanted]
        findings = (*packages.versions(), *(look.result() for look in looks), *packages.extras())
        jobs = list(asked or JOBS.values())
        lacks = pool.map(lambda job: tuple(lacks_of(job, findings, load=bool(asked))), jobs)
        return Examined(findings, tuple(zip(jobs, lacks, strict=True)), bool(asked))


def _look(name: str) -> Finding:
    section, look = _LOOKS[name]
    try:
        return look()
    except Exception as error:  # a broken package raises anything when it is imported
        return Finding(name, section, "broken", " ".join(f"{type(error).__name__}: {error}".split()))
