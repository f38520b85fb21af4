"""Runs a pipeline's nodes one after the other in this process, as TFX's LocalDagRunner does.

TFX's makes up the run's id inside and writes the metadata's connection, with its password, to the log. This one is
given the id, the log's lines say which run and node they belong to, and Ctrl-C ends a node's Beam job where it runs.
"""

from __future__ import annotations

import functools
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from typing import Any, Final

from ml_metadata import errors as metadata_errors
from ml_metadata.proto.metadata_store_pb2 import Event, Execution
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import (
    beam_executor_operator,
    launcher,
    partial_run_utils,
    runtime_parameter_utils,
    tfx_runner,
)
from tfx.proto.orchestration import executable_spec_pb2, pipeline_pb2
from tfx.utils import telemetry_utils

from pipeline.console import logs
from pipeline.runs.broken_records import broken_records_error
from pipeline.runs.full_disk import full_disk_error
from pipeline.runs.metadata import LOCKED, locked_message
from pipeline.runs.run_history import run_contexts
from pipeline.runs.tfx_packing import tfx_not_packed
from preprocessing.beam.interrupts import InterruptiblePipeline
from preprocessing.errors import AutotagError, BadInputError

log = logging.getLogger(__name__)

NO_CONNECTION: Final = "Failed to establish connection to Metadata storage"
"""Beginning of TFX's RuntimeError."""
REMEDY: Final = "make room there (`autotag gc` deletes what old runs left) and run again: what is finished is kept"


class BeamOperator(beam_executor_operator.BeamExecutorOperator):  # type: ignore[misc]
    """TFX's operator of nodes that run Beam jobs, TFX's own nodes among them, with jobs that Ctrl-C ends."""

    def __init__(self, executor_spec: Any, platform_config: Any = None) -> None:
        super().__init__(executor_spec, platform_config)
        self._executor_cls = functools.partial(_interruptible, self._executor_cls)  # type: ignore[has-type]


def _interruptible(executor_class: Any, context: Any) -> Any:
    """Make an executor; the arguments of its jobs are complete only when it is made."""
    with tfx_not_packed():
        executor = executor_class(context=context)
    executor._make_beam_pipeline_fn = lambda: InterruptiblePipeline(argv=executor._beam_pipeline_args)
    return executor


