"""What Kubeflow knows of a run: states and times from the API server, figures from its ML Metadata.

The API server sees what becomes of pods, so it knows of runs and steps that were killed, and of a driver that failed.
It does not know (2.14.3) what artifacts hold, nor whether a step came from the cache: that stands in ML Metadata, which
the cluster serves over gRPC (metadata-grpc-service, port 8080), and where the steps' entry point put the figures
(pipeline.kubeflow.entrypoint). A run is there a context ``system.PipelineRun`` of the run's id.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.kubeflow.entrypoint import EVALUATION, GATE_REASONS
from pipeline.kubeflow.pipeline_spec import component_id
from pipeline.kubeflow.server import Server
from pipeline.kubeflow.server_runs import ENDED, FAILED, FoundRun, FoundStep
from pipeline.runs.evaluation import GateFigures
from pipeline.runs.metadata import custom_properties
from pipeline.runs.prometheus import CACHE_UNKNOWN, Metric, attempt_metrics
from pipeline.runs.run_record import NodeRun, Run
from preprocessing.digits import is_number
from preprocessing.errors import AutotagError, BadInputError

TIMEOUT_SECONDS: Final = 20
RUN_CONTEXT: Final = "system.PipelineRun"
CACHED: Final = 5
OUTPUTS: Final = (2, 4)
"""Execution.State.CACHED, and Event.DECLARED_OUTPUT and OUTPUT, of ML Metadata."""

SUCCEEDED: Final = "succeeded"


@dataclass(frozen=True)
class KubeflowRun(Run):
    """A run on Kubeflow: its state is what the server says, its figures are metadata of artifacts, not files.

    Attributes:
        phase: the server's state, in small letters.
    """

    phase: str = "pending"

    @property
    def state(self) -> str:
        """``done``, ``failed`` or ``unfinished``, which is: going on, or stopped by somebody."""
        return "done" if self.phase == SUCCEEDED else "failed" if self.phase in FAILED else "unfinished"

    @property
    def finished(self) -> bool:
        """Whether it ended well; every run on Kubeflow is one of the whole pipeline."""
        return self.phase == SUCCEEDED

    @property
    def roc_auc(self) -> float | None:
        """Macro ROC-AUC on the test split, as the Evaluator measured it; None where that is not known."""
        return self.gate.roc_auc

    @property
    def pr_auc(self) -> float | None:
        """Macro average precision on the test split, as the Evaluator measured it; None where that is not known."""
        return self.gate.pr_auc

    @property
    def gate(self) -> GateFigures:
        """What the gate measured and asked, as far as it is known."""
        known = self._evaluation()
        return GateFigures(**{name: known.get(name) for name in GateFigures.__dataclass_fields__})

    @property
    def gate_reasons(self) -> list[str]:
        """Why the gate refused the model: a line with the figures for each threshold that it missed."""
        reasons = self._evaluation().get(GATE_REASONS)
        return [*(reasons.split("\n") if reasons else []), *self._robustness_reasons()]

    def _evaluation(self) -> Mapping[str, Any]:
        node = self.node("Evaluator")
        return node.properties.get(EVALUATION, {}) if node else {}


@dataclass(frozen=True)
class Execution:
    """What ML Metadata has of a step.

    Attributes:
        cached: whether its outputs are an earlier run's.
        properties: output key -> the artifact's metadata.
    """

    cached: bool
    properties: dict[str, dict[str, Any]]


class NoMetadataError(AutotagError):
    """Kubeflow's ML Metadata does not answer, or refuses."""


def read_executions(address: str, run_id: str) -> dict[str, Execution]:
    """Return component's id -> what Kubeflow's ML Metadata has of it; without what has not come to it yet.

    Args:
        address: ``HOST:PORT`` of its gRPC service.
        run_id: Kubeflow's.

    Raises:
        BadInputError: no address.
        NoMetadataError: it does not answer, or refuses.
    """
    from ml_metadata import errors
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2

    host, _, port = address.rpartition(":")
    if not host or "/" in host or not is_number(port):
        raise BadInputError(
            f"ML Metadata {address!r}: expected HOST:PORT, such as localhost:8080 after "
            "`kubectl -n kubeflow port-forward svc/metadata-grpc-service 8080`"
        )
    config = metadata_store_pb2.MetadataStoreClientConfig(host=host, port=int(port), client_timeout_sec=TIMEOUT_SECONDS)
    try:
        store = metadata_store.MetadataStore(config)
        context = store.get_context_by_type_and_name(RUN_CONTEXT, run_id)
        executions = store.get_executions_by_context(context.id) if context else []
        return {
            component_id(step): _read_execution(store, execution)
            for execution in executions
            if (step := execution.custom_properties["task_name"].string_value)
        }
    except (errors.StatusError, ValueError) as error:
        raise NoMetadataError(f"Kubeflow's ML Metadata at {address}: {' '.join(str(error).split())}") from None


def _read_execution(store: Any, execution: Any) -> Execution:
    events = store.get_events_by_execution_ids([execution.id])
    keys = {event.artifact_id: event.path.steps[0].key for event in events if event.type in OUTPUTS}
    properties = {keys[artifact.id]: custom_properties(artifact) for artifact in store.get_artifacts_by_id(list(keys))}
    return Execution(execution.last_known_state == CACHED, properties)


def as_run(run: FoundRun, steps: Sequence[FoundStep], executions: Mapping[str, Execution]) -> KubeflowRun:
    """Put together what the two servers have of a run.

    Args:
        run: from the API server, as are the steps.
        steps: those that were begun.
        executions: from ML Metadata, by component's id; {} where it is not asked.
    """
    nodes = tuple(_node(step, executions.get(component_id(step.name))) for step in steps)
    return KubeflowRun(run.identity, run.created, nodes, run.finished, phase=run.state)


def _node(step: FoundStep, execution: Execution | None) -> NodeRun:
    state = "failed" if step.state in FAILED else step.state
    if step.state == SUCCEEDED:
        state = CACHE_UNKNOWN if execution is None else "cached" if execution.cached else "done"
    seconds = 0.0 if state == "cached" else math.nan if step.seconds is None else step.seconds
    return NodeRun(component_id(step.name), state, seconds, {}, execution.properties if execution else {})


def ended_run_metrics(server: Server, pipeline: str, experiment: str, metadata: str | None) -> list[Metric]:
    """Return the metrics of a pipeline's newest run that has ended, as `autotag run` writes them.

    Where that one failed, model and clips are those of the newest that did well, as far as it says nothing of them.
    What is not known is left out: without ML Metadata the figures, and which steps came from the cache.

    Args:
        server: the API server.
        pipeline: its name.
        experiment: in which its runs are.
        metadata: ``HOST:PORT`` of Kubeflow's ML Metadata; None where it cannot be reached.

    Returns:
        [] where no run has ended yet.

    Raises:
        BadInputError: there is no such experiment, or ``metadata`` is no address.
        NoMetadataError: ML Metadata does not answer.
        AutotagError: the API server does not.
    """
    newest = server.newest_run(pipeline, experiment, ENDED)
    if newest is None:
        return []
    succeeded = newest.state == SUCCEEDED
    success = None if succeeded else server.newest_run(pipeline, experiment, [SUCCEEDED])
    runs = [
        as_run(run, server.steps(run.identity), read_executions(metadata, run.identity) if metadata else {})
        for run in (success, newest)
        if run is not None
    ]
    ended = newest.finished.timestamp() if newest.finished else None
    return attempt_metrics(pipeline, succeeded, runs, ended)
