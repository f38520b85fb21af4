"""One contract for every split rule, and the published splits of MagnaTagATune."""

from __future__ import annotations

import csv
import random
from collections import Counter, defaultdict

import pytest
from audio_samples import MTAT, needs_mtat
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.annotations import AnnotatedClip
from preprocessing.constants import SPLITS
from preprocessing.errors import BadInputError
from preprocessing.splits import RULES, SplitRule, check_splits, parse_ratio, unit_hash

CLIPS = [
    AnnotatedClip(str(k), f"{'0123456789abcdef'[k // 4 % 16]}/a-b-{k // 4}-t-{k % 4}-{k % 4 + 1}.mp3", ())
    for k in range(6_000)
]
every_rule = pytest.mark.parametrize("rule", [SplitRule(name) for name in RULES], ids=list(RULES))
seeded_rule = pytest.mark.parametrize("name", ["track", "paper"])


@every_rule
def test_split_is_one_of_three_and_none_is_empty(rule):
    assert {rule.split_of(clip) for clip in CLIPS} == set(SPLITS)


@every_rule
def test_split_depends_on_the_clip_alone_not_on_order_or_company(rule):
    shuffled = random.Random(1).sample(CLIPS, 500)
    alone = {clip.clip_id: rule.split_of(clip) for clip in CLIPS}
    assert all(SplitRule(rule.name).split_of(clip) == alone[clip.clip_id] for clip in shuffled)


@every_rule
def test_rule_has_a_line_of_help(rule):
    assert RULES[rule.name]


@seeded_rule
def test_ratio_holds_and_another_seed_is_another_split(name):
    counts = Counter(SplitRule(name).split_of(clip) for clip in CLIPS)
    for split, share in zip(SPLITS, (13, 1, 2), strict=True):
        assert counts[split] / len(CLIPS) == pytest.approx(share / 16, abs=0.02)
    other = SplitRule(name, seed=1)
    assert any(other.split_of(clip) != SplitRule(name).split_of(clip) for clip in CLIPS)


@seeded_rule
def test_other_ratio_moves_the_bounds(name):
    counts = Counter(SplitRule(name, ratio=(1, 0, 1)).split_of(clip) for clip in CLIPS)
    assert counts["valid"] == 0
    assert counts["train"] / len(CLIPS) == pytest.approx(0.5, abs=0.05)


def sides_of_tracks(rule: SplitRule) -> list[int]:
    sides = defaultdict(set)
    for clip in CLIPS:
        sides[clip.track].add(rule.split_of(clip))
    return [len(side) for side in sides.values()]


def test_track_rule_keeps_a_track_on_one_side_and_the_papers_does_not():
    assert max(sides_of_tracks(SplitRule("track"))) == 1
    assert max(sides_of_tracks(SplitRule("paper"))) > 1


def test_seeded_split_is_the_same_on_every_machine():
    assert [SplitRule("paper", seed=7).split_of(clip) for clip in CLIPS[:12]] == PINNED


PINNED = ["valid", "train", "train", "train", "test", "train", "test", "train", "train", "test", "train", "train"]


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=20), st.integers())
def test_hash_is_in_the_unit_interval(text, seed):
    assert 0 <= unit_hash(text, seed) < 1


@pytest.mark.parametrize("name", ["folder", "clean"])
def test_rule_by_folder_needs_magnatagatunes_folders(name):
    with pytest.raises(BadInputError, match="needs the folders 0 to f; use --split track"):
        SplitRule(name).split_of(AnnotatedClip("9", "rock/song.mp3", ()))


def test_unknown_rule_is_refused_with_the_known_ones():
    with pytest.raises(BadInputError, match="expected one of track, paper, folder, clean"):
        SplitRule("random")


@pytest.mark.parametrize("text", ["", "13", "13:1", "a:b:c", "13:1:2:4", "0:1:1", "5:-1:1"])
def test_bad_ratio_is_refused(text):
    with pytest.raises(BadInputError, match="expected train:valid:test such as 13:1:2"):
        SplitRule("track", ratio=parse_ratio(text))


def test_ratio_is_parsed():
    assert parse_ratio("8:1:1") == (8, 1, 1)


def test_split_without_clips_is_said():
    with pytest.raises(BadInputError, match="the split 'valid' has no clips"):
        check_splits(["train", "test"])


def published(name: str) -> dict[str, set[str]]:
    """Split -> paths of a published split."""
    return {
        split: {line.split("\t")[1] for line in (MTAT / "splits" / f"{name}_{split}.tsv").read_text().splitlines()}
        for split in SPLITS
    }


def index() -> list[dict[str, str]]:
    with open(MTAT / "clips_index_25863.csv", newline="") as file:
        return list(csv.DictReader(file))


@needs_mtat
def test_folder_rule_gives_the_published_split_of_the_real_index():
    ours = defaultdict(set)
    for row in index():
        ours[SplitRule("folder").split_of(AnnotatedClip(row["clip_id"], row["mp3_path"], ()))].add(row["mp3_path"])
    assert {split: len(paths) for split, paths in ours.items()} == {"train": 18_709, "valid": 1_825, "test": 5_329}
    assert dict(ours) == published("full_12_1_3")


@needs_mtat
def test_track_rule_leaves_no_real_track_on_two_sides_while_the_papers_does():
    clips = [AnnotatedClip(row["clip_id"], row["mp3_path"], ()) for row in index()]
    for name, leaks in (("track", False), ("paper", True)):
        sides = defaultdict(set)
        for clip in clips:
            sides[clip.track].add(SplitRule(name).split_of(clip))
        assert any(len(side) > 1 for side in sides.values()) is leaks
