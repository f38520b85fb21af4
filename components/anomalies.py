"""Anomalies of a delivery in words, from the files of TFX's ExampleValidator; needs no TFX."""

from __future__ import annotations

import os
from collections.abc import Mapping


def anomalies_file(folder: str, split: str) -> str:
    """Return where ExampleValidator writes what it found in a split."""
    return os.path.join(folder, f"Split-{split}", "SchemaDiff.pb")


def describe_anomalies(found: Mapping[str, bytes]) -> list[str]:
    """Return one line an anomaly: split, feature, what is wrong.

    Args:
        found: split -> content of its file; empty where there is none.
    """
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    lines = []
    for split, content in found.items():
        for feature, info in sorted(anomalies_pb2.Anomalies.FromString(content).anomaly_info.items()):
            reasons = "; ".join(reason.description for reason in info.reason) or info.description
            lines.append(f"{split}, {feature}: {reasons}")
    return lines
