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
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from components.push_folder import possible_baselines, push_record, versions
from pipeline.runs.artifact_usage import DELETED, Usage, mark_deleted
from pipeline.runs.deletion import (
    CHECKPOINTS,
    DELETING,
    INPUTS,
    KILLED,
    RUN,
    SHARDS,
    VERSION,
    Item,
    Plan,
    delete_item,
    entries,
    is_below,
    last_change,
    with_sizes,
)
from pipeline.runs.local_runner import root_lock
from pipeline.runs.metadata import open_store, readable_errors
from pipeline.runs.run_history import list_runs
from pipeline.runs.run_metrics import keep_metrics
from pipeline.runs.run_record import Run
from pipeline.settings.config import PipelineConfig
from preprocessing.whole_files import TEMPORARY_MARK, writer_is_dead
from serving.server.labels import labels_lock, read_labels
from serving.server.model_config import FOLLOWED_VERSIONS

LEFTOVER_SECONDS: Final = 24 * 3600
"""A folder half pushed by a process of another root or machine is left alone for so long."""
HALF_PUSHED: Final = ".push-"
"""Begins the name of a folder half pushed by an earlier autotag; newer ones have TEMPORARY_MARK in it."""


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
        stack.enter_context(readable_errors(config))
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
        and is_below(artifact.uri, os.path.join(root, "artifacts"))
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
        over = is_below(push_dir, root) and writer_is_dead(name) is not False  # no other root's run pushes there
        half = (TEMPORARY_MARK in name or name.startswith(HALF_PUSHED)) and os.path.isdir(entry)
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
