"""The components of the pipelines, made from a configuration, for pipeline.create and pipeline.compare.create to wire.

Pure, as those are.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

from tensorflow_data_validation.statistics.stats_options import StatsOptions
from tensorflow_model_analysis.proto import config_pb2  # in TFX 1.21 tfma itself has no names for these messages
from tfx.components import Pusher, SchemaGen, StatisticsGen, Trainer, Transform
from tfx.dsl.components.base import executor_spec
from tfx.dsl.components.base.base_node import BaseNode
from tfx.proto import pusher_pb2, trainer_pb2, transform_pb2
from tfx.types import BaseChannel

from components.baseline import Baseline, BaselineEvaluator
from components.data_validation import RequireNoAnomalies, ShareLimit, ShareValidator
from components.deformed_examples import DeformedExamples
from components.example_gen import ClipExampleGen
from components.network_task import reads_stored_log_mel
from components.push_folder import TEST_SET
from components.pusher import WholePusherExecutor
from components.robustness import RobustnessGate, RobustnessScorer
from components.schema import CuratedSchema
from components.shared_tags import SharedTags
from components.source_hash import EXAMPLE_SOURCE, TRAINING_SOURCE, network_hash, source_hash
from components.tag_scores import ROC_AUC
from models.heads import Heads
from pipeline.entry_keys import Inputs, heads_settings
from pipeline.settings.config import PipelineConfig
from preprocessing.constants import SPLITS
from preprocessing.features import HEALTH_FEATURES, INCOMPLETE
from preprocessing.storage import absolute


def example_gen_node(config: PipelineConfig, inputs: Inputs) -> ClipExampleGen:
    """What makes examples of clips."""
    return ClipExampleGen(
        manifest=inputs.manifest,
        data_version=inputs.data_version,
        audio_dir=absolute(config.data.audio_dir),
        annotations=absolute(config.data.annotations_file),
        settings=json.dumps(asdict(config.data.preprocess_settings()), sort_keys=True),
        work_dir=os.path.join(os.path.abspath(config.root), "shards"),
        code=source_hash(*EXAMPLE_SOURCE),
    )


def transform_node(config: PipelineConfig, examples: BaseChannel, validation: list[BaseNode]) -> Transform:
    """What learns tags and means from the training split, after the validation."""
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


def validation_nodes(config: PipelineConfig, inputs: Inputs, examples: BaseChannel) -> list[BaseNode]:
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


def trainer_node(name: str, config: PipelineConfig, examples: BaseChannel, transform: Transform) -> Trainer:
    """What trains one network, on the stored log-mel where it reads that."""
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
            "data": [data.dataset, data_card(config)["name"], *data.edition],
            "split": [data.split, list(data.ratio), data.seed],
            "heads": heads_settings(config),
            "synonyms": data.synonyms,
            "clip": asdict(data.clip.format),
        },
        sort_keys=True,
    )


def data_card(config: PipelineConfig) -> dict[str, Any]:
    """What the model card says of the data besides its counts."""
    data = config.data
    return {
        "name": data.name or data.reader.card.title,
        "licence": data.licence or data.reader.card.licence,
        "split": {"rule": data.split, "ratio": list(data.ratio), "seed": data.seed},
    }


def gate_nodes(
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
        deformed = deformed_examples_node(config, examples)
        deformed.add_upstream_node(baseline)
        scorer = RobustnessScorer(examples, deformed.outputs["deformed"], model, config.deformations, shared)
        nodes += [deformed, scorer]
    if config.gate.robustness:
        gate = RobustnessGate(scorer.outputs["robustness"], blessing, config.gate.robustness)
        blessing = gate.outputs["robust_blessing"]
        nodes.append(gate)
    pusher = _pusher(config, inputs, model, blessing)
    if config.deformations:  # the Pusher is what ends a run
        pusher.add_upstream_node(nodes[-1])
    return [*nodes, pusher]


def _pusher(config: PipelineConfig, inputs: Inputs, model: BaseChannel, blessing: BaseChannel) -> Pusher:
    return Pusher(
        model=model,
        model_blessing=blessing,
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=config.pushed)
        ),
        custom_executor_spec=executor_spec.ExecutorClassSpec(WholePusherExecutor),
        custom_config={"push_token": inputs.push_token, TEST_SET: _test_set(config)},
    )


def deformed_examples_node(config: PipelineConfig, examples: BaseChannel) -> DeformedExamples:
    """What deforms the test split."""
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
