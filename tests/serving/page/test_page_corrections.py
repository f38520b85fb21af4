from __future__ import annotations

import csv
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_server import Listener, Page, listening_models, local_access, running_page, write_song

from datasets.table import parse_table
from preprocessing.errors import AutotagError, BadInputError
from serving.page.answers import PageError
from serving.page.app import Settings
from serving.page.corrections import COLUMNS, MARKS, Corrections
from serving.page.folder import Folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "corrections.csv"


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def labels(file: Path) -> dict[str, set[str]]:
    """As the data set `table` reads them."""
    return {clip.path: set(clip.tags) for clip in parse_table(file.read_bytes(), str(file))}


def test_labels_are_what_was_shown_less_what_is_wrong_and_more_what_was_added(file: Path) -> None:
    corrections = Corrections(file)
    corrections.show("a/b.mp3", "musicnn-mtt", ["rock", "guitar", "loud"])
    assert corrections.mark("a/b.mp3", "loud", "wrong") == {"loud": "wrong"}
    corrections.mark("a/b.mp3", "guitar", "right")
    assert corrections.mark("a/b.mp3", "drums", "added") == {"guitar": "right", "loud": "wrong", "drums": "added"}
    assert rows(file) == [
        {
            "path": "a/b.mp3",
            "tags": "rock|guitar|drums",
            "right": "guitar",
            "wrong": "loud",
            "added": "drums",
            "shown": "rock|guitar|loud",
            "model": "musicnn-mtt",
        }
    ]
    assert labels(file) == {"a/b.mp3": {"rock", "guitar", "drums"}}
    assert Corrections(file).marks("a/b.mp3") == {"guitar": "right", "loud": "wrong", "drums": "added"}
    assert corrections.marks("other.mp3") == {}


def test_mark_is_changed_and_taken_back(file: Path) -> None:
    corrections = Corrections(file)
    corrections.show("a.mp3", "m", ["rock"])
    corrections.mark("a.mp3", "rock", "wrong")
    assert labels(file) == {"a.mp3": set()}
    assert corrections.mark("a.mp3", "rock", "right") == {"rock": "right"}
    assert labels(file) == {"a.mp3": {"rock"}}
    assert corrections.mark("a.mp3", "rock", None) == {}
    assert rows(file) == []
    assert corrections.mark("a.mp3", "rock", None) == {}


def test_tags_of_the_model_that_is_looked_at_count_as_shown(file: Path) -> None:
    corrections = Corrections(file)
    corrections.show("a.mp3", "one", ["rock"])
    corrections.show("a.mp3", "two", ["jazz"])
    corrections.mark("a.mp3", "loud", "added", "one")
    assert labels(file) == {"a.mp3": {"rock", "loud"}}
    corrections.show("b.mp3", "one", ["rock"])
    corrections.show("b.mp3", "two", ["jazz"])
    corrections.mark("b.mp3", "loud", "added")
    assert labels(file)["b.mp3"] == {"jazz", "loud"}
    corrections.mark("c.mp3", "loud", "added")
    assert labels(file)["c.mp3"] == {"loud"}
    assert rows(file)[2]["model"] == "none"


def test_mark_is_refused_where_it_is_not_known_what_the_model_shows(file: Path) -> None:
    before = Corrections(file)
    before.show("a.mp3", "one", ["rock", "loud"])
    after = Corrections(file)
    after.show("a.mp3", "two", ["jazz"])
    with pytest.raises(PageError, match="what one hears in this song is not known here") as refused:
        after.mark("a.mp3", "rock", "right", "one")
    assert refused.value.status == 409
    assert not file.exists()
    before.mark("a.mp3", "rock", "right", "one")
    after.mark("a.mp3", "loud", "wrong", "one")
    assert labels(file) == {"a.mp3": {"rock"}}, "what was shown stands in the row"


def test_foreign_columns_rows_and_separators_are_kept(file: Path) -> None:
    file.write_text("path;artist;tags;year\na.mp3;Ada, B.;rock, pop;1999\nb.mp3;Bo;jazz;\n", encoding="utf-8-sig")
    before = labels(file)
    corrections = Corrections(file)
    corrections.mark("a.mp3", "pop", "wrong")
    assert labels(file) == {**before, "a.mp3": {"rock"}}
    text = file.read_text(encoding="utf-8")
    assert text.startswith("path;artist;tags;year;right;wrong;added;shown;model\na.mp3;Ada, B.;rock;1999;")
    corrections.mark("a.mp3", "pop", None)
    assert labels(file) == before
    assert "Ada, B." in file.read_text()


def test_row_with_something_of_a_persons_own_stays_without_marks(file: Path) -> None:
    corrections = Corrections(file)
    corrections.show("a.mp3", "m", ["rock"])
    corrections.mark("a.mp3", "pop", "added")
    text = file.read_text().splitlines()
    file.write_text(f"{text[0]},rating\n{text[1]},5\n")
    corrections.mark("a.mp3", "pop", None)
    assert rows(file)[0]["rating"] == "5"
    assert labels(file) == {"a.mp3": {"rock"}}


TAG = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="|"), min_size=1, max_size=12
).filter(lambda tag: bool(tag.strip()) and " ".join(tag.split()).isprintable() and bool(" ".join(tag.split())))


