"""A run's metrics as a text file for node_exporter's textfile collector, in Prometheus' text exposition format 0.0.4
(https://prometheus.io/docs/instrumenting/exposition_formats/).
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pipeline.runs.evaluation import GateFigures
from pipeline.runs.run_history import list_runs
from pipeline.runs.run_metrics import run_metrics
from pipeline.runs.run_record import CLIP_COUNTS, Run
from pipeline.settings.config import PipelineConfig
from preprocessing import storage
from preprocessing.errors import AutotagError, BadInputError

log = logging.getLogger(__name__)

FILE: Final = "metrics.prom"
STATES: Final = ("done", "failed", "unfinished")
CACHE_UNKNOWN: Final = "done or cached"
"""State of a node of which it is not known whether its result came from an earlier run."""


@dataclass(frozen=True)
class Metric:
    """One gauge.

    Attributes:
        name: with its unit, as Prometheus asks for.
        text: what it is.
        samples: labels and value.
    """

    name: str
    text: str
    samples: Sequence[tuple[Mapping[str, str], float]]


def record_attempt(config: PipelineConfig, run_id: str, succeeded: bool, path: str | None = None) -> Run | None:
    """Write the text file after an attempt to run; returns the run, None where it did not come to one.

    Args:
        config: settings.
        run_id: of the attempt. Later runs, which others began in the same database, are left out.
        succeeded: whether the attempt ended without an error. An error here is only logged if it did not, since that
            error matters more.
        path: of the file; ROOT/metrics.prom unless given.

    Raises:
        AutotagError: the file cannot be written, or the server of ML Metadata does not answer.
    """
    path = path or os.path.join(config.root, FILE)
    runs: list[Run] = []
    try:
        with contextlib.suppress(BadInputError):  # there is no run yet
            runs = list_runs(config)
            place = next((place for place, run in enumerate(runs) if run.run_id == run_id), len(runs))
            runs = runs[: place + 1]
        write_metrics(path, attempt_metrics(config.name, succeeded, runs, time.time()))
    except AutotagError as error:
        _raise_or_log(error, succeeded)
    return runs[-1] if runs and runs[-1].run_id == run_id else None


def write_metrics(path: str, metrics: Iterable[Metric]) -> None:
    """Write the text file, whole or not at all.

    Raises:
        AutotagError: it cannot be written.
    """
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        storage.write_whole(path, exposition(metrics))
    except OSError as error:
        raise AutotagError(f"metrics file {path}: {error.strerror or error}") from None


def _raise_or_log(error: AutotagError, succeeded: bool) -> None:
    if succeeded:
        raise error
    log.error("no metrics: %s", error)


def attempt_metrics(pipeline: str, succeeded: bool, runs: Sequence[Run], ended: float | None) -> list[Metric]:
    """Return the metrics of an attempt to run.

    Args:
        pipeline: its name.
        succeeded: whether it ended without an error.
        runs: all runs, the newest last; [] where there is none. Before the newest those that did not end well may be
            left out.
        ended: when it did, in seconds since 1970; None where that is not known.
    """
    name = {"pipeline": pipeline}
    done = [run for run in runs if run.finished]
    end = [] if ended is None else [(name, ended)]
    metrics = [
        Metric("autotag_attempt_timestamp_seconds", "End of the last autotag run.", end),
        Metric("autotag_attempt_success", "Whether the last autotag run ended without an error.", [(name, succeeded)]),
        Metric(
            "autotag_last_success_timestamp_seconds",
            "End of the newest run that reached its last node, the Pusher.",
            [(name, run.ended.timestamp()) for run in done[-1:] if run.ended],
        ),
    ]
    # A run of a part (--to-node), or one that failed early, says nothing of the model or the clips and hides no alert.
    with_clips = [run for run in runs if run.clips][-1:]
    with_model = [run for run in runs if run.blessed is not None or run.gate != GateFigures()][-1:]
    return [
        *metrics,
        *(metric for run in runs[-1:] for metric in _of_run(name, run)),
        *(metric for run in with_clips for metric in _of_clips(name, run)),
        *(metric for run in with_model for metric in _of_model(name, run)),
    ]


def _gauge(name: Mapping[str, str], metric: str, text: str, value: float | None) -> Metric:
    return Metric(f"autotag_{metric}", text, [] if value is None else [(name, value)])


def _of_run(name: Mapping[str, str], run: Run) -> list[Metric]:
    info = {"run": run.run_id, "ensemble": run.ensemble or "", "version": run.pushed_version or ""}
    states = [({**name, "state": state}, run.state == state) for state in STATES]
    cached = [
        ({**name, "node": node.node}, node.state == "cached") for node in run.nodes if node.state != CACHE_UNKNOWN
    ]
    seconds = [({**name, "node": node.node}, node.seconds) for node in run.nodes if math.isfinite(node.seconds)]
    failed = [({**name, "node": node.node}, node.state == "failed") for node in run.nodes]
    return [
        Metric(
            "autotag_run_info", "The newest run, its model and the version that it pushed.", [({**name, **info}, 1)]
        ),
        _gauge(name, "run_start_timestamp_seconds", "Start of the newest run.", run.started.timestamp()),
        _gauge(name, "run_seconds", "From the newest run's start to its last node's end.", run.seconds),
        Metric("autotag_run_state", "State of the newest run.", states),
        Metric("autotag_node_seconds", "Time that a node of the newest run took; 0 where cached.", seconds),
        Metric("autotag_node_cached", "Whether a node's result came from an earlier run.", cached),
        Metric("autotag_node_failed", "Whether a node of the newest run failed.", failed),
    ]


def _of_clips(name: Mapping[str, str], run: Run) -> list[Metric]:
    counts = [({**name, "kind": kind}, run.clips[kind]) for kind in CLIP_COUNTS if kind in run.clips]
    return [Metric("autotag_clips", "Clips that went in, examples made of them, clips rejected.", counts)]


def _of_model(name: Mapping[str, str], run: Run) -> list[Metric]:
    values, gate = run_metrics(run), run.gate
    return [
        _gauge(name, metric, text, value)
        for metric, text, value in (
            ("model_timestamp_seconds", "Start of the newest run that reached the gate.", run.started.timestamp()),
            ("test_roc_auc", "Macro ROC-AUC of that run's model on the test split.", values.get("roc_auc")),
            ("test_pr_auc", "Macro average precision on the test split.", values.get("pr_auc")),
            ("gate_min_roc_auc", "Least ROC-AUC that the gate asked for.", gate.min_roc_auc),
            ("gate_baseline_roc_auc", "ROC-AUC of the model that it was compared with.", gate.baseline_roc_auc),
            ("model_blessed", "Whether that run's model passed the gate.", values.get("blessed")),
            ("model_pushed", "Whether that run's model is in the push folder.", values.get("pushed")),
        )
    ]


def exposition(metrics: Iterable[Metric]) -> str:
    """Return the metrics in Prometheus' text format, as prometheus_client writes it; without those of no sample."""
    registry = CollectorRegistry()
    registry.register(_Collected([_family(metric) for metric in metrics if metric.samples]))
    return generate_latest(registry).decode()


@dataclass(frozen=True, eq=False)
class _Collected(Collector):
    """What prometheus_client takes as a collector of metrics that are known already."""

    families: Sequence[GaugeMetricFamily]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self.families


def _family(metric: Metric) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.name, metric.text)
    for labels, value in metric.samples:
        family.add_sample(metric.name, dict(labels), float(value))
    return family
