"""create_comparison_pipeline: a whole comparison as one TFX pipeline, all data sets in it. Pure, as pipeline.create."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.pipeline import Pipeline
from tfx.types import BaseChannel

from pipeline.compare.config import ComparisonConfig, Entry
from pipeline.compare.scoring import scoring_nodes
from pipeline.compare.writer import ComparisonWriter
from pipeline.create import assemble
from pipeline.entry_keys import Inputs, entry_key

WRITER: Final = "Comparison"
"""Id of the node that writes the results."""


def create_comparison_pipeline(config: ComparisonConfig, inputs: Mapping[str, Inputs]) -> Pipeline:
    """Wire the components that train and score all entries, and the one that writes what came of them.

    Args:
        config: the comparison; files of its data sets' pipelines go below its root, as on one machine.
        inputs: data set -> its data and schema.

    Returns:
        The pipeline. Where there are several data sets the nodes' ids end with ``__`` and the data set's name.
    """
    nodes: list[BaseNode] = []
    evaluations: dict[Entry, BaseChannel] = {}
    for data, given in inputs.items():
        entries = [entry for entry in config.entries() if entry.data == data]
        pipeline = config.pipeline(data)
        keys = {entry.name: entry_key(pipeline, given, entry.name) for entry in entries}
        of_data, channels = scoring_nodes(pipeline, given, keys)
        evaluations |= {entry: channels[entry.name] for entry in entries}
        nodes += of_data if len(inputs) == 1 else [node.with_id(f"{node.id}__{data}") for node in of_data]
    return assemble(config, [*nodes, ComparisonWriter(config, evaluations).with_id(WRITER)])
