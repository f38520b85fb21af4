"""DeformedExamples: the test split under each deformation, a split for each, by Beam."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Final

from tfx import types
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.source_hash import source_hash
from preprocessing.clip_format import ClipFormat
from preprocessing.deformations import parse_deformation
from preprocessing.deformed_examples import add_deformations, tasks

SEED: Final = 0
"""Of white noise: every model hears the same."""


class DeformedExamplesExecutor(base_beam_executor.BaseBeamExecutor):  # type: ignore[misc]
    """Writes the deformed test split."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write one split for each deformation.

        Raises:
            AutotagError: examples cannot be read or written, or there are none.
            BadInputError: a deformation cannot be done to these clips.
        """
        config = json.loads(exec_properties["config"])
        clip = ClipFormat(**config["clip"])
        deformations = [parse_deformation(name) for name in config["deformations"]]
        for deformation in deformations:
            deformation.check(clip.sample_rate)
        (source,) = artifact_utils.get_split_uris(input_dict["examples"], "test")
        deformed = artifact_utils.get_single_instance(output_dict["deformed"])
        to_do = tasks(source, deformed.uri, deformations)
        for folder in {os.path.dirname(task.target) for task in to_do}:
            os.makedirs(folder, exist_ok=True)
        with self._make_beam_pipeline() as pipeline:
            add_deformations(pipeline, to_do, clip, config["seed"])
        deformed.split_names = artifact_utils.encode_split_names([one.split for one in deformations])


class DeformedExamplesSpec(ComponentSpec):  # type: ignore[misc]
    """DeformedExamples' interface."""

    PARAMETERS: ClassVar[dict[str, Any]] = {"config": ExecutionParameter(type=str)}
    INPUTS: ClassVar[dict[str, Any]] = {"examples": ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS: ClassVar[dict[str, Any]] = {"deformed": ChannelParameter(type=standard_artifacts.Examples)}


class DeformedExamples(base_beam_component.BaseBeamComponent):  # type: ignore[misc]
    """The test split under each deformation."""

    SPEC_CLASS = DeformedExamplesSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(DeformedExamplesExecutor)

    def __init__(self, examples: types.BaseChannel, deformations: Sequence[str], clip: ClipFormat) -> None:
        """Construct the component.

        Args:
            examples: raw ones, with a split ``test``.
            deformations: names (preprocessing.deformations).
            clip: what the examples hold.
        """
        config: Mapping[str, Any] = {
            "deformations": list(deformations),
            "clip": asdict(clip),
            "seed": SEED,
            "code": source_hash("preprocessing.deformed_examples"),
        }
        super().__init__(
            DeformedExamplesSpec(
                examples=examples,
                config=json.dumps(config, sort_keys=True),
                deformed=types.Channel(type=standard_artifacts.Examples),
            )
        )


def deformed_patterns(deformed: list[types.Artifact], name: str) -> list[str]:
    """Patterns of the files of a deformation, by its name."""
    split = parse_deformation(name).split
    return [os.path.join(uri, "*") for uri in artifact_utils.get_split_uris(deformed, split)]
