"""EnsembleTrainer by itself: two tiny networks, three splits of short clips, and what comes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from registered_networks import registered
from small_splits import CLIP, SmallClip, analyse, write_split
from tfx import types
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from components.combiners import Combination, CombinerTask, fit_combiner
from components.deformed_examples import DeformedExamplesExecutor
from components.ensemble_scorer import EnsembleScorerExecutor
from components.ensemble_trainer import PREDICTIONS_FILE, EnsembleTrainer, EnsembleTrainerExecutor, EnsembleTrainerSpec
from components.kept_answers import read_answers
from components.labels import HeadSettings
from components.model_scores import SCORES_FILE, data_info, split_scores
from components.network_cost import combiner_seconds, megabytes, seconds_for_1000_clips
from components.network_scorer import keep_evaluation
from components.predictions import predict_split
from components.reader import TransformFacts, transform_facts
from components.robustness import CLEAN, RobustnessScorerExecutor, read_scores, score_model
from components.shared_tags import SharedTags
from components.trained_network import save_network
from components.training_settings import FitSettings
from models.combiner import build_combiner
from models.front_ends.settings import LogMel
from models.heads import MULTI_LABEL, ONE_OF, Head, Heads
from models.initializers import glorot, seed_stream
from models.outputs import with_heads
from models.registry import Network
from preprocessing.windows import WindowRule
from serving.graph.ensemble import Member
from serving.model_info import read_model_info

MEL = LogMel(sample_rate=16_000, n_fft=256, hop_length=160, n_mels=8, scale="ln_1p")
WINDOW = 8000
HEADS = (HeadSettings("tempo", ONE_OF, tags=("slow", "fast")), HeadSettings("tags", tags=("piano", "drums", "flute")))
DATA = {"name": "tones", "licence": "none", "split": {"rule": "track", "ratio": [8, 4, 4], "seed": 0}}


def build_tiny(n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
    """Log-mel (batch, 8, frames) -> logits (batch, n_outputs)."""
    log_mel = keras.Input(MEL.shape(WINDOW), name="log_mel")
    x = layers.GlobalAveragePooling1D(dtype=dtype)(layers.Permute((2, 1), dtype=dtype)(log_mel))
    logits = layers.Dense(n_outputs, kernel_initializer=glorot(seed_stream(seed)), dtype="float32", name="logits")(x)
    return keras.Model(log_mel, logits, name="tiny")


def clips(split: str, count: int) -> list[SmallClip]:
    """Every third is slow, the others fast; high tones are flutes."""
    first = {"train": 200, "valid": 210, "test": 220}[split]
    return [
        SmallClip(
            f"{split}-{number:02d}",
            first + 150 * number,
            (
                "fast" if number % 3 else "slow",
                "flute" if number > count // 2 else "piano",
                *(["drums"] * (number % 2)),
            ),
        )
        for number in range(count)
    ]


SPLITS = {"train": clips("train", 14), "valid": clips("valid", 12), "test": clips("test", 9)}


@dataclass(frozen=True)
class Inputs:
    """What stands before EnsembleTrainer in a pipeline."""

    artifacts: dict[str, list[types.Artifact]]
    members: dict[str, Member]
    facts: TransformFacts

    def patterns(self, split: str) -> list[str]:
        (uri,) = artifact_utils.get_split_uris(self.artifacts["examples"], split)
        return [f"{uri}/*"]


@pytest.fixture(scope="module")
def tiny() -> Iterator[Network]:
    with registered(
        "tiny",
        f"{__name__}:build_tiny",
        window_samples=WINDOW,
        sample_rate=16_000,
        front_end=MEL,
        score_windows=WindowRule(2),
    ) as network:
        yield network


@pytest.fixture(scope="module")
def inputs(tiny: Network, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    analyse(folder / "graph", HEADS, {"train": SPLITS["train"]})
    facts = transform_facts(str(folder / "graph"), HEADS)
    examples, graph = standard_artifacts.Examples(), standard_artifacts.TransformGraph()
    examples.uri, graph.uri = str(folder / "examples"), str(folder / "graph")
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    artifacts: dict[str, list[types.Artifact]] = {"examples": [examples], "transform_graph": [graph]}
    for split, of_split in SPLITS.items():
        write_split(folder / "examples" / f"Split-{split}", of_split)
    members = {}
    for seed, name in enumerate(("low", "high")):
        model = with_heads(tiny.build(facts.heads.size, dtype="float32", seed=seed), facts.heads)
        members[name] = Member(name, tiny, model, WindowRule(2 + seed), None)
        artifact = standard_artifacts.Model()
        artifact.uri = str(folder / name)
        save_network(members[name], artifact.uri)
        artifacts[name] = [artifact]
    return Inputs(artifacts, members, facts)


def config(push: str, combinations: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "networks": ["low", "high"],
        "combinations": combinations,
        "push": push,
        "settings": FitSettings(epochs=2).model_dump(mode="json"),
        "heads": [head.to_json() for head in HEADS],
        "clip": asdict(CLIP),
        "data": DATA,
        "code": [],
    }


BOTH = {"name": "both", "of": ["high", "low"], "combiner": "logistic", "fit": "valid"}
MEAN = {"name": "plain", "of": ["low", "high"], "combiner": "mean", "fit": "valid"}


def execute(inputs: Inputs, folder: Path, push: str) -> tuple[standard_artifacts.Model, Path]:
    """Run the executor as TFX does; returns the model and the folder of its run."""
    model, run = standard_artifacts.Model(), standard_artifacts.ModelRun()
    model.uri, run.uri = str(folder / "model"), str(folder / "run")
    outputs: dict[str, list[types.Artifact]] = {"model": [model], "model_run": [run]}
    EnsembleTrainerExecutor().Do(inputs.artifacts, outputs, {"config": json.dumps(config(push, [BOTH, MEAN]))})
    return model, folder / "run"


@pytest.fixture(scope="module")
def trained(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[standard_artifacts.Model, Path]:
    return execute(inputs, tmp_path_factory.mktemp("both"), "both")


def test_networks_are_asked_about_every_clip_from_its_waveform(inputs: Inputs) -> None:
    answers = predict_split(list(inputs.members.values()), inputs.patterns("test"), inputs.facts, CLIP)
    ids = [clip.clip_id.encode() for clip in SPLITS["test"]]
    assert answers.clip_ids == tuple(sorted(ids))
    tags = inputs.facts.tags
    for clip, row in zip(SPLITS["test"], answers.labels, strict=True):
        assert {tag for tag, label in zip(tags, row, strict=True) if label} == set(clip.tags)
    for name, member in inputs.members.items():
        assert answers.by_network[name].shape == (9, 5)
        np.testing.assert_allclose(answers.by_network[name][:, :2].sum(axis=1), 1, atol=1e-5)
        alone = predict_split([member], inputs.patterns("test"), inputs.facts, CLIP)
        np.testing.assert_allclose(alone.by_network[name], answers.by_network[name], atol=1e-6)
    assert not np.allclose(answers.by_network["low"], answers.by_network["high"], atol=1e-3)
    side_by_side = answers.side_by_side(("high", "low"))
    np.testing.assert_array_equal(side_by_side[:, :5], answers.by_network["high"])
    np.testing.assert_array_equal(side_by_side[:, 5:], answers.by_network["low"])


def test_split_is_read_without_networks_for_its_labels(inputs: Inputs) -> None:
    answers = predict_split([], inputs.patterns("train"), inputs.facts, CLIP)
    assert len(answers.clip_ids) == 14
    assert answers.by_network == {}
    with pytest.raises(ValueError, match="no TFRecord files match"):
        predict_split([], ["/nowhere/*"], inputs.facts, CLIP)


def test_predictions_scores_and_curves_are_kept(trained: Any, inputs: Inputs) -> None:
    _, run = trained
    with np.load(run / PREDICTIONS_FILE) as arrays:
        assert set(arrays) == {
            *(f"{split}/{name}" for split in SPLITS for name in ("labels", "clip_ids")),
            *(f"{split}/{name}" for split in ("valid", "test") for name in ("low", "high")),
        }, "nothing is fitted on the networks' own answers for the training split, so they are not asked"
        assert arrays["train/labels"].shape == (14, 5)
    scores = json.loads((run / SCORES_FILE).read_text())
    assert [row["name"] for row in scores["models"]] == ["low", "high", "both", "plain"]
    assert [row["networks"] for row in scores["models"][2:]] == [["high", "low"], ["low", "high"]]
    assert scores["pushed"] == "both"
    assert scores["test_clips"] == 9
    assert scores["tags"] == list(inputs.facts.tags)
    for row in scores["models"]:
        assert 0 <= row["roc_auc"] <= 1
        assert 0 <= row["accuracy"]["tempo"] <= 1
        assert set(row["per_tag"]) == set(scores["tags"])
    low, high, both = (row["seconds_for_1000_clips"] for row in scores["models"][:3])
    assert both > low + high > 0
    assert not (run / "checkpoints").exists()


def test_exported_model_answers_as_its_networks_and_combiner_did(trained: Any, inputs: Inputs) -> None:
    model, run = trained
    assert model.get_string_custom_property("ensemble") == "both"
    served = tf.saved_model.load(path_utils.serving_model_dir(model.uri))
    waveforms = np.stack([clip.waveform() for clip in SPLITS["test"]])
    answer = served.signatures["waveform"](tf.constant(waveforms))["predictions"]
    with np.load(run / PREDICTIONS_FILE) as arrays:
        labels = arrays["test/labels"]
    scores = split_scores(labels, answer.numpy(), np.full(5, 0.5, "f4"), inputs.facts.tags, inputs.facts.heads)
    kept = next(row for row in json.loads((run / SCORES_FILE).read_text())["models"] if row["name"] == "both")
    assert scores.roc_auc == pytest.approx(kept["roc_auc"], abs=1e-6)
    info = read_model_info(Path(path_utils.serving_model_dir(model.uri)))
    assert [member.name for member in info.members] == ["high", "low"]
    assert info.combiner is not None
    assert info.combiner.kind == "logistic"
    assert info.tags == inputs.facts.tags
    assert info.data.clips == {"train": 14, "valid": 12, "test": 9}
    assert info.scores["test"].roc_auc == pytest.approx(kept["roc_auc"], abs=1e-6)


def test_one_network_alone_is_exported_without_a_combiner(inputs: Inputs, tmp_path: Path) -> None:
    model, run = execute(inputs, tmp_path, "low")
    info = read_model_info(Path(path_utils.serving_model_dir(model.uri)))
    assert [member.name for member in info.members] == ["low"]
    assert info.combiner is None
    kept = json.loads((run / SCORES_FILE).read_text())
    assert kept["pushed"] == "low"
    assert info.scores["test"].roc_auc == pytest.approx(kept["models"][0]["roc_auc"], abs=1e-6)


def test_card_counts_clips_and_tags_of_every_split() -> None:
    info = data_info(DATA, {"train": np.eye(3, dtype="f4"), "test": np.ones((2, 3), "f4")})
    assert info.clips == {"train": 3, "test": 2}
    assert info.clips_with_tag == {"train": (1, 1, 1), "test": (2, 2, 2)}
    assert (info.name, info.split["rule"]) == ("tones", "track")


def test_scores_of_a_split_without_both_kinds_of_clips_are_left_out() -> None:
    heads = Heads((Head("tempo", ONE_OF, 2), Head("tags", MULTI_LABEL, 2)))
    tags = ("slow", "fast", "piano", "drums")
    labels = np.array([[1, 0, 1, 1], [0, 1, 1, 1], [1, 0, 1, 0]], "f4")
    answers = np.array([[0.9, 0.1, 0.8, 0.9], [0.6, 0.4, 0.9, 0.4], [0.7, 0.3, 0.2, 0.3]], "f4")
    thresholds = np.full(4, 0.5, "f4")
    scores = split_scores(labels, answers, thresholds, tags, heads)
    assert scores.scored_tags == 3, "every clip has a piano"
    assert scores.roc_auc == pytest.approx(1.0)
    assert scores.accuracy == {"tempo": pytest.approx(2 / 3)}
    assert scores.f1 == pytest.approx(2 / 3), "of drums: one of two is heard, and none besides"
    none = split_scores(np.ones((2, 4), "f4"), answers[:2], thresholds, tags, heads)
    assert (none.roc_auc, none.pr_auc, none.f1, none.scored_tags) == (None, None, None, 0)


def test_time_counts_every_window_of_a_clip_and_size_is_that_of_float32(inputs: Inputs) -> None:
    member = inputs.members["low"]
    assert megabytes(member.model) == (8 * 5 + 5) * 4 / 2**20
    one, many = (
        min(seconds_for_1000_clips(replace(member, windows=WindowRule(count)), CLIP) for _ in range(3))
        for count in (1, 64)
    )
    assert many > one > 0
    assert combiner_seconds(build_combiner("mean", 2, inputs.facts.heads)) > 0


def test_combination_is_read_as_a_configuration_has_it() -> None:
    assert Combination.from_json({**BOTH, "of": ("high", "low")}) == Combination(
        "both", ("high", "low"), "logistic", "valid"
    )
    with pytest.raises(KeyError):
        Combination.from_json({"name": "x"})


def test_component_takes_one_model_a_network() -> None:
    assert set(EnsembleTrainerSpec.of_networks(["a", "b"]).INPUTS) == {"examples", "transform_graph", "a", "b"}
    assert set(EnsembleTrainerSpec.INPUTS) == {"examples", "transform_graph"}, "no network of another pipeline stays"
    channels = {
        "examples": types.Channel(type=standard_artifacts.Examples),
        "transform_graph": types.Channel(type=standard_artifacts.TransformGraph),
    }
    models = {name: types.Channel(type=standard_artifacts.Model) for name in ("a", "b")}
    component = EnsembleTrainer(**channels, networks=models, config={"push": "a", "networks": ["a", "b"]})
    assert set(component.inputs) == {"examples", "transform_graph", "a", "b"}
    assert json.loads(component.exec_properties["config"]) == {"push": "a", "networks": ["a", "b"]}
    assert component.outputs["model"].type is standard_artifacts.Model


def test_exported_model_is_scored_under_deformations_as_on_the_clean_split(
    trained: Any, inputs: Inputs, tmp_path: Path
) -> None:
    model, run = trained
    (examples,) = inputs.artifacts["examples"]
    deformed, robustness = standard_artifacts.Examples(), standard_artifacts.ModelEvaluation()
    deformed.uri, robustness.uri = str(tmp_path / "deformed"), str(tmp_path / "robustness")
    names = ["gain_-20", "noise_0.4"]
    config = {"deformations": names, "clip": asdict(CLIP), "seed": 0}
    DeformedExamplesExecutor().Do({"examples": [examples]}, {"deformed": [deformed]}, {"config": json.dumps(config)})
    RobustnessScorerExecutor().Do(
        {"examples": [examples], "deformed": [deformed], "model": [model]},
        {"robustness": [robustness]},
        {"config": json.dumps({"deformations": names, "shared": None})},
    )
    scores = read_scores(robustness.uri)
    assert list(scores) == [CLEAN, *names]
    (row,) = [one for one in json.loads((run / SCORES_FILE).read_text())["models"] if one["name"] == "both"]
    assert scores[CLEAN] == {"roc_auc": pytest.approx(row["roc_auc"]), "pr_auc": pytest.approx(row["pr_auc"])}
    assert scores["noise_0.4"] != scores[CLEAN]
    assert robustness.get_float_custom_property("roc_auc.gain_-20") == scores["gain_-20"]["roc_auc"]
    model_dir, tags = str(Path(model.uri) / "Format-Serving"), inputs.facts.tags
    shared = SharedTags(tags, ((tags[0],), *((),) * (len(tags) - 1)))
    files = sorted(str(path) for path in (Path(examples.uri) / "Split-test").iterdir())
    assert score_model(model_dir, {CLEAN: files}, shared)[CLEAN]["roc_auc"] == pytest.approx(row["per_tag"][tags[0]][0])


# EnsembleScorer: a combination of a comparison


COSTS_OF_EACH = {
    "parameters": 100,
    "megabytes_float32": 2.0,
    "megabytes_int8": 1.0,
    "seconds_for_1000_clips": 3.0,
    "training_minutes": 4.0,
}


def scored(inputs: Inputs, folder: Path) -> dict[str, types.Artifact]:
    """What NetworkScorer keeps of both networks."""
    found = {}
    for name, member in inputs.members.items():
        arrays: dict[str, Any] = {"tags": np.array(inputs.facts.tags)}
        for split in ("valid", "test"):
            answers = predict_split([member], inputs.patterns(split), inputs.facts, CLIP)
            arrays |= {
                f"{split}/clip_ids": np.array(answers.clip_ids),
                f"{split}/tracks": np.array(answers.tracks),
                f"{split}/labels": answers.labels,
                f"{split}/predictions": answers.by_network[name],
            }
        arrays["deformed/noise_0.1"] = arrays["test/predictions"] / 2
        found[name] = standard_artifacts.ModelEvaluation()
        found[name].uri = str(folder / name)
        keep_evaluation(found[name], {"entry": name, "comparison_key": name}, arrays, COSTS_OF_EACH)
    return found


def combine(inputs: Inputs, evaluations: dict[str, types.Artifact], folder: Path, combiner: str, fit: str) -> Any:
    evaluation = standard_artifacts.ModelEvaluation()
    evaluation.uri = str(folder / f"{combiner}-{fit}")
    settings = {
        "entry": "both",
        "of": ["high", "low"],
        "combiner": combiner,
        "fit": fit,
        "settings": FitSettings(epochs=2).model_dump(mode="json"),
        "heads": [head.to_json() for head in HEADS],
        "clip": asdict(CLIP),
        "deformations": ["noise_0.1"],
        "comparison_key": "both",
    }
    each = {f"model_{name}": inputs.artifacts[name] for name in ("low", "high")}
    each |= {f"evaluation_{name}": [evaluations[name]] for name in ("low", "high")}
    shared = {name: inputs.artifacts[name] for name in ("examples", "transform_graph")}
    EnsembleScorerExecutor().Do({**shared, **each}, {"evaluation": [evaluation]}, {"config": json.dumps(settings)})
    return evaluation


def test_mean_of_a_comparison_is_the_mean_of_what_its_networks_said(inputs: Inputs, tmp_path: Path) -> None:
    evaluations = scored(inputs, tmp_path)
    evaluation = combine(inputs, evaluations, tmp_path, "mean", "valid")
    low, high, both = (read_answers(uri.uri) for uri in (*evaluations.values(), evaluation))
    np.testing.assert_allclose(both.predictions, (low.predictions + high.predictions) / 2, atol=1e-6)
    np.testing.assert_allclose(both.deformed["noise_0.1"], both.predictions / 2, atol=1e-6)
    assert evaluation.get_float_custom_property("training_minutes") == 8
    assert evaluation.get_float_custom_property("parameters") == 200
    assert evaluation.get_string_custom_property("comparison_key") == "both"


@pytest.mark.parametrize(
    ("combiner", "fit"), [("logistic", "valid"), ("logistic", "in_sample"), ("dense", "in_sample")]
)
def test_combiner_of_a_comparison_is_fitted_where_it_should_be(
    inputs: Inputs, tmp_path: Path, combiner: str, fit: Any
) -> None:
    both = read_answers(combine(inputs, scored(inputs, tmp_path), tmp_path, combiner, fit).uri)
    names = ("high", "low")
    members = [inputs.members[name] for name in names]
    splits = {split: predict_split(members, inputs.patterns(split), inputs.facts, CLIP) for split in SPLITS}
    task = CombinerTask(combiner, names, fit, inputs.facts.heads, FitSettings(epochs=2))
    model, _ = fit_combiner(task, splits, {}, str(tmp_path / "checkpoints"))
    expected = model.predict(splits["test"].side_by_side(names), verbose=0)
    np.testing.assert_allclose(both.predictions, expected, atol=1e-5)


def test_networks_that_were_scored_on_other_clips_are_not_combined(inputs: Inputs, tmp_path: Path) -> None:
    evaluations = scored(inputs, tmp_path)
    path = tmp_path / "low" / "answers.npz"
    arrays = dict(np.load(path))
    arrays["test/clip_ids"] = arrays["test/clip_ids"][::-1]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="low and high were scored on other clips or tags: test/clip_ids differ"):
        combine(inputs, evaluations, tmp_path, "mean", "valid")
