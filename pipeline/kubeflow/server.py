"""What is asked of a Kubeflow Pipelines server: upload, run, wait, schedule, list; and its errors in words.

A thin layer over kfp.Client. A pipeline is uploaded once for each content (its checksum stands in the version's
description); a recurring run is known by its name, and is replaced where anything of it differs.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import http.client
import io
import itertools
import json
import logging
import os
import re
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.config import KubeflowConfig
from preprocessing.errors import AutotagError, BadInputError

log = logging.getLogger(__name__)

HOST_VARIABLE: Final = "KF_PIPELINES_ENDPOINT"
"""kfp's own environment variable for the API's address."""
TIMEOUT_SECONDS: Final = 10
PAGE: Final = 100
POLL_SECONDS: Final = 5
OUTAGE_SECONDS: Final = 300
"""So long may a server be away while a run is waited for: a port-forward that broke, a server that restarts."""
ENDED: Final = ("succeeded", "failed", "canceled", "skipped", "error")
FAILED: Final = ("failed", "error")
"""States of a run and of its steps, in small letters."""
DRIVER: Final = "-driver"
"""End of the name of the task in which KFP prepares a step."""
CHECKSUM: Final = "autotag sha256 "
CRON_FIELDS: Final = ("second", "minute", "hour", "day of month", "month", "day of week")


@dataclass(frozen=True)
class Version:
    """An uploaded version of a pipeline."""

    pipeline_id: str
    version_id: str
    name: str
    checksum: str
    new: bool


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


@dataclass(frozen=True)
class Token:
    """Where a bearer token is; one of the two is given. The token itself is in no message.

    Attributes:
        variable: name of an environment variable.
        file: read for each request, since Kubernetes renews a service account's token in its file.
    """

    variable: str | None = None
    file: str | None = None

    def read(self) -> str:
        """Return the token.

        Raises:
            BadInputError: it is not there, or is no token.
        """
        if self.file:
            try:
                text, where = Path(self.file).read_text(encoding="utf-8"), f"file {self.file}"
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is no text"
                raise BadInputError(f"the token's file {self.file}: {reason}") from None
        else:
            text, where = os.environ.get(str(self.variable), ""), f"variable {self.variable}"
        token = text.strip()
        if not token:
            raise BadInputError(f"the {where} holds no token")
        if not re.fullmatch(r"[!-~]+", token):  # a client that refuses it would print it
            raise BadInputError(f"the {where} holds something else than a token: blanks, or letters beyond ASCII")
        return token

    def refresh_api_key_hook(self, configuration: Any) -> None:
        """Put the token into the client's configuration; kfp calls this before each request.

        Raises:
            BadInputError: it is not there, or is no token.
        """
        configuration.api_key["authorization"] = self.read()


class Server:
    """A Kubeflow Pipelines API server."""

    def __init__(self, host: str | None, namespace: str | None = None, token: Token | None = None) -> None:
        """Connect.

        Args:
            host: address of the API; else HOST_VARIABLE.
            namespace: of runs and pipelines, in multi-user mode.
            token: sent with each request.

        Raises:
            BadInputError: no address is given, or the token cannot be read.
            AutotagError: nothing answers there.
        """
        self.host = (host or os.environ.get(HOST_VARIABLE) or "").rstrip("/")
        if not self.host:
            raise BadInputError(
                f"no address of a Kubeflow Pipelines API: give --host, kubeflow.host or {HOST_VARIABLE}, such as "
                "http://localhost:8888 after `kubectl -n kubeflow port-forward svc/ml-pipeline 8888`"
            )
        self._namespace = namespace
        self._specs: dict[str, dict[str, Any]] = {}
        _check_answers(self.host, token)
        with self._words("connect"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # kfp says with which servers it works
            import kfp

            self._client = kfp.Client(host=self.host, namespace=namespace or "kubeflow", credentials=token)

    @contextlib.contextmanager
    def _words(self, doing: str) -> Iterator[None]:
        """Turn the client's errors into one message each, and keep what it prints."""
        import kfp_server_api  # type: ignore[import-untyped]
        import urllib3

        try:
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        except kfp_server_api.ApiException as error:
            kind = NoAnswerError if error.status in (502, 503, 504) else AutotagError
            raise kind(f"{self.host} refused to {doing}: {error_message(error)}") from None
        except (urllib3.exceptions.HTTPError, TimeoutError) as error:
            raise NoAnswerError(f"{self.host} stopped answering while it was asked to {doing}: {error}") from None
        except ValueError as error:  # kfp's own, such as two pipelines of one name
            raise AutotagError(f"{self.host} cannot be asked to {doing}: {error}") from None

    def publish(self, name: str, text: str) -> Version:
        """Upload a pipeline's file, unless this very text is there; returns its version.

        Raises:
            AutotagError: the server refused it, or does not answer.
        """
        checksum = hashlib.sha256(text.encode()).hexdigest()
        with self._words(f"look for the pipeline {name}"):
            pipeline_id = self._client.get_pipeline_id(name)
            list_versions = self._client.list_pipeline_versions
            there = self._pages(list_versions, "pipeline_versions", pipeline_id=pipeline_id) if pipeline_id else []
        for version in there:
            if version.description == CHECKSUM + checksum:
                return Version(pipeline_id, version.pipeline_version_id, version.display_name, checksum, new=False)
        with tempfile.TemporaryDirectory() as folder, self._words(f"take the pipeline {name}"):
            path = os.path.join(folder, "pipeline.yaml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            if pipeline_id:
                version = self._client.upload_pipeline_version(
                    path, f"{name}-{checksum[:12]}", pipeline_id=pipeline_id, description=CHECKSUM + checksum
                )
            else:
                pipeline_id = self._client.upload_pipeline(path, name, CHECKSUM + checksum, self._namespace).pipeline_id
                version = self._client.list_pipeline_versions(pipeline_id).pipeline_versions[0]
        return Version(pipeline_id, version.pipeline_version_id, version.display_name, checksum, new=True)

    def run(
        self, version: Version, name: str, experiment: str, pipeline_root: str, service_account: str | None = None
    ) -> str:
        """Start a run; returns its id.

        Raises:
            AutotagError: the server refused it, or does not answer.
        """
        with self._words(f"start the run {name}"):
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
                with self._words(f"say how the run {run_id} is"):
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

    def schedules(self, experiment: str) -> list[FoundSchedule]:
        """Return an experiment's recurring runs.

        Raises:
            BadInputError: there is no such experiment.
            AutotagError: the server does not answer.
        """
        experiment_id = self._experiment_id(experiment)
        with self._words("list the recurring runs"):
            found = self._pages(self._client.list_recurring_runs, "recurring_runs", experiment_id=experiment_id)
            return [self._read_schedule(recurring, experiment) for recurring in found]

    def schedule(self, wanted: Schedule, version: Version, replaced: Sequence[FoundSchedule]) -> None:
        """Make a recurring run, and then delete those that it takes the place of.

        Raises:
            AutotagError: the server refused it, or does not answer.
        """
        with self._words(f"make the recurring run {wanted.name}"):
            found = self._client.create_experiment(wanted.experiment, namespace=self._namespace)
        service_account = wanted.service_account or (replaced[-1].schedule.service_account if replaced else None)
        with self._words(f"make the recurring run {wanted.name}"):
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
        with self._words(f"look for the recurring run {name}"):
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
        with self._words(f"delete the recurring run {found.schedule.name} ({found.identity})"):
            self._client.delete_recurring_run(found.identity)

    def runs(self, experiment: str, limit: int) -> list[FoundRun]:
        """Return an experiment's newest runs, the newest first.

        Raises:
            BadInputError: there is no such experiment.
            AutotagError: the server does not answer.
        """
        experiment_id = self._experiment_id(experiment)
        with self._words("list the runs"):
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
        with self._words(f"look for the runs of {pipeline}"):
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
        with self._words(f"say what the steps of the run {run_id} did"):
            run = self._client.get_run(run_id)
        return found_steps((run.run_details.task_details if run.run_details else None) or [])

    def runs_going_on(self) -> list[FoundRun]:
        """Return all runs of the namespace that have not ended, of any pipeline and experiment.

        Raises:
            AutotagError: the server does not answer.
        """
        with self._words("list the runs that go on"):
            return [_read_run(run) for run in self._list_runs(namespace=self._namespace, filter=_not_ended())]

    def all_runs(self) -> Iterator[FoundRun]:
        """Yield all runs of the namespace, of any pipeline and experiment, the newest first.

        Raises:
            AutotagError: the server does not answer.
        """
        found = self._list_runs(namespace=self._namespace)
        while True:
            with self._words("list the runs"):
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
        with self._words(f"give the run {run.name}"):
            own = None if run.version_id else self._client.get_run(run.identity).pipeline_spec
        return self._pipeline(f"run {run.name} ({run.identity})", run.pipeline_id, run.version_id, own)

    def scheduled_pipelines(self) -> list[dict[str, Any]]:
        """Return the pipelines of all recurring runs of the namespace, as KFP's PipelineSpec.

        Raises:
            NoPipelineError: somebody deleted one.
            AutotagError: the server does not answer.
        """
        with self._words("list the recurring runs"):
            found = self._pages(self._client.list_recurring_runs, "recurring_runs", namespace=self._namespace)
        pipelines = []
        for recurring in found:
            reference = recurring.pipeline_version_reference
            pipeline_id = reference.pipeline_id if reference else None
            version_id = reference.pipeline_version_id if reference else None
            name = f"recurring run {recurring.display_name} ({recurring.recurring_run_id})"
            pipelines.append(self._pipeline(name, pipeline_id, version_id, recurring.pipeline_spec))
        return pipelines

    def _pipeline(
        self, user: str, pipeline_id: str | None, version_id: str | None, own: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Return a version's pipeline, or a run's own where there is no version."""
        import kfp_server_api

        if version_id and version_id not in self._specs:
            with self._words(f"give the pipeline of the {user}"):
                try:
                    version = self._client.get_pipeline_version(pipeline_id, version_id)
                    self._specs[version_id] = version.pipeline_spec or {}
                except kfp_server_api.ApiException as error:
                    if error.status != 404:
                        raise
                    self._specs[version_id] = {}
        found = self._specs[version_id] if version_id else own or {}
        if not found:
            raise NoPipelineError(
                f"{self.host} has the pipeline of the {user} no more, so that nobody can say which files it works with"
            )
        spec: dict[str, Any] = found.get("pipeline_spec", found)  # beside the platform's part, where there is one
        return spec

    def _list_runs(self, **arguments: Any) -> Iterator[Any]:
        return self._iterate(self._client.list_runs, "runs", sort_by="created_at desc", **arguments)

    def _experiment_id(self, name: str) -> str:
        with self._words(f"look for the experiment {name}"):
            try:
                found = self._client.get_experiment(experiment_name=name, namespace=self._namespace)
                return str(found.experiment_id)
            except ValueError:
                known = self._pages(self._client.list_experiments, "experiments", namespace=self._namespace)
        listed = ", ".join(sorted(experiment.display_name for experiment in known)) or "none"
        raise UnknownExperimentError(f"{self.host} has no experiment {name!r}; it has {listed}")

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

    def _pages(self, list_: Any, key: str, **arguments: Any) -> list[Any]:
        return list(self._iterate(list_, key, **arguments))

    def _iterate(self, list_: Any, key: str, page_size: int = PAGE, **arguments: Any) -> Iterator[Any]:
        token = ""
        while True:
            page = list_(page_token=token, page_size=page_size, **arguments)
            yield from getattr(page, key) or []
            token = page.next_page_token
            if not token:
                return


def connect(settings: KubeflowConfig, host: str | None, token_env: str | None) -> Server:
    """Connect as the settings say.

    Args:
        settings: section ``kubeflow`` of a configuration.
        host: over ``settings.host``.
        token_env: over ``settings.token_env`` and ``token_file``.

    Raises:
        BadInputError: no address is given, or the token cannot be read.
        AutotagError: nothing answers there.
    """
    variable, file = (token_env, None) if token_env else (settings.token_env, settings.token_file)
    token = Token(variable, file) if variable or file else None
    return Server(host or settings.host, settings.namespace, token)


class UnknownExperimentError(BadInputError):
    """The server has no experiment of that name."""


class NoPipelineError(AutotagError):
    """The server has the pipeline of a run no more."""


class NoAnswerError(AutotagError):
    """The server is away, perhaps for a moment."""


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


def _check_answers(host: str, token: Token | None) -> None:
    """Raise AutotagError where nothing answers, or a web page; an answer that asks for a login is one."""
    authorization = f"Bearer {token.read()}" if token else None
    try:
        request = urllib.request.Request(f"{host}/apis/v2beta1/healthz")
        if authorization:
            request.add_unredirected_header("Authorization", authorization)
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            data = answer.read()
    except urllib.error.HTTPError as error:
        if error.code >= 500 or error.code == 404:
            raise AutotagError(f"{host} answers {error.code} {error.reason}: is it a Kubeflow Pipelines API?") from None
        return
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise AutotagError(f"{host} does not answer ({reason}): is it right, and the server up?") from None
    try:
        json.loads(data)
    except ValueError:
        raise AutotagError(
            f"{host} answers with something else than JSON: is it a Kubeflow Pipelines API, or a page that asks for a "
            "login before it?"
        ) from None


def error_message(error: Any) -> str:
    """Say what the server said: the words of kfp_server_api.ApiException, without headers, stack and web pages."""
    try:
        body: Any = json.loads(error.body)
    except (TypeError, ValueError):
        body = error.body or ""
    if not isinstance(body, dict):
        text = "" if "<html" in str(body).lower() else body
        return f"{error.status} {error.reason} {text}".strip()
    message = body.get("message") or body.get("error_message") or body.get("error") or error.reason
    return f"{' '.join(str(message).split())} ({error.status} {error.reason})"


def describe_changes(found: Sequence[FoundSchedule], wanted: Schedule) -> list[str]:
    """Say in lines what making a recurring run would change; [] where nothing."""
    if not found:
        return [f"{wanted.name}: is not there and would be made, at {wanted.cron}"]
    if len(found) > 1:
        return [f"{wanted.name}: is there {len(found)} times and would be there once"]
    return [f"{wanted.name}: {line}" for line in found[0].schedule.changes(wanted)]
