"""Runs on a Kubeflow Pipelines server: started, waited for, listed, with their steps."""

from __future__ import annotations

import datetime
import itertools
import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.kubeflow.connection import PAGE, NoAnswerError
from pipeline.kubeflow.uploads import Uploads, Version

POLL_SECONDS: Final = 5
OUTAGE_SECONDS: Final = 300
"""So long may a server be away while a run is waited for: a port-forward that broke, a server that restarts."""

ENDED: Final = ("succeeded", "failed", "canceled", "skipped", "error")
FAILED: Final = ("failed", "error")
"""States of a run and of its steps, in small letters."""

DRIVER: Final = "-driver"
"""End of the name of the task in which KFP prepares a step."""


@dataclass(frozen=True)
class FoundRun:
    """A run that the server has.

    Attributes:
        state: in small letters; one of ENDED where it is over.
        schedule: id of the recurring run that began it.
        pipeline_id: of the pipeline that it is a run of, None where it was begun with a file of its own.
        version_id: of that pipeline's version.
    """

    identity: str
    name: str
    state: str
    created: datetime.datetime
    finished: datetime.datetime | None
    error: str | None
    schedule: str | None
    pipeline_id: str | None = None
    version_id: str | None = None


@dataclass(frozen=True)
class FoundStep:
    """A step of a run that was begun.

    Attributes:
        name: of the pipeline's task, with ``-`` where the component has ``_``.
        state: in small letters.
        seconds: from the start of its driver's pod to its end, retries and what lies between them included; None where
            it has not ended.
    """

    name: str
    state: str
    seconds: float | None


@dataclass(frozen=True)
class EndedRun:
    """How a run ended that was waited for.

    Attributes:
        state: of the run, one of ENDED.
        steps: step -> its last state.
        error: what the server says of it.
    """

    state: str
    steps: dict[str, str]
    error: str | None

    @property
    def failed_steps(self) -> list[str]:
        """The steps that failed."""
        return [step for step, state in self.steps.items() if state in FAILED]


