"""Recurring runs on a Kubeflow Pipelines server: known by name, and replaced where anything of one differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.kubeflow.uploads import CHECKSUM, Uploads, Version
from preprocessing.errors import BadInputError

CRON_FIELDS: Final = ("second", "minute", "hour", "day of month", "month", "day of week")


@dataclass(frozen=True)
class Schedule:
    """A recurring run, as it is or as it is to be.

    Attributes:
        pipeline: checksum of the pipeline's file.
        experiment: name of the one that its runs are in.
        at_once: how many of its runs may be at work at the same time.
        catch_up: whether runs that were missed are made up for.
        service_account: of Kubernetes, that its runs act as; None for the one that it has, or the server's own.
    """

    name: str
    cron: str
    pipeline: str
    pipeline_root: str
    experiment: str
    enabled: bool = True
    at_once: int = 1
    catch_up: bool = False
    service_account: str | None = None

    def changes(self, wanted: Schedule) -> list[str]:
        """One line for each thing in which ``wanted`` differs."""
        lines = []
        for field, words in (
            ("cron", "time"),
            ("pipeline", "pipeline"),
            ("pipeline_root", "artifacts"),
            ("experiment", "experiment"),
            ("enabled", "enabled"),
            ("at_once", "runs at once"),
            ("catch_up", "catch-up"),
            ("service_account", "service account"),
        ):
            old, new = getattr(self, field), getattr(wanted, field)
            if old != new and new is not None:
                old, new = (value[:12] if field == "pipeline" else value for value in (old, new))
                lines.append(f"{words}: {old} -> {new}")
        return lines


@dataclass(frozen=True)
class FoundSchedule:
    """A recurring run that the server has."""

    schedule: Schedule
    identity: str
    experiment_id: str
    status: str


def check_cron(cron: str) -> str:
    """Return the expression with single spaces.

    Raises:
        BadInputError: it has not the six fields that KFP reads.
    """
    fields = cron.split()
    if len(fields) == 5:
        raise BadInputError(
            f"--cron {cron!r}: Kubeflow's schedules have six fields, seconds first; for a crontab line of five put 0 "
            f"before it: {'0 ' + ' '.join(fields)!r}"
        )
    if len(fields) != len(CRON_FIELDS):
        raise BadInputError(f"--cron {cron!r}: expected six fields ({', '.join(CRON_FIELDS)}), such as '0 0 2 * * 1'")
    return " ".join(fields)


def describe_changes(found: Sequence[FoundSchedule], wanted: Schedule) -> list[str]:
    """Say in lines what making a recurring run would change; [] where nothing."""
    if not found:
        return [f"{wanted.name}: is not there and would be made, at {wanted.cron}"]
    if len(found) > 1:
        return [f"{wanted.name}: is there {len(found)} times and would be there once"]
    return [f"{wanted.name}: {line}" for line in found[0].schedule.changes(wanted)]


class Schedules(Uploads):
    """The recurring runs that a server has."""

    def schedules(self, experiment: str) -> list[FoundSchedule]:
        """Return an experiment's recurring runs.

        Raises:
            BadInputError: there is no such experiment.
            AutotagError: the server does not answer.
        """
        experiment_id = self._experiment_id(experiment)
        with self._readable_errors("list the recurring runs"):
            found = self._pages(self._client.list_recurring_runs, "recurring_runs", experiment_id=experiment_id)
            return [self._read_schedule(recurring, experiment) for recurring in found]

    def schedule(self, wanted: Schedule, version: Version, replaced: Sequence[FoundSchedule]) -> None:
        """Make a recurring run, and then delete those that it takes the place of.

        Raises:
            AutotagError: the server refused it, or does not answer.
        """
        with self._readable_errors(f"make the recurring run {wanted.name}"):
            found = self._client.create_experiment(wanted.experiment, namespace=self._namespace)
        service_account = wanted.service_account or (replaced[-1].schedule.service_account if replaced else None)
        with self._readable_errors(f"make the recurring run {wanted.name}"):
            self._client.create_recurring_run(
                found.experiment_id,
                wanted.name,
                cron_expression=wanted.cron,
                max_concurrency=wanted.at_once,
                no_catchup=not wanted.catch_up,
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                pipeline_root=wanted.pipeline_root,
                service_account=service_account,
            )
        for old in replaced:
            self.unschedule(old)

    def find_schedules(self, name: str, experiment: str, pipeline: str) -> list[FoundSchedule]:
        """Return the recurring runs of a name: those in an experiment, and in others those of the same pipeline.

        Args:
            name: of the recurring run.
            experiment: its name; it need not be there.
            pipeline: its name.

        Raises:
            AutotagError: the server does not answer.
        """
        with self._readable_errors(f"look for the recurring run {name}"):
            pipeline_id = self._client.get_pipeline_id(pipeline)
            experiments = self._pages(self._client.list_experiments, "experiments", namespace=self._namespace)
            names = {one.experiment_id: one.display_name for one in experiments}
            listed = self._pages(self._client.list_recurring_runs, "recurring_runs", namespace=self._namespace)
            found = []
            for recurring in listed:
                reference = recurring.pipeline_version_reference
                same = reference is not None and reference.pipeline_id == pipeline_id
                where = names.get(recurring.experiment_id, recurring.experiment_id)
                if recurring.display_name == name and (same or where == experiment):
                    found.append(self._read_schedule(recurring, where))
        return found

    def unschedule(self, found: FoundSchedule) -> None:
        """Delete a recurring run; runs that it began go on.

        Raises:
            AutotagError: the server refused it, or does not answer.
        """
        with self._readable_errors(f"delete the recurring run {found.schedule.name} ({found.identity})"):
            self._client.delete_recurring_run(found.identity)

    def scheduled_pipelines(self) -> list[dict[str, Any]]:
        """Return the pipelines of all recurring runs of the namespace, as KFP's PipelineSpec.

        Raises:
            NoPipelineError: somebody deleted one.
            AutotagError: the server does not answer.
        """
        with self._readable_errors("list the recurring runs"):
            found = self._pages(self._client.list_recurring_runs, "recurring_runs", namespace=self._namespace)
        pipelines = []
        for recurring in found:
            reference = recurring.pipeline_version_reference
            pipeline_id = reference.pipeline_id if reference else None
            version_id = reference.pipeline_version_id if reference else None
            name = f"recurring run {recurring.display_name} ({recurring.recurring_run_id})"
            pipelines.append(self._pipeline(name, pipeline_id, version_id, recurring.pipeline_spec))
        return pipelines

    def _read_schedule(self, recurring: Any, experiment: str) -> FoundSchedule:
        reference, trigger = recurring.pipeline_version_reference, recurring.trigger
        checksum = "another"
        if reference is not None:
            version = self._client.get_pipeline_version(reference.pipeline_id, reference.pipeline_version_id)
            checksum = (version.description or "another").removeprefix(CHECKSUM)
        schedule = Schedule(
            name=recurring.display_name,
            cron=trigger.cron_schedule.cron if trigger.cron_schedule else "not by the clock",
            pipeline=checksum,
            pipeline_root=(recurring.runtime_config.pipeline_root or "") if recurring.runtime_config else "",
            experiment=experiment,
            enabled=recurring.mode == "ENABLE",
            at_once=int(recurring.max_concurrency),
            catch_up=not recurring.no_catchup,
            service_account=recurring.service_account or None,
        )
        return FoundSchedule(
            schedule, recurring.recurring_run_id, recurring.experiment_id, (recurring.status or "").lower()
        )
