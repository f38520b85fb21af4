"""Runs a pipeline's nodes one after the other in this process, as TFX's LocalDagRunner does.

TFX's makes up the run's id inside and writes the metadata's connection, with its password, to the log. This one is
given the id, and the log's lines say which run and node they belong to.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher, partial_run_utils, runtime_parameter_utils, tfx_runner
from tfx.utils import telemetry_utils

from pipeline import logs

log = logging.getLogger(__name__)


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
        """Run the compiled pipeline, or the part of it that the options name."""
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
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        with telemetry_utils.scoped_labels({telemetry_utils.LABEL_TFX_RUNNER: "local"}), logs.of_run(self._run_id):
            for node in pipeline.nodes:
                if not node.pipeline_node.execution_options.HasField("skip"):
                    self._run_node(pipeline, node.pipeline_node, deployment)

    def _run_node(self, pipeline: Any, node: Any, deployment: Any) -> None:
        name = node.node_info.id
        node_launcher = launcher.Launcher(
            pipeline_node=node,
            mlmd_connection=metadata.Metadata(self._connection),
            pipeline_info=pipeline.pipeline_info,
            pipeline_runtime_spec=pipeline.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, name),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
        )
        with logs.of_node(name):
            log.info("Component %s is running.", name)
            if node.execution_options.run.perform_snapshot:
                with metadata.Metadata(self._connection) as handle:
                    partial_run_utils.snapshot(handle, pipeline)
            began = time.monotonic()
            node_launcher.launch()
            seconds = round(time.monotonic() - began, 1)
            log.info("Component %s is finished.", name, extra={"seconds": seconds})
