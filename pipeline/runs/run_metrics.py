"""What a run measured, kept in ML Metadata with the run.

They are custom properties of the run's context, so they outlive the run's files (`autotag gc`). They are not written on
artifacts or executions: those are part of the key of TFX's cache, and their last change is a node's end.
"""

from __future__ import annotations

from typing import Any, Final

from pipeline.runs.metadata import open_store, readable_errors
from pipeline.runs.run_record import Run
from pipeline.settings.config import PipelineConfig

NODE_SECONDS: Final = "seconds."
"""Beginning of a node's property in ML Metadata."""


def run_metrics(run: Run) -> dict[str, Any]:
    """Return what is kept of a run: name -> number or text, without what was not measured."""
    pusher = run.node("Pusher")
    pushed = pusher.properties.get("pushed_model", {}).get("pushed") if pusher else None
    values: dict[str, Any] = {
        "state": run.state,
        "ensemble": run.ensemble,
        "roc_auc": run.roc_auc,
        "pr_auc": run.pr_auc,
        "gate_reasons": "\n".join(run.gate_reasons) or None,
        "blessed": None if run.blessed is None else int(run.blessed),
        "pushed": None if pushed is None else int(pushed),
        "pushed_version": run.pushed_version,
        "seconds": run.seconds,
        **run.clips,
        **{f"{NODE_SECONDS}{node.node}": node.seconds for node in run.nodes if node.seconds},
    }
    return {name: value for name, value in values.items() if value is not None}


def keep_metrics(config: PipelineConfig, run: Run) -> None:
    """Write a run's metrics into ML Metadata, over those that were there.

    Raises:
        AutotagError: the server of ML Metadata does not answer, or they cannot be written.
    """
    store = open_store(config)
    with readable_errors(config):
        context = store.get_context_by_type_and_name("pipeline_run", run.run_id)
        for name, value in run_metrics(run).items():
            kind = {int: "int_value", float: "double_value", str: "string_value"}[type(value)]
            setattr(context.custom_properties[name], kind, value)
        store.put_contexts([context])
