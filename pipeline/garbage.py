"""Garbage collection: what runs left under a root and nothing that runs, serves or is compared with needs any more.

Kept are, whatever their age:

- every artifact that a kept run made, read or took from the cache: the newest finished runs, and all that began after
  the newest of them (the next run goes on where a failed one stopped);
- artifacts that runs of another pipeline, or under another root, use;
- everything in the push folder, and the models that the versions there are copies of. Old versions go only where that
  is asked for, and never one that a server loads, a label names or goes back to, or a candidate is measured against;
- shards that kept examples were linked from, settings of all runs, the metadata with each run's metrics.

An artifact is first marked DELETED in ML Metadata, then its folder is deleted. TFX's cache takes an earlier result only
if all its artifacts are LIVE and their folders are there (tfx/orchestration/portable/cache_utils.py, 1.16), so a later
run makes again what is gone. A collection that was killed is finished by the next one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from components.push_folder import possible_baselines, push_record, versions
from pipeline.config import PipelineConfig
from pipeline.local_runner import root_lock
from pipeline.metadata import errors_in_words, open_store
from pipeline.metrics import keep_metrics
from pipeline.runs import Run, list_runs, run_contexts
from preprocessing.errors import AutotagError
from preprocessing.whole_files import TEMPORARY_MARK, writer_is_dead
from serving.server.versions import FOLLOWED_VERSIONS, labels_lock, read_labels

DELETING: Final = ".deleted-"
LEFTOVER_SECONDS: Final = 24 * 3600
"""A folder half pushed by a process of another root or machine is left alone for so long."""

DELETED: Final = 4
"""Artifact.State.DELETED of ML Metadata."""
ENDED: Final = (3, 5)
"""Execution.State COMPLETE and CACHED."""

RUN: Final = "artifacts of old runs"
KILLED: Final = "left by killed runs"
CHECKPOINTS: Final = "checkpoints of runs that are done"
SHARDS: Final = "shards of old code"
INPUTS: Final = "inputs of old runs"
VERSION: Final = "old pushed versions"


@dataclass(frozen=True)
class Item:
    """One file or folder to be deleted.

    Attributes:
        path: of it.
        kind: why: RUN, KILLED, CHECKPOINTS, SHARDS, INPUTS or VERSION.
        run: id of the run that made it, where it is known.
        size: bytes that become free, so without what has a hard link that stays.
    """

    path: str
    kind: str
    run: str = ""
    size: int = 0


@dataclass(frozen=True)
class Plan:
    """What a collection deletes.

    Attributes:
        kept: runs that are kept whole.
        removed: the other runs; of them settings, metadata and metrics stay.
        artifacts: ids in ML Metadata of what is to be marked DELETED.
        items: files and folders.
    """

    kept: tuple[Run, ...]
    removed: tuple[Run, ...]
    artifacts: tuple[int, ...]
    items: tuple[Item, ...]

    @property
    def size(self) -> int:
        """Bytes that become free."""
        return sum(item.size for item in self.items)


def collect(
    config: PipelineConfig,
    keep: int,
    *,
    old_versions: bool = False,
    dry_run: bool = False,
    on_item: Callable[[Item], None] | None = None,
) -> Plan:
    """Delete what is not needed any more, or say what would be.

    Args:
        config: whose root and push folder.
        keep: finished runs of which everything is kept, the newest ones.
        old_versions: also delete old pushed versions.
        dry_run: delete nothing.
        on_item: called when an item has been deleted.

    Returns:
        What was, or would be, deleted.

    Raises:
        BadInputError: there is no run yet, one is going on, or labels.json cannot be read.
        AutotagError: a folder cannot be deleted, or the server of ML Metadata does not answer.
    """
    store = open_store(config)
    with contextlib.ExitStack() as stack:
        stack.enter_context(errors_in_words(config))
        stack.enter_context(root_lock(config.root))
        if old_versions and os.path.isdir(config.pushed):
            stack.enter_context(labels_lock(Path(config.pushed)))
        plan = plan_collection(config, store, keep, old_versions)
        if not dry_run:
            for run in plan.removed:
                if not run.kept:
                    keep_metrics(config, run)
            mark_deleted(store, plan.artifacts)
            for item in plan.items:
                delete_item(item)
                if on_item:
                    on_item(item)
    return plan


def runs_to_keep(runs: Sequence[Run], keep: int) -> list[Run]:
    """Return the newest finished runs and all that began after the newest of them; all where fewer have finished.

    A part of a pipeline (``--to-node``) does not count as finished.
    """
    finished = [run for run in runs if run.finished]
    if not finished:
        return list(runs)
    return [run for run in runs if run in finished[-keep:] or run.started > finished[-1].started]


def plan_collection(config: PipelineConfig, store: Any, keep: int, old_versions: bool) -> Plan:
    """Say what can be deleted. Whoever deletes it holds the locks of root and, for versions, labels.

    Args:
        config: of the pipeline.
        store: ML Metadata.
        keep: how many finished runs stay, and pushed versions.
        old_versions: whether pushed versions go, too.

    Raises:
        BadInputError: there is no run yet, or labels.json cannot be read.
        AutotagError: ML Metadata cannot be read.
    """
    root = os.path.abspath(config.root)
    runs = list_runs(config)
    usage = Usage.of(store, config.name, os.path.join(root, "artifacts"))
    mine = [run for run in runs if run.run_id in usage.here]
    kept = runs_to_keep(mine, keep)
    kept_ids = {run.run_id for run in kept}
    removed = [run for run in mine if run.run_id not in kept_ids]
    going = {run.run_id for run in removed}
    old = _old_versions(config.pushed, keep, kept) if old_versions else []
    copied = {
        push_record(os.path.join(config.pushed, name)).get("model")
        for name in versions(config.pushed)
        if name not in old
    }
    doomed = {
        artifact.id: artifact
        for artifact in usage.artifacts.values()
        if usage.users[artifact.id] <= going
        and artifact.uri not in copied
        and _is_below(artifact.uri, os.path.join(root, "artifacts"))
    }
    stay = usage.executions_of(set(usage.artifacts) - doomed.keys(), kept_ids)
    items = [
        *(Item(artifact.uri, RUN, max(usage.users[artifact.id])) for artifact in doomed.values()),
        *usage.traces(going, os.path.join(root, "artifacts")),
        *usage.leftovers(os.path.join(root, "artifacts")),
        *old_checkpoints(root, kept),
        *leftovers_of_killed(root, config.pushed),
        *_old_shards_and_inputs(root, stay),
        *(Item(os.path.join(config.pushed, name), VERSION) for name in old),
    ]
    live = [id_ for id_, artifact in doomed.items() if artifact.state != DELETED]
    return Plan(tuple(kept), tuple(removed), tuple(sorted(live)), tuple(with_sizes(items)))


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
    return not artifacts or any(_is_below(artifact.uri, artifacts_dir) for artifact in artifacts)


def old_checkpoints(root: str, kept: Sequence[Run]) -> Iterator[Item]:
    """Yield checkpoints that no run goes on from: older than the newest finished run's start."""
    finished = [run.started.timestamp() for run in kept if run.finished]
    for entry in entries(os.path.join(root, "checkpoints")):
        if finished and last_change(entry) < finished[-1]:
            yield Item(entry, CHECKPOINTS)


