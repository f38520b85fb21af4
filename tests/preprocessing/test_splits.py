"""One contract for every split rule, and the published splits of MagnaTagATune."""

from __future__ import annotations

import csv
import random
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from audio_samples import MTAT, needs_mtat
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.mtat import clip_of
from datasets.registry import DATASETS
from preprocessing.clips import AnnotatedClip
from preprocessing.constants import SPLITS
from preprocessing.errors import BadInputError
from preprocessing.splits import PAPER_RATIO, PUBLISHED, SEEDED_RULES, Draw, Split, check_splits, parse_ratio, unit_hash

RULES = {**DATASETS["mtat"].rules, "published": PUBLISHED}


def rule_of(name: str, seed: int = 0, ratio: tuple[int, int, int] = PAPER_RATIO) -> Split:
    return Split(RULES[name], Draw(seed, ratio))


CLIPS = [
    replace(
        clip_of(
            str(k), f"{'0123456789abcdef'[k // 4 % 16]}/a{k // 40}-b-{k // 4}-t-{k % 4 * 29}-{k % 4 * 29 + 29}.mp3", ()
        ),
        split=SPLITS[k % 3],
    )
    for k in range(6_000)
]
every_rule = pytest.mark.parametrize("name", list(RULES))
seeded_rule = pytest.mark.parametrize("name", ["track", "paper"])


@every_rule
def test_split_is_one_of_three_and_none_is_empty(name):
    rule = rule_of(name)
    assert {rule(clip) for clip in CLIPS} == set(SPLITS)


@every_rule
def test_split_depends_on_the_clip_alone_not_on_order_or_company(name):
    rule = rule_of(name)
    shuffled = random.Random(1).sample(CLIPS, 500)
    alone = {clip.clip_id: rule(clip) for clip in CLIPS}
    assert all(rule_of(name)(clip) == alone[clip.clip_id] for clip in shuffled)


@every_rule
def test_rule_has_a_line_of_help(name):
    assert RULES[name].title


@seeded_rule
def test_ratio_holds_and_another_seed_is_another_split(name):
    counts = Counter(rule_of(name)(clip) for clip in CLIPS)
    for split, share in zip(SPLITS, (13, 1, 2), strict=True):
        assert counts[split] / len(CLIPS) == pytest.approx(share / 16, abs=0.02)
    other = rule_of(name, seed=1)
    assert any(other(clip) != rule_of(name)(clip) for clip in CLIPS)


@seeded_rule
def test_other_ratio_moves_the_bounds(name):
    counts = Counter(rule_of(name, ratio=(1, 0, 1))(clip) for clip in CLIPS)
    assert counts["valid"] == 0
    assert counts["train"] / len(CLIPS) == pytest.approx(0.5, abs=0.05)


def sides_of_tracks(rule: Split) -> list[int]:
    sides = defaultdict(set)
    for clip in CLIPS:
        sides[clip.track].add(rule(clip))
    return [len(side) for side in sides.values()]


def test_track_rule_keeps_a_track_on_one_side_and_the_papers_does_not():
    assert max(sides_of_tracks(rule_of("track"))) == 1
    assert max(sides_of_tracks(rule_of("paper"))) > 1


def test_seeded_split_is_the_same_on_every_machine():
    assert [rule_of("paper", seed=7)(clip) for clip in CLIPS[:12]] == PINNED


PINNED = ["valid", "train", "train", "train", "test", "train", "test", "train", "train", "test", "train", "train"]


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=20), st.integers())
def test_hash_is_in_the_unit_interval(text, seed):
    assert 0 <= unit_hash(text, seed) < 1


@pytest.mark.parametrize("name", ["folder", "clean"])
def test_rule_by_folder_needs_magnatagatunes_folders(name):
    with pytest.raises(BadInputError, match="need the folders 0 to f; use --split track"):
        rule_of(name)(clip_of("9", "rock/song.mp3", ()))


def test_artist_rule_keeps_an_artist_on_one_side_and_needs_artists():
    sides = defaultdict(set)
    for clip in CLIPS:
        sides[clip.artist].add(rule_of("artist")(clip))
    assert len(sides) == 150
    assert {len(side) for side in sides.values()} == {1}
    with pytest.raises(BadInputError, match="split 'artist' needs each clip's artist"):
        rule_of("artist")(clip_of("9", "rock/song.mp3", ()))


def test_published_rule_needs_each_clips_split():
    with pytest.raises(BadInputError, match="split 'published' needs each clip's split"):
        rule_of("published")(clip_of("9", "rock/song.mp3", ()))


@pytest.mark.parametrize("text", ["", "13", "13:1", "a:b:c", "13:1:2:4", "0:1:1", "5:-1:1"])
def test_bad_ratio_is_refused(text):
    with pytest.raises(BadInputError, match="expected train:valid:test such as 13:1:2"):
        Draw(ratio=parse_ratio(text))


def test_ratio_is_parsed():
    assert parse_ratio("8:1:1") == (8, 1, 1)


def test_split_without_clips_is_said():
    clips = [AnnotatedClip(str(number), f"{number}.mp3", (), str(number), split="train") for number in range(3)]
    with pytest.raises(BadInputError, match="the split 'valid' has no clips: the annotations put none there"):
        check_splits(clips, Split(PUBLISHED, Draw()))


@pytest.mark.parametrize(
    ("tracks", "rule", "ratio", "advice"),
    [
        (["mixture"] * 24, "track", "13:1:2", "the 24 clips are of 1 tracks .'mixture'.*--split paper"),
        (["a", "b"] * 9, "track", "13:1:2", "of 2 tracks .'a', 'b'.*--column track=COLUMN"),
        (["a", "b"], "paper", "13:1:2", "2 clips cannot be divided into 3: give more"),
        (list("abcdef"), "track", "13:0:2", "the ratio 13:0:2 gives it none"),
        (list("abc"), "track", "100000:1:1", "3 tracks are few for 100000:1:1"),
    ],
)
def test_advice_for_a_split_without_clips_helps_these_clips(
    tracks: list[str], rule: str, ratio: str, advice: str
) -> None:
    clips = [AnnotatedClip(str(number), f"{number}.mp3", (), track) for number, track in enumerate(tracks)]
    with pytest.raises(BadInputError, match=advice):
        check_splits(clips, Split(SEEDED_RULES[rule], Draw(ratio=parse_ratio(ratio))))


def test_seed_that_is_advised_fills_every_split() -> None:
    clips = [AnnotatedClip(name, f"{name}.mp3", (), name) for name in "abcde"]
    rule = SEEDED_RULES["track"]
    with pytest.raises(BadInputError, match=r"by seed 2 none of the 5 tracks falls there; take --seed \d+,") as raised:
        check_splits(clips, Split(rule, Draw(seed=2)))
    check_splits(clips, Split(rule, Draw(seed=int(str(raised.value).split("--seed ")[1].split(",")[0]))))


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
        ours[rule_of("folder")(clip_of(row["clip_id"], row["mp3_path"], ()))].add(row["mp3_path"])
    assert {split: len(paths) for split, paths in ours.items()} == {"train": 18_709, "valid": 1_825, "test": 5_329}
    assert dict(ours) == published("full_12_1_3")


@needs_mtat
def test_track_rule_leaves_no_real_track_on_two_sides_while_the_papers_does():
    clips = [clip_of(row["clip_id"], row["mp3_path"], ()) for row in index()]
    for name, leaks in (("track", False), ("paper", True)):
        sides = defaultdict(set)
        for clip in clips:
            sides[clip.track].add(rule_of(name)(clip))
        assert any(len(side) > 1 for side in sides.values()) is leaks
