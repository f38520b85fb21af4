"""Mappings: which tag goes where, and how it is spelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.heads import Head, Heads
from preprocessing.errors import BadInputError
from serving.tagging.field_values import Heard, Ours, heard_tags, new_values, without_ours
from serving.tagging.file_tags import HeldField
from serving.tagging.mapping import FieldMapping, FieldRule, load_mapping

TAGS = Path(__file__).parents[3] / "serving" / "pretrained" / "tags"
NOWHERE = {
    "beat", "beats", "singing", "solo", "vocal", "vocals", "voice",
    "00s", "60s", "70s", "80s", "90s",
}  # fmt: skip


def heard(*tags: str, head: str = "tags") -> list[Heard]:
    return [Heard(tag, 0.9 - 0.1 * place, head) for place, tag in enumerate(tags)]


def model_tags(name: str) -> list[str]:
    return (TAGS / f"{name}.txt").read_text().splitlines()


def refused(tmp_path: Path, text: str) -> str:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(BadInputError) as caught:
        load_mapping(str(tmp_path / "mine.yaml"))
    return str(caught.value)


@pytest.mark.parametrize("model", ["mtat_50", "msd_50", "jamendo_50", "jamendo_moodtheme_56"])
def test_each_tag_of_a_trained_model_has_one_place_in_the_default_or_none_on_purpose(model: str) -> None:
    rules = load_mapping("default").root
    for tag in model_tags(model):
        fields = [field for field, rule in rules.items() if rule.takes(tag, "tags")]
        assert len(fields) == (tag not in NOWHERE), tag


def test_default_names_no_tag_that_no_trained_model_has() -> None:
    known = {tag.casefold() for file in TAGS.glob("*.txt") for tag in file.read_text().splitlines()}
    for rule in load_mapping("default").root.values():
        named = {name for name in (*(rule.tags or ()), *rule.rename) if "*" not in name}
        assert {name for name in named if name.casefold() not in known} == set()


@pytest.mark.parametrize(
    ("tags", "values"),
    [
        (
            ["classical", "classic", "opera", "female voice", "woman", "slow", "harpsicord", "singing"],
            {
                "genre": ("Classical", "Opera"),
                "mood": ("Slow",),
                "INSTRUMENTS": ("Harpsichord",),
                "VOCALS": ("Female",),
            },
        ),
        (
            ["Hip-Hop", "rnb", "Progressive rock", "Mellow", "80s", "female vocalists"],
            {"genre": ("Hip-Hop", "R&B", "Progressive Rock"), "mood": ("Mellow",), "VOCALS": ("Female",)},
        ),
        (
            ["genre---newage", "mood/theme---relaxing", "instrument---drummachine", "genre---jazz"],
            {"genre": ("New Age", "Jazz"), "mood": ("Relaxing",), "INSTRUMENTS": ("Drum Machine",)},
        ),
        (["no vocals", "no voice", "techno"], {"genre": ("Techno",), "VOCALS": ("Instrumental",)}),
    ],
)
def test_default_spells_tags_as_players_have_them(tags: list[str], values: dict[str, tuple[str, ...]]) -> None:
    found = {field: rule.values(heard(*tags)) for field, rule in load_mapping("default").root.items()}
    assert {field: spelled for field, spelled in found.items() if spelled} == values


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ({}, ("rock", "Hip hop", "r&b/soul")),
        ({"tags": []}, ()),
        ({"tags": ["ROCK"]}, ("rock",)),
        ({"tags": ["*o*", "nothing"]}, ("rock", "Hip hop", "r&b/soul")),
        ({"tags": ["rock"], "rename": {"hip hop": "Rap"}}, ("rock", "Rap")),
        ({"rename": {"rock": "Rock", "HIP HOP": "rock"}}, ("Rock", "r&b/soul")),
        ({"casing": "title"}, ("Rock", "Hip Hop", "R&B/Soul")),
        ({"casing": "lower"}, ("rock", "hip hop", "r&b/soul")),
        ({"casing": "lower", "rename": {"rock": "ROCK"}}, ("ROCK", "hip hop", "r&b/soul")),
        ({"most": 2}, ("rock", "Hip hop")),
        ({"min_probability": 0.75}, ("rock", "Hip hop")),
        ({"heads": ["tags"]}, ("rock", "Hip hop", "r&b/soul")),
        ({"heads": ["genre"]}, ()),
    ],
)
def test_rule_chooses_and_spells(rule: dict[str, Any], values: tuple[str, ...]) -> None:
    assert FieldRule(**rule).values(heard("rock", "Hip hop", "r&b/soul")) == values


def test_one_heads_tags_are_chosen_by_its_name() -> None:
    heads = Heads((Head("genre", "one-of", 2), Head("mood", "multi-label", 1)))
    found = heard_tags([("sad", 0.9), ("rock", 0.6)], ["rock", "pop", "sad"], heads)
    assert FieldRule(heads=("genre",)).values(found) == ("rock",)
    assert FieldRule(heads=("mood",)).values(found) == ("sad",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("genre: {tag: [rock]}", "genre.tag: Extra inputs are not permitted"),
        ("genre: {tags: [no]}", "genre.tags.0: Input should be a valid string (got False)"),
        ("genre: {mode: overwrite}", "genre.mode: Input should be 'fill', 'add' or 'replace'"),
        ("genre: {most: 0}", "genre.most"),
        ("genre: {casing: Title}", "genre.casing"),
        ("genre: {separator: ''}", "genre.separator"),
        ("genre: {rename: {rock: ''}}", "genre.rename.rock"),
        ("genre: {rename: {rock: A, Rock: B}}", "rename has 'rock' twice"),
        ("title: {}", "players use the field title for something else"),
        ("REPLAYGAIN_TRACK_GAIN: {}", "players use the field"),
        ("a=b: {}", "a field's name starts with a letter"),
        ("genre: {}\nGenre: {}", "a field is named twice"),
        ("{}", "no field is named"),
        ("- genre", "expected a mapping"),
        ("genre: [", "while parsing"),
    ],
)
def test_wrong_mapping_is_said_in_one_line_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    said = refused(tmp_path, text)
    assert words in said
    assert "mine.yaml" in said
    assert "\n" not in said


def test_mapping_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"none\.yaml"):
        load_mapping(str(tmp_path / "none.yaml"))


def test_players_fields_are_known_in_any_case_and_own_names_keep_theirs() -> None:
    assert list(FieldMapping({"GENRE": FieldRule(), "Mood": FieldRule(), "myTags": FieldRule()}).root) == [
        "genre",
        "mood",
        "myTags",
    ]


def test_identity_changes_with_any_setting() -> None:
    rules = [{}, {"most": 2}, {"mode": "add"}, {"tags": ["rock"]}, {"rename": {"rock": "Rock"}}]
    assert len({FieldMapping({"genre": FieldRule(**rule)}).identity for rule in rules}) == len(rules)
    assert FieldMapping({"genre": FieldRule()}).identity == FieldMapping({"GENRE": FieldRule()}).identity


def test_mapping_that_does_not_fit_the_model_is_said() -> None:
    with pytest.raises(BadInputError, match=r"no field takes any of the model's 2 tags \(sitar, harp\)"):
        FieldMapping({"genre": FieldRule(tags=("rock",))}).check_tags(["sitar", "harp"], None, "--fields m")
    with pytest.raises(BadInputError, match="no head 'genre'; its heads are 'tags'"):
        FieldMapping({"genre": FieldRule(heads=("genre",))}).check_tags(["rock"], None, "--fields m")


SEVERAL, ONE = HeldField((), True), HeldField((), False)


def put(field: str, mode: Any, held: HeldField, ours: Any = (), separator: str | None = None) -> tuple[Any, Any]:
    rule = FieldRule(mode=mode, separator=separator)
    values, now = new_values(field, rule, heard("pop", "rock"), held, ours)
    return values, [str(one) for one in now]


@pytest.mark.parametrize(
    ("mode", "held", "values", "ours"),
    [
        ("fill", (), ("pop", "rock"), ["genre=pop", "genre=rock"]),
        ("fill", (" ",), ("pop", "rock"), ["genre=pop", "genre=rock"]),
        ("fill", ("Jazz",), ("Jazz",), []),
        ("add", ("Jazz",), ("Jazz", "pop", "rock"), ["genre=pop", "genre=rock"]),
        ("add", ("ROCK",), ("ROCK", "pop"), ["genre=pop"]),
        ("add", ("(17)",), ("Rock", "pop"), ["genre=pop"]),
        ("add", ("Pop/Rock",), ("Pop/Rock",), []),
        ("replace", ("Jazz",), ("pop", "rock"), ["genre=pop", "genre=rock"]),
    ],
)
def test_what_somebody_wrote_stays_unless_it_is_to_be_replaced(mode: str, held: Any, values: Any, ours: Any) -> None:
    assert put("genre", mode, HeldField(held, True)) == (values, ours)


def test_where_one_value_stands_ours_are_joined_behind_it() -> None:
    assert put("genre", "add", HeldField(("Jazz",), False)) == (("Jazz/pop/rock",), ["genre+=/pop/rock"])
    assert put("comment", "add", HeldField(("mine",), False)) == (("mine, pop, rock",), ["comment+=, pop, rock"])
    assert put("comment", "fill", ONE) == (("pop, rock",), ["comment=pop, rock"])
    assert put("genre", "fill", SEVERAL, separator="; ") == (("pop; rock",), ["genre=pop; rock"])


def test_what_an_earlier_run_wrote_makes_place_and_what_was_changed_since_does_not() -> None:
    ours = list(Ours.read(["genre=Jazz", "genre+=/Jazz", "no line of ours"]))
    assert put("genre", "fill", HeldField(("Jazz",), True), ours)[0] == ("pop", "rock")
    assert put("genre", "add", HeldField(("Folk/Jazz",), False), ours)[0] == ("Folk/pop/rock",)
    assert put("genre", "fill", HeldField(("Free Jazz",), True), ours)[0] == ("Free Jazz",)


def test_field_for_which_nothing_was_heard_loses_what_is_ours_alone() -> None:
    ours = [Ours("genre", "Jazz")]
    for rule in (FieldRule(tags=("house",), mode="replace"), None):
        held = HeldField(("Folk", "Jazz"), True)
        assert new_values("genre", rule, heard("pop"), held, ours) == (("Folk",), ())


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(str.strip)
rules = st.builds(
    FieldRule,
    casing=st.sampled_from(["as_is", "lower", "title"]),
    separator=st.sampled_from([None, "; ", "/", "+="]),
    most=st.none() | st.integers(1, 3),
    mode=st.sampled_from(["fill", "add"]),
)


@given(
    rule=rules,
    again=rules | st.none(),
    theirs=st.lists(words, max_size=3),
    tags=st.lists(words, min_size=1, max_size=4, unique=True),
    others=st.lists(words, max_size=4, unique=True),
    several=st.booleans(),
    field=st.sampled_from(["mood", "comment", "MINE"]),
)
def test_what_is_not_ours_outlives_any_number_of_runs(
    rule: FieldRule,
    again: FieldRule | None,
    theirs: list[str],
    tags: list[str],
    others: list[str],
    several: bool,
    field: str,
) -> None:
    held = HeldField(tuple(theirs), several)
    values, ours = new_values(field, rule, heard(*tags), held, ())
    read = list(Ours.read(map(str, ours)))
    assert read == list(ours)
    assert without_ours(values, read) == held.values
    assert new_values(field, rule, heard(*tags), HeldField(values, several), read) == (values, ours)
    later, ours = new_values(field, again, heard(*others), HeldField(values, several), read)
    assert without_ours(later, ours) == held.values
