from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import soundfile as sf
from page_server import Listener, Page, listening_models, local_access, running_page, write_song
from pitch_model import TAGS, PitchModel, index_it
from song_files import part, song

from preprocessing.errors import BadInputError
from serving.library.places import INDEX_NAME
from serving.page import finding
from serving.page.app import Settings, create_app
from serving.page.folder import Folder

COUNT = 12


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of each of three pitches, a copy in another format, and a song of all three; indexed."""
    folder = tmp_path_factory.mktemp("finding") / "music"
    (folder / "Ä b").mkdir(parents=True)
    for number in range(3):
        samples = part(number)
        for take in range(4):
            begin = 20_000 * take
            sf.write(folder / "Ä b" / f"{number}-{take}.wav", samples[begin : begin + 100_000], 44_100)
    sf.write(folder / "song.wav", song(), 44_100)
    sf.write(folder / "song.flac", song(), 44_100)
    index_it(folder)
    return folder


@pytest.fixture
def settings(music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The index's model is among those that the page knows, and loads at once."""
    known = listening_models(tmp_path, Listener("pitch"))
    monkeypatch.setattr(finding, "model_digest", lambda folder: PitchModel().digest)
    monkeypatch.setattr(finding, "LocalModel", lambda folder, name, embeddings: PitchModel(name))
    return Settings(known, local_access(), Folder(music), group=lambda tag: f"of {tag}", index=music / INDEX_NAME)


@pytest.fixture
def page(settings: Settings) -> Iterator[Page]:
    with running_page(settings) as page:
        yield page


