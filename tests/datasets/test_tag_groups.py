import pytest

from datasets.reading import load_synonyms, load_tags
from datasets.tag_groups import GROUPS, OTHER, tag_group


def test_each_of_magnatagatunes_50_tags_has_a_group() -> None:
    tags = load_tags("default", "mtat")
    assert len(tags) == 50
    assert [tag for tag in tags if tag_group(tag) == OTHER] == []


def test_tags_that_are_merged_by_default_are_in_the_group_of_the_kept_one() -> None:
    apart = {tag for tag, kept in load_synonyms("default").items() if tag_group(tag) != tag_group(kept)}
    assert apart == {"electric", "hard rock", "heavy", "no drums", "instrumental"}  # which mean two things


@pytest.mark.parametrize(
    ("tag", "group"),
    [
        ("genre---reggaeton", "genre"),
        ("instrument---nose flute", "instrument"),
        ("mood/theme---epic", "mood"),
        ("Female Vocalists", "voice"),
        ("something else", OTHER),
    ],
)
def test_group_of_a_tag(tag: str, group: str) -> None:
    assert tag_group(tag) == group


def test_no_tag_is_in_two_groups() -> None:
    names = [name for group in GROUPS.values() for name in group]
    assert len(names) == len(set(names))
