"""Runs the pipeline on this machine: writes the manifest, runs TFX's LocalDagRunner, says what came of it."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from components.shared_tags import SharedTags, find_shared_tags
from datasets.reading import read_manifest
from pipeline.entry_keys import Inputs, scoring_keys
from pipeline.paths import check_paths
from pipeline.runs.metadata import check_server, connection
from pipeline.runs.prometheus import record_attempt
from pipeline.runs.run_history import list_runs
from pipeline.runs.run_metrics import keep_metrics
from pipeline.runs.run_record import describe_run
from pipeline.settings.config import PipelineConfig
from preprocessing import storage
from preprocessing.errors import AutotagError, BadInputError, error_chain
from preprocessing.locks import hold
from preprocessing.manifest import Manifest
from preprocessing.whole_files import temporary_folder
from serving.model_info import read_model_info

log = logging.getLogger(__name__)


def prepare_inputs(config: PipelineConfig, on_clip: Callable[[int, int], None] | None = None) -> Inputs:
    """Write the manifest under a name made of its content.

    Raises:
        BadInputError: audio, annotations or schema cannot be used.
    """
    manifest = read_manifest(
        storage.absolute(config.data.audio_dir),
        storage.absolute(config.data.annotations_file),
        config.data.preprocess_settings(),
        on_clip,
    )
    folder = os.path.join(os.path.abspath(config.root), "inputs")
    os.makedirs(folder, exist_ok=True)
    manifest_path = os.path.join(folder, f"manifest-{manifest.fingerprint[:16]}.json")
    if not os.path.exists(manifest_path):
        storage.write_whole(manifest_path, manifest.to_json())
    return Inputs(manifest_path, manifest.fingerprint, read_schema(config.data.schema_file), str(time.time_ns()))


def read_schema(path: str | None) -> str:
    """Read the curated schema, the package's own where no file is given.

    Raises:
        BadInputError: it cannot be read.
    """
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    try:
        data = Path(path).read_bytes() if path else (resources.files("components") / "schema.pbtxt").read_bytes()
        text_format.Parse(data.decode(), schema_pb2.Schema())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise BadInputError(f"schema {path}: {error}") from None
    return data.decode()


def run_pipeline(
    config: PipelineConfig,
    from_node: str | None = None,
    to_node: str | None = None,
    on_clip: Callable[[int, int], None] | None = None,
    run_id: str | None = None,
) -> None:
    """Run the pipeline, or a part of it; pipeline.runs.run_history says what came of it.

    Args:
        config: settings.
        from_node: first node of the part.
        to_node: last node of the part.
        on_clip: called with the number of clips that have their checksum, and of all.
        run_id: name of the run in ML Metadata; the time unless given.

    Raises:
        BadInputError: the input cannot be used, there is no such node, or another run works in the same root.
        AutotagError: a component failed.
    """
    with _at_work(config) as metadata:
        from tfx.orchestration.pipeline import RunOptions

        from pipeline.create import create_pipeline

        pipeline = create_pipeline(config, prepare_inputs(config, on_clip), metadata)
        known = [node.id for node in pipeline.components]
        for node in filter(None, (from_node, to_node)):
            if node not in known:
                raise BadInputError(f"there is no node {node!r}; the nodes are {', '.join(known)}")
        part = None
        if from_node or to_node:
            part = RunOptions(from_nodes=[from_node] if from_node else None, to_nodes=[to_node] if to_node else None)
        _run_nodes(config, pipeline, metadata, run_id or new_run_id(), part)


@contextlib.contextmanager
def _at_work(config: PipelineConfig) -> Iterator[Any]:
    """Look at what can be known before any work, then hold the root; yields ML Metadata's ConnectionConfig.

    Raises:
        BadInputError: as check_beam, check_paths, connection and root_lock.
        AutotagError: as check_server.
    """
    check_beam(config)
    check_paths(config)
    os.makedirs(config.root, exist_ok=True)
    with root_lock(config.root):
        metadata = connection(config)
        check_server(config)
        yield metadata


def check_beam(config: PipelineConfig) -> None:
    """Check what can be known of ``beam:`` before any work; a node that runs a job looks at the cluster.

    Raises:
        BadInputError: an option is unknown or a slip, the workers' program is missing, or root is none that they see.
    """
    from preprocessing.beam.options import parse_options
    from preprocessing.beam.requirements import check_worker_command

    parse_options(config.beam.arguments())
    check_worker_command(config.beam)
    if not storage.is_local(config.root):
        raise BadInputError(f"root {config.root}: expected a folder, which workers elsewhere see under the same name")
    if config.beam.runner == "dataflow":
        raise BadInputError(
            f"beam.runner dataflow: its workers do not see root {config.root}, where artifacts lie; it is for "
            "`autotag preprocess`"
        )


def run_entry(config: PipelineConfig, name: str) -> None:
    """Train and score one network or ensemble of a comparison; what it shares with others comes from the cache.

    Args:
        config: of the data set's pipeline.
        name: of the network or ensemble.

    Raises:
        BadInputError: the input cannot be used, or another run works in the same root.
        AutotagError: a component failed.
    """
    with _at_work(config) as metadata:
        from pipeline.compare.scoring import create_scoring_pipeline

        inputs = prepare_inputs(config)
        pipeline = create_scoring_pipeline(config, inputs, scoring_keys(config, inputs, name), metadata)
        _run_nodes(config, pipeline, metadata, new_run_id(), None)


def attempt(config: PipelineConfig, start: Callable[[str], None], metrics_file: str | None = None) -> str:
    """Start a run, keep and write its metrics, and say in a few lines what came of it.

    Args:
        config: its settings.
        start: called with its id; runs it.
        metrics_file: where its metrics go, as pipeline.runs.prometheus has it.

    Raises:
        AutotagError: it failed; where that is ours, in our words alone.
    """
    succeeded, run_id = False, new_run_id()
    try:
        start(run_id)
        succeeded = True
    except Exception as error:
        own = failed_node(error)
        if own:
            raise own from None
        raise
    finally:
        run = record_attempt(config, run_id, succeeded, metrics_file)
    return describe_run(run) if run else ""


def evaluate_version(
    config: PipelineConfig,
    version: Path,
    on_clip: Callable[[int, int], None] | None = None,
    run_id: str | None = None,
    synonyms: Mapping[str, str] | None = None,
    on_shared: Callable[[SharedTags], None] | None = None,
) -> None:
    """Take a version that was not trained here through the gate: measured on the test split, pushed if blessed.

    Where the data calls the model's tags otherwise, those are scored whose names are the same without category, case
    and punctuation (components.shared_tags).

    Args:
        config: data, gate and push folder.
        version: the folder of an exported model.
        on_clip: as in run_pipeline.
        run_id: as in run_pipeline.
        synonyms: tags that mean the same in the model and in the data: merged tag -> kept tag.
        on_shared: called with the tags that are scored.

    Raises:
        BadInputError: the model takes other clips than the data has, shares no tag with it, or as in run_pipeline.
        AutotagError: a component failed.
    """
    info = read_model_info(version)
    if info.clip != config.data.clip.format:
        raise BadInputError(f"{version} takes {info.clip}, and the configuration's clips are {config.data.clip.format}")
    with _at_work(config) as metadata:
        from pipeline.create import ImportedModel, create_import_pipeline

        inputs = prepare_inputs(config, on_clip)
        shared = find_shared_tags(info.tags, _tags_of(inputs), synonyms)
        if not shared.scored:
            raise BadInputError(
                f"{version}: none of its {len(info.tags)} tags, {info.tags[0]} the first, is in the data"
            )
        if on_shared is not None:
            on_shared(shared)
        name = info.origin.name if info.origin is not None else info.members[0].name
        translated = None if shared.same_names else shared
        model = ImportedModel(name, keep_imported(config.root, version), info.heads, translated)
        pipeline = create_import_pipeline(config, inputs, model, metadata)
        _run_nodes(config, pipeline, metadata, run_id or new_run_id(), None)


def _tags_of(inputs: Any) -> set[str]:
    manifest = Manifest.from_json(storage.read_bytes(inputs.manifest).decode())
    return {tag for clip in manifest.clips for tag in clip.tags}


def keep_imported(root: str, version: Path) -> str:
    """Copy a version to below the root, where TFX's nodes find it; returns the folder of the artifact.

    Its name is made of the version's content, so that a version that was measured already is found in the cache.
    """
    from tfx.utils import path_utils

    from serving.tagging.sources import model_digest

    folder = os.path.join(os.path.abspath(root), "imported", model_digest(version))
    if not os.path.isdir(folder):
        with temporary_folder(os.path.dirname(folder)) as copy:
            shutil.copytree(version, path_utils.serving_model_dir(str(copy)))
            os.rename(copy, folder)
    return folder


def _run_nodes(config: PipelineConfig, pipeline: Any, metadata: Any, run_id: str, part: Any) -> None:
    from pipeline.runs.node_runner import NodeRunner

    _save_config(config, run_id)
    try:
        NodeRunner(run_id, metadata).run(pipeline, run_options=part)
    finally:
        _keep_metrics(config, run_id)


def _keep_metrics(config: PipelineConfig, run_id: str) -> None:
    """Keep the run's metrics with it; what hinders that is logged, and does not make a run fail that did not."""
    try:
        run = next((run for run in list_runs(config) if run.run_id == run_id), None)
        if run:
            keep_metrics(config, run)
    except AutotagError as error:
        log.error("the run's metrics are not kept in ML Metadata: %s", error)


def new_run_id() -> str:
    """Return a name for a run as TFX makes them: the time, without its zone."""
    return datetime.datetime.now().isoformat()


def root_lock(root: str) -> contextlib.AbstractContextManager[None]:
    """Let one run, or one garbage collection, at a time work under a root."""
    refusal = BadInputError(f"{root}: another run works there; wait for it or set another root")
    return hold(os.path.join(root, ".lock"), refusal)


def _save_config(config: PipelineConfig, run_id: str) -> None:
    folder = os.path.join(os.path.abspath(config.root), "configs")
    os.makedirs(folder, exist_ok=True)
    storage.write_whole(os.path.join(folder, f"{run_id}.yaml"), config.to_yaml())


def failed_node(error: BaseException) -> AutotagError | None:
    """Return the project's own error behind a failed component, if there is one."""
    return next((found for found in error_chain(error) if isinstance(found, AutotagError)), None)