def names(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [song["name"] for song in answer.json()["songs"]]


def test_state_says_whose_the_index_is_and_how_far(page: Page) -> None:
    assert page.client.get("/api/state").json()["index"] == {"model": "pitch", "files": COUNT + 2, "stale": 0}


def test_songs_that_sound_alike_are_found_by_a_song_of_the_index(page: Page) -> None:
    answer = page.client.get("/api/similar", params={"song": "file:Ä b/1-0.wav", "count": 3})
    assert set(names(answer)) == {"1-1.wav", "1-2.wav", "1-3.wav"}
    first = answer.json()["songs"][0]
    assert set(first) == {"song", "name", "bytes", "seconds", "tags", "similarity"}
    assert first["song"].startswith("file:Ä b/1-")
    assert 0.9 < first["similarity"] <= 1.0001
    assert first["tags"][0][0] == "middle"
    assert page.client.get("/api/audio", params={"song": first["song"]}).status_code == 200


def test_a_second_of_a_song_is_heard_for_itself(page: Page, music: Path) -> None:
    seconds = sf.info(music / "song.wav").duration
    early = page.client.get("/api/similar", params={"song": "file:song.wav", "second": 2, "count": 3})
    late = page.client.get("/api/similar", params={"song": "file:song.wav", "second": seconds - 2, "count": 3})
    assert {name[:2] for name in names(early)} == {"0-"}
    assert {name[:2] for name in names(late)} == {"2-"}
    beyond = page.client.get("/api/similar", params={"song": "file:song.wav", "second": 9_000})
    assert beyond.status_code == 400
    assert beyond.json()["error"] == "song.wav has no second 9000: it ends before"


def test_what_somebody_brings_is_heard_and_compared(page: Page, music: Path) -> None:
    upload = page.upload((music / "Ä b" / "2-0.wav").read_bytes(), "mine.wav").json()["song"]
    assert names(page.client.get("/api/similar", params={"song": upload, "count": 4}))[0].startswith("2-")
    silent = page.upload(write_song(music.parent / "silent.wav", level=0.0).read_bytes(), "silent.wav").json()["song"]
    answer = page.client.get("/api/similar", params={"song": silent})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("silent.wav: there is nothing to hear")
    broken = page.upload(b"no music" * 99, "broken.wav").json()["song"]
    answer = page.client.get("/api/similar", params={"song": broken})
    assert (answer.status_code, "broken.wav" in answer.json()["error"]) == (422, True)


def test_similar_songs_can_be_asked_to_have_tags(page: Page) -> None:
    found = names(page.client.get("/api/similar", params={"song": "file:Ä b/0-0.wav", "tags": "high", "count": 20}))
    assert "2-0.wav" in found
    assert not any(name.startswith(("0-", "1-")) for name in found)


def test_songs_are_searched_by_tags_and_paged(page: Page) -> None:
    answer = page.client.get("/api/search", params={"q": "low, not high", "count": 3})
    assert {name[:2] for name in names(answer)} == {"0-"}
    found = answer.json()
    assert (found["page"], found["total"] >= 4, found["pages"]) == (1, True, -(-found["total"] // 3))
    second = names(page.client.get("/api/search", params={"q": "low, not high", "count": 3, "page": 2}))
    assert second
    assert not set(second) & set(names(answer))
    for query, words in (("hihg", "high"), ("", "")):
        refused = page.client.get("/api/search", params={"q": query})
        assert refused.status_code == 400
        assert words in refused.json()["error"]


def test_one_recording_in_two_formats_is_a_group(page: Page) -> None:
    groups = page.client.get("/api/duplicates").json()["groups"]
    assert {song["name"] for song in groups[0]} >= {"song.wav", "song.flac"}
    assert all(song["bytes"] > 0 and song["seconds"] > 0 for group in groups for song in group)


def test_playlist_is_a_file_with_whole_paths(page: Page, music: Path) -> None:
    songs = ["file:Ä b/1-0.wav", "file:song.wav"]
    answer = page.client.post("/api/playlist", json={"songs": songs, "name": 'so/"quiet"\r\nX: y Ä'})
    assert answer.headers["content-type"].startswith("audio/x-mpegurl")
    assert answer.headers["content-disposition"] == 'attachment; filename="so__quiet___X_ y _.m3u8"'
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert lines == [str(music / "Ä b" / "1-0.wav"), str(music / "song.wav")]
    for songs in (["file:none.wav"], ["upload:x"], ["file:../outside.wav"], ["/etc/passwd"], []):
        assert page.client.post("/api/playlist", json={"songs": songs, "name": "x"}).status_code == 400, songs
    assert page.client.post("/api/playlist", json={"songs": "x", "name": "x"}).status_code == 400


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_map_has_a_point_for_each_song(page: Page, method: str) -> None:
    drawn = page.client.get(f"/api/map?method={method}").json()
    assert drawn["method"] == method
    assert {len(drawn[name]) for name in ("points", "songs", "names", "top")} == {COUNT + 2}
    assert drawn["tags"] == list(TAGS)
    tops = {name: drawn["tags"][top] for name, top in zip(drawn["names"], drawn["top"], strict=True)}
    assert (tops["0-0.wav"], tops["1-0.wav"], tops["2-0.wav"]) == ("low", "middle", "high")
    shown = page.client.get(f"/api/map?method={method}&tag=high").json()
    of = dict(zip(drawn["names"], shown["probabilities"], strict=True))
    assert shown["tag"] == "high"
    assert of["2-0.wav"] > 200 > of["0-0.wav"]


def test_map_of_another_kind_or_tag_is_refused(page: Page) -> None:
    assert page.client.get("/api/map?method=umap").status_code == 400
    assert page.client.get("/api/map?tag=none").status_code == 404
    assert page.client.get("/api/map?colour=red").status_code == 400


def test_tag_map_has_a_point_and_a_group_for_each_tag(page: Page) -> None:
    drawn = page.client.get("/api/tag-map").json()
    assert drawn["tags"] == list(TAGS)
    assert drawn["groups"] == [f"of {tag}" for tag in TAGS]
    assert [len(point) for point in drawn["points"]] == [2] * len(TAGS)


ADDRESSES = ["/api/similar?song=file:a.wav", "/api/search?q=low", "/api/duplicates", "/api/map", "/api/tag-map"]


def test_folder_without_an_index_says_what_to_do_and_takes_one_that_comes(tmp_path: Path) -> None:
    write_song(tmp_path / "music" / "a.wav", 4)
    write_song(tmp_path / "music" / "b.wav", 4)
    folder, models = Folder(tmp_path / "music"), listening_models(tmp_path, Listener())
    with running_page(Settings(models, local_access(), folder, index=tmp_path / "music" / INDEX_NAME)) as page:
        assert page.client.get("/api/state").json()["index"] is None
        for address in ADDRESSES:
            answer = page.client.get(address)
            assert answer.status_code == 404
            assert "autotag index" in answer.json()["error"]
        index_it(tmp_path / "music")
        assert page.client.get("/api/state").json()["index"]["files"] == 2
        assert names(page.client.get("/api/similar?song=file:a.wav")) == ["b.wav"]
        upload = page.upload((tmp_path / "music" / "a.wav").read_bytes()).json()["song"]
        answer = page.client.get("/api/similar", params={"song": upload})
        assert answer.status_code == 400
        assert "its model pitch is not here" in answer.json()["error"]
        assert page.client.get(f"/api/audio?song={quote('file:' + INDEX_NAME)}").status_code == 404


def test_index_that_vanishes_or_is_damaged_is_said_and_the_page_goes_on(tmp_path: Path) -> None:
    write_song(tmp_path / "music" / "a.wav", 4)
    index = tmp_path / "music" / INDEX_NAME
    index_it(tmp_path / "music")
    models = listening_models(tmp_path, Listener())
    with running_page(Settings(models, local_access(), Folder(tmp_path / "music"), index=index)) as page:
        assert page.client.get("/api/search?q=low").status_code == 200
        index.unlink()
        assert page.client.get("/api/state").json()["index"] is None
        assert page.client.get("/api/search?q=low").status_code == 404
        index.write_bytes(b"not a database" * 100)
        state = page.client.get("/api/state")
        assert (state.status_code, "is no index" in state.json()["index"]["error"]) == (200, True)
        assert "is no index" in page.client.get("/api/search?q=low").json()["error"]
        index.unlink()
        index_it(tmp_path / "music")
        assert page.client.get("/api/state").json()["index"]["files"] == 1
        assert page.client.get("/api/search?q=low").status_code == 200


def test_song_that_has_changed_since_is_heard_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "music"
    folder.mkdir()
    for name, number in (("asked", 0), ("low", 0), ("high", 2)):
        sf.write(folder / f"{name}.wav", part(number)[:100_000], 44_100)
    index_it(folder)
    monkeypatch.setattr(finding, "model_digest", lambda folder: PitchModel().digest)
    monkeypatch.setattr(finding, "LocalModel", lambda folder, name, embeddings: PitchModel(name))
    known = listening_models(tmp_path, Listener("pitch"))
    with running_page(Settings(known, local_access(), Folder(folder), index=folder / INDEX_NAME)) as page:
        assert names(page.client.get("/api/similar?song=file:asked.wav"))[0] == "low.wav"
        sf.write(folder / "asked.wav", part(2)[:100_000], 44_100)
        assert names(page.client.get("/api/similar?song=file:asked.wav")) == ["high.wav", "low.wav"]


def test_page_without_a_folder_has_nothing_to_find(tmp_path: Path) -> None:
    with running_page(Settings(listening_models(tmp_path, Listener()), local_access())) as page:
        for address in ADDRESSES:
            assert page.client.get(address).status_code == 404


def test_file_that_is_no_index_is_refused_before_the_page_starts(tmp_path: Path) -> None:
    (tmp_path / INDEX_NAME).write_bytes(b"not a database" * 100)
    models = listening_models(tmp_path / "models", Listener())
    with pytest.raises(BadInputError):
        create_app(Settings(models, local_access(), Folder(tmp_path), index=tmp_path / INDEX_NAME, temporary=tmp_path))
    assert not list(tmp_path.glob("autotag-page-*"))
