"""Files of word vectors: word2vec's and GloVe's, names with spaces, broken lines, files that are none."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.tag_map import word_vectors
from pipeline.tag_map.word_vectors import read_word_vectors
from preprocessing.errors import BadInputError

WORDS = {
    "rock": [1, 0, 0],
    "new": [0, 1, 0],
    "age": [0, 0, 2],
    "hip_hop": [1, 1, 0],
    "India": [0, 3, 4],
    "no": [1, 2, 2],
}


def text(words: dict[str, list[float]] = WORDS, header: str = "", between: str = " ", end: str = "\n") -> str:
    return header + "".join(between.join([word, *map(str, row)]) + end for word, row in words.items())


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "vectors.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_dict(path: Path, tags: list[str]) -> dict[str, list[float]]:
    found = read_word_vectors(path, tags)
    return {
        tag: [round(float(number), 4) for number in row] for tag, row in zip(found.tags, found.vectors, strict=True)
    }


@pytest.mark.parametrize(
    "content",
    [
        text(),
        text(header="6 3\n"),
        text(header="6 3\n", end=" \n"),
        text(between="\t", end="\r\n"),
        text(header="6\t3\r\n", between="  ", end="\n\n"),
        text().rstrip("\n"),
        gzip.compress(text(header="6 3\n").encode()),
    ],
    ids=["glove", "word2vec", "trailing spaces", "tabs", "double spaces and empty lines", "no last end", "gzip"],
)
def test_every_usual_form_is_read(tmp_path: Path, content: str | bytes) -> None:
    found = as_dict(written(tmp_path, content), ["rock", "new age", "hip hop", "indian", "India"])
    assert found == {
        "rock": [1, 0, 0],
        "new age": [0, 0.7071, 0.7071],
        "hip hop": [0.7071, 0.7071, 0],
        "India": [0, 0.6, 0.8],
    }


def test_a_tag_whose_word_is_missing_is_left_out_and_the_word_named(tmp_path: Path) -> None:
    found = read_word_vectors(written(tmp_path, text()), ["rock", "new age", "no", "no flute", "lute solo"])
    assert found.left_out == {
        "no flute": "the file has no 'flute'",
        "lute solo": "the file has no 'lute', no 'solo'",
    }
    assert found.source == "the word vectors of vectors.txt"


def test_names_with_spaces_are_whole_names(tmp_path: Path) -> None:
    content = text({**WORDS, "new age": [3, 0, 4], ". . .": [1, 1, 1], "at 9": [1, 1, 1]})
    assert as_dict(written(tmp_path, content), ["rock", "new age", "no"])["new age"] == [0.6, 0, 0.8]


def test_capitals_categories_and_equal_names(tmp_path: Path) -> None:
    content = text({"Rock": [0, 1, 0], **WORDS, "no": [1, 0, 0]}) + "rock 9 9 9\n"
    found = as_dict(written(tmp_path, content), ["rock", "genre---india", "mood/theme---no", "ROCK"])
    assert found["rock"] == [1, 0, 0]
    assert found["ROCK"] == [0, 1, 0]
    assert found["genre---india"] == [0, 0.6, 0.8]
    assert found["mood/theme---no"] == [1, 0, 0]


def test_broken_lines_are_named_and_the_others_used(tmp_path: Path) -> None:
    content = text() + "short 1 2\nage 1 x 2\nyes 0 0 0\nmaybe nan 1 1\n" + "few\n" * 4
    found = read_word_vectors(written(tmp_path, content), ["rock", "new", "age", "yes", "maybe"])
    assert found.tags == ("rock", "new", "age")
    (note,) = found.notes
    assert "line 7 has 2 numbers in place of 3; line 9 is a vector of length 0.0; line 10 is a vector of" in note
    assert note.endswith("line 12 has 0 numbers in place of 3, and 2 more")
    assert found.left_out == {"yes": "the file has no 'yes'", "maybe": "the file has no 'maybe'"}


def test_a_broken_line_of_a_looked_for_word_is_named(tmp_path: Path) -> None:
    content = "rock 1 zero 0\n" + text({word: row for word, row in WORDS.items() if word != "rock"})
    found = read_word_vectors(written(tmp_path, content), ["rock", "new", "age", "no"])
    assert "line 1 has something else than a number: could not convert string to float: b'zero'" in found.notes[0]
    assert "rock" in found.left_out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no names followed by numbers"),
        ("some prose\nabout music\n", "no names followed by numbers"),
        (b"3000000 300\n</s> \x00\x01\x02\n", "bytes that no text has.*binary files have to be saved as text"),
        (text(header="6 4\n"), "says that a word has 4 numbers, and most have 3"),
        (b"a" * (word_vectors.LONGEST_LINE + 1), "line 1 is longer than"),
        (gzip.compress(text().encode())[:-9], "Compressed file ended"),
        (text({"rock": [1, 2, 3]}), r"1 tags have a vector and a map needs 3 \(new"),
    ],
    ids=["empty", "prose", "binary", "other width", "endless line", "cut gzip", "one tag"],
)
def test_files_that_are_none_are_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read_word_vectors(written(tmp_path, content), ["rock", "new", "age"])


def test_a_large_file_is_read_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    line = " 0.123456" * 300 + "\n"
    with path.open("w") as file:
        file.write(text({word: row * 100 for word, row in WORDS.items()}))
        file.writelines(f"word{number}{line}" for number in range(5000))
    tracemalloc.start()
    found = read_word_vectors(path, ["rock", "new", "age"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.vectors.shape == (3, 300)
    assert path.stat().st_size > 13_000_000
    assert peak < 1_500_000


names = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=8).filter(
    lambda name: not any(mark in name for mark in "_-/0123456789")
)
numbers = st.floats(-100, 100, width=32).map(lambda number: number if abs(number) > 1e-3 else 1.0)


@settings(max_examples=25, deadline=None)
@given(
    words=st.dictionaries(names, st.lists(numbers, min_size=4, max_size=4), min_size=3, max_size=12),
    header=st.booleans(),
    between=st.sampled_from([" ", "\t", "  "]),
    end=st.sampled_from(["\n", " \n", "\r\n"]),
    spaced=st.booleans(),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    words: dict[str, list[float]],
    header: bool,
    between: str,
    end: str,
    spaced: bool,
) -> None:
    words = {f"a {word}" if spaced else word: row for word, row in words.items()}
    content = text(words, f"{len(words)}{between.strip(' ') or ' '}4{end}" if header else "", between, end)
    found = read_word_vectors(written(tmp_path_factory.mktemp("words"), content), list(words))
    rows = np.array(list(words.values()))
    assert found.tags == tuple(words)
    assert found.notes == ()
    np.testing.assert_allclose(found.vectors, rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-5)


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=200) | st.text("ab 1.\n\t-e9n", max_size=200).map(str.encode))
@example(b"\x1f\x8b")
@example(b"1 1\n")
@example(b"1 1\n\n2 2\n")
def test_any_bytes_are_read_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = written(tmp_path_factory.mktemp("bytes"), content)
    tags = ["a", "b", "ab", "a b", "1", "9"]
    try:
        lengths = np.linalg.norm(read_word_vectors(path, tags).vectors, axis=1)
    except BadInputError as refused:
        message = str(refused)
    else:
        message = path.name
        np.testing.assert_allclose(lengths, 1, atol=1e-5)
    assert path.name in message
