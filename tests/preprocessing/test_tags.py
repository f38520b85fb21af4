"""Tags: synonyms merged, the most frequent ones, those of the training split."""

from __future__ import annotations

import pytest

from preprocessing.clips import AnnotatedClip
from preprocessing.errors import BadInputError
from preprocessing.tags import merge_synonyms, most_frequent_tags, parse_synonyms, training_tags


def clip(clip_id: str, *tags: str) -> AnnotatedClip:
    return AnnotatedClip(clip_id, "f/x.mp3", tags, "x")


def test_synonyms_are_merged_and_a_tag_stands_once():
    clips = [clip("1", "woman", "guitar", "female")]
    assert merge_synonyms(clips, {"woman": "female"})[0].tags == ("female", "guitar")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "expected a mapping"),
        ("female: woman\n", "expected a mapping"),
        ("a: [x]\nb: [x]\n", "'x' is merged into 'a' and into 'b'"),
        ("a: [b]\nb: [c]\n", "'b' is both kept and merged"),
        ("a: [b\n", "synonyms own.yaml: "),
        ("", "expected a mapping"),
    ],
)
def test_bad_synonyms_are_refused(text, message):
    with pytest.raises(BadInputError, match=message):
        parse_synonyms(text, "own.yaml")


def test_most_frequent_tags_come_first_and_ties_by_the_alphabet():
    clips = [clip("1", "b", "c"), clip("2", "a", "c"), clip("3", "d")]
    assert most_frequent_tags(clips, 3) == ["c", "a", "b"]
    with pytest.raises(BadInputError, match="5 tags are asked for and only 4"):
        most_frequent_tags(clips, 5)


def test_no_tag_left_is_said():
    with pytest.raises(BadInputError, match="no clip has any tag"):
        most_frequent_tags([clip("1")], 1)


def test_training_tags_are_counted_in_the_training_split_alone():
    clips = [clip("1", "a", "b"), clip("2", "b"), clip("3", "c"), clip("4", "c"), clip("5", "c")]
    splits = ["train", "train", "valid", "test", "test"]
    assert training_tags(clips, splits, 1) == ["b"]
    assert training_tags(clips, splits, 3) == ["b", "a"]
    with pytest.raises(BadInputError, match="4 tags are asked for and only 3"):
        training_tags(clips, splits, 4)
    with pytest.raises(BadInputError, match="training split: no clip has any tag"):
        training_tags(clips[2:], splits[2:], 1)