class NodeRunner(tfx_runner.IrBasedRunner):  # type: ignore[misc]
    """TFX's local runner with a run id and a log of our own.

    Args:
        run_id: name of the run in ML Metadata.
        connection: ML Metadata's ConnectionConfig.
    """

    def __init__(self, run_id: str, connection: Any) -> None:
        self._run_id = run_id
        self._connection = connection

    def run_with_ir(self, pipeline: Any, run_options: Any = None, **kwargs: Any) -> None:
        """Run the compiled pipeline, or the part of it that the options name.

        Raises:
            BadInputError: of a part, no run has the results that its nodes need.
        """
        parameters = {constants.PIPELINE_RUN_ID_PARAMETER_NAME: self._run_id}
        runtime_parameter_utils.substitute_runtime_parameter(pipeline, parameters)
        if run_options:
            part = run_options.partial_run
            partial_run_utils.mark_pipeline(
                pipeline,
                from_nodes=part.from_nodes or None,
                to_nodes=part.to_nodes or None,
                snapshot_settings=part.snapshot_settings,
            )
            self._choose_base_run(pipeline)
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        with telemetry_utils.scoped_labels({telemetry_utils.LABEL_TFX_RUNNER: "local"}), logs.of_run(self._run_id):
            for node in pipeline.nodes:
                if not node.pipeline_node.execution_options.HasField("skip"):
                    self._run_node(pipeline, node.pipeline_node, deployment)

    def _choose_base_run(self, pipeline: Any) -> None:
        """Name the run whose results the nodes that are left out are taken from.

        TFX takes the latest run, also one that failed early or ended at --to-node and has not what is needed.

        Raises:
            BadInputError: no run has.
        """
        needed = {
            node.node_info.id
            for node in (node.pipeline_node for node in pipeline.nodes)
            if node.execution_options.skip.reuse_artifacts_mode == pipeline_pb2.NodeExecutionOptions.Skip.REQUIRED
        }
        if not needed:
            return
        with metadata.Metadata(self._connection) as handle:
            found = base_run(handle.store, pipeline.pipeline_info.id, needed)
        if found is None:
            raise BadInputError(
                f"no run has the results of {', '.join(sorted(needed))}, which the nodes to be run need: run without "
                "--from-node"
            )
        partial_run_utils.set_base_pipeline_run_strategy(pipeline.runtime_spec.snapshot_settings, found)

    def _run_node(self, pipeline: Any, node: Any, deployment: Any) -> None:
        name = node.node_info.id
        node_launcher = launcher.Launcher(
            pipeline_node=node,
            mlmd_connection=metadata.Metadata(self._connection),
            pipeline_info=pipeline.pipeline_info,
            pipeline_runtime_spec=pipeline.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, name),
            custom_executor_operators={executable_spec_pb2.BeamExecutableSpec: BeamOperator},
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
        )
        with logs.of_node(name):
            log.info("Component %s is running.", name)
            if node.execution_options.run.perform_snapshot:
                with metadata.Metadata(self._connection) as handle:
                    partial_run_utils.snapshot(handle, pipeline)
            began = time.monotonic()
            try:
                node_launcher.launch()
            except Exception as error:
                root = pipeline.runtime_spec.pipeline_root.field_value.string_value
                own = readable_error(name, error, (root, tempfile.gettempdir()), self._connection.sqlite.filename_uri)
                if own:
                    raise own from error
                raise
            seconds = round(time.monotonic() - began, 1)
            log.info("Component %s is finished.", name, extra={"seconds": seconds})


def readable_error(node: str, error: Exception, places: Sequence[str], metadata_file: str = "") -> AutotagError | None:
    """Return what to say of a node's error in one line; None where that is not known.

    Args:
        node: its name.
        error: what it ended with.
        places: folders that it writes to, the first of them with all nodes' artifacts.
        metadata_file: ML Metadata's, where it is a file.
    """
    full = full_disk_error(node, error, places, REMEDY)
    if full:
        return full
    of_metadata = isinstance(error, metadata_errors.StatusError) or str(error).startswith(NO_CONNECTION)
    if of_metadata and error.__context__ is None:  # else something else went wrong before
        if metadata_file and LOCKED in str(error):
            return AutotagError(f"{node}: {locked_message(metadata_file)}")
        return AutotagError(f"{node}: ML Metadata cannot be read or written: {' '.join(str(error).split())}")
    return broken_records_error(node, error, places[0])


def base_run(store: Any, pipeline: str, needed: set[str]) -> str | None:
    """Return the newest run in which all of some nodes ended well and whose results are still there; None if none is.

    Args:
        store: ML Metadata.
        pipeline: its name.
        needed: names of nodes.
    """
    newest_first = sorted(run_contexts(store, pipeline), key=lambda run: run.create_time_since_epoch, reverse=True)
    return next((run.name for run in newest_first if needed <= _nodes_with_results(store, pipeline, run.id)), None)


def _nodes_with_results(store: Any, pipeline: str, run: int) -> set[str]:
    found = set()
    for execution in store.get_executions_by_context(run):
        if execution.last_known_state not in (Execution.COMPLETE, Execution.CACHED):
            continue
        events = store.get_events_by_execution_ids([execution.id])
        outputs = [event.artifact_id for event in events if event.type == Event.OUTPUT]
        if all(os.path.exists(artifact.uri) for artifact in store.get_artifacts_by_id(outputs)):
            contexts = store.get_contexts_by_execution(execution.id)
            found |= {node.name.removeprefix(f"{pipeline}.") for node in contexts if node.type == "node"}
    return found
