"""The components that train and score a comparison's networks and ensembles. Pure, as pipeline.create."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tfx.components import Transform
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.pipeline import Pipeline
from tfx.types import BaseChannel

from components.ensemble_scorer import EnsembleScorer
from components.kept_answers import KEY as COMPARISON_KEY
from components.network_scorer import NetworkScorer
from pipeline.create import assemble
from pipeline.entry_keys import Inputs, heads_settings
from pipeline.nodes import deformed_examples_node, example_gen_node, trainer_node, transform_node, validation_nodes
from pipeline.settings.config import PipelineConfig


def create_scoring_pipeline(
    config: PipelineConfig, inputs: Inputs, keys: Mapping[str, str], metadata: Any = None
) -> Pipeline:
    """Wire the components that train networks and score each: of a comparison.

    Args:
        config: settings; nothing is pushed.
        inputs: data and schema.
        keys: network or ensemble -> what its evaluation is known by; an ensemble's networks stand before it.
        metadata: as in create_pipeline.
    """
    return assemble(config, scoring_nodes(config, inputs, keys)[0], metadata)


def scoring_nodes(
    config: PipelineConfig, inputs: Inputs, keys: Mapping[str, str]
) -> tuple[list[BaseNode], dict[str, BaseChannel]]:
    """Return the components of create_scoring_pipeline, and network or ensemble -> its evaluation."""
    example_gen = example_gen_node(config, inputs)
    examples = example_gen.outputs["examples"]
    validation = validation_nodes(config, inputs, examples)
    transform = transform_node(config, examples, validation)
    nodes = [example_gen, *validation, transform]
    deformed = None
    if config.deformations:
        deformed = deformed_examples_node(config, examples)
        deformed.add_upstream_node(validation[-1])
        nodes.append(deformed)
    models: dict[str, BaseChannel] = {}
    evaluations: dict[str, BaseChannel] = {}
    for name, key in keys.items():
        if name in config.ensembles:
            scorer = _ensemble_scorer(name, key, config, examples, transform, models, evaluations)
            evaluations[name] = scorer.outputs["evaluation"]
            nodes.append(scorer)
            continue
        trainer = trainer_node(name, config, examples, transform)
        scorer = NetworkScorer(
            examples=examples,
            deformed=None if deformed is None else deformed.outputs["deformed"],
            transform_graph=transform.outputs["transform_graph"],
            model=trainer.outputs["model"],
            model_run=trainer.outputs["model_run"],
            config=_scorer_config(name, key, config),
        ).with_id(f"NetworkScorer_{name}")
        models[name], evaluations[name] = trainer.outputs["model"], scorer.outputs["evaluation"]
        nodes += [trainer, scorer]
    return nodes, evaluations


def _ensemble_scorer(
    name: str,
    key: str,
    config: PipelineConfig,
    examples: BaseChannel,
    transform: Transform,
    models: Mapping[str, BaseChannel],
    evaluations: Mapping[str, BaseChannel],
) -> BaseNode:
    ensemble = config.ensembles[name]
    return EnsembleScorer(
        examples=examples,
        transform_graph=transform.outputs["transform_graph"],
        models={one: models[one] for one in ensemble.of},
        evaluations={one: evaluations[one] for one in ensemble.of},
        config={
            **_scorer_config(name, key, config),
            **ensemble.model_dump(mode="json"),
            "settings": config.combiner.training_settings(),
        },
    ).with_id(f"EnsembleScorer_{name}")


def _scorer_config(name: str, key: str, config: PipelineConfig) -> dict[str, Any]:
    """What a scorer is told, of a network or an ensemble."""
    return {
        "entry": name,
        "heads": heads_settings(config),
        "clip": asdict(config.data.clip.format),
        "deformations": list(config.deformations),
        COMPARISON_KEY: key,
    }
