from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile as sf
from page_server import TAGS, THRESHOLDS, Listener, Page, listening_models, local_access, running_page, write_song
from waiting import wait_until

from preprocessing.errors import AutotagError, BadInputError
from serving.page import tagging
from serving.page.app import Settings
from serving.page.folder import Folder
from serving.page.models import Models
from serving.page.turns import Turns
from serving.page.work import Check, GoneError
from serving.tagging.sources import Answers
from serving.tagging.tagger import Tagger


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def other() -> Listener:
    return Listener("other")


@pytest.fixture
def music(tmp_path: Path) -> Path:
    write_song(tmp_path / "music" / "short.wav", 7)
    write_song(tmp_path / "music" / "long.wav", 400)
    return tmp_path / "music"


@pytest.fixture
def page(music: Path, listener: Listener, other: Listener, tmp_path: Path) -> Iterator[Page]:
    models = listening_models(tmp_path, listener, other)
    settings = Settings(models, local_access(), Folder(music), group=lambda tag: f"of {tag}")
    with running_page(settings) as page:
        yield page
        listener.held.set()


def names(page: Page) -> list[str]:
    return [model["name"] for model in page.client.get("/api/models").json()]


def of(lines: list[dict[str, Any]], kind: str, model: str | None = None) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == kind and model in (None, line["model"])]


def test_what_is_said_is_what_the_tagger_says(page: Page, music: Path) -> None:
    name = names(page)[0]
    lines = page.tag("file:short.wav", name)
    expected = Tagger(Listener()).tag_file(music / "short.wav")
    (model,) = of(lines, "model")
    assert model == {
        "type": "model",
        "model": name,
        "tags": list(TAGS),
        "groups": ["of loud", "of peak", "of half"],
        "thresholds": pytest.approx(list(THRESHOLDS)),
        "thresholded": [True] * 3,
        "window_seconds": 2,
    }
    windows = of(lines, "windows")
    assert [start for line in windows for start in line["starts"]] == [0, 2, 4, 5]
    rows = [row for line in windows for row in line["probabilities"]]
    np.testing.assert_allclose(rows, expected.window_probabilities, atol=1e-6)
    (song,) = of(lines, "song")
    np.testing.assert_allclose(song["probabilities"], expected.probabilities, atol=1e-6)
    assert song["above"] == expected.above.tolist() == [True, False, True]
    assert (song["seconds"], song["shortfall"], song["silent"]) == (7, "", False)
    assert song["identity"] == "listener 1"
    assert 0 < song["took_seconds"] < 20
    assert 0 <= song["cpu_seconds"] < 20
    assert lines[-1] == {"type": "end"}


def test_models_answer_one_after_the_other(page: Page) -> None:
    first, second = names(page)
    lines = page.tag("file:short.wav", second, first, second, hop=1)
    songs = of(lines, "song")
    assert [song["model"] for song in songs] == [second, first]
    assert [song["identity"] for song in songs] == ["other 1", "listener 1"]
    assert sum(len(line["starts"]) for line in of(lines, "windows", first)) == 6


def test_windows_come_as_they_are_answered_and_not_at_the_end(page: Page, listener: Listener) -> None:
    listener.seconds = 0.002
    body = {"song": "file:long.wav", "models": names(page)[:1]}
    with page.client.stream("POST", "/api/tag", json=body) as answer:
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        first = next(line for line in answer.iter_lines() if '"windows"' in line)
        assert listener.asked < 150
    heard = json.loads(first)
    assert heard["heard"] < 200
    assert heard["of"] == pytest.approx(400)


def test_going_away_ends_the_work(page: Page, listener: Listener) -> None:
    listener.seconds = 0.005
    with page.client.stream("POST", "/api/tag", json={"song": "file:long.wav", "models": names(page)[:1]}) as answer:
        next(line for line in answer.iter_lines() if '"windows"' in line)
    asked = listener.asked
    time.sleep(0.5)
    assert listener.asked < asked + 100 < 200
    at_rest = listener.asked
    time.sleep(0.3)
    assert listener.asked == at_rest


def test_reader_that_does_not_read_is_waited_for_and_then_given_up(
    page: Page, listener: Listener, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagging, "SLOWEST_READER_SECONDS", 0.5)
    monkeypatch.setattr(tagging, "LINES_AHEAD", 4)
    listener.tags = tuple(f"tag number {number}" for number in range(20_000))
    listener.answer = lambda windows: _many_tags(listener, windows)  # type: ignore[method-assign]
    with page.client.stream("POST", "/api/tag", json={"song": "file:long.wav", "models": names(page)[:1], "hop": 0.5}):
        assert wait_until(lambda: listener.asked > 0)
        time.sleep(2.5)
        asked = listener.asked
        time.sleep(0.5)
        assert listener.asked == asked < 800


