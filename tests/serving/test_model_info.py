from __future__ import annotations

import json
from pathlib import Path

import pytest
from exported_model import DATA, LOG_MEL_NORMALISATION, SCORES, TAGS, THRESHOLDS, Exported

from models.front_ends.settings import STORED_LOG_MEL
from models.heads import MULTI_LABEL, ONE_OF, Head, Heads
from preprocessing.clip_format import ClipFormat
from preprocessing.errors import BadInputError
from preprocessing.windows import WindowRule
from serving.model_info import (
    MODEL_INFO_NAME,
    CombinerInfo,
    MemberInfo,
    ModelInfo,
    Origin,
    check_thresholds,
    read_model_info,
)

HEARS = STORED_LOG_MEL.to_json()
INFO = ModelInfo(
    TAGS,
    THRESHOLDS,
    Heads((Head("genre", ONE_OF, 2), Head("tags", MULTI_LABEL, 4))),
    ClipFormat(8000, 80_000),
    (
        MemberInfo("a", "mel_1d", 7, 465_600, 16_000, HEARS, WindowRule(), LOG_MEL_NORMALISATION),
        MemberInfo("b", "musicnn", 9, 48_128, 16_000, None, WindowRule(hop=5, lead=2), None, "MTAT"),
    ),
    CombinerInfo("logistic", 3),
    DATA,
    SCORES,
    Origin("somewhere", "a package", "ISC"),
)


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
    assert card["scores"]["test"] == {"roc_auc": 0.5, "pr_auc": 0.25, "f1": None, "scored_tags": 5, "accuracy": {}}
    assert card["clip"] == {"sample_rate": 16_000, "samples": 465_600}
    assert card["heads"] == [{"name": "tags", "kind": "multi-label", "size": 6}]


@pytest.mark.parametrize("missing", ["tags", "thresholds", "data", "scores", "members", "heads", "clip"])
def test_card_that_lacks_something_is_refused_with_what_to_do(tmp_path: Path, missing: str) -> None:
    card = json.loads(INFO.to_json())
    del card[missing]
    (tmp_path / MODEL_INFO_NAME).write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(BadInputError, match=f"{missing}.*Push the model again"):
        read_model_info(tmp_path)


def test_card_of_another_version_of_autotag_is_refused_with_what_to_do(tmp_path: Path) -> None:
    old = {name: value for name, value in json.loads(INFO.to_json()).items() if name != "format"}
    (tmp_path / MODEL_INFO_NAME).write_text(json.dumps(old), encoding="utf-8")
    with pytest.raises(BadInputError, match=r"format is 1, and this version of autotag reads 2.*Push the model again"):
        read_model_info(tmp_path)


@pytest.mark.parametrize("thresholds", [(0.5,) * 5, (0.5,) * 7, (0.5,) * 5 + (-0.1,), (0.5,) * 5 + (float("inf"),)])
def test_thresholds_must_be_probabilities_one_a_tag(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="a threshold from 0 to 1 for each of 6 tags"):
        check_thresholds(thresholds, TAGS)
