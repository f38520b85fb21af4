"""Names of files: any bytes that a Linux file name can have."""

from __future__ import annotations

import io
import json
import os
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from preprocessing.names import escaped, is_utf8, keep_bytes, lossless, to_json

NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: not {0, 0x2F} & set(name))
EXAMPLES = (
    "ideographic\u3000space.mp3",
    "no\u00a0break.mp3",
    "family \U0001f468\u200d\U0001f469\u200d\U0001f467.mp3",
    "two\nlines.mp3",
    os.fsdecode(b"caf\xe9.mp3"),
)


@given(NAMES)
@example(b"\xed\xb2\x80")
def test_any_name_comes_back_out_of_json_byte_for_byte(name: bytes) -> None:
    text = to_json({"file": lossless(os.fsdecode(name))})
    text.encode("utf-8")
    assert os.fsencode(json.loads(text)["file"]) == name


@given(NAMES)
def test_any_name_is_written_to_text_as_the_bytes_that_it_has(name: bytes) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    keep_bytes(stream)
    stream.write(lossless(os.fsdecode(name)))
    stream.flush()
    assert stream.buffer.getvalue() == name  # type: ignore[attr-defined]


@given(NAMES)
def test_what_is_shown_of_any_name_is_text_without_control_characters(name: bytes) -> None:
    shown = escaped(os.fsdecode(name))
    shown.encode("utf-8")
    assert not {"Cc", "Zl", "Zp"} & set(map(unicodedata.category, shown))


@pytest.mark.parametrize("name", EXAMPLES[:3])
def test_spaces_and_emoji_of_all_kinds_are_shown_as_they_are(name: str) -> None:
    assert escaped(name) == name


def test_characters_that_move_the_cursor_or_turn_the_line_are_escaped() -> None:
    shown = "line\nbell\x07 clear\x1b[2J next\x85 turned\u202egpj.mp3 caf\udce9 tab\t"
    assert escaped(shown) == r"line\nbell\x07 clear\x1b[2J next\u0085 turned\u202egpj.mp3 caf\xe9 tab\t"


def test_text_beyond_ascii_is_escaped_in_json_for_streams_that_lack_it() -> None:
    assert to_json({"é": "\udce9\u3000"}, ascii_only=True) == '{"\\u00e9": "\\udce9\\u3000"}'
    assert to_json("é\udce9") == '"é\\udce9"'


@pytest.mark.parametrize(("encoding", "told"), [("utf-8", True), ("UTF8", True), ("ascii", False), ("latin-1", False)])
def test_encoding_of_a_stream_is_told(encoding: str, told: bool) -> None:
    assert is_utf8(io.TextIOWrapper(io.BytesIO(), encoding=encoding)) is told
