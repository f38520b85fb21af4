from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.heads import MULTI_LABEL, ONE_OF, Head, Heads
from preprocessing.errors import BadInputError
from serving.library.queries import And, Heard, Not, Or, Query, Tag, check_tags, fits, parse_query, scores

TAGS = ("piano", "vocal", "no vocals", "drum and bass", "pop/rock", "r&b", "Mellow")


def heard(*songs: tuple[float, ...], thresholds: tuple[float, ...] = (0.5,) * len(TAGS)) -> Heard:
    probabilities, limits = np.array(songs, np.float32), np.array(thresholds, np.float32)
    return Heard(TAGS, limits, Heads.of_tags(len(TAGS)), probabilities, probabilities >= limits)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("piano", Tag("piano")),
        ("  piano  ", Tag("piano")),
        ("piano, not vocal", And((Tag("piano"), Not(Tag("vocal"))))),
        ("piano and not vocal", And((Tag("piano"), Not(Tag("vocal"))))),
        ("piano, and vocal", And((Tag("piano"), Tag("vocal")))),
        ("no vocals", Tag("no vocals")),
        ("no   vocals or r&b", Or((Tag("no vocals"), Tag("r&b")))),
        ("a, b or c", Or((And((Tag("a"), Tag("b"))), Tag("c")))),
        ("a, (b or c)", And((Tag("a"), Or((Tag("b"), Tag("c")))))),
        ("NOT a AND b", And((Not(Tag("a")), Tag("b")))),
        ("not not a", Not(Not(Tag("a")))),
        ('"drum and bass"', Tag("drum and bass")),
        ("'drum and bass', piano", And((Tag("drum and bass"), Tag("piano")))),
        ('"say \\"it\\""', Tag('say "it"')),
        ("children's music", Tag("children's music")),
        ("piano>0.5", Tag("piano", ">", 0.5)),
        ("no vocals <= .25", Tag("no vocals", "<=", 0.25)),
        ("pop/rock >= 1, not r&b < 0", And((Tag("pop/rock", ">=", 1.0), Not(Tag("r&b", "<", 0.0))))),
    ],
)
def test_query_is_understood(text: str, query: Query) -> None:
    assert parse_query(text) == query


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("piano,", "a tag is missing (character 7)"),
        (", piano", "a tag is missing (character 1)"),
        ("not", "a tag is missing (character 4)"),
        ("piano or", "a tag is missing"),
        ("(piano", "this parenthesis is not closed (character 1)"),
        ("piano)", "a parenthesis is closed that was not opened (character 6)"),
        ("piano (vocal)", "and, or or a comma is missing (character 7)"),
        ("piano not vocal", "and, or or a comma is missing (character 7)"),
        ('"piano', "a quote is not closed (character 1)"),
        ("piano > ", "after > comes a probability from 0 to 1"),
        ("piano > 1.5", "after > comes a probability from 0 to 1"),
        ("piano > much", "after > comes a probability from 0 to 1"),
        ("> 0.5", "a tag is missing (character 1)"),
        ("(" * 60 + "a" + ")" * 60, "more than 50 parentheses or nots"),
        ("not " * 60 + "a", "more than 50 parentheses or nots"),
        ("a" * 2001, "2,001 characters"),
    ],
)
def test_what_is_no_query_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(BadInputError, match=re.escape(words)):
        parse_query(text)


NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
LIMITS = st.floats(0, 1, width=32, allow_subnormal=False).map(float)
LEAVES = st.one_of(NAMES.map(Tag), st.builds(Tag, NAMES, st.sampled_from([">", ">=", "<", "<="]), LIMITS))
QUERIES = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        parts.map(Not),
        st.lists(parts, min_size=2, max_size=3).map(lambda found: And(tuple(found))),
        st.lists(parts, min_size=2, max_size=3).map(lambda found: Or(tuple(found))),
    ),
    max_leaves=8,
)


@given(QUERIES)
def test_query_written_down_and_read_again_is_the_same(query: Query) -> None:
    text = str(query)
    if len(text) <= 2_000:
        assert parse_query(text) == query


