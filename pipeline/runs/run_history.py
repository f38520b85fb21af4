"""What ML Metadata knows of a pipeline's runs. Reads, never writes; needs no TFX."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.runs.metadata import custom_properties, open_store, readable_errors
from pipeline.runs.run_record import NodeRun, Run
from pipeline.settings.config import PipelineConfig
from preprocessing.errors import BadInputError

EXECUTION_STATES = {1: "new", 2: "running", 3: "done", 4: "failed", 5: "cached", 6: "canceled"}


def list_runs(config: PipelineConfig) -> list[Run]:
    """Return all runs of a pipeline, the oldest first.

    Raises:
        BadInputError: there is no run yet.
        AutotagError: ML Metadata cannot be read.
    """
    store = open_store(config)
    with readable_errors(config):
        runs = [_load_run(store, context) for context in run_contexts(store, config.name)]
    return sorted(runs, key=lambda run: run.started)


def run_contexts(store: Any, pipeline: str) -> list[Any]:
    """Return ML Metadata's contexts of a pipeline's runs."""
    context = store.get_context_by_type_and_name("pipeline", pipeline)
    children = store.get_children_contexts_by_context(context.id) if context else []
    return [child for child in children if child.type == "pipeline_run"]


def find_run(runs: Sequence[Run], run_id: str | None) -> Run:
    """Return the run with an id, or the one whose id begins so; the newest where no id is given.

    Raises:
        BadInputError: there is none, or more than one.
    """
    if not runs:
        raise BadInputError("no run yet; `autotag run` makes one")
    if run_id is None:
        return runs[-1]
    exact = [run for run in runs if run.run_id == run_id]
    found = exact or [run for run in runs if run.run_id.startswith(run_id)]
    if not found:
        raise BadInputError(f"there is no run {run_id!r}; the newest is {runs[-1].run_id}, `autotag runs` lists all")
    if len(found) > 1:
        ids = ", ".join(run.run_id for run in found[-5:])
        raise BadInputError(f"{len(found)} runs begin with {run_id!r}, such as {ids}; give more of the id")
    return found[0]


def _load_run(store: Any, context: Any) -> Run:
    executions = sorted(
        store.get_executions_by_context(context.id), key=lambda execution: execution.create_time_since_epoch
    )
    types = {type_.id: type_.name for type_ in store.get_execution_types()}
    newest: dict[str, Any] = {}
    for execution in executions:  # a node that was tried again counts by its last try
        newest[_node_name(store, execution, types)] = execution
    nodes = tuple(_load_node(store, name, execution) for name, execution in newest.items())
    first = executions[0].create_time_since_epoch if executions else context.create_time_since_epoch
    last = max((execution.last_update_time_since_epoch for execution in executions), default=None)
    return Run(
        context.name,
        datetime.datetime.fromtimestamp(first / 1000),
        nodes,
        None if last is None else datetime.datetime.fromtimestamp(last / 1000),
        custom_properties(context),
    )


def _node_name(store: Any, execution: Any, types: dict[int, str]) -> str:
    for context in store.get_contexts_by_execution(execution.id):
        if context.type == "node":
            return str(context.name).split(".", 1)[-1]
    return types[execution.type_id].rsplit(".", 1)[-1]


def _load_node(store: Any, name: str, execution: Any) -> NodeRun:
    state = EXECUTION_STATES.get(execution.last_known_state, "unknown")
    took = execution.last_update_time_since_epoch - execution.create_time_since_epoch
    outputs, properties = {}, {}
    for key, artifact in _outputs(store, execution):
        outputs[key] = artifact.uri
        properties[key] = custom_properties(artifact)
    return NodeRun(name, state, 0.0 if state == "cached" else took / 1000, outputs, properties)


def _outputs(store: Any, execution: Any) -> Iterable[tuple[str, Any]]:
    from ml_metadata.proto import metadata_store_pb2

    events = store.get_events_by_execution_ids([execution.id])
    output_types = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.DECLARED_OUTPUT)
    keys = {event.artifact_id: event.path.steps[0].key for event in events if event.type in output_types}
    for artifact in store.get_artifacts_by_id(list(keys)):
        yield keys[artifact.id], artifact
