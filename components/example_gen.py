"""ClipExampleGen: a manifest of clips to Examples, by the same Beam steps as ``autotag preprocess``.

TFX's stock ExampleGen sends whole examples through a shuffle, which with one megabyte a clip fills the memory. Here a
shard's list of clips is the element, shards are written in place, and those that an earlier execution wrote, killed or
not, are linked and not made again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from tfx import types
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from datasets.reading import read_manifest as read_data
from preprocessing import storage
from preprocessing.constants import SPLITS
from preprocessing.errors import AutotagError
from preprocessing.job import run_job
from preprocessing.manifest import Manifest
from preprocessing.output_folder import REJECTED, SUMMARY, TAGS
from preprocessing.settings import PreprocessSettings
from preprocessing.shards import CHANGED

log = logging.getLogger(__name__)

EXAMPLES_KEY = "examples"
ANY_VERSION = "any"
"""Data version of a run that takes the data as they are when it begins."""


class ClipExampleGenExecutor(base_beam_executor.BaseBeamExecutor):  # type: ignore[misc]
    """Writes the shards of a manifest and links them into the Examples artifact."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the examples; the artifact's splits are ``train``, ``valid`` and ``test``.

        Raises:
            BadInputError: the data cannot be read, or are not what the settings say.
            AutotagError: a shard cannot be written, or clips changed while they were read.
        """
        settings = PreprocessSettings.from_json(json.loads(exec_properties["settings"]))
        manifest = read_manifest(exec_properties, settings)
        shard_dir = os.path.join(exec_properties["work_dir"], exec_properties["code"])
        summary = run_job(
            manifest,
            exec_properties["audio_dir"],
            shard_dir,
            settings,
            self._beam_pipeline_args or [],
            _progress_log(len(manifest.clips)),
        )
        changed = summary["rejected_by_reason"].get(CHANGED, 0)
        if changed:  # a cached execution would leave them out for good
            raise AutotagError(f"{changed} clips changed while they were read; run again")
        examples = artifact_utils.get_single_instance(output_dict[EXAMPLES_KEY])
        examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
        counts = {name: summary[name] for name in ("clips", "examples", "rejected")}
        for name, count in counts.items():
            examples.set_int_custom_property(name, count)
        log.info("%(clips)d clips: %(examples)d examples, %(rejected)d rejected", counts, extra=counts)
        for shard in manifest.shards():
            folder = os.path.join(examples.uri, f"Split-{shard.split}")
            link_or_copy(os.path.join(shard_dir, shard.name), os.path.join(folder, shard.name))
        for name in (SUMMARY, REJECTED, TAGS):
            storage.write_whole(os.path.join(examples.uri, name), storage.read_bytes(os.path.join(shard_dir, name)))


def read_manifest(exec_properties: Mapping[str, Any], settings: PreprocessSettings) -> Manifest:
    """Read the manifest of the run, or make it here, where the audio is.

    Raises:
        BadInputError: audio or annotations cannot be used.
        AutotagError: the data are not those that the run was asked for.
    """
    if exec_properties.get("manifest"):
        return Manifest.from_json(storage.read_bytes(exec_properties["manifest"]).decode())
    audio_dir, asked = exec_properties["audio_dir"], exec_properties["data_version"]
    manifest = read_data(audio_dir, exec_properties["annotations"], settings)
    log.warning("%d clips in %s, version %s", len(manifest.clips), audio_dir, manifest.fingerprint)
    if asked not in (ANY_VERSION, manifest.fingerprint):
        raise AutotagError(
            f"{audio_dir}: the data are version {manifest.fingerprint} and version {asked} was asked for: "
            "they changed since the run was submitted, or are others than where it was submitted; submit it again"
        )
    return manifest


def _progress_log(clips: int) -> Callable[[int], None]:
    """Return what writes the number of clips done to the log, at most every ten seconds."""
    started = last = time.monotonic()

    def on_progress(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 10:
            last = now
            rate = done / (now - started)
            counts = {"clips_done": done, "clips": clips}
            log.warning("%d of %d clips, %.0f a second", done, clips, rate, extra=counts)

    return on_progress


def link_or_copy(source: str, destination: str) -> None:
    """Give a finished file a second name; copied where the file system has no hard links.

    Shards are replaced, never written to, so a link keeps its bytes.
    """
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    if os.path.exists(destination):
        os.remove(destination)
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)


class ClipExampleGenSpec(ComponentSpec):  # type: ignore[misc]
    """ClipExampleGen's interface."""

    PARAMETERS: ClassVar[dict[str, Any]] = {
        "manifest": ExecutionParameter(type=str, optional=True),
        "data_version": ExecutionParameter(type=str),
        "audio_dir": ExecutionParameter(type=str),
        "annotations": ExecutionParameter(type=str),
        "settings": ExecutionParameter(type=str),
        "work_dir": ExecutionParameter(type=str),
        "code": ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, Any]] = {}
    OUTPUTS: ClassVar[dict[str, Any]] = {EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples)}


class ClipExampleGen(base_beam_component.BaseBeamComponent):  # type: ignore[misc]
    """Clips of a manifest to Examples with the splits ``train``, ``valid`` and ``test``."""

    SPEC_CLASS = ClipExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(ClipExampleGenExecutor)

    def __init__(
        self,
        manifest: str | None,
        data_version: str,
        audio_dir: str,
        annotations: str,
        settings: str,
        work_dir: str,
        code: str,
    ) -> None:
        """Construct the component.

        Args:
            manifest: path of the manifest; None where the step makes it itself.
            data_version: the manifest's fingerprint, by which TFX's cache sees a changed clip, or ANY_VERSION.
            audio_dir: folder that the manifest's paths are relative to.
            annotations: path of annotations_final.csv, which a manifest is made from.
            settings: PreprocessSettings as JSON.
            work_dir: where shards are kept from one execution to the next.
            code: hash of the source that makes an example.
        """
        super().__init__(
            spec=ClipExampleGenSpec(
                manifest=manifest,
                data_version=data_version,
                audio_dir=audio_dir,
                annotations=annotations,
                settings=settings,
                work_dir=work_dir,
                code=code,
                examples=types.Channel(type=standard_artifacts.Examples),
            )
        )
