"""create_pipeline: from a configuration to a TFX pipeline. Pure; runners and files are elsewhere."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from components.ensemble_trainer import EnsembleTrainer
from components.labels import heads_of
from components.shared_tags import SharedTags
from components.source_hash import ENSEMBLE_SOURCE, network_hash
from models.heads import Heads
from pipeline.entry_keys import Inputs, heads_settings
from pipeline.nodes import data_card, example_gen_node, gate_nodes, trainer_node, transform_node, validation_nodes
from pipeline.runs.run_record import IMPORTED_MODEL
from pipeline.settings.config import PipelineConfig
from preprocessing.beam.settings import BeamSettings


@dataclass(frozen=True)
class ImportedModel:
    """A model that was not trained here.

    Attributes:
        name: what people call it.
        uri: folder of TFX's Model artifact: the version is below it, where serving_model_path has it.
        heads: its outputs.
        shared: which tags of the data answer for its own, where they are called otherwise.
    """

    name: str
    uri: str
    heads: Heads
    shared: SharedTags | None = None


def create_pipeline(config: PipelineConfig, inputs: Inputs, metadata: Any = None) -> Pipeline:
    """Wire the components.

    Args:
        config: settings.
        inputs: data and schema.
        metadata: how ML Metadata is reached (pipeline.runs.metadata); None where the orchestrator has its own.

    Returns:
        The pipeline.
    """
    example_gen = example_gen_node(config, inputs)
    examples = example_gen.outputs["examples"]
    validation = validation_nodes(config, inputs, examples)
    transform = transform_node(config, examples, validation)
    trainers = {name: trainer_node(name, config, examples, transform) for name in config.networks}
    ensemble = EnsembleTrainer(
        examples=examples,
        transform_graph=transform.outputs["transform_graph"],
        networks={name: trainer.outputs["model"] for name, trainer in trainers.items()},
        config={
            "networks": list(config.networks),
            "combinations": [
                {"name": name, **one.model_dump(mode="json")} for name, one in config.all_combinations().items()
            ],
            "push": config.push_name,
            "settings": config.combiner.training_settings(),
            "heads": heads_settings(config),
            "clip": asdict(config.data.clip.format),
            "data": data_card(config),
            "code": [network_hash(config.network(name), *ENSEMBLE_SOURCE) for name in config.networks],
        },
    )
    nodes = [example_gen, *validation, transform, *trainers.values(), ensemble]
    nodes += gate_nodes(config, inputs, examples, ensemble.outputs["model"], heads_of(config.data.head_settings()))
    return assemble(config, nodes, metadata)


def create_import_pipeline(
    config: PipelineConfig, inputs: Inputs, model: ImportedModel, metadata: Any = None
) -> Pipeline:
    """Wire the components that take a model which was not trained here through the gate.

    Args:
        config: settings: data, gate, push folder.
        inputs: data and schema.
        model: the model.
        metadata: as in create_pipeline.

    Returns:
        The pipeline, under the configuration's own name, so that its runs stand among the others.
    """
    example_gen = example_gen_node(config, inputs)
    examples = example_gen.outputs["examples"]
    validation = validation_nodes(config, inputs, examples)
    importer = Importer(
        source_uri=model.uri,
        artifact_type=standard_artifacts.Model,
        custom_properties={"ensemble": model.name},
    ).with_id(IMPORTED_MODEL)
    gate = gate_nodes(config, inputs, examples, importer.outputs["result"], model.heads, model.shared)
    gate[0].add_upstream_node(validation[-1])
    return assemble(config, [example_gen, *validation, importer, *gate], metadata)


class _Whole(Protocol):
    """What a configuration says of a pipeline as a whole."""

    @property
    def name(self) -> str: ...

    @property
    def root(self) -> str: ...

    @property
    def beam(self) -> BeamSettings: ...


def assemble(config: _Whole, nodes: list[BaseNode], metadata: Any = None) -> Pipeline:
    """Return the pipeline of these components; ``metadata`` as in create_pipeline."""
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=os.path.join(os.path.abspath(config.root), "artifacts"),
        components=nodes,
        enable_cache=True,
        metadata_connection_config=metadata,
        beam_pipeline_args=config.beam.arguments(),
    )