@settings(max_examples=60, deadline=None)
@given(
    shown=st.lists(TAG, max_size=4, unique_by=lambda tag: " ".join(tag.split())),
    marks=st.lists(
        st.tuples(st.sampled_from(["a.mp3", "b c/Ü.wav"]), TAG, st.sampled_from([*MARKS, None])), max_size=8
    ),
)
def test_whatever_is_marked_is_read_back_and_by_the_data_set(
    tmp_path_factory: pytest.TempPathFactory, shown: list[str], marks: list[tuple[str, str, str | None]]
) -> None:
    file = tmp_path_factory.mktemp("marks") / "c.csv"
    corrections = Corrections(file)
    expected: dict[str, dict[str, str]] = {}
    shown = [" ".join(tag.split()) for tag in shown]
    for path, raw, mark in marks:
        tag = " ".join(raw.split())
        corrections.show(path, "m", shown)
        own = expected.setdefault(path, {})
        own.pop(tag, None)
        if mark is not None:
            own[tag] = mark
        assert corrections.mark(path, raw, mark) == own
    for path, own in expected.items():
        assert corrections.marks(path) == own
    if any(expected.values()):
        wanted = {
            path: {tag for tag in shown if own.get(tag) != "wrong"}
            | {tag for tag, mark in own.items() if mark != "wrong"}
            for path, own in expected.items()
            if own
        }
        assert labels(file) == wanted


@pytest.mark.parametrize("tag", ["", "  ", "a|b", "a\0b", "x" * 101, "a\x1bb", "\udcff"])
def test_tag_that_cannot_stand_in_a_table_is_refused(file: Path, tag: str) -> None:
    with pytest.raises(PageError) as refused:
        Corrections(file).mark("a.mp3", tag, "added")
    assert refused.value.status == 400
    assert not file.exists()


def test_tag_of_several_lines_becomes_one(file: Path) -> None:
    assert Corrections(file).mark("a.mp3", " hip \n hop ", "added") == {"hip hop": "added"}


@pytest.mark.parametrize("path", [" a.mp3", "a.mp3 ", "caf\udce9.mp3", "a\nb.mp3"])
def test_song_whose_name_no_table_holds_is_refused_in_words(file: Path, path: str) -> None:
    with pytest.raises(PageError, match="Rename the file") as refused:
        Corrections(file).mark(path, "rock", "added")
    assert refused.value.status == 409


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"clip_id\trock\n1\t0\n", "need the columns path and tags"),
        (b"path,tags,tags\n", "each column once"),
        (b"path,tags\na.mp3\n", "line 2: 1 cells where the header has 2"),
        (b"path,tags\n\xff,a\n", "line 2: not UTF-8"),
        (b'path,tags\n"a,b\n', "line"),
        (b"\x00\x01\x02", "line 1: line contains NUL|need the columns"),
    ],
)
def test_file_that_is_no_such_table_is_left_alone_with_words(file: Path, content: bytes, words: str) -> None:
    file.write_bytes(content)
    with pytest.raises(BadInputError, match=words):
        Corrections(file)
    assert file.read_bytes() == content


def test_folder_that_cannot_be_written_is_said_and_nothing_is_lost(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corrections = Corrections(file)
    corrections.mark("a.mp3", "rock", "added")
    before = file.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(AutotagError, match="no space left on device: nothing was kept"):
        corrections.mark("a.mp3", "jazz", "added")
    assert file.read_bytes() == before
    with pytest.raises(BadInputError, match="cannot become one"):
        Corrections(file.parent / "none" / "c.csv")


def mark_many(file: str, name: str) -> None:
    corrections = Corrections(Path(file))
    for number in range(40):
        corrections.mark(f"{name}{number % 4}.mp3", f"tag {number}", "added")


def test_two_processes_lose_none_of_each_others_marks(file: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=mark_many, args=(str(file), name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sum(len(row["added"].split("|")) for row in rows(file)) == 80
    assert sorted(path.name for path in file.parent.iterdir()) == [".corrections.csv.lock", "corrections.csv"]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    write_song(tmp_path / "music" / "a" / "song.wav")
    models = listening_models(tmp_path, Listener())
    corrections = Corrections(tmp_path / "music" / "corrections.csv")
    settings = Settings(models, local_access(), Folder(tmp_path / "music"), corrections=corrections)
    with running_page(settings) as page:
        yield page


def test_song_is_tagged_marked_and_its_row_can_be_trained_from(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "music" / "corrections.csv"
    assert page.client.get("/api/state").json()["corrections"] == str(file)
    name = page.client.get("/api/models").json()[0]["name"]
    (song,) = [line for line in page.tag("file:a/song.wav", name) if line["type"] == "song"]
    assert song["above"] == [True, False, True]
    put = page.client.put("/api/corrections", json={"song": "file:a/song.wav", "tag": "half", "mark": "wrong"})
    assert put.json() == {"marks": {"half": "wrong"}}
    page.client.put("/api/corrections", json={"song": "file:a/song.wav", "tag": "tone", "mark": "added"})
    assert labels(file) == {"a/song.wav": {"loud", "tone"}}
    assert rows(file)[0]["model"] == name
    assert list(rows(file)[0]) == list(COLUMNS)
    marks = page.client.get("/api/corrections", params={"song": "file:a/song.wav"})
    assert marks.json() == {"marks": {"half": "wrong", "tone": "added"}}


def test_corrections_of_what_is_not_in_the_folder_are_refused(page: Page) -> None:
    song = page.upload(b"RIFF").json()["song"]
    for body, status in (
        ({"song": song, "tag": "rock", "mark": "added"}, 409),
        ({"song": "file:none.wav", "tag": "rock", "mark": "added"}, 404),
        ({"song": "file:a/song.wav", "tag": "rock", "mark": "perhaps"}, 400),
        ({"song": "file:a/song.wav", "tag": "", "mark": "right"}, 400),
        ({"song": "file:a/song.wav", "tag": ["rock"], "mark": "right"}, 400),
        ({"song": "file:a/song.wav", "tag": "rock", "mark": 1}, 400),
    ):
        answer = page.client.put("/api/corrections", json=body)
        assert answer.status_code == status, body
    assert page.client.get("/api/corrections", params={"song": song}).json() == {"marks": {}}
