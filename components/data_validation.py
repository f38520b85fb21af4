"""What stops a run: anomalies in a delivery, found by TFX's ExampleValidator, which only reports them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx import types
from tfx.components.example_validator import executor as validator_executor
from tfx.components.example_validator import labels
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import io_utils, writer_utils

from components.anomalies import anomalies_file, describe_anomalies
from preprocessing.errors import AutotagError


class DataAnomaliesError(AutotagError):
    """The examples do not look as the schema says; the message lists what does not, split by split."""


def list_anomalies(anomalies: types.Artifact) -> list[str]:
    """Return one line an anomaly of all splits; see components.anomalies."""
    splits = artifact_utils.decode_split_names(anomalies.split_names)
    files = {split: anomalies_file(anomalies.uri, split) for split in splits}
    return describe_anomalies({split: io_utils.read_bytes_file(path) for split, path in files.items()})


@dataclass(frozen=True)
class ShareLimit:
    """What a delivery must fulfil as a whole: one silent clip among thousands is no anomaly, two in a hundred are.

    Attributes:
        feature: 1 for a clip that is meant, else 0; its mean is the share.
        share: the largest that is no anomaly.
        clips: what is said of the clips.
    """

    feature: str
    share: float
    clips: str

    @property
    def description(self) -> str:
        """What an anomaly is called."""
        return f"more than {self.share:.1%} of the clips are {self.clips}"


def exceeded(limits: Sequence[ShareLimit], statistics: statistics_pb2.DatasetFeatureStatistics) -> list[ShareLimit]:
    """Return the limits that a split does not keep. A feature that is missing is the schema's to report.

    A clip without the feature counts as one that is not meant.
    """
    means = {
        feature.path.step[0] or feature.name: feature.num_stats.mean * _share_with(feature, statistics.num_examples)
        for feature in statistics.features
        if feature.HasField("num_stats") and feature.path.step
    }
    return [limit for limit in limits if means.get(limit.feature, 0.0) > limit.share]


def _share_with(feature: statistics_pb2.FeatureNameStatistics, examples: int) -> float:
    """Share of the examples that have the feature."""
    common = feature.num_stats.common_stats
    return float(common.num_non_missing / examples) if examples else 1.0


def add_anomalies(anomalies: anomalies_pb2.Anomalies, limits: Sequence[ShareLimit]) -> None:
    """Add an anomaly for each limit, besides what the feature has already."""
    for limit in limits:
        info = anomalies.anomaly_info[limit.feature]
        info.path.step[:] = [limit.feature]
        info.severity = anomalies_pb2.AnomalyInfo.ERROR
        info.reason.add(
            type=anomalies_pb2.AnomalyInfo.CUSTOM_VALIDATION,
            short_description=limit.description,
            description=limit.description,
        )
        info.description = "; ".join(reason.description for reason in info.reason)
        info.short_description = info.reason[0].short_description


class ShareValidatorExecutor(validator_executor.Executor):  # type: ignore[misc]
    """TFX's ExampleValidator, which looks at one value after the other, and limits on shares of all clips.

    TFX has custom validations for that only until 1.16 (in SQL, and not on Kubeflow).
    """

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> Any:
        """Write the anomalies of each split."""
        self._limits = [ShareLimit(**limit) for limit in json.loads(exec_properties["limits"])]
        return super().Do(input_dict, output_dict, exec_properties)

    def _Validate(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> anomalies_pb2.Anomalies:  # noqa: N802
        anomalies = super()._Validate(inputs, outputs)
        [statistics] = inputs[standard_component_specs.STATISTICS_KEY].datasets
        add_anomalies(anomalies, exceeded(self._limits, statistics))
        path = os.path.join(outputs[labels.SCHEMA_DIFF_PATH], validator_executor.DEFAULT_FILE_NAME)
        writer_utils.write_anomalies(path, anomalies)
        return anomalies


class ShareValidatorSpec(ComponentSpec):  # type: ignore[misc]
    """ExampleValidator's interface with limits on shares, as JSON."""

    PARAMETERS: ClassVar[dict[str, Any]] = {
        standard_component_specs.EXCLUDE_SPLITS_KEY: ExecutionParameter(type=str),
        "limits": ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, Any]] = {
        "statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "schema": ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS: ClassVar[dict[str, Any]] = {"anomalies": ChannelParameter(type=standard_artifacts.ExampleAnomalies)}


class ShareValidator(base_component.BaseComponent):  # type: ignore[misc]
    """TFX's ExampleValidator that also knows how many clips of a split may be short or silent."""

    SPEC_CLASS = ShareValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ShareValidatorExecutor)

    def __init__(self, statistics: types.BaseChannel, schema: types.BaseChannel, limits: Sequence[ShareLimit]) -> None:
        """Take statistics, schema and what a delivery must fulfil as a whole."""
        super().__init__(
            spec=ShareValidatorSpec(
                statistics=statistics,
                schema=schema,
                exclude_splits="[]",
                limits=json.dumps([asdict(limit) for limit in limits]),
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
        """Read the anomalies.

        Raises:
            DataAnomaliesError: there are some.
        """
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
