"""create_pipeline: which nodes there are, what each reads, and what makes TFX run one again. TFX compiles all of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tfx.dsl.compiler.compiler import Compiler
from tfx.orchestration.pipeline import Pipeline
from tfx.proto.orchestration import pipeline_pb2

from models.heads import MULTI_LABEL, ONE_OF, Head, Heads
from pipeline.compare.scoring import create_scoring_pipeline
from pipeline.create import ImportedModel, create_import_pipeline, create_pipeline
from pipeline.entry_keys import Inputs, entry_key
from pipeline.nodes import evaluation_config
from pipeline.settings.config import PipelineConfig, load_config

INPUTS = Inputs("/inputs/manifest.json", "f00d", "feature { name: 'clip_id' }", "token 1")
CONFIGS = sorted((Path(__file__).parents[2] / "pipeline" / "configs").glob("*.yaml"))
SMALL: dict[str, Any] = {
    "root": "run",
    "data": {
        "audio_dir": "clips",
        "heads": {"tempo": {"kind": "one-of", "tags": ["slow", "fast"]}, "tags": {"top": 5}},
    },
    "networks": {"mel_1d": {}, "short": {"network": "musicnn", "epochs": 3}},
    "ensembles": {"both": {"of": ["short", "mel_1d"], "combiner": "logistic", "fit": "out_of_fold"}},
}


def small(**changes: Any) -> PipelineConfig:
    return PipelineConfig.model_validate({**SMALL, **changes})


def nodes(pipeline: Pipeline) -> dict[str, Any]:
    return {node.id: node for node in pipeline.components}


def compiled(pipeline: Pipeline) -> dict[str, pipeline_pb2.PipelineNode]:
    """What TFX runs: node -> its part of the intermediate representation."""
    made: pipeline_pb2.Pipeline = Compiler().compile(pipeline)
    return {node.pipeline_node.node_info.id: node.pipeline_node for node in made.nodes}


def producers(node: pipeline_pb2.PipelineNode) -> dict[str, set[tuple[str, str]]]:
    """Input -> (node, output) that it comes from."""
    return {
        name: {(channel.producer_node_query.id, channel.output_key) for channel in spec.channels}
        for name, spec in node.inputs.inputs.items()
    }


def parameters(node: pipeline_pb2.PipelineNode) -> dict[str, Any]:
    """By which TFX's cache knows an execution, besides its inputs."""
    return {name: json_format.MessageToDict(value) for name, value in node.parameters.parameters.items()}


@pytest.fixture(scope="module")
def made() -> dict[str, pipeline_pb2.PipelineNode]:
    return compiled(create_pipeline(small(), INPUTS))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_configuration_becomes_a_pipeline_that_tfx_compiles(path: Path) -> None:
    config = load_config(str(path))
    found = compiled(create_pipeline(config, INPUTS))
    assert {f"Trainer_{name}" for name in config.networks} <= found.keys()
    assert next(iter(found)) == "ClipExampleGen"
    assert {"StatisticsGen", "Transform", "EnsembleTrainer", "Evaluator", "Pusher"} <= found.keys()


def test_nothing_is_learnt_before_the_data_are_validated(made: dict[str, pipeline_pb2.PipelineNode]) -> None:
    assert "RequireNoAnomalies" in made["Transform"].upstream_nodes
    assert "ExampleValidator" in made["RequireNoAnomalies"].upstream_nodes
    assert producers(made["ExampleValidator"])["schema"] == {("CuratedSchema", "schema")}
    assert producers(made["Transform"])["schema"] == {("CuratedSchema", "schema")}


def test_networks_of_the_stored_log_mel_read_transforms_examples_and_others_the_raw_ones(
    made: dict[str, pipeline_pb2.PipelineNode],
) -> None:
    assert producers(made["Trainer_mel_1d"])["examples"] == {("Transform", "transformed_examples")}
    assert producers(made["Trainer_short"])["examples"] == {("ClipExampleGen", "examples")}
    assert producers(made["EnsembleTrainer"]) == {
        "examples": {("ClipExampleGen", "examples")},
        "transform_graph": {("Transform", "transform_graph")},
        "mel_1d": {("Trainer_mel_1d", "model")},
        "short": {("Trainer_short", "model")},
    }


