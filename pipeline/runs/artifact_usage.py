"""Which runs use which artifacts, in ML Metadata, and what executions left beside them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.runs.deletion import KILLED, RUN, Item, is_below
from pipeline.runs.run_history import run_contexts

DELETED: Final = 4
"""Artifact.State.DELETED of ML Metadata."""

ENDED: Final = (3, 5)
"""Execution.State COMPLETE and CACHED."""


@dataclass(frozen=True)
class Usage:
    """Which runs use which artifacts, in ML Metadata.

    Attributes:
        artifacts: by id, all that a run of any pipeline made, read or took from the cache.
        users: artifact's id -> ids of runs; one of another pipeline or root under a name that no run of this one has.
        executions: by id.
        run_of: execution's id -> run's.
        used: execution's id -> ids of artifacts that it made, read or took from the cache.
        nodes: execution's id -> name of its node.
        here: ids of this pipeline's runs under this root.
    """

    artifacts: dict[int, Any]
    users: dict[int, set[str]]
    executions: dict[int, Any]
    run_of: dict[int, str]
    used: dict[int, set[int]]
    nodes: dict[int, str]
    here: set[str]

    @classmethod
    def of(cls, store: Any, pipeline: str, artifacts_dir: str) -> Usage:
        """Read it from ML Metadata."""
        usage = cls({}, defaultdict(set), {}, {}, defaultdict(set), {}, set())
        own = {context.id for context in run_contexts(store, pipeline)}
        for context in store.get_contexts_by_type("pipeline_run"):
            name = context.name if context.id in own else f"another pipeline's {context.id}"
            usage._read_run(store, context.id, name, artifacts_dir, own=context.id in own)
        return usage

    def _read_run(self, store: Any, context: int, run: str, artifacts_dir: str, *, own: bool) -> None:
        executions = store.get_executions_by_context(context)
        events = store.get_events_by_execution_ids([execution.id for execution in executions]) if executions else []
        artifacts = store.get_artifacts_by_id(sorted({event.artifact_id for event in events})) if events else []
        began_here = _began_here(run, artifacts, artifacts_dir)
        name = run if own and began_here else f"elsewhere: {run}"
        for artifact in artifacts:
            self.artifacts[artifact.id] = artifact
            self.users[artifact.id].add(name)
        for event in events:
            self.used[event.execution_id].add(event.artifact_id)
        if not (own and began_here):
            return
        self.here.add(run)
        for execution in executions:
            self.executions[execution.id] = execution
            self.run_of[execution.id] = run
            contexts = store.get_contexts_by_execution(execution.id)
            self.nodes[execution.id] = next(
                (found.name.split(".", 1)[-1] for found in contexts if found.type == "node"), ""
            )

    def executions_of(self, artifacts: set[int], runs: set[str]) -> list[Any]:
        """Return the executions of some runs, and those that made or used some artifacts."""
        return [
            execution
            for id_, execution in self.executions.items()
            if self.run_of[id_] in runs or self.used[id_] & artifacts
        ]

    def traces(self, runs: set[str], artifacts_dir: str) -> Iterator[Item]:
        """Yield what TFX keeps beside the artifacts of some runs' executions."""
        for id_, run in self.run_of.items():
            if run in runs and self.nodes[id_]:
                path = os.path.join(artifacts_dir, self.nodes[id_], ".system", "executor_execution", str(id_))
                if os.path.isdir(path):
                    yield Item(path, RUN, run)

    def leftovers(self, artifacts_dir: str) -> Iterator[Item]:
        """Yield what executions left that were killed: folders of outputs that never became artifacts, and TFX's own.

        An output lies in NODE/KEY/EXECUTION; an execution that ended well has its outputs in ML Metadata.
        """
        known = {artifact.uri for artifact in self.artifacts.values()}
        for id_, execution in self.executions.items():
            if execution.last_known_state in ENDED or not self.nodes[id_]:
                continue
            node = Path(artifacts_dir, self.nodes[id_])
            for path in (*node.glob(f"[!.]*/{id_}"), *node.glob(f".system/executor_execution/{id_}")):
                if str(path) not in known:
                    yield Item(str(path), KILLED, self.run_of[id_])
        for node_name in sorted(set(self.nodes.values())):
            for path in sorted(Path(artifacts_dir, node_name, ".system", "stateful_working_dir").glob("*")):
                yield Item(str(path), KILLED)


def _began_here(run: str, artifacts: Sequence[Any], artifacts_dir: str) -> bool:
    """Whether a run was begun under this root: its settings were saved here. Artifacts it may have from another's."""
    configs = os.path.join(os.path.dirname(artifacts_dir), "configs")
    if os.path.isdir(configs):
        return os.path.exists(os.path.join(configs, f"{run}.yaml"))
    return not artifacts or any(is_below(artifact.uri, artifacts_dir) for artifact in artifacts)


def mark_deleted(store: Any, artifacts: Sequence[int]) -> None:
    """Mark artifacts as DELETED in ML Metadata."""
    if artifacts:
        found = store.get_artifacts_by_id(list(artifacts))
        for artifact in found:
            artifact.state = DELETED
        store.put_artifacts(found)
