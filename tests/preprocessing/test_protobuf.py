"""Messages built from proto3 text, without protoc."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.protobuf import message_classes, parse_proto

BASE = """
syntax = "proto3";  // a comment; with = signs {}
package music.base;
option go_package = "example/base";
enum Key { option allow_alias = true; C = 0; DO = 0; D = 2; }
message Tempo { double beats_per_minute = 1; }
"""
SONG = """
syntax = "proto3";
package music;
import "base.proto";
import "google/protobuf/wrappers.proto";
message Song {
  message Part { string name = 1; repeated int64 starts = 2; }
  oneof title { string words = 1; bytes raw = 15; }
  repeated Part part = 2;
  base.Key key = 3;
  map<string, base.Tempo> tempo_by_bar = 4;
  google.protobuf.Int64Value year = 2047;
}
message Nothing {}
service Songs { rpc Find(Song) returns (Nothing); }
"""


def song_class():
    return message_classes({"base.proto": BASE, "song.proto": SONG})["music.Song"]


def test_messages_of_several_files_are_built_and_read_back():
    song_type = song_class()
    song = song_type(words="ü", key=2)
    song.part.add(name="verse", starts=[1, 2])
    song.tempo_by_bar["1"].beats_per_minute = 90
    song.year.value = 1999

    read = song_type.FromString(song.SerializeToString())
    assert read == song
    assert read.WhichOneof("title") == "words"
    assert (read.tempo_by_bar["1"].beats_per_minute, read.part[0].starts[:], read.year.value) == (90, [1, 2], 1999)


def test_lists_of_numbers_are_packed_as_proto3_has_it():
    song = song_class()()
    song.part.add(starts=[1, 2, 3])
    assert song.SerializeToString() == bytes([2 << 3 | 2, 5, 2 << 3 | 2, 3, 1, 2, 3])


def test_names_and_numbers_are_those_of_the_text():
    file = parse_proto("song.proto", SONG)
    assert [(field.name, field.number) for field in file.message_type[0].field] == [
        ("words", 1),
        ("raw", 15),
        ("part", 2),
        ("key", 3),
        ("tempo_by_bar", 4),
        ("year", 2047),
    ]
    assert [(method.name, method.input_type) for method in file.service[0].method] == [("Find", "Song")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("message A { string a = ; }", "';'"),
        ("message A { string a = 1", "the end of the file"),
        ("message A { group B = 1 { } }", "expected ';'"),
        ('syntax = "proto2";', "proto2"),
        ("massage A {}", "massage"),
        ("message A { string a = 1; } %", "%"),
    ],
)
def test_text_that_is_not_understood_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"a\.proto") as refusal:
        parse_proto("a.proto", text)
    assert words in str(refusal.value)


@given(st.text(alphabet='message A{}=;"1 \n/<>,', max_size=60))
def test_any_other_text_is_refused_and_nothing_worse(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_proto("a.proto", text)
