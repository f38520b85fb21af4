from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from page_server import write_version

from preprocessing.errors import AutotagError
from serving.client.cards import Card
from serving.page import models as page_models
from serving.page.answers import PageError
from serving.page.apart import run_apart
from serving.page.models import Models
from serving.page.work import Check, GoneError
from serving.pretrained.catalogue import CATALOGUE


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of trained models."""
    monkeypatch.setenv("AUTOTAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_versions_are_listed_newest_first_and_the_newest_is_the_default(tmp_path: Path) -> None:
    for version in ("9", "10"):
        write_version(tmp_path / "pushed" / version)
    (tmp_path / "pushed" / "11").mkdir()  # being written
    (tmp_path / "pushed" / "latest").mkdir()
    folder = str(tmp_path / "pushed")
    models = Models([folder + "/"], trained=())
    assert [model.name for model in models.listed()] == [f"{folder}/10", f"{folder}/9"]
    assert models.default() == f"{folder}/10"
    write_version(tmp_path / "pushed" / "12")
    assert models.default() == f"{folder}/12"


def test_card_says_what_is_known(tmp_path: Path) -> None:
    write_version(tmp_path / "pushed" / "1")
    (card,) = Models([str(tmp_path / "pushed")], trained=()).cards()
    assert card == {
        "name": f"{tmp_path}/pushed/1",
        "kind": "pushed",
        "here": True,
        "title": "",
        "data": "tones",
        "licence": "MIT; CC0",
        "scores": {"roc_auc": 0.75, "pr_auc": None, "split": "test"},
        "parameters": 0,
        "megabytes": 0.0,
        "tags": 3,
        "window_seconds": 2,
        "default": True,
        "notes": "made up",
    }


def test_damaged_version_is_listed_with_what_is_wrong(tmp_path: Path) -> None:
    version = write_version(tmp_path / "pushed" / "1")
    (version / "model.json").write_text("{}")
    (card,) = Models([str(tmp_path / "pushed")], trained=()).cards()
    assert not card["here"]
    assert "is not a description of a model" in card["notes"]
    assert card["scores"] is None


def test_trained_models_are_listed_before_they_are_fetched(tmp_path: Path, cache: Path) -> None:
    write_version(cache / "models" / "musicnn-msd" / "1")
    cards = {card["name"]: card for card in Models(default="vgg-mtt").cards()}
    assert set(cards) == set(CATALOGUE)
    assert [name for name, card in cards.items() if card["here"]] == ["musicnn-msd"]
    assert cards["vgg-mtt"]["default"]
    known = cards["musicnn-mtt"]
    assert (known["tags"], known["window_seconds"], known["kind"]) == (50, 29.1, "pretrained")
    assert known["scores"]["roc_auc"] == CATALOGUE["musicnn-mtt"].roc_auc


def test_default_is_what_is_here_where_none_was_chosen(cache: Path) -> None:
    assert Models().default() == next(iter(CATALOGUE))
    write_version(cache / "models" / "vgg-mtt" / "1")
    assert Models().default() == "vgg-mtt"
    assert Models(trained=()).default() is None


def test_server_that_does_not_answer_is_listed_with_its_words() -> None:
    class Down:
        def card(self) -> Any:
            raise AutotagError("localhost:8500 does not answer")

    models = Models(trained=(), client=Down(), address="localhost:8500")  # type: ignore[arg-type]
    (card,) = models.cards()
    assert (card["kind"], card["here"], card["notes"]) == ("served", False, "localhost:8500 does not answer")


def test_server_that_takes_long_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    asked: list[int] = []

    class Slow:
        def card(self) -> Any:
            asked.append(1)
            assert answered.wait(30)
            return Card(7, None)

    monkeypatch.setattr(page_models, "SERVER_SECONDS", 0.05)
    models = Models(trained=(), client=Slow(), address="localhost:8500")  # type: ignore[arg-type]
    for _ in range(2):
        (card,) = models.cards()
        assert (card["here"], card["notes"]) == (False, "localhost:8500 has not answered yet")
    answered.set()
    for _ in range(500):
        (card,) = models.cards()
        if card["here"]:
            break
    assert card["here"]
    assert asked == [1]


def test_model_that_is_not_here_is_fetched_when_it_is_asked_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    asked: list[str] = []

    def fetched(work: Any, name: str, say: Any, check: Check) -> Path:
        asked.append(name)
        say(f"fetching {name}")
        return write_version(cache / "models" / name / "1")

    monkeypatch.setattr(page_models, "run_apart", fetched)
    models = Models(load=lambda folder, name: (folder, name))  # type: ignore[arg-type,return-value]
    models.cards()
    assert asked == []
    source: Any = models.source("vgg-mtt", said.append, Check())
    assert source == (cache / "models" / "vgg-mtt" / "1", "vgg-mtt")
    assert said == ["fetching vgg-mtt", "loading vgg-mtt"]
    models.source("vgg-mtt", said.append, Check())
    assert asked == ["vgg-mtt"]
    with pytest.raises(PageError, match="no model 'none'"):
        models.source("none", said.append, Check())


def speak(say: Any, words: list[str], end: str) -> str:
    for word in words:
        say(word)
    if end == "error":
        raise AutotagError("no connection")
    if end == "fault":
        raise KeyError(end)
    if end == "exit":
        import os

        os._exit(7)
    if end == "hang":
        import time

        time.sleep(600)
    return end


def test_work_in_another_process_says_its_lines_and_its_result() -> None:
    said: list[str] = []
    assert run_apart(speak, ["one", "two"], "done", say=said.append, check=Check()) == "done"
    assert said == ["one", "two"]


@pytest.mark.parametrize(
    ("end", "words"), [("error", "no connection"), ("fault", "KeyError: 'fault'"), ("exit", "ended with the code 7")]
)
def test_end_of_another_process_is_told_in_words(end: str, words: str) -> None:
    with pytest.raises(AutotagError, match=words):
        run_apart(speak, [], end, say=lambda line: None, check=Check())


def test_process_that_nobody_waits_for_is_ended() -> None:
    check = Check()
    with pytest.raises(GoneError):
        run_apart(speak, ["here"], "hang", say=lambda line: check.leave(), check=check)
