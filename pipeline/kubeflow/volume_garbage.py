"""Garbage collection of kubeflow.work_dir, where its volume is mounted.

The API server says which runs there were and which pipelines are scheduled; which of them work in that folder, and with
shards of which code, stands in their compiled pipelines. Deleted is nothing that one of these may look for:

- runs that go on: while there is one that works in the folder nothing is deleted;
- schedules, enabled or not, and the newest runs that ended well with all that began after them: shards of their code;
- a run that begins meanwhile: the server is asked for runs that go on after everything to be deleted was listed, so
  what such a run writes is not on the list; what is deleted goes at once under another name, so that it finds a folder
  whole or not at all, and makes anew what it does not find (a step that had seen it just before is tried again).

Pushed versions stay, all of them: they are what is served and compared with. Artifacts are the object store's matter.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final

from pipeline.kubeflow.cluster_runs import SUCCEEDED, as_run
from pipeline.kubeflow.pipeline_spec import shard_folders
from pipeline.kubeflow.server import Server
from pipeline.kubeflow.server_runs import FoundRun
from pipeline.kubeflow.uploads import NoPipelineError
from pipeline.runs.deletion import SHARDS, Item, Plan, delete_item, entries, last_change, with_sizes
from pipeline.runs.local_runner import root_lock
from pipeline.runs.run_garbage import leftovers_of_killed, old_checkpoints, runs_to_keep
from pipeline.settings.config import PipelineConfig
from preprocessing.errors import BadInputError

FOLDER: Final = "shards"
"""Of the shards, in work_dir (pipeline.nodes)."""


def collect_on_volume(
    config: PipelineConfig,
    server: Server,
    keep: int,
    *,
    dry_run: bool = False,
    on_item: Callable[[Item], None] | None = None,
) -> Plan:
    """Delete what is not needed any more in kubeflow.work_dir, or say what would be.

    Args:
        config: whose work_dir and push folder, which are mounted here under the same paths as in the steps.
        server: that runs and schedules are on, all that use the volume.
        keep: runs that ended well of which the shards are kept, the newest ones.
        dry_run: delete nothing.
        on_item: called when an item has been deleted.

    Returns:
        What was, or would be, deleted; ``kept`` are the runs whose shards stay.

    Raises:
        BadInputError: the folder is not here or not that of the server's runs, or a run goes on.
        AutotagError: something cannot be deleted, the server does not answer, or cannot say what a run works with.
    """
    work_dir = os.path.normpath(config.kubeflow.work_dir)
    shards = os.path.join(work_dir, FOLDER)
    if not os.path.isdir(shards):
        raise BadInputError(f"{shards} is not here: call this where the volume is mounted at the path that steps see")
    with root_lock(work_dir):
        plan = _plan(config, server, keep, work_dir)
        _refuse_while_going_on(server, shards)
        if not dry_run:
            for item in plan.items:
                delete_item(item)
                if on_item:
                    on_item(item)
    return plan


def _plan(config: PipelineConfig, server: Server, keep: int, work_dir: str) -> Plan:
    shards = os.path.join(work_dir, FOLDER)
    found = list(_newest_runs(server, shards, keep))
    runs = [as_run(run, [], {}) for run, _ in reversed(found)]
    finished = [run for run in runs if run.finished]
    if not finished:
        raise BadInputError(
            f"{server.host} has no run that ended well in {work_dir}: nothing is deleted. Is it the right server, and "
            "the right folder?"
        )
    kept = runs_to_keep(runs, keep)
    kept_ids = {run.run_id for run in kept}
    codes = {code for run, code in found if run.identity in kept_ids}
    codes |= {folder.code for spec in server.scheduled_pipelines() for folder in shard_folders(spec)}
    if not any(os.path.isdir(os.path.join(shards, code)) for code in codes):
        raise BadInputError(
            f"{shards} has nothing of what the newest runs on {server.host} made: nothing is deleted. Is it their "
            "volume?"
        )
    newest = finished[-1].started.timestamp()
    items = [
        *(
            Item(entry, SHARDS)
            for entry in entries(shards)
            if os.path.basename(entry) not in codes and last_change(entry) < newest
        ),
        *old_checkpoints(work_dir, kept),
        *leftovers_of_killed(work_dir, config.model_copy(update={"root": work_dir}).pushed),
    ]
    return Plan(tuple(kept), (), (), tuple(with_sizes(items)))


def _newest_runs(server: Server, shards: str, keep: int) -> Iterator[tuple[FoundRun, str]]:
    """Yield the newest runs that work in a folder, the newest first, and their code, until enough ended well."""
    ended_well = 0
    for run in server.all_runs():
        try:
            here = [folder for folder in shard_folders(server.pipeline_of(run)) if folder.folder == shards]
        except NoPipelineError:
            continue
        if not here:
            continue
        yield run, here[0].code
        ended_well += run.state == SUCCEEDED
        if ended_well == keep:
            return


def _refuse_while_going_on(server: Server, shards: str) -> None:
    """Ask for the runs that go on.

    Raises:
        BadInputError: one works in the folder.
        NoPipelineError: of one the server does not know where it works.
        AutotagError: the server does not answer.
    """
    for run in server.runs_going_on():
        if any(folder.folder == shards for folder in shard_folders(server.pipeline_of(run))):
            raise BadInputError(f"the run {run.name} ({run.identity}) goes on in {shards}: wait until it has ended")
