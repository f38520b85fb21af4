from __future__ import annotations

import pytest

from preprocessing.digits import is_number


@pytest.mark.parametrize("text", ["0", "1", "007", "20261128"])
def test_ascii_digits_are_a_number(text: str) -> None:
    assert is_number(text)


@pytest.mark.parametrize("text", ["", "²", "٣", "1²", "-1", "+1", " 1", "1_0", "1.0", "x"])
def test_everything_else_is_none(text: str) -> None:
    assert not is_number(text)