def test_model_is_pushed_only_with_the_evaluators_blessing(made: dict[str, pipeline_pb2.PipelineNode]) -> None:
    assert producers(made["Pusher"]) == {
        "model": {("EnsembleTrainer", "model")},
        "model_blessing": {("Evaluator", "blessing")},
    }
    assert producers(made["Evaluator"])["baseline_model"] == {("Baseline", "model")}
    assert producers(made["Evaluator"])["model"] == {("EnsembleTrainer", "model")}
    assert parameters(made["Evaluator"])["example_splits"] == {"fieldValue": {"stringValue": '["test"]'}}


def test_model_that_must_be_robust_is_pushed_only_with_the_last_gates_blessing() -> None:
    gated = small(robustness={"deformations": ["mp3_32"]}, gate={"robustness": {"noise_0.1": 0.05}})
    found = compiled(create_pipeline(gated, INPUTS))
    assert producers(found["DeformedExamples"]) == {"examples": {("ClipExampleGen", "examples")}}
    assert producers(found["RobustnessScorer"]) == {
        "examples": {("ClipExampleGen", "examples")},
        "deformed": {("DeformedExamples", "deformed")},
        "model": {("EnsembleTrainer", "model")},
    }
    assert producers(found["RobustnessGate"]) == {
        "robustness": {("RobustnessScorer", "robustness")},
        "blessing": {("Evaluator", "blessing")},
    }
    assert producers(found["Pusher"])["model_blessing"] == {("RobustnessGate", "robust_blessing")}
    config = json.loads(parameters(found["DeformedExamples"])["config"]["fieldValue"]["stringValue"])
    assert config["deformations"] == ["mp3_32", "noise_0.1"], "what the gate asks for is measured too"


def test_deformations_without_a_limit_are_measured_before_the_push_and_decide_nothing() -> None:
    measured = small(robustness={"deformations": ["mp3_32"]})
    found = compiled(create_pipeline(measured, INPUTS))
    assert producers(found["Pusher"])["model_blessing"] == {("Evaluator", "blessing")}
    assert "RobustnessScorer" in found["Pusher"].upstream_nodes
    assert "RobustnessGate" not in found
    stricter = small(robustness={"deformations": ["mp3_32"]}, gate={"robustness": {"mp3_32": 0.1}})
    strictest = small(robustness={"deformations": ["mp3_32"]}, gate={"robustness": {"mp3_32": 0.2}})
    assert changed_by(stricter, strictest) == {"RobustnessGate"}, "nothing is scored again for another limit"


def test_networks_of_a_comparison_are_scored_under_its_deformations() -> None:
    plain, deformed = small(), small(robustness={"deformations": ["noise_0.4"]})
    keys = {name: entry_key(deformed, INPUTS, name) for name in deformed.networks}
    found = compiled(create_scoring_pipeline(deformed, INPUTS, keys))
    assert producers(found["NetworkScorer_mel_1d"])["deformed"] == {("DeformedExamples", "deformed")}
    without = compiled(create_scoring_pipeline(plain, INPUTS, {"mel_1d": "key"}))
    assert "DeformedExamples" not in without
    assert "deformed" not in producers(without["NetworkScorer_mel_1d"])
    assert entry_key(plain, INPUTS, "mel_1d") != keys["mel_1d"]
    assert parameters(found["Trainer_mel_1d"]) == parameters(without["Trainer_mel_1d"]), "no training is done again"


def test_transform_learns_of_the_training_split_alone() -> None:
    transform = nodes(create_pipeline(small(), INPUTS))["Transform"]
    splits = json.loads(transform.exec_properties["splits_config"])
    assert splits == {"analyze": ["train"], "transform": ["train", "valid", "test"]}
    config = json.loads(transform.exec_properties["custom_config"])
    assert [head["name"] for head in config["heads"]] == ["tempo", "tags"]


def test_folds_are_trained_only_where_a_combiner_is_fitted_on_them() -> None:
    def folds(fit: str, combiner: str = "logistic") -> int:
        both = {"of": ["short", "mel_1d"], "combiner": combiner, "fit": fit}
        trainer = nodes(create_pipeline(small(ensembles={"both": both}), INPUTS))["Trainer_short"]
        return int(json.loads(trainer.exec_properties["custom_config"])["folds"])

    assert folds("out_of_fold") == 3
    assert folds("valid") == 0
    assert folds("out_of_fold", "mean") == 0


