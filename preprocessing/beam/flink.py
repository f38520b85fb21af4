"""Flink's REST interface: whether a cluster can take a job, and the job that is on it."""

from __future__ import annotations

import json
import urllib.request
import uuid
from dataclasses import dataclass
from typing import Any, Final

from preprocessing.beam import flink_failures
from preprocessing.errors import BadInputError

FLINK_VERSION: Final = "1.19"
"""What deploy/flink starts; Beam's job server must be of the same version."""

LOCAL_FLINK: Final = ("[local]", "[auto]")
"""Masters that stand for a Flink of the job's own."""


def check_flink_cluster(master: str, parallelism: int) -> None:
    """Check that a Flink cluster answers and has enough task slots: a job that finds too few would wait for them.

    Raises:
        BadInputError: no answer, or fewer slots than ``parallelism``.
    """
    try:
        with urllib.request.urlopen(f"{_flink_url(master)}/overview", timeout=10) as answer:
            overview = json.load(answer)
    except (OSError, ValueError) as error:
        raise BadInputError(f"Flink at {master} does not answer: {error}; is the cluster up?") from None
    slots = overview.get("slots-total", 0)
    if slots < max(parallelism, 1):
        raise BadInputError(
            f"Flink at {master} has {slots} task slots and the job wants {max(parallelism, 1)}: "
            "start more TaskManagers or lower --parallelism"
        )


@dataclass(frozen=True)
class FlinkJob:
    """A job that is being sent to a Flink cluster, which knows it by its name.

    Beam's job server cannot cancel it there, and ends itself on Ctrl-C in a terminal.

    Attributes:
        url: of the cluster's REST interface.
        name: of the job.
        earlier: ids of the jobs of this name that were there before.
    """

    url: str
    name: str
    earlier: frozenset[str]

    def cancel(self) -> None:
        """Cancel the job.

        Raises:
            OSError: the cluster does not answer.
        """
        for job in _flink_jobs(self.url, self.name) - self.earlier:
            request = urllib.request.Request(f"{self.url}/jobs/{job}?mode=cancel", method="PATCH")
            urllib.request.urlopen(request, timeout=10).close()

    def why_it_failed(self) -> str | None:
        """Return what to do about the job's failure, None where the cluster does not answer or says nothing known."""
        try:
            jobs = _flink_jobs(self.url, self.name) - self.earlier
        except (OSError, ValueError):
            return None
        return flink_failures.advice_on(flink_failures.failure_texts(self.url, jobs))


def flink_job(options: Any) -> FlinkJob | None:
    """Name the job that these options will send to a Flink cluster, unless it has a name; None on other runners.

    Args:
        options: Beam's PipelineOptions.

    Raises:
        BadInputError: the cluster does not answer.
    """
    from apache_beam.options.pipeline_options import FlinkRunnerOptions, GoogleCloudOptions, StandardOptions

    master = options.view_as(FlinkRunnerOptions).flink_master
    if options.view_as(StandardOptions).runner != "FlinkRunner" or master in LOCAL_FLINK:
        return None
    job = options.view_as(GoogleCloudOptions)
    job.job_name = job.job_name or f"autotag-{uuid.uuid4().hex[:12]}"
    url = _flink_url(master)
    try:
        return FlinkJob(url, job.job_name, frozenset(_flink_jobs(url, job.job_name)))
    except (OSError, ValueError) as error:
        raise BadInputError(f"Flink at {master} does not answer: {error}; is the cluster up?") from None


def _flink_url(master: str) -> str:
    return (master if "://" in master else f"http://{master}").rstrip("/")


def _flink_jobs(url: str, name: str) -> set[str]:
    with urllib.request.urlopen(f"{url}/jobs/overview", timeout=10) as answer:
        return {job["jid"] for job in json.load(answer)["jobs"] if job["name"] == name}
