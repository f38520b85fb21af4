from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from pitch_model import BANDS, TAGS, PitchModel, card, index_it
from song_files import part, song
from tones import write_audio

from preprocessing.errors import AutotagError, BadInputError, ClipError
from serving.library import library as library_module
from serving.library.index_file import IndexFile, SongRow
from serving.library.library import Library
from serving.library.listening import SongListener, parse_second
from serving.library.places import INDEX_NAME, find_index, index_to_read, index_to_write, nearest_index
from serving.library.song_map import map_songs
from serving.tagging.resuming import FileStamp


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of each of three pitches, and a song of all three; indexed."""
    folder = tmp_path_factory.mktemp("library") / "music"
    folder.mkdir()
    for number in range(3):
        samples = part(number)
        for take in range(4):
            begin = 20_000 * take
            sf.write(folder / f"{number}-{take}.wav", samples[begin : begin + 100_000], 44_100)
    sf.write(folder / "song.wav", song(), 44_100)
    index_it(folder)
    return folder


def open_library(music: Path) -> Library:
    return Library(music / INDEX_NAME)


def copied(music: Path, index: Path) -> Path:
    """The index in another file, in which no maps are kept."""
    shutil.copy(music / INDEX_NAME, index)
    with contextlib.closing(sqlite3.connect(index)) as connection, connection:
        connection.execute("DELETE FROM derived")
    return index


def test_songs_of_the_same_pitch_are_the_most_alike(music: Path) -> None:
    with open_library(music) as library:
        for number in range(3):
            found = library.similar(f"{number}-0.wav", 3)
            assert {match.song.path for match in found} == {f"{number}-{take}.wav" for take in (1, 2, 3)}
            assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
            assert 0.9 < found[-1].score <= 1.0001


def test_similar_songs_fit_a_query_where_one_is_given(music: Path) -> None:
    with open_library(music) as library:
        found = library.similar("0-0.wav", 20, "high or middle")
        names = {match.song.path for match in found}
        assert {"1-0.wav", "2-3.wav"} <= names
        assert not any(name.startswith("0-") for name in names)
        with pytest.raises(BadInputError, match="no tag 'hihg'; there is high"):
            library.similar("0-0.wav", 20, "hihg")


def test_search_gives_the_clearest_first_and_pages(music: Path) -> None:
    with open_library(music) as library:
        every = library.search("low")
        assert every.total == 4
        assert all(match.song.above == ("low",) for match in every.matches)
        scores = [match.score for match in every.matches]
        assert scores == sorted(scores, reverse=True)
        assert min(scores) >= 0.5
        pages = [library.search("low", 2, offset).matches for offset in (0, 2, 4)]
        assert [*pages[0], *pages[1]] == every.matches
        assert pages[2] == []
        assert library.search('"drum and bass"').total == 0


def test_song_says_its_length_size_and_tags(music: Path) -> None:
    with open_library(music) as library:
        found = library.song("1-0.wav")
        assert found is not None
        assert found.bytes == (music / "1-0.wav").stat().st_size
        assert found.seconds == pytest.approx(100_000 / 44_100, abs=0.01)
        assert found.tags[0][0] == "middle"
        assert library.song("no.wav") is None
        with pytest.raises(BadInputError, match=r"no\.wav is not in the index .*: call `autotag index` again"):
            library.similar("no.wav")


def test_a_second_of_a_song_sounds_like_that_part(music: Path) -> None:
    model: Any = PitchModel()
    with open_library(music) as library:
        listener = SongListener(model, library.card, library.index)
        for number, second in ((0, 2.0), (1, 7.5), (2, 14.0)):
            heard = listener.listen(music / "song.wav", second)
            best = library.similar_to(heard.embedding, 4, without="song.wav")
            assert [match.song.path[0] for match in best] == [str(number)] * 4
            assert heard.probabilities.argmax() == number


def test_a_second_that_a_song_has_not_is_refused(music: Path, tmp_path: Path) -> None:
    model: Any = PitchModel()
    listener = SongListener(model, card(), music / INDEX_NAME)
    for second in (15.5, 100.0):
        with pytest.raises(BadInputError, match=rf"song\.wav has no second {second:g}: it ends before"):
            listener.listen(music / "song.wav", second)
    sf.write(tmp_path / "silence.wav", np.zeros(100_000, np.float32), 16_000)
    with pytest.raises(BadInputError, match="there is nothing to hear, so that nothing is like it"):
        listener.listen(tmp_path / "silence.wav")
    (tmp_path / "text.mp3").write_text("text")
    with pytest.raises(ClipError):
        listener.listen(tmp_path / "text.mp3")


def test_a_file_that_is_not_in_the_index_is_heard_as_the_index_heard_it(music: Path, tmp_path: Path) -> None:
    model: Any = PitchModel()
    outside = tmp_path / "outside.wav"
    outside.write_bytes((music / "2-1.wav").read_bytes())
    with open_library(music) as library:
        heard = SongListener(model, library.card, library.index).listen(outside)
        best = library.similar_to(heard.embedding, 1)[0]
    assert best.song.path == "2-1.wav"
    assert best.score == pytest.approx(1, abs=1e-5)


def test_another_models_embedding_is_refused(music: Path) -> None:
    other: Any = PitchModel("other", "ffff")
    with open_library(music) as library, pytest.raises(BadInputError, match="their embeddings cannot be compared"):
        SongListener(other, library.card, library.index)


@pytest.mark.parametrize(("text", "seconds"), [("65", 65), ("1:05", 65), ("1:02:30", 3750), ("0", 0), ("2.5", 2.5)])
def test_place_in_a_song_is_understood(text: str, seconds: float) -> None:
    assert parse_second(text) == seconds


@pytest.mark.parametrize("text", ["", "middle", "1:75", "-3", "1:05:", "now"])
def test_what_is_no_place_in_a_song_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="is no place in a song"):
        parse_second(text)


def test_answers_are_of_the_index_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "REFRESH_SECONDS", 0.0)
    write_audio(tmp_path / "a.wav", 2, 300)
    index_it(tmp_path)
    with Library(tmp_path / INDEX_NAME) as library:
        assert library.search("low").total == 1
        write_audio(tmp_path / "b.wav", 2, 310)
        (tmp_path / "c.mp3").write_bytes(b"none")
        assert library.stale() == library_module.Stale(new=2, changed=0, vanished=0)
        index_it(tmp_path)
        assert library.search("low").total == 2
        state = library.state()
        assert (state.files, state.failed, state.complete, state.model) == (2, 1, True, "pitch")
        assert library.stale() == library_module.Stale(0, 0, 0)
        write_audio(tmp_path / "a.wav", 2, 900)
        (tmp_path / "b.wav").unlink()
        assert library.stale() == library_module.Stale(0, 1, 1)


def test_many_threads_may_ask_while_it_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "REFRESH_SECONDS", 0.0)
    for number in range(4):
        write_audio(tmp_path / f"{number}.wav", 2, 300 + number)
    index_it(tmp_path)
    stop = threading.Event()
    with Library(tmp_path / INDEX_NAME) as library, IndexFile.open(tmp_path / INDEX_NAME, write=True) as file:
        row = file.same_content(*file.select(["digest", "size"])[0])
        assert row is not None

        def ask(_: int) -> int:
            asked = 0
            while not stop.is_set():
                assert len(library.similar("0.wav", 3)) == 3
                assert library.search("low").total >= 4
                library.state()
                asked += 1
            return asked

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask, number) for number in range(4)]
            for number in range(20):
                new = SongRow(**{**vars(row), "path": f"new-{number}.wav"})
                file.write([new])
            stop.set()
            assert all(future.result() > 0 for future in asking)
        assert library.search("low", 100).total == 24


def test_what_takes_long_is_kept_in_the_index_until_it_changes(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_library(music) as library:
        first, tags = library.song_map("tsne"), library.tag_map()
        groups = library.duplicates()
    with monkeypatch.context() as patched:
        for name in ("map_songs", "map_tags", "find_duplicates"):
            patched.setattr(library_module, name, lambda *_: pytest.fail("made anew"))
        with open_library(music) as library:
            np.testing.assert_array_equal(library.song_map("tsne").points, first.points)
            np.testing.assert_array_equal(library.tag_map().points, tags.points)
            assert library.duplicates() == groups


def test_a_read_only_index_answers_too(music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "read-only.sqlite"
    index.write_bytes((music / INDEX_NAME).read_bytes())
    with IndexFile.open(index, write=True) as file:
        file.write()  # another revision: what was kept is worth nothing

    def read_only(self: IndexFile, *arguments: Any) -> None:
        raise AutotagError("attempt to write a readonly database")

    monkeypatch.setattr(IndexFile, "keep_derived", read_only)
    with Library(index, music) as library:
        assert len(library.song_map("pca").points) == 13


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_songs_of_one_pitch_are_together_on_the_map(music: Path, method: Any) -> None:
    with open_library(music) as library:
        drawn = library.song_map(method)
    assert drawn.points.shape == (13, 2)
    assert np.isfinite(drawn.points).all()
    assert drawn.probabilities.shape == (13, len(TAGS))
    assert drawn.tags == TAGS
    places = dict(zip(drawn.paths, drawn.points, strict=True))
    for number in range(3):
        own = [places[f"{number}-{take}.wav"] for take in range(4)]
        others = [places[f"{other}-{take}.wav"] for other in range(3) if other != number for take in range(4)]
        widest = max(np.linalg.norm(a - b) for a in own for b in own)
        nearest = min(np.linalg.norm(a - b) for a in own for b in others)
        assert widest < nearest
    assert [TAGS[at] for at in drawn.top[:12]] == ["low"] * 4 + ["middle"] * 4 + ["high"] * 4


def test_tags_have_places(music: Path) -> None:
    with open_library(music) as library:
        drawn = library.tag_map()
    assert drawn.tags == TAGS
    assert drawn.points.shape == (len(TAGS), 2)
    assert np.isfinite(drawn.points).all()


def test_too_few_songs_have_no_map(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 2, 300)
    index_it(tmp_path)
    with Library(tmp_path / INDEX_NAME) as library:
        with pytest.raises(BadInputError, match="a map needs 3 songs"):
            library.song_map()
        with pytest.raises(BadInputError, match="a map of tags needs 3 songs"):
            library.tag_map()
        assert library.similar("a.wav") == []
        assert library.duplicates() == []


def test_playlist_has_the_songs_in_their_order(music: Path, tmp_path: Path) -> None:
    with open_library(music) as library:
        relative = library.playlist(["2-0.wav", "song.wav"], music.parent).decode()
        absolute = library.playlist(["2-0.wav"]).decode()
        with pytest.raises(BadInputError, match=r"no\.wav is not in the index"):
            library.playlist(["no.wav"])
    assert relative == "#EXTM3U\n#EXTINF:2,2-0\nmusic/2-0.wav\n#EXTINF:15,song\nmusic/song.wav\n"
    assert absolute.splitlines()[2] == str(music / "2-0.wav")


def test_the_index_of_a_folder_is_found(music: Path, tmp_path: Path) -> None:
    below = music / "x" / "y"
    assert find_index(music) == music / INDEX_NAME
    assert find_index(tmp_path) is None
    assert nearest_index(below) == music / INDEX_NAME
    assert index_to_read(None, below) == music / INDEX_NAME
    assert index_to_read(music, tmp_path) == music / INDEX_NAME
    assert index_to_read(music / INDEX_NAME, tmp_path) == music / INDEX_NAME
    with pytest.raises(BadInputError, match="no index at .* make one with `autotag index FOLDER`"):
        index_to_read(None, tmp_path)


def test_an_index_goes_nowhere_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert index_to_write(tmp_path, None) == tmp_path / INDEX_NAME
    assert index_to_write(tmp_path, tmp_path / "x.sqlite") == tmp_path / "x.sqlite"
    with pytest.raises(BadInputError, match="is a folder: name a file in it"):
        index_to_write(tmp_path, tmp_path)
    with pytest.raises(BadInputError, match="there is no folder"):
        index_to_write(tmp_path, tmp_path / "no" / "x.sqlite")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(BadInputError, match="is read-only, .* say with --index FILE where else"):
        index_to_write(tmp_path, None)


def test_ten_thousand_songs_are_asked_in_no_time(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    index = tmp_path / "large.sqlite"
    songs = [
        SongRow(
            path=f"{number:05d}.mp3",
            stamp=FileStamp(1, 1),
            digest=number.to_bytes(16, "big"),
            seconds=200.0,
            silent=False,
            shortfall="",
            embedding=draw.normal(size=BANDS).astype(np.float32),
            probabilities=draw.random(len(TAGS)).astype(np.float32),
            above=draw.random(len(TAGS)) > 0.5,
            fingerprint=np.zeros(0, np.uint32),
        )
        for number in range(10_000)
    ]
    with IndexFile.create(index, card(), tmp_path) as file:
        file.write(songs)
    with Library(index) as library:
        assert library.search("low, not high", 50).matches[0].score > 0.5
        found = library.similar("05000.mp3", 10)
        vectors = np.stack([song.embedding for song in songs])
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        best = [at for at in np.argsort(-(unit @ unit[5000])) if at != 5000][:10]
        assert [match.song.path for match in found] == [f"{at:05d}.mp3" for at in best]


def test_index_whose_writer_was_killed_amid_a_change_can_be_read(music: Path, tmp_path: Path) -> None:
    index, copy = tmp_path / "written.sqlite", tmp_path / "killed.sqlite"
    shutil.copy(music / INDEX_NAME, index)
    with contextlib.closing(sqlite3.connect(index, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 5")  # pages
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM songs")
        writer.executemany("INSERT INTO derived VALUES (?, 0, ?)", [(f"{n}", bytes(40_000)) for n in range(50)])
        for suffix in ("", "-journal"):
            shutil.copy(f"{index}{suffix}", f"{copy}{suffix}")
        writer.execute("ROLLBACK")
    assert copy.read_bytes() != (music / INDEX_NAME).read_bytes()
    with Library(copy, music) as library, open_library(music) as whole:
        assert library.state() == whole.state()
        assert library.search("low") == whole.search("low")


def test_reader_changes_nothing(music: Path) -> None:
    before = (music / INDEX_NAME).read_bytes()
    with IndexFile.open(music / INDEX_NAME) as file:
        with pytest.raises(AutotagError, match="attempt to write a readonly database"):
            file.write(vanished=["song.wav"])
        assert file.count() == 13
    assert (music / INDEX_NAME).read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE about SET value = '{' WHERE key = 'card'",
        "UPDATE about SET value = '{}' WHERE key = 'card'",
        "UPDATE about SET value = NULL WHERE key = 'card'",
        "UPDATE about SET value = 3 WHERE key = 'folder'",
    ],
)
def test_index_with_a_damaged_card_is_said_in_words(music: Path, tmp_path: Path, change: str) -> None:
    index = tmp_path / "damaged.sqlite"
    shutil.copy(music / INDEX_NAME, index)
    with contextlib.closing(sqlite3.connect(index)) as connection, connection:
        connection.execute(change)
    with pytest.raises(AutotagError, match=r"damaged\.sqlite is damaged .*: delete it and index anew"):
        Library(index)


def test_what_takes_long_is_made_once_for_all_who_ask(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, made = copied(music, tmp_path / "asked.sqlite"), []

    def slow(vectors: Any, method: Any) -> Any:
        made.append(method)
        time.sleep(0.2)
        return map_songs(vectors, "pca")

    def read_only(*_: Any) -> None:
        raise AutotagError("attempt to write a readonly database")

    monkeypatch.setattr(library_module, "map_songs", slow)
    monkeypatch.setattr(IndexFile, "keep_derived", read_only)
    with Library(index, music) as library, ThreadPoolExecutor(4) as threads:
        maps = list(threads.map(lambda _: library.song_map("tsne"), range(4)))
        assert made == ["tsne"]
        assert all(np.array_equal(one.points, maps[0].points) for one in maps)


def test_map_of_an_index_that_was_made_anew_meanwhile_is_not_kept_in_the_new_one(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, new = (copied(music, tmp_path / name) for name in ("asked.sqlite", "new.sqlite"))
    with IndexFile.open(new, write=True) as file:
        revision = file.revision

    def replaced(vectors: Any, method: Any) -> Any:
        os.replace(new, index)
        return map_songs(vectors, method)

    monkeypatch.setattr(library_module, "map_songs", replaced)
    with Library(index, music) as library:
        library.song_map()
    with IndexFile.open(index) as file:
        assert file.revision == revision
        assert file.derived("map-pca") is None


def test_file_is_current_as_long_as_it_has_not_changed(tmp_path: Path) -> None:
    song_file = write_audio(tmp_path / "a.wav", 4).rename(tmp_path / os.fsdecode(b"caf\xe9.wav"))
    index_it(tmp_path)
    name = "caf\udce9.wav"
    with open_library(tmp_path) as library:
        assert library.is_current(name)
        assert not library.is_current("none.wav")
        os.utime(song_file, ns=(0, 0))
        assert not library.is_current(name)
        song_file.unlink()
        assert not library.is_current(name)
