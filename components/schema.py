"""CuratedSchema: the schema that a person has approved, as an artifact.

TFX's ImportSchemaGen reads a file when the step runs, so the file would have to be in every pod. Here the schema's text
goes with the pipeline, and TFX's cache sees its content.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import io_utils

SCHEMA_FILE = "schema.pbtxt"


class CuratedSchemaExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Writes the schema."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the text where TFX's components look for it."""
        schema = artifact_utils.get_single_instance(output_dict["schema"])
        io_utils.write_string_file(os.path.join(schema.uri, SCHEMA_FILE), exec_properties["text"])


class CuratedSchemaSpec(ComponentSpec):  # type: ignore[misc]
    """CuratedSchema's interface."""

    PARAMETERS: ClassVar[dict[str, Any]] = {"text": ExecutionParameter(type=str)}
    INPUTS: ClassVar[dict[str, Any]] = {}
    OUTPUTS: ClassVar[dict[str, Any]] = {"schema": ChannelParameter(type=standard_artifacts.Schema)}


class CuratedSchema(base_component.BaseComponent):  # type: ignore[misc]
    """Brings the curated schema into the pipeline."""

    SPEC_CLASS = CuratedSchemaSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(CuratedSchemaExecutor)

    def __init__(self, text: str) -> None:
        """Take the schema as protobuf text."""
        super().__init__(spec=CuratedSchemaSpec(text=text, schema=types.Channel(type=standard_artifacts.Schema)))
