"""The double of TensorFlow Serving takes base64 as the server does."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_double import ServingDouble, serving_double, unescape_base64

sys.path.insert(0, str(Path(__file__).parents[1] / "graph"))

from hostile_requests import WireRequest, wire_requests

OF_BASE64 = [request for request in wire_requests(0, 0) if request.name.startswith(("JSON: b64 ", "JSON: good"))]


@pytest.fixture(scope="module")
def double() -> Iterator[ServingDouble]:
    with serving_double() as running:
        yield running


@pytest.mark.parametrize("request_", OF_BASE64, ids=lambda request: request.name)
def test_base64_is_taken_and_refused_as_the_hostile_requests_say(double: ServingDouble, request_: WireRequest) -> None:
    answer = httpx.post(f"http://{double.rest_address}{request_.target}", content=request_.body, trust_env=False)
    if request_.expected != "either":
        assert answer.status_code == (200 if request_.expected == "answered" else 400), answer.text[:300]


@given(st.binary(max_size=100), st.integers(0, 200), st.text(" \n\t\r", max_size=3))
def test_padding_may_be_missing_and_white_space_be_anywhere(content: bytes, at: int, blank: str) -> None:
    text = base64.b64encode(content).decode()
    for form in (text, text.rstrip("="), text.replace("=", ".")):
        place = at % (len(form) + 1)
        assert unescape_base64(form[:place] + blank + form[place:]) == content


@pytest.mark.parametrize("text", ["A", "AAAAA", "AA=", "AAA==", "AAAA=", "A=AA", "AA-_", "ÄAAA", "=", "AAAA!"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not base64"):
        unescape_base64(text)
