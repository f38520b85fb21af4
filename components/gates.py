"""What stops a run or lets it go on: anomalies in a delivery, and the baseline that a model is measured against."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from tfx import types
from tfx.components.evaluator import constants as evaluator_constants
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.components.common import resolver
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec
from tfx.utils import io_utils

from preprocessing.errors import AutotagError

TEST_SET = "test_set"
"""Custom property of an ensemble's model: the split and the tags that it is measured on."""


class DataAnomaliesError(AutotagError):
    """The examples do not look as the schema says; the message lists what does not, split by split."""


def list_anomalies(anomalies: types.Artifact) -> list[str]:
    """Return one line an anomaly: split, feature, what is wrong."""
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    lines = []
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        path = os.path.join(anomalies.uri, f"Split-{split}", "SchemaDiff.pb")
        message = anomalies_pb2.Anomalies.FromString(io_utils.read_bytes_file(path))
        for feature, info in sorted(message.anomaly_info.items()):
            reasons = "; ".join(reason.description for reason in info.reason) or info.description
            lines.append(f"{split}, {feature}: {reasons}")
    return lines


class RequireNoAnomaliesExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Fails where ExampleValidator found an anomaly."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Read the anomalies; raise DataAnomaliesError where there are any."""
        lines = list_anomalies(artifact_utils.get_single_instance(input_dict["anomalies"]))
        if lines:
            listed = "\n  ".join(lines)
            raise DataAnomaliesError(
                f"the delivery is not as the schema says; nothing is trained on it:\n  {listed}\n"
                "Mend the audio, or change data.schema_file or the shares in data where the new data are right."
            )


class RequireNoAnomaliesSpec(ComponentSpec):  # type: ignore[misc]
    """RequireNoAnomalies' interface."""

    PARAMETERS: ClassVar[dict[str, Any]] = {}
    INPUTS: ClassVar[dict[str, Any]] = {"anomalies": ChannelParameter(type=standard_artifacts.ExampleAnomalies)}
    OUTPUTS: ClassVar[dict[str, Any]] = {}


class RequireNoAnomalies(base_component.BaseComponent):  # type: ignore[misc]
    """Stops the run on a delivery with anomalies: ExampleValidator only reports them."""

    SPEC_CLASS = RequireNoAnomaliesSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RequireNoAnomaliesExecutor)

    def __init__(self, anomalies: types.BaseChannel) -> None:
        """Take ExampleValidator's anomalies."""
        super().__init__(spec=RequireNoAnomaliesSpec(anomalies=anomalies))


class LatestOtherBlessedModel(resolver.ResolverStrategy):  # type: ignore[misc]
    """The latest blessed model that is not the candidate itself.

    With TFX's own LatestBlessedModelStrategy a model that was just blessed becomes its own baseline in the next run,
    and an unchanged rerun evaluates and pushes again. A model of another test split or other tags is no baseline: it
    may have been trained on what is the test split now.
    """

    def resolve_artifacts(
        self, store: object, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Return the baseline under ``model`` and its blessing, or empty lists where there is none."""
        candidates = {artifact.uri for artifact in input_dict["candidate"]}
        test_sets = {artifact.get_string_custom_property(TEST_SET) for artifact in input_dict["candidate"]}
        blessings = {
            blessing.get_int_custom_property(evaluator_constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY): blessing
            for blessing in input_dict["model_blessing"]
            if blessing.get_int_custom_property(evaluator_constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
        }
        comparable = [
            model
            for model in input_dict["model"]
            if model.uri not in candidates and model.get_string_custom_property(TEST_SET) in test_sets
        ]
        latest = max(
            (model for model in comparable if model.id in blessings), key=lambda model: int(model.id), default=None
        )
        return {
            "model": [latest] if latest else [],
            "model_blessing": [blessings[latest.id]] if latest else [],
            "candidate": [],
        }