@given(st.text(st.sampled_from("ab ,()\"'<>=.01\\not\t\n"), max_size=40) | st.text(max_size=40))
def test_any_text_is_a_query_or_refused(text: str) -> None:
    try:
        query = parse_query(text)
    except BadInputError:
        return
    assert parse_query(str(query)) == query


KNOWN = st.recursive(
    st.sampled_from(TAGS).map(Tag) | st.builds(Tag, st.sampled_from(TAGS), st.sampled_from([">", "<"]), LIMITS),
    lambda parts: st.one_of(
        parts.map(Not),
        st.lists(parts, min_size=2, max_size=3).map(lambda found: And(tuple(found))),
        st.lists(parts, min_size=2, max_size=3).map(lambda found: Or(tuple(found))),
    ),
    max_leaves=6,
)


def by_hand(query: Query, song: dict[str, float], above: dict[str, bool]) -> bool:
    if isinstance(query, Not):
        return not by_hand(query.part, song, above)
    if isinstance(query, And):
        return all(by_hand(part, song, above) for part in query.parts)
    if isinstance(query, Or):
        return any(by_hand(part, song, above) for part in query.parts)
    if query.sign is None:
        return above[query.name]
    return song[query.name] > query.limit if query.sign == ">" else song[query.name] < query.limit


@settings(max_examples=200)
@given(
    KNOWN,
    st.lists(st.tuples(*[st.floats(0, 1, width=32, allow_subnormal=False)] * len(TAGS)), min_size=1, max_size=5),
    st.tuples(*[st.floats(1 / 64, 63 / 64, width=32)] * len(TAGS)),
)
def test_query_fits_as_its_words_say_and_scores_half_or_more_where_it_fits(
    query: Query, songs: list[tuple[float, ...]], thresholds: tuple[float, ...]
) -> None:
    known = heard(*songs, thresholds=thresholds)
    fitting, scored = fits(query, known), scores(query, known)
    for row, song in enumerate(songs):
        above = {tag: bool(value) for tag, value in zip(TAGS, known.above[row], strict=True)}
        assert fitting[row] == by_hand(query, dict(zip(TAGS, map(np.float32, song), strict=True)), above)
        assert 0 <= scored[row] <= 1
        assert scored[row] >= 0.5 - 1e-6 if fitting[row] else scored[row] <= 0.5 + 1e-6


def test_clearer_songs_score_higher() -> None:
    known = heard((0.9, 0.1, 0, 0, 0, 0, 0), (0.6, 0.1, 0, 0, 0, 0, 0), (0.9, 0.4, 0, 0, 0, 0, 0))
    assert scores(parse_query("piano, not vocal"), known).argsort()[::-1].tolist() == [0, 2, 1]


def test_one_of_several_counts_where_it_is_the_largest() -> None:
    heads = Heads((Head("mood", ONE_OF, 3), Head("tags", MULTI_LABEL, 4)))
    probabilities = np.array([[0.4, 0.35, 0.25, 0, 0, 0, 0], [0.3, 0.6, 0.1, 0, 0, 0, 0]], np.float32)
    limits = np.full(7, 0.5, np.float32)
    known = Heard(TAGS, limits, heads, probabilities, heads.decide(probabilities, limits))
    assert fits(Tag("piano"), known).tolist() == [True, False]
    np.testing.assert_allclose(scores(Tag("piano"), known), [0.4 / 0.75, 0.3 / 0.9], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pianoo", "no tag 'pianoo'; there is piano"),
        ("vocals", "vocal"),
        ("drum", 'there is "drum and bass"'),
        ("piano vocal", "with a comma between: piano, vocal"),
        ("xyzzy", "there are Mellow, drum and bass"),
    ],
)
def test_unknown_tag_is_refused_with_names_that_are_near(name: str, words: str) -> None:
    with pytest.raises(BadInputError) as raised:
        check_tags(And((Tag("piano"), Not(Tag(name)))), TAGS)
    assert words in str(raised.value)


def test_tag_is_known_whatever_the_case() -> None:
    assert check_tags(parse_query("MELLOW or Piano > 0.2"), TAGS) == Or((Tag("Mellow"), Tag("piano", ">", 0.2)))