def _many_tags(listener: Listener, windows: Any) -> Answers:
    listener.asked += len(windows)
    count = len(listener.tags)
    rows = np.random.default_rng(0).random((len(windows), count)).astype(np.float32)
    return Answers(listener.tags, np.zeros(count, np.float32), rows, "many")


def test_twenty_people_are_answered_by_one_computation_at_a_time(page: Page, listener: Listener) -> None:
    listener.seconds = 0.001
    name = names(page)[0]
    results: list[list[dict[str, Any]]] = []
    threads = [
        threading.Thread(target=lambda: results.append(page.tag("file:short.wav", name, hop=0.5))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 20
    assert all(lines[-1] == {"type": "end"} and not of(lines, "error") for lines in results)
    assert listener.most_together == 1


def test_short_song_need_not_wait_for_a_long_one(page: Page, listener: Listener) -> None:
    listener.seconds = 0.005
    name = names(page)[0]
    with page.client.stream("POST", "/api/tag", json={"song": "file:long.wav", "models": [name], "hop": 0.1}) as long:
        next(line for line in long.iter_lines() if '"windows"' in line)
        begin = time.monotonic()
        assert page.tag("file:short.wav", name)[-1] == {"type": "end"}
        assert time.monotonic() - begin < 3
        assert listener.asked < 2000


def test_more_than_can_be_answered_are_told_when_to_come_again(page: Page, listener: Listener) -> None:
    listener.held.clear()
    name = names(page)[0]
    streams = [
        page.client.stream("POST", "/api/tag", json={"song": "file:short.wav", "models": [name]}) for _ in range(32)
    ]
    answers = [stream.__enter__() for stream in streams]
    try:
        assert {answer.status_code for answer in answers} == {200}
        refused = page.client.post("/api/tag", json={"song": "file:short.wav", "models": [name]})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "20"
        assert "32 songs are being tagged" in refused.json()["error"]
    finally:
        listener.held.set()
        for stream in streams:
            stream.__exit__(None, None, None)
    assert wait_until(
        lambda: page.client.post("/api/tag", json={"song": "file:short.wav", "models": [name]}).is_success
    )


def test_song_and_models_that_are_not_there_are_refused_before_anything_is_said(page: Page) -> None:
    name = names(page)[0]
    for body, status in (
        ({"song": "file:none.wav", "models": [name]}, 404),
        ({"song": "file:short.wav", "models": ["none"]}, 404),
        ({"song": "file:short.wav", "models": ["/etc"]}, 404),
        ({"song": "file:short.wav", "models": []}, 400),
        ({"song": "file:short.wav", "models": [name] * 5}, 400),
        ({"song": "file:short.wav", "models": name}, 400),
        ({"song": "file:short.wav", "models": [name], "hop": "x"}, 400),
        ({"song": "file:short.wav", "models": [name], "hop": True}, 400),
        ({"song": 5, "models": [name]}, 400),
        ({"models": [name]}, 400),
    ):
        answer = page.client.post("/api/tag", json=body)
        assert answer.status_code == status, body
        assert set(answer.json()) == {"error"}


def test_one_model_that_fails_does_not_keep_the_others_from_answering(page: Page, other: Listener) -> None:
    def down(windows: Any) -> Answers:
        raise AutotagError("nobody answers at localhost:8500")

    other.answer = down  # type: ignore[method-assign]
    first, second = names(page)
    lines = page.tag("file:short.wav", second, first)
    assert of(lines, "error") == [{"type": "error", "model": second, "error": "nobody answers at localhost:8500"}]
    assert [song["model"] for song in of(lines, "song")] == [first]


def test_fault_of_the_program_is_a_sentence_too(page: Page, listener: Listener) -> None:
    def faulty(windows: Any) -> Answers:
        raise KeyError("tag")

    listener.answer = faulty  # type: ignore[method-assign]
    lines = page.tag("file:short.wav", names(page)[0])
    assert of(lines, "error")[0]["error"] == "autotag failed: KeyError: 'tag'"
    assert lines[-1] == {"type": "end"}


def test_answers_that_are_no_numbers_are_an_error(page: Page, listener: Listener) -> None:
    answer = listener.answer
    listener.answer = lambda windows: dataclasses.replace(  # type: ignore[method-assign]
        answer(windows), probabilities=np.full((len(windows), 3), np.nan, np.float32)
    )
    lines = page.tag("file:short.wav", names(page)[0])
    assert "what is no number" in of(lines, "error")[0]["error"]
    assert lines[-1] == {"type": "end"}


def test_hop_that_cannot_be_is_said_in_words(page: Page) -> None:
    (error,) = of(page.tag("file:short.wav", names(page)[0], hop=3), "error")
    assert error["error"] == "the hop must be from 0.1 to 2.0 s, got 3.0"
    for hop in ("1" + "0" * 400, "-1", "true", '"NaN"', "1e999"):
        content = f'{{"song": "file:short.wav", "models": ["{names(page)[0]}"], "hop": {hop}}}'
        answer = page.client.post("/api/tag", content=content, headers={"content-type": "application/json"})
        assert (answer.status_code, "a number of seconds" in answer.json()["error"]) == (400, True), hop


def test_silent_song_has_no_tag(page: Page, music: Path) -> None:
    sf.write(music / "silent.wav", np.zeros(40_000, np.float32), 8_000)
    lines = page.tag("file:silent.wav", names(page)[0])
    (song,) = of(lines, "song")
    assert song["silent"]
    assert not any(song["above"])
    assert [silent for line in of(lines, "windows") for silent in line["silent"]] == [True] * 3


def test_song_that_ends_before_its_header_says_is_told_with_what_is_missing(page: Page, music: Path) -> None:
    data = write_song(music / "cut.wav", 20).read_bytes()
    (music / "cut.wav").write_bytes(data[: len(data) // 2])
    (song,) = of(page.tag("file:cut.wav", names(page)[0]), "song")
    assert song["shortfall"] == "10.0 of 20.0 s"


def test_song_begins_anew_where_a_servers_model_changes(page: Page, listener: Listener) -> None:
    listener.identity = lambda: f"version {listener.asked > 4}"  # type: ignore[method-assign]
    lines = page.tag("file:long.wav", names(page)[0], hop=2)
    assert [line["type"] for line in lines].count("model") == 2
    second = lines[max(number for number, line in enumerate(lines) if line["type"] == "model") :]
    assert of(second, "song")[0]["identity"] == "version True"
    assert len(of(lines, "song")) == 1


def test_turns_come_in_the_order_of_waiting_and_those_that_leave_are_passed_over() -> None:
    turns, order = Turns(), []
    gone = Check()
    begun = [threading.Event() for _ in range(4)]

    def take(number: int, check: Check) -> None:
        begun[number].set()
        try:
            with turns.turn(check):
                order.append(number)
        except GoneError:
            order.append(-number)

    with turns.turn(Check()):
        threads = []
        for number in range(4):
            threads.append(threading.Thread(target=take, args=(number, gone if number == 1 else Check())))
            threads[-1].start()
            assert wait_until(lambda count=number + 2: len(turns._queue) == count)  # type: ignore[misc]
        gone.leave()
        assert wait_until(lambda: -1 in order)
    for thread in threads:
        thread.join(5)
    assert order == [-1, 0, 2, 3]


def test_few_models_are_kept_loaded_and_the_one_not_used_for_longest_goes(tmp_path: Path) -> None:
    loads: list[str] = []
    known = [Listener(name) for name in "abcd"]
    models = listening_models(tmp_path, *known)
    load = models._load
    models._load = lambda folder, name: loads.append(folder.name) or load(folder, name)  # type: ignore[func-returns-value]
    for name in "abcabdac":
        models.source(str(tmp_path / name), lambda line: None, Check())
    assert loads == ["a", "b", "c", "d", "c"]
    assert len(models._loaded) == models.at_once == 3


def test_model_that_was_replaced_at_its_place_is_loaded_anew(tmp_path: Path) -> None:
    loads: list[str] = []
    models = listening_models(tmp_path, Listener("a"), Listener("b"))
    load = models._load
    models._load = lambda folder, name: loads.append(folder.name) or load(folder, name)  # type: ignore[func-returns-value]

    def ask(name: str) -> None:
        models.source(str(tmp_path / name), lambda line: None, Check())

    ask("a")
    ask("b")
    os.utime(tmp_path / "a" / "model.json", ns=(0, 0))
    ask("a")
    ask("b")
    ask("a")
    assert loads == ["a", "b", "a"]
    assert len(models._loaded) == 2


def test_model_that_cannot_be_loaded_is_said_in_words(music: Path, tmp_path: Path) -> None:
    def load(folder: Path, name: str) -> Any:
        raise BadInputError(f"the model at {name} cannot be loaded by litert: damaged")

    models = listening_models(tmp_path, Listener())
    broken = Models([str(tmp_path / "listener")], trained=(), load=load)
    with running_page(Settings(broken, local_access(), Folder(music))) as page:
        (error,) = of(page.tag("file:short.wav", names(page)[0]), "error")
        assert error["error"].endswith("cannot be loaded by litert: damaged")
    assert models.cards()[0]["here"]


def test_client_that_asks_for_less_than_it_gets_is_no_trouble(page: Page) -> None:
    with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=0.001) as hasty:
        hasty.get(page.base + "/api/peaks?song=file:long.wav")
    assert page.client.get("/api/state").is_success
