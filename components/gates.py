"""What stops a run: anomalies in a delivery, found by TFX's ExampleValidator, which only reports them."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from tensorflow_data_validation.anomalies.proto import custom_validation_config_pb2
from tfx import types
from tfx.components.example_validator import executor as validator_executor
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import io_utils, proto_utils

from preprocessing.errors import AutotagError


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


class PortableExampleValidatorExecutor(validator_executor.Executor):  # type: ignore[misc]
    """TFX's ExampleValidator, given its custom validations as JSON."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> Any:
        """Write the anomalies of each split."""
        key = standard_component_specs.CUSTOM_VALIDATION_CONFIG_KEY
        message = custom_validation_config_pb2.CustomValidationConfig()
        proto_utils.json_to_proto(exec_properties[key], message)
        return super().Do(input_dict, output_dict, {**exec_properties, key: message})


class PortableExampleValidatorSpec(ComponentSpec):  # type: ignore[misc]
    """ExampleValidator's interface with the custom validations as text."""

    PARAMETERS: ClassVar[dict[str, Any]] = {
        standard_component_specs.EXCLUDE_SPLITS_KEY: ExecutionParameter(type=str),
        standard_component_specs.CUSTOM_VALIDATION_CONFIG_KEY: ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, Any]] = {
        "statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "schema": ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS: ClassVar[dict[str, Any]] = {"anomalies": ChannelParameter(type=standard_artifacts.ExampleAnomalies)}


class PortableExampleValidator(base_component.BaseComponent):  # type: ignore[misc]
    """TFX's ExampleValidator with custom validations that compile for Kubeflow, where TFX's own do not."""

    SPEC_CLASS = PortableExampleValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(PortableExampleValidatorExecutor)

    def __init__(
        self,
        statistics: types.BaseChannel,
        schema: types.BaseChannel,
        custom_validations: custom_validation_config_pb2.CustomValidationConfig,
    ) -> None:
        """Take statistics, schema and what a delivery must fulfil as a whole."""
        super().__init__(
            spec=PortableExampleValidatorSpec(
                statistics=statistics,
                schema=schema,
                exclude_splits="[]",
                custom_validation_config=proto_utils.proto_to_json(custom_validations),
                anomalies=types.Channel(type=standard_artifacts.ExampleAnomalies),
            )
        )


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
    """Stops the run on a delivery with anomalies."""

    SPEC_CLASS = RequireNoAnomaliesSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RequireNoAnomaliesExecutor)

    def __init__(self, anomalies: types.BaseChannel) -> None:
        """Take ExampleValidator's anomalies."""
        super().__init__(spec=RequireNoAnomaliesSpec(anomalies=anomalies))