def changed_by(before: PipelineConfig, after: PipelineConfig, inputs: Inputs = INPUTS) -> set[str]:
    """Nodes whose own parameters another configuration, or other inputs, change."""
    first, second = compiled(create_pipeline(before, INPUTS)), compiled(create_pipeline(after, inputs))
    assert first.keys() == second.keys()
    return {name for name in first if parameters(first[name]) != parameters(second[name])}


def test_only_what_a_setting_concerns_is_run_again() -> None:
    more_epochs = {**SMALL["networks"], "short": {"network": "musicnn", "epochs": 4}}
    assert changed_by(small(), small(networks=more_epochs)) == {"Trainer_short"}
    assert changed_by(small(), small(combiner={"epochs": 7})) == {"EnsembleTrainer"}
    assert changed_by(small(), small(gate={"min_roc_auc": 0.9})) == {"Evaluator"}
    assert changed_by(small(), small(beam={"workers": 3})) == set()
    other = Inputs("/inputs/other.json", "beef", INPUTS.schema, INPUTS.push_token)
    assert changed_by(small(), small(), other) == {"ClipExampleGen"}
    again = Inputs(INPUTS.manifest, INPUTS.data_version, INPUTS.schema, "token 2")
    assert changed_by(small(), small(), again) == {"Pusher"}


def test_relative_folders_are_absolute_for_whoever_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline = create_pipeline(small(), INPUTS)
    assert pipeline.pipeline_info.pipeline_root == f"{tmp_path}/run/artifacts"
    found = nodes(pipeline)
    properties = found["ClipExampleGen"].exec_properties
    assert properties["audio_dir"] == f"{tmp_path}/clips"
    assert properties["annotations"] == f"{tmp_path}/clips/annotations_final.csv"
    assert properties["work_dir"] == f"{tmp_path}/run/shards"
    checkpoints = json.loads(found["Trainer_short"].exec_properties["custom_config"])["checkpoints"]
    assert checkpoints == f"{tmp_path}/run/checkpoints"
    assert f"{tmp_path}/run/pushed" in str(found["Pusher"].exec_properties["push_destination"])
    assert found["Baseline"].exec_properties["push_dir"] == f"{tmp_path}/run/pushed"
    stored = small(data={**SMALL["data"], "audio_dir": "s3://music/clips"})
    assert nodes(create_pipeline(stored, INPUTS))["ClipExampleGen"].exec_properties["audio_dir"] == "s3://music/clips"


def test_gate_is_a_lower_bound_and_no_more_loss_than_is_allowed() -> None:
    heads = Heads((Head("tempo", ONE_OF, 2), Head("tags", MULTI_LABEL, 5)))
    config = evaluation_config(small(gate={"min_roc_auc": 0.7, "max_drop": 0.02}), heads)
    (spec,) = config.metrics_specs
    (threshold,) = spec.thresholds.values()
    assert threshold.value_threshold.lower_bound.value == pytest.approx(0.7)
    assert threshold.change_threshold.absolute.value == pytest.approx(-0.02)
    assert [(model.name, model.is_baseline) for model in config.model_specs] == [
        ("candidate", False),
        ("baseline", True),
    ]
    assert json.loads(spec.metrics[0].config)["heads"] == heads.to_json()


def test_models_are_compared_on_the_same_test_set_only(tmp_path: Path) -> None:
    def test_set(**data: Any) -> str:
        config = small(data={**SMALL["data"], **data})
        found: str = nodes(create_pipeline(config, INPUTS))["Baseline"].exec_properties["test_set"]
        return found

    assert test_set() == test_set(shard_clips=7) == test_set(audio_dir=str(tmp_path))
    others = [test_set(seed=1), test_set(split="folder"), test_set(heads={"tags": {"top": 6}}), test_set(name="x")]
    assert len({test_set(), *others}) == 5


def test_imported_model_goes_through_the_same_gate() -> None:
    model = ImportedModel("musicnn-mtt", "/run/imported/1", Heads.of_tags(5))
    found = compiled(create_import_pipeline(small(), INPUTS, model))
    assert not [name for name in found if name.startswith("Trainer") or name == "Transform"]
    (importer,) = {channel for channels in producers(found["Pusher"]).values() for channel in channels} - {
        ("Evaluator", "blessing")
    }
    assert producers(found["Evaluator"])["model"] == {importer}
    assert "RequireNoAnomalies" in found["Baseline"].upstream_nodes
    whole = compiled(create_pipeline(small(), INPUTS))
    assert parameters(found["ClipExampleGen"]) == parameters(whole["ClipExampleGen"]), "its examples are found again"