def leftovers_of_killed(root: str, push_dir: str) -> Iterator[Item]:
    """Yield what killed processes left: folders half pushed, temporary files. The caller knows that no run goes on."""
    for entry in entries(push_dir):
        name = os.path.basename(entry)
        age = time.time() - os.stat(entry).st_mtime
        over = _is_below(push_dir, root) and writer_is_dead(name) is not False  # no other root's run pushes there
        half = TEMPORARY_MARK in name and os.path.isdir(entry)
        if name.startswith(DELETING) or (half and (over or age > LEFTOVER_SECONDS)):
            yield Item(entry, KILLED)
    folders = [os.path.join(root, *below) for below in ((), ("inputs",), ("configs",), ("imported",))]
    for shards in entries(os.path.join(root, "shards")):
        folders += [shards, os.path.join(shards, ".shards")]
    for folder in folders:
        for entry in entries(folder):
            if TEMPORARY_MARK in os.path.basename(entry):
                yield Item(entry, KILLED)


def _old_shards_and_inputs(root: str, executions: Iterable[Any]) -> Iterator[Item]:
    """Yield folders of shards and files of inputs that none of the executions was given."""
    given = [
        value.string_value
        for execution in executions
        for properties in (execution.properties, execution.custom_properties)
        for value in properties.values()
    ]
    for entry in entries(os.path.join(root, "shards")):
        if os.path.basename(entry) not in given:
            yield Item(entry, SHARDS)
    for entry in entries(os.path.join(root, "inputs")):
        if entry not in given and TEMPORARY_MARK not in os.path.basename(entry):
            yield Item(entry, INPUTS)


