"""ShareValidator and RequireNoAnomalies through TFX's own executors, on statistics and schema as files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.types import artifact_utils, standard_artifacts

from components.data_validation import (
    DataAnomaliesError,
    RequireNoAnomaliesExecutor,
    ShareLimit,
    ShareValidatorExecutor,
    exceeded,
    list_anomalies,
)

LIMITS = [ShareLimit("short", 0.02, "shorter than 80 % of 29.1 s"), ShareLimit("silent", 0.02, "silent")]


def statistics_of(means: dict[str, float], clips: int = 100) -> statistics_pb2.DatasetFeatureStatistics:
    dataset = statistics_pb2.DatasetFeatureStatistics(num_examples=clips)
    for name, mean in means.items():
        feature = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.FLOAT)
        feature.path.step.append(name)
        feature.num_stats.mean = mean
        feature.num_stats.max = 1.0 if mean else 0.0
        common = feature.num_stats.common_stats
        common.num_non_missing = common.tot_num_values = clips
        common.min_num_values = common.max_num_values = 1
        common.avg_num_values = 1.0
    return dataset


def validate(folder: Path, splits: dict[str, dict[str, float]]) -> Any:
    """The anomalies' artifact that the executor writes for statistics with these means, split by split."""
    statistics, schema, anomalies = (
        standard_artifacts.ExampleStatistics(),
        standard_artifacts.Schema(),
        standard_artifacts.ExampleAnomalies(),
    )
    statistics.uri, schema.uri, anomalies.uri = (str(folder / name) for name in ("statistics", "schema", "anomalies"))
    statistics.split_names = artifact_utils.encode_split_names(list(splits))
    for split, means in splits.items():
        path = folder / "statistics" / f"Split-{split}" / "FeatureStats.pb"
        path.parent.mkdir(parents=True)
        message = statistics_pb2.DatasetFeatureStatisticsList(datasets=[statistics_of(means)])
        path.write_bytes(message.SerializeToString())
    message = schema_pb2.Schema()
    for name in ("short", "silent"):
        feature = message.feature.add(name=name, type=schema_pb2.FLOAT)
        feature.presence.min_fraction = 1.0
        feature.shape.dim.add(size=1)
    (folder / "schema").mkdir()
    (folder / "schema" / "schema.pbtxt").write_text(text_format.MessageToString(message))
    ShareValidatorExecutor().Do(
        {"statistics": [statistics], "schema": [schema]},
        {"anomalies": [anomalies]},
        {"exclude_splits": "[]", "limits": json.dumps([asdict(limit) for limit in LIMITS])},
    )
    return anomalies


def test_share_above_its_limit_is_an_anomaly_of_its_split_and_stops_the_run(tmp_path: Path) -> None:
    anomalies = validate(tmp_path, {"train": {"short": 0.02, "silent": 0}, "test": {"short": 0, "silent": 0.05}})
    assert list_anomalies(anomalies) == ["test, silent: more than 2.0% of the clips are silent"]
    assert anomalies.get_json_value_custom_property("blessed") == {"train": 1, "test": 0}
    with pytest.raises(DataAnomaliesError, match=r"test, silent: more than 2.0% of the clips are silent"):
        RequireNoAnomaliesExecutor().Do({"anomalies": [anomalies]}, {}, {})


def test_delivery_within_its_limits_passes(tmp_path: Path) -> None:
    anomalies = validate(tmp_path, {"train": {"short": 0.02, "silent": 0.01}})
    assert list_anomalies(anomalies) == []
    RequireNoAnomaliesExecutor().Do({"anomalies": [anomalies]}, {}, {})


def test_anomaly_of_tfx_is_kept_beside_ours(tmp_path: Path) -> None:
    anomalies = validate(tmp_path, {"train": {"silent": 0.5}})
    lines = list_anomalies(anomalies)
    assert [line.partition(":")[0] for line in lines] == ["train, short", "train, silent"]
    written = (tmp_path / "anomalies" / "Split-train" / "SchemaDiff.pb").read_bytes()
    info = anomalies_pb2.Anomalies.FromString(written).anomaly_info["silent"]
    assert info.severity == anomalies_pb2.AnomalyInfo.ERROR
    assert info.reason[0].type == anomalies_pb2.AnomalyInfo.CUSTOM_VALIDATION


def test_clips_without_the_feature_count_as_not_meant() -> None:
    limit = ShareLimit("incomplete", 0.02, "cut or damaged")
    for having, over in ((2, []), (3, [limit])):
        statistics = statistics_of({"incomplete": 1.0})
        statistics.features[0].num_stats.common_stats.num_non_missing = having
        statistics.features[0].num_stats.common_stats.num_missing = 100 - having
        assert exceeded([limit], statistics) == over


def test_limit_is_exceeded_only_above_its_share() -> None:
    assert exceeded(LIMITS, statistics_of({"short": 0.02, "silent": 0.0201})) == [LIMITS[1]]
    assert exceeded(LIMITS, statistics_of({})) == []
