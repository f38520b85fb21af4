"""What somebody looks for, in tags: ``piano, not vocal``.

===========================  =======================================================================================
``piano, not vocal``         both: a comma is ``and``
``(rock or metal) and loud`` ``not`` binds most, then ``and`` and the comma, then ``or``
``"drum and bass"``          quotes, single or double, round a name that has one of these words or signs in it
``piano > 0.5``              a probability in place of the tag's own threshold: ``>``, ``>=``, ``<``, ``<=``
===========================  =======================================================================================

A tag counts as heard where the model decides so (its threshold; of a one-of head its largest). A song's score says how
clearly a query fits: of a tag, 0.5 at the threshold, 0 and 1 where the probability is so, straight lines between (of a
one-of head, the probability over its sum with the largest other); of ``not``, the rest to 1; of ``and`` the smallest,
of ``or`` the largest (Zadeh 1965, 'Fuzzy sets'). What fits therefore has 0.5 or more.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Union

import numpy as np
import numpy.typing as npt

from models.heads import ONE_OF, Heads
from preprocessing.errors import BadInputError
from preprocessing.names import escaped

Floats = npt.NDArray[np.float32]
Booleans = npt.NDArray[np.bool_]
Sign = Literal[">", ">=", "<", "<="]

LONGEST_QUERY: Final = 2_000
"""Characters."""
DEEPEST: Final = 50
"""Parentheses and ``not`` within each other."""
NEAR_NAMES: Final = 3

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<sign>>=|<=|>|<)|(?P<mark>[(),])|(?P<word>[^\s(),<>"]+))"""
)
_WORDS: Final = ("and", "or", "not")
_COMPARE: Final[dict[Sign, Callable[..., Booleans]]] = {
    ">": np.greater,
    ">=": np.greater_equal,
    "<": np.less,
    "<=": np.less_equal,
}
_NUMBER: Final = re.compile(r"[0-9]*\.?[0-9]+")


@dataclass(frozen=True)
class Tag:
    """A tag that is heard, or whose probability is so.

    Attributes:
        name: of the tag.
        sign: of a comparison; None for the model's decision.
        limit: that the probability is compared with.
    """

    name: str
    sign: Sign | None = None
    limit: float = 0.0

    def __str__(self) -> str:
        """As parse_query reads it."""
        name = self.name
        bare = _bare_name(name)
        shown = name if bare else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return shown if self.sign is None else f"{shown} {self.sign} {np.format_float_positional(self.limit, trim='-')}"


@dataclass(frozen=True)
class Not:
    """What the part is not."""

    part: Query

    def __str__(self) -> str:
        """As parse_query reads it."""
        return f"not {_enclosed(self.part)}"


@dataclass(frozen=True)
class And:
    """What all parts are, two at least."""

    parts: tuple[Query, ...]

    def __str__(self) -> str:
        """As parse_query reads it."""
        return " and ".join(map(_enclosed, self.parts))


@dataclass(frozen=True)
class Or:
    """What one of the parts is, two at least."""

    parts: tuple[Query, ...]

    def __str__(self) -> str:
        """As parse_query reads it."""
        return " or ".join(map(_enclosed, self.parts))


Query = Union[Tag, Not, And, Or]  # noqa: UP007 in Python 3.10 a forward reference needs it


def _enclosed(part: Query) -> str:
    return f"({part})" if isinstance(part, And | Or) else str(part)


def _bare_name(name: str) -> bool:
    """Whether a name can be written without quotes."""
    words = name.split(" ")
    return (
        all(words)
        and not any(word.lower() in _WORDS for word in words)
        and not re.search(r"[\s(),<>\"']", name.replace(" ", ""))
        and name == name.strip()
    )


def parse_query(text: str) -> Query:
    """Parse a query.

    Raises:
        BadInputError: it is none; the message says where and how it would be one.
    """
    if len(text) > LONGEST_QUERY:
        raise BadInputError(f"a query of {len(text):,} characters: at most {LONGEST_QUERY:,} are taken")
    return _Parser(text).whole()


@dataclass(frozen=True)
class _Token:
    kind: Literal["quoted", "sign", "mark", "word", "end"]
    text: str
    at: int

    @property
    def keyword(self) -> str:
        """``and``, ``or`` or ``not``, whatever the case; empty where it is none."""
        return self.text.lower() if self.kind == "word" and self.text.lower() in _WORDS else ""