class ServerRuns(Uploads):
    """The runs that a server has."""

    def run(
        self, version: Version, name: str, experiment: str, pipeline_root: str, service_account: str | None = None
    ) -> str:
        """Start a run; returns its id.

        Raises:
            AutotagError: the server refused it, or does not answer.
        """
        with self._readable_errors(f"start the run {name}"):
            found = self._client.create_experiment(experiment, namespace=self._namespace)
            run = self._client.run_pipeline(
                found.experiment_id,
                name,
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                pipeline_root=pipeline_root,
                service_account=service_account,
            )
        return str(run.run_id)

    def wait(
        self,
        run_id: str,
        steps: Collection[str],
        on_change: Callable[[str, str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> EndedRun:
        """Ask after a run until it has ended.

        Args:
            run_id: of the run.
            steps: names of the pipeline's tasks.
            on_change: called with a step and its new state.
            sleep: waits for so many seconds.

        Raises:
            AutotagError: the server does not know the run, or has not answered for OUTAGE_SECONDS.
        """
        seen: dict[str, str] = {}
        silent = 0
        while True:
            try:
                with self._readable_errors(f"say how the run {run_id} is"):
                    run = self._client.get_run(run_id)
            except NoAnswerError:
                silent += POLL_SECONDS
                if silent > OUTAGE_SECONDS:
                    raise
                sleep(POLL_SECONDS)
                continue
            silent = 0
            details = run.run_details.task_details if run.run_details else None
            for step, state in step_states(details or [], steps).items():
                if seen.get(step) != state:
                    seen[step] = state
                    on_change(step, state)
            state = (run.state or "pending").lower()
            if state in ENDED:
                return EndedRun(state, seen, run.error.message if run.error else None)
            sleep(POLL_SECONDS)

    def runs(self, experiment: str, limit: int) -> list[FoundRun]:
        """Return an experiment's newest runs, the newest first.

        Raises:
            BadInputError: there is no such experiment.
            AutotagError: the server does not answer.
        """
        experiment_id = self._experiment_id(experiment)
        with self._readable_errors("list the runs"):
            found = itertools.islice(self._list_runs(experiment_id=experiment_id, page_size=min(PAGE, limit)), limit)
            return [_read_run(run) for run in found]

    def newest_run(self, pipeline: str, experiment: str, states: Collection[str]) -> FoundRun | None:
        """Return the newest of a pipeline's runs that is in one of some states, None where there is none.

        Args:
            pipeline: its name; an experiment may hold runs of others.
            experiment: name of it.
            states: in small letters.

        Raises:
            BadInputError: there is no such experiment.
            AutotagError: the server does not answer.
        """
        experiment_id = self._experiment_id(experiment)
        with self._readable_errors(f"look for the runs of {pipeline}"):
            pipeline_id = self._client.get_pipeline_id(pipeline)
            for run in self._list_runs(experiment_id=experiment_id, filter=_in_states(states)):
                found = _read_run(run)
                if pipeline_id and found.pipeline_id == pipeline_id:
                    return found
        return None

    def steps(self, run_id: str) -> list[FoundStep]:
        """Return the steps of a run that were begun.

        Raises:
            AutotagError: the server does not know the run, or does not answer.
        """
        with self._readable_errors(f"say what the steps of the run {run_id} did"):
            run = self._client.get_run(run_id)
        return found_steps((run.run_details.task_details if run.run_details else None) or [])

    def runs_going_on(self) -> list[FoundRun]:
        """Return all runs of the namespace that have not ended, of any pipeline and experiment.

        Raises:
            AutotagError: the server does not answer.
        """
        with self._readable_errors("list the runs that go on"):
            return [_read_run(run) for run in self._list_runs(namespace=self._namespace, filter=_not_ended())]

    def all_runs(self) -> Iterator[FoundRun]:
        """Yield all runs of the namespace, of any pipeline and experiment, the newest first.

        Raises:
            AutotagError: the server does not answer.
        """
        found = self._list_runs(namespace=self._namespace)
        while True:
            with self._readable_errors("list the runs"):
                run = next(found, None)
            if run is None:
                return
            yield _read_run(run)

    def pipeline_of(self, run: FoundRun) -> dict[str, Any]:
        """Return the pipeline that a run was made of, as KFP's PipelineSpec.

        Raises:
            NoPipelineError: somebody deleted it.
            AutotagError: the server does not answer.
        """
        with self._readable_errors(f"give the run {run.name}"):
            own = None if run.version_id else self._client.get_run(run.identity).pipeline_spec
        return self._pipeline(f"run {run.name} ({run.identity})", run.pipeline_id, run.version_id, own)

    def _list_runs(self, **arguments: Any) -> Iterator[Any]:
        return self._iterate(self._client.list_runs, "runs", sort_by="created_at desc", **arguments)


def _in_states(states: Collection[str]) -> str:
    """Return the server's filter for runs in some states."""
    values = sorted(state.upper() for state in states)
    return json.dumps({"predicates": [{"operation": "IN", "key": "state", "string_values": {"values": values}}]})


def _not_ended() -> str:
    """Return the server's filter for runs that have not ended, in a state of whatever name."""
    ended = [{"operation": "NOT_EQUALS", "key": "state", "string_value": state.upper()} for state in ENDED]
    return json.dumps({"predicates": ended})


def _read_run(run: Any) -> FoundRun:
    reference = run.pipeline_version_reference
    return FoundRun(
        run.run_id,
        run.display_name,
        (run.state or "PENDING").lower(),
        run.created_at,
        _time(run.finished_at),
        run.error.message if run.error else None,
        run.recurring_run_id,
        reference.pipeline_id if reference else None,
        reference.pipeline_version_id if reference else None,
    )


def _time(value: datetime.datetime | None) -> datetime.datetime | None:
    """Return a time that the server gave; it has 1970 where there is none."""
    return value if value and value.year > 1970 else None


def found_steps(details: Sequence[Any]) -> list[FoundStep]:
    """Return the steps that were begun out of a run's task details."""
    named = {task.display_name: task for task in details if task.display_name}
    steps = [name.removesuffix(DRIVER) for name in named if name.endswith(DRIVER) and name != f"root{DRIVER}"]
    found = []
    for step, state in step_states(details, steps).items():
        tasks = [named[name] for name in (step + DRIVER, step) if name in named]
        times = [time for task in tasks for time in (_time(task.start_time), _time(task.end_time)) if time]
        seconds = (max(times) - min(times)).total_seconds() if times and state in ENDED else None
        found.append(FoundStep(step, state, seconds))
    return found


def step_states(details: Sequence[Any], steps: Collection[str]) -> dict[str, str]:
    """Return step -> state, in small letters, out of a run's task details.

    The server has a task for each node of the Argo workflow: of a step the step itself, ``STEP-driver`` before it and
    ``executor`` in it. A driver that failed leaves its step never begun; a step that is left out has no state.
    """
    states: dict[str, str] = {}
    for task in details:
        if task.state is None:
            continue
        state, step = task.state.lower(), (task.display_name or "").removesuffix(DRIVER)
        if step in steps and (step == task.display_name or state in FAILED) and states.get(step) not in FAILED:
            states[step] = state
    return states
