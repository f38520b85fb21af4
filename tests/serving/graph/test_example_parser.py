from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hostile_requests import bytes_list, entry, example, floats, part, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.examples import Example
from serving.graph import example_parser
from serving.graph.example_parser import MOST_FEATURES, Span

NAMES = ("waveform", "tags", "")


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def find(examples: Any) -> Any:
    features, whole = example_parser.features_of(examples)
    found, sound, count = example_parser.find_features(examples, features, NAMES)
    return whole, sound, count, [(one.start, one.end) for one in found]


def found_in(serialised: bytes) -> tuple[bool, int, dict[str, bytes]]:
    """Whether the example is sound, how many features it has, and the named ones' bytes."""
    whole, sound, count, spans = find(tf.constant([b"", serialised, example()]))
    assert all(0 <= int(start[1]) <= int(end[1]) <= len(serialised) for start, end in spans)
    features = {name: serialised[int(start[1]) : int(end[1])] for name, (start, end) in zip(NAMES, spans, strict=True)}
    return bool(whole[1] and sound[1]), int(count[1]), features


FEATURES = st.one_of(
    st.builds(bytes_list, st.binary(max_size=300)),
    st.builds(bytes_list, st.binary(max_size=3), st.binary(max_size=3)),
    st.builds(floats, st.floats(width=32)),
    st.just(b""),
)
KEYS = st.one_of(st.sampled_from([name for name in NAMES if name]), st.text(max_size=200))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, FEATURES, max_size=12))
def test_features_are_found_where_protobuf_finds_them(features: dict[str, bytes]) -> None:
    message = Example.FromString(example(*[entry(key.encode(), value) for key, value in features.items()]))
    sound, count, found = found_in(message.SerializeToString())
    assert (sound, count) == (True, len(features))
    for name in NAMES:
        expected = message.features.feature[name].SerializeToString() if name in features else b""
        assert found[name] == expected


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_survived_and_what_is_found_lies_within_them(garbage: bytes) -> None:
    found_in(garbage)
    found_in(part(1, garbage))
    found_in(example(part(1, garbage)))
    found_in(example(entry(b"tags", garbage)))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_an_example_with_changed_bytes_is_survived(data: st.DataObject) -> None:
    good = bytearray(example(*[entry(name.encode(), bytes_list(b"abc" * 60)) for name in ("waveform", "tags")]))
    for position in data.draw(st.lists(st.integers(0, len(good) - 1), min_size=1, max_size=4)):
        good[position] = data.draw(st.integers(0, 255))
    found_in(bytes(good))


def test_the_last_of_two_features_of_one_name_counts() -> None:
    twice = example(entry(b"tags", bytes_list(b"first")), entry(b"tags", bytes_list(b"last")))
    assert found_in(twice)[2]["tags"] == bytes_list(b"last")


@pytest.mark.parametrize("size", [4, 127, 128, 2**14, 2**21, 2**28, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
def test_a_length_that_claims_more_than_there_is_is_not_sound(size: int) -> None:
    assert not found_in(part(1, b"abc", size))[0]
    assert not found_in(example(part(1, b"abc", size)))[0]
    assert not found_in(example(part(1, part(1, b"abc", size))))[0]
    assert not found_in(example(part(1, part(1, b"tags") + part(2, b"abc", size))))[0]


def test_a_length_without_an_end_is_not_sound() -> None:
    for garbage in (b"\n", b"\n\x80", b"\n" + b"\xff" * 4, b"\n" + b"\xff" * 20, b"\n\x80\x80\x80\x80\x00"):
        assert not found_in(garbage)[0]


@pytest.mark.parametrize(
    "entries",
    [b"\x08\x01", part(2, b"a"), b"\x0b" * 9, part(1, part(3, b"a")), part(1, part(1, b"a") + b"\0"), b"\x0a"],
)
def test_what_is_no_map_of_features_is_not_sound(entries: bytes) -> None:
    assert not found_in(part(1, entries))[0]


def test_more_features_than_are_looked_at_are_told() -> None:
    assert found_in(example(*[entry(b"a", b"")] * MOST_FEATURES))[1] == MOST_FEATURES
    assert found_in(example(*[entry(b"a", b"")] * (10 * MOST_FEATURES)))[1] == MOST_FEATURES + 1


def test_a_key_alone_is_a_feature_without_a_value() -> None:
    sound, count, found = found_in(example(part(1, part(1, b"tags")), part(1, b"")))
    assert (sound, count, found["tags"]) == (True, 2, b"")


def test_lists_are_read_value_by_value() -> None:
    feature = bytes_list(b"abc", b"", b"x" * 200)
    examples, end = tf.constant([feature]), tf.constant([len(feature)])
    values, of_bytes = example_parser.bytes_list(examples, Span(tf.constant([0]), end))
    read = []
    while int(values.start[0]) < int(values.end[0]):
        value, there = example_parser.next_value(examples, values)
        assert there
        read.append(example_parser.cut_out(examples, value).numpy()[0])
        values = Span(value.end, values.end)
    assert (bool(of_bytes[0]), read) == (True, [b"abc", b"", b"x" * 200])


def test_a_list_of_another_type_is_told_from_an_empty_feature() -> None:
    features = [b"", floats(1.0), part(3, part(1, varint(7))), bytes_list(b"a") + b"\0", bytes_list(b"a")]
    lengths = tf.constant([len(feature) for feature in features])
    values, of_bytes = example_parser.bytes_list(tf.constant(features), Span(tf.zeros_like(lengths), lengths))
    assert of_bytes.numpy().tolist() == [True, False, False, False, True]
    np.testing.assert_array_equal(values.end - values.start, [0, 0, 0, 0, 3])
