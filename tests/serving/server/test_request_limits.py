"""Requests that claim more than they bring are told by their bytes alone."""

from __future__ import annotations

import contextlib
import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.constants import CLIP_SAMPLES
from serving.client import messages
from serving.server.request_limits import InvalidRequestError, Limits, check_input, check_predict

sys.path.insert(0, str(Path(__file__).parents[1] / "graph"))

from hostile_requests import TensorRequest, part, predict_message, strings, tensor_request, varint

LIMITS = Limits()


def tensor(dtype: int, sizes: list[int], **values: Any) -> Any:
    made = messages.TensorProto(dtype=dtype, **values)
    for size in sizes:
        made.tensor_shape.dim.add(size=size)
    return made


def predict(made: Any, name: str = "waveform") -> bytes:
    request = messages.PredictRequest()
    request.model_spec.name = "autotag"
    request.inputs[name].CopyFrom(made)
    serialised: bytes = request.SerializeToString()
    return serialised


LAWFUL = {
    "PCM": tensor(7, [2], string_val=[b"ab" * 9000, b""]),
    "128 clips": tensor(7, [128], string_val=[b"ab"] * 128),
    "waveform as bytes": messages.to_tensor(np.zeros((3, CLIP_SAMPLES), np.float32)),
    "waveform as a list": tensor(1, [1, 1000], float_val=[0.5] * 1000),
    "scalar": tensor(7, [], string_val=[b"a"]),
    "nothing": tensor(7, [0]),
    "nothing of much": tensor(1, [0, 2**40]),
    "long numbers": tensor(9, [3], int64_val=[2**60, -1, 0]),
    "bits of halves": tensor(19, [2], half_val=[15360, 0]),
    "more values than claimed": tensor(7, [1], string_val=[b"a"] * 3),
}


@pytest.mark.parametrize("name", list(LAWFUL))
def test_what_brings_what_it_claims_passes(name: str) -> None:
    check_predict(predict(LAWFUL[name]), LIMITS)


CLAIMS = {
    "2 GiB in one value": (
        tensor(1, [2**29], float_val=[0.0]),
        "at most 268435456 bytes",
    ),
    "a clip in one value": (tensor(1, [1, CLIP_SAMPLES], float_val=[0.0]), "claims 465600 values, and 1 are there"),
    "a clip in none": (tensor(1, [1, CLIP_SAMPLES]), "claims 465600 values, and 0 are there"),
    "60 clips in one": (tensor(7, [60], string_val=[b"ab"]), "claims 60 values, and 1 are there"),
    "129 clips": (tensor(7, [129], string_val=[b"ab"] * 129), "at most 128 clips"),
    "2^40 clips": (tensor(7, [2**40], string_val=[b"ab"]), "at most 128 clips in one request, got 1099511627776"),
    "2^80 numbers": (tensor(1, [2**40, 2**40]), "at most 268435456 bytes"),
    "a size of -1": (tensor(7, [-1], string_val=[b"ab"]), "got a dimension of -1"),
    "300 dimensions": (tensor(7, [1] * 300, string_val=[b"ab"]), "at most 8 dimensions"),
    "bytes too few": (tensor(2, [2], tensor_content=bytes(15)), "claims 2 values, and 1 are there"),
    "unknown type": (tensor(99, [2], tensor_content=bytes(16)), "claims 2 values, and 1 are there"),
}


@pytest.mark.parametrize("name", list(CLAIMS))
def test_what_claims_more_is_refused(name: str) -> None:
    made, words = CLAIMS[name]
    with pytest.raises(InvalidRequestError, match=f"waveform: .*({words})"):
        check_predict(predict(made), LIMITS)


def test_shape_whose_parts_come_apart_is_added_up_as_protocol_buffers_does() -> None:
    once = tensor(7, [2], string_val=[b"a", b"b"]).SerializeToString()
    message = once + part(2, tensor(0, [64]).tensor_shape.SerializeToString())
    merged = messages.TensorProto.FromString(message)
    assert [dim.size for dim in merged.tensor_shape.dim] == [2, 64]
    entry = part(1, b"pcm") + part(2, message)
    with pytest.raises(InvalidRequestError, match=r"\[2, 64\] claims 128 values, and 2 are there"):
        check_predict(part(2, entry), LIMITS)
    apart = part(1, b"pcm") + part(2, once) + part(2, tensor(0, [64]).SerializeToString())
    with pytest.raises(InvalidRequestError, match="claims 128 values"):
        check_predict(part(2, apart), LIMITS)


def test_unknown_rank_and_numbers_that_are_not_packed_are_refused() -> None:
    unknown = tensor(7, [], string_val=[b"a"])
    unknown.tensor_shape.unknown_rank = True
    with pytest.raises(InvalidRequestError, match="shape must be known"):
        check_predict(predict(unknown), LIMITS)
    loose = part(2, part(1, b"x") + part(2, (varint(5 << 3 | 5) + bytes(4)) * 5000))
    with pytest.raises(InvalidRequestError, match="send numbers packed"):
        check_predict(loose, LIMITS)


def test_examples_of_the_classify_api_are_counted() -> None:
    for kind in (1, 2):
        check_input(part(2, part(kind, part(1, b"") * 128)), LIMITS)
        with pytest.raises(InvalidRequestError, match="at most 128 examples"):
            check_input(part(2, part(kind, part(1, b"") * 129)), LIMITS)


def test_names_in_words_are_ones_that_can_be_shown() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_predict(predict(tensor(7, [9], string_val=[b""]), 'x"\n<script>' * 99), LIMITS)
    assert str(caught.value).startswith("an input: ")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_pass_or_are_refused(request: bytes) -> None:
    for check in (check_predict, check_input):
        with contextlib.suppress(InvalidRequestError):
            check(request, LIMITS)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.randoms(use_true_random=False))
def test_bytes_that_protocol_buffers_reads_are_judged_by_what_it_reads(number: int, chance: random.Random) -> None:
    message = bytearray(predict_message(TensorRequest("", "pcm", {"pcm": strings([b"ab"] * 3)}, "answered")))
    for _ in range(3):
        message[chance.randrange(len(message))] ^= 1 << chance.randrange(8)
    message += predict_message(tensor_request(5, number))[:200] if number % 2 else b""
    try:
        read = messages.PredictRequest.FromString(bytes(message))
    except Exception:
        return
    try:
        check_predict(bytes(message), LIMITS)
    except InvalidRequestError:
        return
    for one in read.inputs.values():
        sizes = [dim.size for dim in one.tensor_shape.dim]
        assert not one.tensor_shape.unknown_rank
        assert math.prod(sizes) <= (128 if one.dtype == 7 else len(message))


def test_every_good_hostile_request_passes() -> None:
    for number in range(0, 140, 20):
        check_predict(predict_message(tensor_request(7, number)), LIMITS)
