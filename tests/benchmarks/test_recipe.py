"""benchmarks.recipe: which parts a network can have, and when a difference counts as a help."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from benchmarks import recipe
from benchmarks.recipe import (
    ALL,
    BASE,
    PARTS,
    Effect,
    Trainings,
    as_csv,
    as_table,
    draw,
    effects,
    means,
    plan,
    pooled_variance,
    read_corpus,
    read_part,
    together,
)
from components.comparison_metrics import METRICS
from components.kept_answers import Answers
from pipeline.compare.config import Entry, load_comparison
from pipeline.compare.results import AREAS, COSTS, Evaluation
from pipeline.settings.data_config import DataConfig
from pipeline.settings.recipes import RECIPES
from preprocessing.errors import BadInputError

DATA = DataConfig(dataset="synthetic", audio_dir="music")
DRAWS = 400


def trainings(scores: list[float], over_tracks: float = 0.01, seed: int = 0) -> Trainings:
    """Of seeds with these scores in both measures, and a deviation over tracks."""
    random = np.random.default_rng(seed)
    drawn = np.mean(scores) + over_tracks * random.standard_normal(DRAWS)
    return Trainings(
        {number: dict.fromkeys(AREAS, score) for number, score in enumerate(scores)}, dict.fromkeys(AREAS, drawn)
    )


def verdict(base: list[float], part: list[float], over_tracks: float = 0.001) -> str:
    (effect,) = effects("mel_1d", {BASE: trainings(base, over_tracks), "gain": trainings(part, over_tracks, 1)})
    return effect.of["roc_auc"].verdict


def test_difference_beyond_clips_and_seeds_helps_or_harms() -> None:
    assert verdict([0.70, 0.71, 0.69], [0.80, 0.81, 0.79]) == "helps"
    assert verdict([0.80, 0.81, 0.79], [0.70, 0.71, 0.69]) == "harms"


def test_difference_within_the_spread_over_seeds_is_no_help_however_narrow_the_clips_interval() -> None:
    (effect,) = effects(
        "mel_1d", {BASE: trainings([0.66, 0.74], 0.001), "gain": trainings([0.70, 0.78], 0.001, seed=1)}
    )
    one = effect.of["roc_auc"]
    assert one.over_tracks.distinguishable
    assert one.value == pytest.approx(0.04)
    assert one.over_seeds > 0.04
    assert one.verdict == ""


def test_difference_within_the_interval_over_tracks_is_no_help_however_equal_the_seeds() -> None:
    assert verdict([0.700, 0.701], [0.720, 0.721], over_tracks=0.03) == ""


def test_of_one_seed_alone_nothing_is_said() -> None:
    (effect,) = effects("fcn", {BASE: trainings([0.7]), "gain": trainings([0.9])})
    assert effect.of["pr_auc"].verdict == "one seed"
    assert math.isnan(effect.of["pr_auc"].over_seeds)
    assert effect.of["pr_auc"].over_tracks.distinguishable


def test_deviation_over_seeds_is_pooled_over_recipes_about_their_own_means() -> None:
    found = pooled_variance([trainings([0.7, 0.72]), trainings([0.5, 0.56]), trainings([0.9])], "roc_auc")
    assert found == (pytest.approx((2 * 0.01**2 + 2 * 0.03**2) / 2), 2)


def test_nothing_is_said_of_a_network_without_base() -> None:
    assert effects("fcn", {"gain": trainings([0.7, 0.8])}) == []


def test_mean_of_networks_has_a_narrower_interval_over_seeds() -> None:
    found = [
        effect
        for network in ("mel_1d", "fcn")
        for effect in effects(network, {BASE: trainings([0.70, 0.72]), "gain": trainings([0.74, 0.76], seed=3)})
    ]
    (mean,) = means([*found, Effect("musicnn", "average", 2, found[0].of)])
    assert (mean.network, mean.part) == ("mel_1d, fcn", "gain")
    assert mean.of["roc_auc"].value == pytest.approx(0.04)
    assert mean.of["roc_auc"].over_seeds == pytest.approx(found[0].of["roc_auc"].over_seeds / 2**0.5)


def recipes(network: str, *parts: str) -> tuple[dict[str, dict[str, object]], dict[str, str]]:
    planned = plan(DATA, network, {name: PARTS[name] for name in parts}, [0, 1], "run")
    return planned.comparison.recipes, dict(planned.left_out)


def test_each_part_stands_alone_and_all_together() -> None:
    found, left_out = recipes("mel_1d", "time_shift", "gain", "one_cycle", "plateau", "good")
    assert left_out == {}
    *names, last = found
    assert names == [BASE, "time_shift", "gain", "one_cycle", "plateau", "good"]
    assert last.startswith("all_")
    assert found[BASE] == {"recipe": "paper"}
    assert found["gain"] == {"recipe": "paper", "gain_db": 4.0}
    assert found[last] == {"recipe": "paper", "time_shift": True, "gain_db": 4.0, "schedule": "one_cycle"}
    assert found["good"] == {"recipe": "good"}


def test_parts_onto_others_are_other_recipes_of_which_the_base_is_a_part_of_the_plain_one() -> None:
    parts = {name: PARTS[name] for name in ("time_shift", "gain", "mixup")}
    planned = plan(DATA, "mel_1d", parts, [0], "run", onto={"time_shift": PARTS["time_shift"]})
    assert planned.comparison.recipes == {
        "time_shift": {"recipe": "paper", "time_shift": True},
        "time_shift_with_gain": {"recipe": "paper", "time_shift": True, "gain_db": 4.0},
        "time_shift_with_mixup": {"recipe": "paper", "time_shift": True, "mixup": 0.3},
        planned.recipes[ALL]: {"recipe": "paper", "time_shift": True, "gain_db": 4.0, "mixup": 0.3},
    }
    assert planned.recipes["base"] == "time_shift"
    assert planned.recipes[ALL].startswith("time_shift_with_all_")
    fewer = plan(DATA, "mel_1d", {name: PARTS[name] for name in ("gain", "mixup")}, [0], "run")
    more = plan(DATA, "mel_1d", {name: PARTS[name] for name in ("gain", "mixup", "noise")}, [0], "run")
    assert planned.recipes[ALL] == f"time_shift_with_{fewer.recipes[ALL]}"
    assert fewer.recipes[ALL] != more.recipes[ALL], "all of other parts is another recipe"
    assert planned.comparison.recipes["time_shift"] == recipes("mel_1d", "time_shift")[0]["time_shift"]


def test_recipe_good_is_the_plain_one_and_parts_that_are_measured() -> None:
    settings = {**RECIPES["paper"], "patience": RECIPES["good"]["patience"], **PARTS["time_shift"], **PARTS["average"]}
    assert RECIPES["good"] == settings


def test_one_part_has_no_recipe_of_all() -> None:
    assert list(recipes("mel_1d", "gain", "comparison")[0]) == [BASE, "gain", "comparison"]


@pytest.mark.parametrize(
    ("network", "part", "reason"),
    [
        ("musicnn", "gain", "embeddings"),
        ("musicnn", "spec_augment", "embeddings"),
        ("mel_1d", "windows", "as a whole"),
        ("short_chunk", "time_shift", "random windows"),
        ("mel_2d", "layer_decay", "without trained weights"),
    ],
)
def test_part_that_changes_nothing_is_left_out_with_a_reason(network: str, part: str, reason: str) -> None:
    found, left_out = recipes(network, part, "average")
    assert reason in left_out[part]
    assert list(found) == [BASE, "average"]


def test_dropout_is_of_networks_that_have_some() -> None:
    assert recipes("mel_1d", "dropout")[1] == {"dropout": "it has no dropout"}
    assert recipes("fcn", "dropout")[1] == {}


def test_every_part_is_a_setting_of_networks() -> None:
    for network in recipe.NETWORKS:
        names = [name for name in PARTS if name != "dropout"]
        assert recipes(network, *names)[0]
    assert not {"recipe"} & together(PARTS).keys()


def test_plan_is_a_comparison_that_can_be_read_from_its_file(tmp_path: Path) -> None:
    comparison = plan(DATA, "fcn", {"gain": PARTS["gain"]}, [3], str(tmp_path), epochs=5).comparison
    (tmp_path / "fcn.yaml").write_text(comparison.to_yaml())
    assert load_comparison(str(tmp_path / "fcn.yaml")) == comparison
    settings = comparison.settings(Entry("corpus", "fcn", "gain", 3))
    assert (settings.epochs, settings.gain_db, settings.seed) == (5, 4.0, 3)
    assert comparison.reference == "fcn__base"


def test_corpus_is_the_data_of_a_run_or_a_section_alone(tmp_path: Path) -> None:
    section = {"dataset": "synthetic", "audio_dir": "music"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"data": section, "networks": {"mel_1d": {}}}))
    (tmp_path / "section.yaml").write_text(yaml.safe_dump(section))
    assert read_corpus(str(tmp_path / "run.yaml")) == read_corpus(str(tmp_path / "section.yaml")) == DATA
    (tmp_path / "wrong.yaml").write_text("split: by_moon")
    with pytest.raises(BadInputError, match=r"wrong.yaml: split: expected one of"):
        read_corpus(str(tmp_path / "wrong.yaml"))


@pytest.mark.parametrize("text", ["soft", "soft=", "soft=0.1", "={gain_db: 1}", "soft={", "base={gain_db: 1}"])
def test_own_part_is_a_name_and_settings(text: str) -> None:
    assert read_part("soft={label_smoothing: 0.1}") == ("soft", {"label_smoothing": 0.1})
    with pytest.raises(BadInputError, match="--part"):
        read_part(text)


def test_unknown_setting_or_network_is_refused_in_one_line() -> None:
    with pytest.raises(BadInputError, match="mixdown"):
        plan(DATA, "mel_1d", {"odd": {"mixdown": 1}}, [0], "run")
    with pytest.raises(BadInputError, match="mel_9d"):
        plan(DATA, "mel_9d", {"gain": PARTS["gain"]}, [0], "run")


def test_table_csv_and_picture_hold_every_part(tmp_path: Path) -> None:
    of_network = {
        BASE: trainings([0.70, 0.71]),
        "gain": trainings([0.80, 0.81], 0.001),
        "mixup": trainings([0.4, 0.41]),
    }
    found = effects("mel_1d", of_network)
    console = Console(width=200, record=True, quiet=False, file=(tmp_path / "out.txt").open("w"))
    console.print(as_table({"mel_1d": of_network[BASE]}, found))
    text = console.export_text()
    assert "+0.100" in text
    assert "helps" in text
    assert "harms" in text
    rows = list(csv.DictReader(as_csv({"mel_1d": of_network[BASE]}, found).splitlines()))
    assert [row["part"] for row in rows] == [BASE, "gain", "mixup"]
    assert float(rows[1]["roc_auc_low"]) < float(rows[1]["roc_auc_low_over_tracks"]) < float(rows[1]["roc_auc"])
    draw(found, tmp_path / "recipe.svg")
    assert b"</svg>" in (tmp_path / "recipe.svg").read_bytes()


def test_seeds_scores_are_averaged_and_not_their_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    labels = (random.random((40, 3)) < 0.4).astype("f4")
    ids = np.array([b"%d" % number for number in range(40)])
    kept, evaluations = {}, []
    for seed in (1, 0):
        noisy = np.clip(labels * 0.4 + random.random((40, 3)) * 0.6, 0, 1).astype("f4")
        kept[str(seed)] = Answers(("a", "b", "c"), ids, ids, labels, noisy, np.full(3, 0.5, "f4"))
        entry = Entry("corpus", "mel_1d", "gain", seed)
        zeros = dict.fromkeys(METRICS, 0.0), dict.fromkeys(COSTS, 0.0)
        evaluations.append(Evaluation(entry, str(seed), *zeros, seed == 0))
    monkeypatch.setattr(recipe, "read_answers", kept.__getitem__)
    found = recipe.read_trainings(evaluations)["gain"]
    assert list(found.of_seeds) == [0, 1]
    assert found.mean("roc_auc") == np.mean([found.of_seeds[0]["roc_auc"], found.of_seeds[1]["roc_auc"]])
    assert found.drawn["pr_auc"].mean() == pytest.approx(found.mean("pr_auc"), abs=0.02)
    assert not found.current


def test_refusals_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "corpus.yaml").write_text("dataset: synthetic")
    for option, said in (
        ("--parts", "expected some of time_shift, gain"),
        ("--onto", "expected parts, no whole recipe"),
    ):
        call = ["recipe", "--corpus", str(tmp_path / "corpus.yaml"), "--root", str(tmp_path), option, "louder"]
        monkeypatch.setattr("sys.argv", call)
        assert recipe.main() == 2
        assert capsys.readouterr().err.startswith(f"recipe: {option} louder: {said}")
