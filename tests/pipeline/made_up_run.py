"""A run that nobody ran: ML Metadata's records and the files that the nodes leave, written directly."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto.metadata_store_pb2 import Execution

from pipeline.runs.evaluation import MetricsForSlice, ValidationResult
from pipeline.runs.metadata import connection
from pipeline.settings.config import PAPER_NETWORKS, MetadataConfig, PipelineConfig
from preprocessing.examples import write_record

TAGS = ("guitar", "<b>techno & 'house'</b>", "flute")
NODES = (
    "ClipExampleGen",
    "ExampleValidator",
    *(f"Trainer_{name}" for name in PAPER_NETWORKS),
    "EnsembleTrainer",
    "Evaluator",
    "Pusher",
)
COMBINATIONS = ("mel_1d", "mel_2d", "waveform_1d", "mel_1d+mel_2d", "mel_1d+waveform_1d", "mel_2d+waveform_1d")
ALL = "paper"
STATES = {
    "done": Execution.COMPLETE,
    "cached": Execution.CACHED,
    "failed": Execution.FAILED,
    "running": Execution.RUNNING,
}


class MadeUpPipeline:
    """A root with ML Metadata into which made-up runs are written."""

    def __init__(self, root: Path, name: str = "made-up", metadata: MetadataConfig | None = None) -> None:
        self.root = root
        self.name = name
        self.config = PipelineConfig(name=name, root=str(root), metadata=metadata or MetadataConfig())
        root.mkdir(parents=True, exist_ok=True)
        self.store = metadata_store.MetadataStore(connection(self.config))
        self._pipeline = self._context("pipeline", name)

    def add_run(
        self,
        run_id: str,
        states: Mapping[str, str] | None = None,
        blessed: bool = True,
        tags: Sequence[str] = TAGS,
        rejected: int = 0,
    ) -> None:
        """Write a run; ``states`` says what became of nodes that did not end as ``done``: a state, or ``missing``."""
        run = self._context("pipeline_run", run_id)
        self.store.put_parent_contexts([mlmd.ParentContext(child_id=run, parent_id=self._pipeline)])
        (self.root / "configs").mkdir(exist_ok=True)
        (self.root / "configs" / f"{run_id}.yaml").write_text(self.config.to_yaml())
        for node in NODES:
            state = (states or {}).get(node, "done")
            if state == "missing":
                continue
            folder = self.root / "artifacts" / node / run_id
            outputs = write_outputs(node, folder, blessed, tags, rejected) if state in ("done", "cached") else {}
            self.add_execution(run, node, state, outputs, folder)

    def add_execution(
        self, run: int, node: str, state: str, outputs: Mapping[str, Mapping[str, Any]], folder: Path
    ) -> None:
        """Write one execution of a node with its artifacts: output key -> custom properties."""
        execution = Execution(
            type_id=self.store.put_execution_type(mlmd.ExecutionType(name=f"tfx.{node}")),
            last_known_state=STATES[state],
        )
        artifacts = []
        for key, properties in outputs.items():
            artifact = mlmd.Artifact(
                type_id=self.store.put_artifact_type(mlmd.ArtifactType(name=key)), uri=str(folder / key)
            )
            for name, value in properties.items():
                kind = "int_value" if isinstance(value, int) else "string_value"
                setattr(artifact.custom_properties[name], kind, value)
            event = mlmd.Event(type=mlmd.Event.OUTPUT)
            event.path.steps.add(key=key)
            artifacts.append((artifact, event))
        contexts = [run, self._context("node", f"{self.name}.{node}")]
        self.store.put_execution(execution, artifacts, self.store.get_contexts_by_id(contexts))

    def context_id(self, run_id: str) -> int:
        return int(self.store.get_context_by_type_and_name("pipeline_run", run_id).id)

    def _context(self, kind: str, name: str) -> int:
        type_id = self.store.put_context_type(mlmd.ContextType(name=kind))
        known = self.store.get_context_by_type_and_name(kind, name)
        return int(known.id if known else self.store.put_contexts([mlmd.Context(type_id=type_id, name=name)])[0])


def write_outputs(
    node: str, folder: Path, blessed: bool, tags: Sequence[str], rejected: int
) -> dict[str, dict[str, Any]]:
    """Write a node's files; returns output key -> custom properties of the artifact."""
    if node == "ClipExampleGen":
        write_examples(folder / "examples", tags, rejected)
        return {"examples": {"clips": 100 + rejected, "examples": 100, "rejected": rejected}}
    if node == "ExampleValidator":
        (folder / "anomalies").mkdir(parents=True)
        return {"anomalies": {}}
    if node.startswith("Trainer_"):
        name = node.removeprefix("Trainer_")
        write_json(folder / "model_run" / "history.json", history(name, 12))
        return {"model": {}, "model_run": {}}
    if node == "EnsembleTrainer":
        write_json(folder / "model_run" / "scores.json", scores(tags))
        combiners = [history(name, 30) for name in (*COMBINATIONS[3:], ALL)]
        write_json(folder / "model_run" / "history.json", {"combiners": combiners})
        return {"model": {"ensemble": ALL}, "model_run": {}}
    if node == "Evaluator":
        write_evaluation(folder / "evaluation", 0.9061 if blessed else 0.7321)
        return {"evaluation": {}, "blessing": {"blessed": int(blessed)}}
    pushed = {"pushed": 1, "pushed_destination": "/srv/models/autotag/1795239564"} if blessed else {"pushed": 0}
    return {"pushed_model": pushed}


