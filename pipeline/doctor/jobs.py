"""The jobs that autotag does, and what each needs of what was found."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.doctor.findings import Finding, install
from pipeline.doctor.loading import load_apart
from pipeline.doctor.packages import EMBEDDING_ENGINES, ENGINES, is_engine, lacking
from preprocessing.errors import BadInputError

BASE: Final = ("base packages",)
"""What every job needs."""


@dataclass(frozen=True)
class Job:
    """Something that people want to do.

    Attributes:
        name: of it.
        commands: that do it.
        extras: whose packages it needs; not all of the engines where ``one_of`` names them.
        one_of: findings of which one at least must be there; none for no such need.
        needs: findings without which it cannot be done.
        better_with: findings without which it can, but less.
        unbroken: findings that may be missing, but not broken.
        modules: that must load; tried only where somebody asks for the job.
    """

    name: str
    commands: str
    extras: tuple[str, ...]
    modules: tuple[str, ...]
    one_of: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    better_with: tuple[str, ...] = ()
    unbroken: tuple[str, ...] = ()

    @property
    def looks(self) -> frozenset[str]:
        """Findings that it asks for."""
        return frozenset((*BASE, *self.needs, *self.one_of, *self.better_with, *self.unbroken))


JOBS: Final = {
    job.name: job
    for job in (
        Job(
            "tag",
            "autotag tag",
            ("tag",),
            (
                "pipeline.commands.tag",
                "serving.tagging.file_tags",
                "serving.tagging.taggram",
                "serving.tagging.mapping",
            ),
            one_of=tuple(ENGINES),
            needs=("libsndfile",),
            better_with=("ffmpeg",),
        ),
        Job(
            "page",
            "autotag page",
            ("page",),
            ("serving.page.app", "serving.page.server", "serving.library.song_map"),
            one_of=tuple(ENGINES),
            needs=("libsndfile",),
            better_with=("ffmpeg",),
        ),
        Job(
            "find",
            "autotag index, similar, search",
            ("page",),
            ("serving.library.indexing", "serving.library.neighbours", "serving.library.queries"),
            one_of=EMBEDDING_ENGINES,
            needs=("libsndfile",),
            better_with=("ffmpeg",),
        ),
        Job(
            "pretrained",
            "autotag pretrained, import",
            ("pretrained",),
            ("serving.pretrained.convert", "tensorflow", "tf2onnx"),
        ),
        Job("download", "autotag download", ("download",), ("pipeline.commands.download", "httpx")),
        Job(
            "preprocess",
            "autotag preprocess",
            ("preprocessing",),
            ("preprocessing.job", "apache_beam"),
            needs=("libsndfile",),
            better_with=("ffmpeg",),
        ),
        Job(
            "flink",
            "autotag preprocess --runner flink, spark",
            ("preprocessing",),
            ("preprocessing.job", "apache_beam.runners.portability.flink_runner"),
            needs=("Java",),
            better_with=("Flink job server",),
        ),
        Job(
            "dataflow",
            "autotag preprocess --runner dataflow",
            ("gcp",),
            ("apache_beam.runners.dataflow.internal.apiclient", "gcsfs"),
        ),
        Job(
            "train",
            "autotag run, compare, report, tag-map",
            ("tfx",),
            ("pipeline.create", "pipeline.runs.local_runner"),
            needs=("tensorflow", "libsndfile"),
            better_with=("GPU", "ffmpeg"),
        ),
        Job("export", "autotag export", ("export",), ("serving.engines.exporting", "tf2onnx"), needs=("tensorflow",)),
        Job(
            "client",
            "autotag tag --server, promote, rollback",
            ("serving",),
            ("serving.client", "pipeline.commands.promote"),
        ),
        Job(
            "serve",
            "autotag serve",
            ("serving",),
            ("serving.server.tf_server",),
            one_of=("TensorFlow Serving", "container engine"),
        ),
        Job(
            "kubeflow",
            "autotag kubeflow",
            ("kubeflow", "tfx"),
            ("kfp", "pipeline.kubeflow.compiler"),
            unbroken=("Kubeflow server",),
        ),
        Job(
            "test",
            "make test, test-page",
            ("dev",),
            ("pytest",),
            better_with=("Chromium", "ffmpeg", "container engine"),
        ),
    )
}


@dataclass(frozen=True)
class Lack:
    """Something that a job wants and has not.

    Attributes:
        what: it is.
        remedy: command or package that brings it; empty where nothing simple does.
        hinders: whether the job cannot be done without.
    """

    what: str
    remedy: str
    hinders: bool = True


def find_job(name: str) -> Job:
    """Return a job by its name.

    Raises:
        BadInputError: there is none of that name.
    """
    if name not in JOBS:
        raise BadInputError(f"no job is called {name!r}; there are {', '.join(JOBS)}")
    return JOBS[name]


def lacks_of(job: Job, findings: Iterable[Finding], load: bool = False) -> list[Lack]:
    """Return what a job lacks, what hinders it first.

    Args:
        job: which.
        findings: all that was found.
        load: whether to load its modules too, where nothing is known to be missing; of ``train`` that takes a while.
    """
    by_name: Mapping[str, Finding] = {finding.name: finding for finding in findings if finding.section != "extra"}
    lacks = [lack for extra in job.extras if (lack := _lack_of_extra(extra, bool(job.one_of))) is not None]
    lacks += [_lack(by_name[name]) for name in (*BASE, *job.needs) if by_name[name].state != "ok"]
    choices = [by_name[name] for name in job.one_of]
    if choices and all(choice.state != "ok" for choice in choices):
        lacks.append(Lack("one of " + "; ".join(_lack(choice).what for choice in choices), choices[0].remedy))
    lacks += [_lack(by_name[name]) for name in job.unbroken if by_name[name].state == "broken"]
    if load and not lacks:
        _, error = load_apart("modules", *job.modules)
        lacks += [Lack(error, install(job.extras[0]))] if error else []
    wishes = [by_name[name] for name in job.better_with if by_name[name].state != "ok"]
    return lacks + [dataclasses.replace(_lack(wish), hinders=False) for wish in wishes]


def _lack(finding: Finding) -> Lack:
    return Lack(f"{finding.name} ({finding.detail})", finding.remedy)


def _lack_of_extra(extra: str, any_engine: bool) -> Lack | None:
    packages = [need for need in lacking(extra) if not (any_engine and is_engine(need))]
    return Lack(", ".join(packages), install(extra)) if packages else None