def _old_versions(push_dir: str, keep: int, kept: Iterable[Run]) -> list[str]:
    """Return the versions that no server loads and nobody goes back to or compares with.

    Raises:
        BadInputError: labels.json cannot be read.
    """
    names = versions(push_dir)
    labels = read_labels(Path(push_dir))
    wanted = {*names[-max(keep, FOLLOWED_VERSIONS) :], *possible_baselines(push_dir)}
    wanted |= {run.pushed_version for run in kept if run.pushed_version}
    wanted |= {str(number) for number in (*labels.current.values(), *labels.loaded())}
    for history in labels.before.values():
        wanted |= {str(number) for number in [old for old in history if str(old) in names][-1:]}
    return [name for name in names if name not in wanted]


def mark_deleted(store: Any, artifacts: Sequence[int]) -> None:
    """Mark artifacts as DELETED in ML Metadata."""
    if artifacts:
        found = store.get_artifacts_by_id(list(artifacts))
        for artifact in found:
            artifact.state = DELETED
        store.put_artifacts(found)


def delete_item(item: Item) -> None:
    """Delete it; what others look for by its name is seen whole or not at all.

    Raises:
        AutotagError: it cannot be deleted.
    """
    path = item.path
    try:
        if item.kind in (VERSION, SHARDS, CHECKPOINTS):
            path = os.path.join(os.path.dirname(path), DELETING + os.path.basename(path))
            os.rename(item.path, path)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise AutotagError(f"{item.path} cannot be deleted: {error.strerror or error}; call again") from None


def with_sizes(items: Iterable[Item]) -> list[Item]:
    """Return the items that are there, each once, with the bytes that become free.

    A file with several names, such as a shard and its link in an artifact, counts at the last name to go.
    """
    there = {item.path: item for item in items if os.path.lexists(item.path)}
    links: Counter[tuple[int, int]] = Counter()
    sized = []
    for item in there.values():
        size = 0
        for status in _files(item.path):
            inode = (status.st_dev, status.st_ino)
            links[inode] += 1
            size += status.st_size if links[inode] == status.st_nlink else 0
        sized.append(Item(item.path, item.kind, item.run, size))
    return sized


def _files(path: str) -> Iterator[os.stat_result]:
    if not os.path.isdir(path) or os.path.islink(path):
        yield os.lstat(path)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            yield os.lstat(os.path.join(folder, name))


def entries(folder: str) -> list[str]:
    """Return the paths in a folder, in order; [] where there is none."""
    try:
        return sorted(os.path.join(folder, name) for name in os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def last_change(path: str) -> float:
    """Return when a file, or any in a folder, was written last, in seconds since 1970."""
    return max((status.st_mtime for status in _files(path)), default=os.stat(path).st_mtime)


def _is_below(path: str, folder: str) -> bool:
    return os.path.abspath(path).startswith(folder.rstrip("/") + "/")