def write_json(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def write_examples(folder: Path, tags: Sequence[str], rejected: int) -> None:
    counts = {
        tag: {"train": 70 // (place + 1), "valid": 6, "test": 20 // (place + 1)} for place, tag in enumerate(tags)
    }
    counts[tags[-1]]["test"] = 0
    summary = {
        "clips": 100 + rejected,
        "examples": 100,
        "rejected": rejected,
        "rejected_by_reason": {"undecodable": rejected} if rejected else {},
        "splits": {
            "train": {"clips": 71, "examples": 70},
            "valid": {"clips": 8, "examples": 8},
            "test": {"clips": 22, "examples": 22},
        },
        "tags": counts,
        "unlisted_audio": {"files": 0, "first": []},
        "settings": {"split": "track", "seed": 7},
        "versions": {"python": "3.10.13", "librosa": "0.10.2"},
    }
    write_json(folder / "summary.json", summary)
    lines = [
        json.dumps({"clip_id": str(clip), "path": f"0/<clip {clip}>.mp3", "reason": "undecodable: empty"})
        for clip in range(rejected)
    ]
    (folder / "rejected.jsonl").write_text("".join(f"{line}\n" for line in lines))


def history(name: str, epochs: int) -> dict[str, Any]:
    epochs_ = [
        {
            "epoch": epoch,
            "loss": 0.2 + 0.5 / epoch + 0.01 * len(name),
            "valid_roc_auc": 0.9 - 0.4 / epoch - 0.002 * max(0, epoch - 8) - 0.002 * len(name),
            "valid_pr_auc": 0.4,
        }
        for epoch in range(1, epochs + 1)
    ]
    best = max(epochs_, key=lambda epoch: epoch["valid_roc_auc"])
    return {
        "name": name,
        "precision": "float32",
        "epoch": epochs,
        "best_epoch": best["epoch"],
        "best_figure": best["valid_roc_auc"],
        "history": epochs_,
    }


def scores(tags: Sequence[str]) -> dict[str, Any]:
    """Scores of all combinations but one, with the last tag on no test clip and the first below chance."""

    def row(place: int, name: str) -> dict[str, Any]:
        networks = list(PAPER_NETWORKS) if name == ALL else name.split("+")
        per_tag = {
            tag: [0.98 - 0.6 * number / len(tags), 0.7 - 0.5 * number / len(tags)] for number, tag in enumerate(tags)
        }
        per_tag[tags[-1]] = [math.nan, math.nan]
        return {
            "name": name,
            "networks": networks,
            **({"network": name} if len(networks) == 1 else {"combiner": "dense", "fit": "in_sample"}),
            "roc_auc": 0.8123 + 0.01 * place,
            "pr_auc": 0.31 + 0.01 * place,
            "scored_tags": len(tags) - 1,
            "seconds_for_1000_clips": 1.5 + place,
            "megabytes": 3.25 * len(networks),
            "per_tag": per_tag,
        }

    names = [name for name in (*COMBINATIONS, ALL) if name != "mel_1d+waveform_1d"]
    return {
        "test_clips": 22,
        "machine": "2 x86_64 CPU cores",
        "tags": list(tags),
        "models": [row(place, name) for place, name in enumerate(names)],
    }


def write_evaluation(folder: Path, roc_auc: float, asked: float = 0.8, baseline: float | None = 0.9) -> None:
    """Write what TFMA leaves for a candidate and, unless None, a baseline."""
    folder.mkdir(parents=True)
    metrics = MetricsForSlice()
    for model, value in (("candidate", roc_auc), ("baseline", baseline)):
        if value is None:
            continue
        metric = metrics.metric_keys_and_values.add()
        metric.key.name, metric.key.model_name = "roc_auc", model
        metric.value.double_value.value = value
    result = ValidationResult(validation_ok=roc_auc >= asked)
    if roc_auc < asked:
        failure = result.metric_validations_per_slice.add().failures.add()
        failure.metric_key.name = "roc_auc"
        failure.metric_value.double_value.value = roc_auc
        failure.metric_threshold.value_threshold.lower_bound.value = asked
    for name, message in (("metrics-00000-of-00001", metrics), ("validations", result)):
        with (folder / f"{name}.tfrecord").open("wb") as file:
            write_record(file, message.SerializeToString())
    threshold = {"valueThreshold": {"lowerBound": asked}, "changeThreshold": {"absolute": -0.005}}
    write_json(folder / "eval_config.json", {"evalConfig": {"metricsSpecs": [{"thresholds": {"roc_auc": threshold}}]}})
