"""create_pipeline: from a configuration to a TFX pipeline. Pure; runners and files are elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from tensorflow_data_validation.statistics.stats_options import StatsOptions
from tensorflow_model_analysis.proto import config_pb2  # in TFX 1.21 tfma itself has no names for these messages
from tfx.components import (
    Pusher,
    SchemaGen,
    StatisticsGen,
    Trainer,
    Transform,
)
from tfx.dsl.components.base import executor_spec
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2, trainer_pb2, transform_pb2
from tfx.types import BaseChannel, standard_artifacts

from components.baseline import Baseline, BaselineEvaluator
from components.data_validation import RequireNoAnomalies, ShareLimit, ShareValidator
from components.deformed_examples import DeformedExamples
from components.ensemble_scorer import EnsembleScorer
from components.ensemble_trainer import EnsembleTrainer
from components.example_gen import ClipExampleGen
from components.kept_answers import KEY as COMPARISON_KEY
from components.labels import heads_of
from components.network_scorer import NetworkScorer
from components.network_task import reads_stored_log_mel
from components.push_folder import TEST_SET
from components.pusher import WholePusherExecutor
from components.robustness import RobustnessGate, RobustnessScorer
from components.schema import CuratedSchema
from components.shared_tags import SharedTags
from components.source_hash import ENSEMBLE_SOURCE, EXAMPLE_SOURCE, TRAINING_SOURCE, network_hash, source_hash
from components.tag_scores import ROC_AUC
from models.heads import Heads
from pipeline.config import PipelineConfig
from pipeline.entry_keys import Inputs, heads_settings
from pipeline.run_record import IMPORTED_MODEL
from preprocessing.beam.settings import BeamSettings
from preprocessing.constants import SPLITS
from preprocessing.features import HEALTH_FEATURES, INCOMPLETE
from preprocessing.storage import absolute


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
        metadata: how ML Metadata is reached (pipeline.metadata.connection); None where the orchestrator has its own.

    Returns:
        The pipeline.
    """
    example_gen = _example_gen(config, inputs)
    examples = example_gen.outputs["examples"]
    validation = _validation_nodes(config, inputs, examples)
    transform = _transform(config, examples, validation)
    trainers = {name: _trainer(name, config, examples, transform) for name in config.networks}
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
            "data": _data_card(config),
            "code": [network_hash(config.network(name), *ENSEMBLE_SOURCE) for name in config.networks],
        },
    )
    nodes = [example_gen, *validation, transform, *trainers.values(), ensemble]
    nodes += _gate_nodes(config, inputs, examples, ensemble.outputs["model"], heads_of(config.data.head_settings()))
    return assemble(config, nodes, metadata)


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
    example_gen = _example_gen(config, inputs)
    examples = example_gen.outputs["examples"]
    validation = _validation_nodes(config, inputs, examples)
    transform = _transform(config, examples, validation)
    nodes = [example_gen, *validation, transform]
    deformed = None
    if config.deformations:
        deformed = _deformed_examples(config, examples)
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
        trainer = _trainer(name, config, examples, transform)
        scorer = NetworkScorer(
            examples=examples,
            deformed=None if deformed is None else deformed.outputs["deformed"],
            transform_graph=transform.outputs["transform_graph"],
            model=trainer.outputs["model"],
            model_run=trainer.outputs["model_run"],
            config={
                "entry": name,
                "heads": heads_settings(config),
                "clip": asdict(config.data.clip.format),
                "deformations": list(config.deformations),
                COMPARISON_KEY: key,
            },
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
            "entry": name,
            **ensemble.model_dump(mode="json"),
            "settings": config.combiner.training_settings(),
            "heads": heads_settings(config),
            "clip": asdict(config.data.clip.format),
            "deformations": list(config.deformations),
            COMPARISON_KEY: key,
        },
    ).with_id(f"EnsembleScorer_{name}")


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
    example_gen = _example_gen(config, inputs)
    examples = example_gen.outputs["examples"]
    validation = _validation_nodes(config, inputs, examples)
    importer = Importer(
        source_uri=model.uri,
        artifact_type=standard_artifacts.Model,
        custom_properties={"ensemble": model.name},
    ).with_id(IMPORTED_MODEL)
    gate = _gate_nodes(config, inputs, examples, importer.outputs["result"], model.heads, model.shared)
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


