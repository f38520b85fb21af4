"""Versions in a folder of pushed models."""

from __future__ import annotations

from pathlib import Path

import pytest

from preprocessing.errors import BadInputError
from serving.model_versions import find_model, version_folders, version_numbers


@pytest.fixture
def pushed(tmp_path: Path) -> Path:
    for version in ("9", "10", ".folder.tmp-host-1-1", "notes", "\u00b2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    (tmp_path / "11").mkdir()
    return tmp_path


def test_newest_version_of_a_folder_is_found_by_number_and_not_by_name(pushed: Path) -> None:
    assert find_model(pushed) == pushed / "10"
    assert find_model(pushed / "9") == pushed / "9"


def test_versions_are_in_the_order_of_their_numbers_and_have_a_model_unless_all_are_asked_for(pushed: Path) -> None:
    assert version_numbers(pushed) == [9, 10]
    assert version_folders(pushed) == [pushed / "9", pushed / "10"]
    assert version_folders(pushed, whole=False) == [pushed / "9", pushed / "10", pushed / "11"]


def test_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such folder"):
        version_numbers(tmp_path / "none")
