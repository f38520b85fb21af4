"""A model's tags on clips of another data set: which are shared, and their scores, held against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from audio_samples import MTAT, needs_mtat
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from components.shared_tags import SharedTags, find_shared_tags, normal_name
from components.tag_scores import score_shared_tags
from datasets.jamendo import TOP_50 as JAMENDO_50
from datasets.msd import TOP_50 as MSD_50
from datasets.mtat import TOP_50 as MTAT_50
from preprocessing.tags import parse_synonyms


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("genre---electronic", "electronic"),
        ("mood/theme---happy", "happy"),
        ("Hip-Hop", "hiphop"),
        ("Progressive rock", "progressiverock"),
        ("no vocals", "novocals"),
        ("Ä---Müsik", "müsik"),
        ("---", "---"),
        ("?!", "?!"),
    ],
)
def test_name_is_compared_without_category_case_and_punctuation(tag: str, name: str) -> None:
    assert normal_name(tag) == name


def test_tags_of_mtat_and_jamendo_that_are_shared() -> None:
    shared = find_shared_tags(MTAT_50, JAMENDO_50)
    assert dict(zip(shared.tags, shared.answers, strict=True))["guitar"] == ("instrument---guitar",)
    assert "|".join(shared.scored) == (
        "guitar|classical|techno|strings|drums|electronic|rock|piano|ambient|violin|pop|voice|new age|dance|metal"
    )
    assert not shared.same_names


def test_tags_of_msd_and_jamendo_meet_whatever_their_spelling() -> None:
    shared = dict(zip(MSD_50, find_shared_tags(MSD_50, JAMENDO_50).answers, strict=True))
    assert shared["Hip-Hop"] == ("genre---hiphop",)
    assert shared["easy listening"] == ("genre---easylistening",)
    assert shared["House"] == ("genre---house",)
    assert shared["female vocalists"] == ()


def test_several_tags_of_the_data_answer_for_one_and_synonyms_are_those_that_are_given() -> None:
    data = ["genre---Rock", "genre_top---Rock", "instrument---voice"]
    shared = find_shared_tags(["rock", "vocal"], data)
    assert shared.answers == (("genre---Rock", "genre_top---Rock"), ())
    merged = parse_synonyms("vocal: [instrument---voice]", "t")
    shared = find_shared_tags(["rock", "vocal"], data, merged)
    assert shared.answers[1] == ("instrument---voice",)
    np.testing.assert_array_equal(
        shared.labels([["genre---Rock"], ["instrument---voice", "x"], ["genre_top---Rock", "genre---Rock"], []]),
        [[1, 0], [0, 1], [1, 0], [0, 0]],
    )


def test_line_says_how_many_and_which() -> None:
    shared = find_shared_tags(["rock", "Jazz", "sitar"], ["rock", "genre---jazz"])
    assert str(shared) == (
        "2 of the model's 3 tags are the data's too: rock, Jazz (genre---jazz); not in the data: sitar"
    )
    assert SharedTags.from_json(shared.to_json()) == shared


def test_same_names_need_no_translation() -> None:
    assert find_shared_tags(["rock", "sitar"], ["rock", "jazz"]).same_names
    assert not find_shared_tags(["Rock"], ["rock"]).same_names


@given(st.lists(st.text(max_size=6), unique=True, max_size=8), st.lists(st.text(max_size=6), unique=True, max_size=8))
def test_what_is_shared_is_shared_both_ways(model: list[str], data: list[str]) -> None:
    forth, back = find_shared_tags(model, data), find_shared_tags(data, model)
    pairs = {(tag, name) for tag, names in zip(forth.tags, forth.answers, strict=True) for name in names}
    assert pairs == {(name, tag) for tag, names in zip(back.tags, back.answers, strict=True) for name in names}
    assert {(tag, tag) for tag in set(model) & set(data)} <= pairs


def test_scores_are_scikit_learns_on_the_shared_tags() -> None:
    random = np.random.default_rng(0)
    model, data = ["rock", "sitar", "Jazz"], ["genre---jazz", "genre---rock", "genre---pop"]
    clips = [[tag for tag in data if random.random() < 0.4] for _ in range(200)]
    predictions = random.random((200, 3))
    scores = score_shared_tags(clips, predictions, find_shared_tags(model, data))
    truth = np.array([["genre---rock" in own, "genre---jazz" in own] for own in clips])
    assert list(scores.per_tag) == ["rock", "Jazz"]
    assert scores.roc_auc == pytest.approx(roc_auc_score(truth, predictions[:, [0, 2]]))
    assert scores.pr_auc == pytest.approx(average_precision_score(truth, predictions[:, [0, 2]]))
    with pytest.raises(ValueError, match=r"predictions \(200, 3\) for 199 clips and 3 tags"):
        score_shared_tags(clips[:-1], predictions, find_shared_tags(model, data))


@needs_mtat
def test_published_predictions_are_scored_by_the_tags_that_another_list_shares() -> None:
    """MusicNN's answers on MagnaTagATune, its labels called as MTG-Jamendo calls them."""
    truth, answers = (
        np.loadtxt(MTAT / "predictions" / f"{name}.csv", delimiter=",", usecols=range(1, 51))
        for name in ("gt", "musicnn_est")
    )
    tags = MTAT_50
    names = [f"genre---{tag.title().replace(' ', '')}" if at % 2 else f"not {tag}" for at, tag in enumerate(tags)]
    clips = [[name for name, value in zip(names, row, strict=True) if value] for row in truth]
    shared = find_shared_tags(tags, names)
    assert shared.scored == tags[1::2]
    scores = score_shared_tags(clips, answers, shared)
    assert scores.roc_auc == pytest.approx(roc_auc_score(truth[:, 1::2], answers[:, 1::2]), abs=1e-12)
    assert scores.pr_auc == pytest.approx(average_precision_score(truth[:, 1::2], answers[:, 1::2]), abs=1e-12)
    assert 0.85 < scores.roc_auc < 0.95