def _example_gen(config: PipelineConfig, inputs: Inputs) -> ClipExampleGen:
    return ClipExampleGen(
        manifest=inputs.manifest,
        data_version=inputs.data_version,
        audio_dir=absolute(config.data.audio_dir),
        annotations=absolute(config.data.annotations_file),
        settings=json.dumps(asdict(config.data.preprocess_settings()), sort_keys=True),
        work_dir=os.path.join(os.path.abspath(config.root), "shards"),
        code=source_hash(*EXAMPLE_SOURCE),
    )


def _transform(config: PipelineConfig, examples: BaseChannel, validation: list[BaseNode]) -> Transform:
    transform = Transform(
        examples=examples,
        schema=validation[0].outputs["schema"],
        preprocessing_fn="components.transform.preprocessing_fn",
        custom_config={
            "heads": heads_settings(config),
            "clip": asdict(config.data.clip.format),
            "code": source_hash("components.transform"),
        },
        splits_config=transform_pb2.SplitsConfig(analyze=["train"], transform=list(SPLITS)),
        disable_statistics=True,
        disable_analyzer_cache=True,
    )
    transform.add_upstream_node(validation[-1])
    return transform


def _validation_nodes(config: PipelineConfig, inputs: Inputs, examples: BaseChannel) -> list[BaseNode]:
    """Curated schema first, the node that stops the run last."""
    statistics = StatisticsGen(
        examples=examples,
        stats_options=StatsOptions(feature_allowlist=[*HEALTH_FEATURES, INCOMPLETE, "clip_id", "track", "tags"]),
    )
    proposal = SchemaGen(statistics=statistics.outputs["statistics"], infer_feature_shape=True)
    schema = CuratedSchema(text=inputs.schema)
    validator = ShareValidator(
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        limits=[
            ShareLimit("short", config.data.max_short_share, "shorter than 80 % of a clip"),
            ShareLimit("silent", config.data.max_silent_share, "silent"),
            ShareLimit(
                INCOMPLETE, config.data.max_incomplete_share, "cut or damaged: less audio than they should have"
            ),
        ],
    ).with_id("ExampleValidator")
    require = RequireNoAnomalies(anomalies=validator.outputs["anomalies"])
    return [schema, statistics, proposal, validator, require]


def _trainer(name: str, config: PipelineConfig, examples: BaseChannel, transform: Transform) -> Trainer:
    network, settings = config.network(name), config.networks[name]
    stored = reads_stored_log_mel(network, settings)
    return Trainer(
        run_fn="components.training.run_fn",
        examples=transform.outputs["transformed_examples"] if stored else examples,
        transform_graph=transform.outputs["transform_graph"],
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["valid"]),
        custom_config={
            "name": name,
            "network": network.name,
            "settings": settings.training_settings(),
            "heads": heads_settings(config),
            "clip": asdict(config.data.clip.format),
            "folds": config.combiner.folds if config.needs_folds else 0,
            "checkpoints": os.path.join(os.path.abspath(config.root), "checkpoints"),
            "code": network_hash(network, *TRAINING_SOURCE),
        },
    ).with_id(f"Trainer_{name}")


def _test_set(config: PipelineConfig) -> str:
    """What says which clips and tags a model is measured on: only models of the same can be compared.

    Tags that are learnt from the training split stand in the models' cards, which components.baseline compares.
    """
    data = config.data
    return json.dumps(
        {
            "data": [data.dataset, _data_card(config)["name"], *data.edition],
            "split": [data.split, list(data.ratio), data.seed],
            "heads": heads_settings(config),
            "synonyms": data.synonyms,
            "clip": asdict(data.clip.format),
        },
        sort_keys=True,
    )