class _Parser:
    """Recursive descent: a method for each production."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split(text)
        self._at = self._depth = 0

    def _split(self, text: str) -> list[_Token]:
        tokens, at = [], 0
        end = len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._error("a quote is not closed", at)
            kind = match.lastgroup
            assert kind in ("quoted", "sign", "mark", "word")
            tokens.append(_Token(kind, match[kind], match.start(kind)))  # type: ignore[arg-type]
            at = match.end()
        return [*tokens, _Token("end", "", len(text))]

    def _error(self, what: str, at: int) -> BadInputError:
        return BadInputError(
            f"the query {escaped(self._text)!r}: {what} (character {at + 1}). Such as: piano, not vocal; "
            '(rock or metal) and loud; piano > 0.5; "drum and bass"'
        )

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    @property
    def _ended(self) -> bool:
        return self._at == len(self._tokens) - 1

    def _is_mark(self, mark: str) -> bool:
        return self._next.kind == "mark" and self._next.text == mark

    def whole(self) -> Query:
        if self._ended:
            raise self._error("it is empty", 0)
        query = self.either()
        if not self._ended:
            what = (
                "a parenthesis is closed that was not opened" if self._is_mark(")") else "and, or or a comma is missing"
            )
            raise self._error(what, self._next.at)
        return query

    def either(self) -> Query:
        parts = [self.both()]
        while self._next.keyword == "or":
            self._take()
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def both(self) -> Query:
        parts = [self.negated()]
        while self._next.keyword == "and" or self._is_mark(","):
            if self._take().text == "," and self._next.keyword == "and":
                self._take()
            parts.append(self.negated())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def negated(self) -> Query:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._error(f"more than {DEEPEST} parentheses or nots within each other", self._next.at)
        try:
            if self._next.keyword == "not":
                self._take()
                return Not(self.negated())
            if self._is_mark("("):
                opened = self._take()
                inner = self.either()
                if not self._is_mark(")"):
                    raise self._error("this parenthesis is not closed", opened.at)
                self._take()
                return inner
            return self.tag()
        finally:
            self._depth -= 1

    def tag(self) -> Query:
        token = self._take()
        if token.kind == "quoted":
            name = re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)
        elif token.kind == "word" and not token.keyword:
            words = [token.text]
            while self._next.kind == "word" and not self._next.keyword:
                words.append(self._take().text)
            name = " ".join(words)
        else:
            raise self._error("a tag is missing", token.at)
        if self._next.kind != "sign":
            return Tag(name)
        sign = self._take()
        number = self._take()
        if number.kind != "word" or not _NUMBER.fullmatch(number.text) or float(number.text) > 1:
            raise self._error(f"after {sign.text} comes a probability from 0 to 1", number.at)
        return Tag(name, sign.text, float(number.text))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Heard:
    """What a model says of songs.

    Attributes:
        tags: names.
        thresholds: float32 [n_tags].
        heads: by which tags are decided.
        probabilities: float32 [songs, n_tags].
        above: bool [songs, n_tags], the decisions.
    """

    tags: tuple[str, ...]
    thresholds: Floats
    heads: Heads
    probabilities: Floats
    above: Booleans


def check_tags(query: Query, tags: Sequence[str]) -> Query:
    """Return a query with its tags called as the model calls them, whatever the case.

    Raises:
        BadInputError: the model knows no such tag; the message has those that are called alike.
    """
    if isinstance(query, Not):
        return Not(check_tags(query.part, tags))
    if isinstance(query, And | Or):
        return type(query)(tuple(check_tags(part, tags) for part in query.parts))
    return Tag(_known_tag(query.name, tags), query.sign, query.limit)


def _known_tag(name: str, tags: Sequence[str]) -> str:
    if name in tags:
        return name
    folded = {tag.casefold(): tag for tag in tags}
    wanted = name.casefold()
    if wanted in folded:
        return folded[wanted]
    near = difflib.get_close_matches(wanted, folded, NEAR_NAMES, cutoff=0.6)
    words = wanted.split()
    pieces = [folded[word] for word in words if word in folded]
    if len(words) > 1 and len(pieces) == len(words):
        raise BadInputError(f"no tag {escaped(name)!r}; with a comma between: {', '.join(pieces)}")
    near += [tag for tag in folded if tag not in near and (wanted in tag or tag in words)]
    if near:
        shown = [f'"{folded[tag]}"' if not _bare_name(folded[tag]) else folded[tag] for tag in near]
        raise BadInputError(f"no tag {escaped(name)!r}; there is {', '.join(shown[:NEAR_NAMES])}")
    raise BadInputError(f"no tag {escaped(name)!r}; there are {', '.join(sorted(tags))}")


def fits(query: Query, heard: Heard) -> Booleans:
    """Return which songs a query fits, bool [songs]; its tags are known (check_tags)."""
    if isinstance(query, Not):
        return ~fits(query.part, heard)
    if isinstance(query, And | Or):
        parts = np.stack([fits(part, heard) for part in query.parts])
        together: Booleans = parts.all(axis=0) if isinstance(query, And) else parts.any(axis=0)
        return together
    at = heard.tags.index(query.name)
    decided: Booleans = heard.above[:, at]
    if query.sign is not None:
        decided = _COMPARE[query.sign](heard.probabilities[:, at], np.float32(query.limit))
    return decided


def scores(query: Query, heard: Heard) -> Floats:
    """Return how clearly a query fits songs, float32 [songs], 0 to 1; its tags are known (check_tags)."""
    if isinstance(query, Not):
        return 1 - scores(query.part, heard)
    if isinstance(query, And | Or):
        parts = np.stack([scores(part, heard) for part in query.parts])
        together: Floats = parts.min(axis=0) if isinstance(query, And) else parts.max(axis=0)
        return together
    at = heard.tags.index(query.name)
    values = heard.probabilities[:, at]
    if query.sign is not None:
        degrees = _degree(values, query.limit)
        return degrees if query.sign in (">", ">=") else 1 - degrees
    rivals = _rivals(heard.heads, at)
    if rivals is None:
        return _degree(values, float(heard.thresholds[at]))
    largest = heard.probabilities[:, rivals].max(axis=1)
    total = values + largest
    return np.where(total > 0, values / np.where(total > 0, total, 1), 0).astype(np.float32)


def _rivals(heads: Heads, at: int) -> list[int] | None:
    """The other tags of a one-of head; None of one whose tags have thresholds."""
    for head, place in heads.slices():
        if place.start <= at < place.stop:
            return [other for other in range(place.start, place.stop) if other != at] if head.kind == ONE_OF else None
    raise ValueError(f"no head has the output {at}")


def _degree(values: Floats, limit: float) -> Floats:
    """0.5 at the limit, 0 at 0, 1 at 1, straight lines between."""
    below = values / (2 * limit) if limit > 0 else np.full_like(values, 0.5)
    over = 0.5 + (values - limit) / (2 * (1 - limit)) if limit < 1 else np.full_like(values, 0.5)
    return np.clip(np.where(values < limit, below, over), 0, 1).astype(np.float32)
