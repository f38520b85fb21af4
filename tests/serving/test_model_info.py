from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from exported_model import DATA, NORMALISATION, SCORES, TAGS, THRESHOLDS, Exported

from preprocessing.errors import BadInputError
from serving.model_info import MODEL_INFO_NAME, BranchInfo, ModelInfo, check_thresholds, find_model, read_model_info

INFO = ModelInfo(TAGS, THRESHOLDS, NORMALISATION, (BranchInfo("mel_1d", "log_mel", 7),), 3, DATA, SCORES)


def test_card_read_back_is_the_card_written(tmp_path: Path) -> None:
    (tmp_path / MODEL_INFO_NAME).write_text(INFO.to_json(), encoding="utf-8")
    assert read_model_info(tmp_path) == INFO


def test_card_of_an_exported_model_says_what_a_user_of_it_needs(exported: Exported) -> None:
    card = json.loads((exported.path / MODEL_INFO_NAME).read_text("utf-8"))
    assert card["tags"] == list(TAGS)
    assert card["thresholds"] == list(THRESHOLDS)
    assert card["data"]["licence"] == "none"
    assert card["data"]["clips"] == {"train": 10, "valid": 4, "test": 4}
    assert card["data"]["clips_with_tag"]["test"] == [2, 2, 1, 1, 1, 0]
    assert card["scores"]["test"] == {"roc_auc": 0.5, "pr_auc": 0.25, "f1": None, "scored_tags": 5}
    assert card["constants"]["sample_rate"] == 16_000


@pytest.mark.parametrize("missing", ["tags", "thresholds", "data", "scores", "normalisation", "constants"])
def test_card_that_lacks_something_is_refused_with_what_to_do(tmp_path: Path, missing: str) -> None:
    card = json.loads(INFO.to_json())
    del card[missing]
    (tmp_path / MODEL_INFO_NAME).write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(BadInputError, match=f"{missing}.*Push the model again"):
        read_model_info(tmp_path)


def test_card_made_for_other_clips_is_refused(tmp_path: Path) -> None:
    other = replace(INFO, constants={**INFO.constants, "sample_rate": 8_000})
    (tmp_path / MODEL_INFO_NAME).write_text(other.to_json(), encoding="utf-8")
    with pytest.raises(BadInputError, match="made for other clips"):
        read_model_info(tmp_path)


def test_newest_version_of_a_folder_is_found_by_number_and_not_by_name(tmp_path: Path) -> None:
    for version in ("9", "10", ".push-1", "notes"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    (tmp_path / "11").mkdir()
    assert find_model(tmp_path) == tmp_path / "10"
    assert find_model(tmp_path / "9") == tmp_path / "9"


@pytest.mark.parametrize("thresholds", [(0.5,) * 5, (0.5,) * 7, (0.5,) * 5 + (-0.1,), (0.5,) * 5 + (float("inf"),)])
def test_thresholds_must_be_probabilities_one_a_tag(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="a threshold from 0 to 1 for each of 6 tags"):
        check_thresholds(thresholds, TAGS)