def _data_card(config: PipelineConfig) -> dict[str, Any]:
    """What the model card says of the data besides its counts."""
    data = config.data
    return {
        "name": data.name or data.reader.card.title,
        "licence": data.licence or data.reader.card.licence,
        "split": {"rule": data.split, "ratio": list(data.ratio), "seed": data.seed},
    }


def _gate_nodes(
    config: PipelineConfig,
    inputs: Inputs,
    examples: BaseChannel,
    model: BaseChannel,
    heads: Heads,
    shared: SharedTags | None = None,
) -> list[BaseNode]:
    """Baseline, Evaluator and Pusher of a model with these heads; what measures robustness, where it is asked for."""
    baseline = Baseline(candidate=model, push_dir=config.pushed, test_set=_test_set(config))
    evaluator = BaselineEvaluator(
        examples=examples,
        model=model,
        baseline_model=baseline.outputs["model"],
        example_splits=["test"],
        eval_config=evaluation_config(config, heads, shared),
        module_path=None if shared is None else "components.shared_labels",
    ).with_id("Evaluator")
    nodes: list[BaseNode] = [baseline, evaluator]
    blessing = evaluator.outputs["blessing"]
    if config.deformations:
        deformed = _deformed_examples(config, examples)
        deformed.add_upstream_node(baseline)
        scorer = RobustnessScorer(examples, deformed.outputs["deformed"], model, config.deformations, shared)
        nodes += [deformed, scorer]
    if config.gate.robustness:
        gate = RobustnessGate(scorer.outputs["robustness"], blessing, config.gate.robustness)
        blessing = gate.outputs["robust_blessing"]
        nodes.append(gate)
    pusher = Pusher(
        model=model,
        model_blessing=blessing,
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=config.pushed)
        ),
        custom_executor_spec=executor_spec.ExecutorClassSpec(WholePusherExecutor),
        custom_config={"push_token": inputs.push_token, TEST_SET: _test_set(config)},
    )
    if config.deformations:  # the Pusher is what ends a run
        pusher.add_upstream_node(nodes[-1])
    return [*nodes, pusher]


def _deformed_examples(config: PipelineConfig, examples: BaseChannel) -> DeformedExamples:
    return DeformedExamples(examples, config.deformations, config.data.clip.format)


def evaluation_config(config: PipelineConfig, heads: Heads, shared: SharedTags | None = None) -> config_pb2.EvalConfig:
    """The gate: a lower bound on macro ROC-AUC, and not worse than the latest blessed model by more than epsilon."""
    threshold = config_pb2.MetricThreshold(
        value_threshold=config_pb2.GenericValueThreshold(lower_bound={"value": config.gate.min_roc_auc}),
        change_threshold=config_pb2.GenericChangeThreshold(
            direction=config_pb2.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -config.gate.max_drop}
        ),
    )
    code = source_hash("components.evaluator_metric")
    settings: dict[str, Any] = {"heads": heads.to_json(), "name": f"tag_scores_{code}"}
    if shared is not None:
        settings["shared"] = shared.to_json()
    spec = {
        "signature_name": "serving_default",
        "preprocessing_function_names": ["labels"],
        "label_key": "labels",
        "prediction_key": "predictions",
        "model_type": "tf_generic",
    }
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(name="candidate", **spec),
            config_pb2.ModelSpec(name="baseline", is_baseline=True, **spec),
        ],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[
            config_pb2.MetricsSpec(
                metrics=[
                    config_pb2.MetricConfig(
                        class_name="MacroTagScores",
                        module="components.evaluator_metric",
                        config=json.dumps(settings),
                    )
                ],
                thresholds={ROC_AUC: threshold},
            )
        ],
        options=config_pb2.Options(include_default_metrics={"value": False}),
    )
