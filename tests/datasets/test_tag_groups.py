import pytest

from datasets.reading import load_tags
from datasets.tag_groups import GROUPS, OTHER, tag_group


def test_each_of_magnatagatunes_50_tags_has_a_group() -> None:
    tags = load_tags("default", "mtat")
    assert len(tags) == 50
    assert [tag for tag in tags if tag_group(tag) == OTHER] == []


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
