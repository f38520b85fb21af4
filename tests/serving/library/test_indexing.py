from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from pitch_model import TAGS, PitchModel, index_it
from song_files import PART_SECONDS, needs_ffmpeg, part, part_as, song_as
from tones import write_audio

from preprocessing.errors import AutotagError, BadInputError
from serving.library import index_file, indexing
from serving.library.index_file import IndexFile
from serving.library.library import Library
from serving.library.places import INDEX_NAME
from serving.tagging.sources import WINDOWS_AT_ONCE
from serving.tagging.tagger import Tagger


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Three files of one pitch each, in two folders, and one that is no audio."""
    folder = tmp_path / "music"
    (folder / "b").mkdir(parents=True)
    for name, number in (("a.wav", 0), ("b/c.wav", 1), ("b/d.wav", 2)):
        sf.write(folder / name, part(number), 44_100)
    (folder / "cover.jpg").write_bytes(b"\xff\xd8")
    return folder


def rows(folder: Path) -> dict[str, Any]:
    with IndexFile.open(folder / INDEX_NAME) as file:
        found = file.select(["path", "seconds", "silent", "embedding", "probabilities", "shortfall"])
    return {os.fsdecode(row[0]): row[1:] for row in found}


def test_every_file_is_in_the_index_with_what_the_model_hears(music: Path) -> None:
    summary, said = index_it(music)
    assert (summary.files, summary.heard, summary.indexed, said) == (3, 3, 3, [])
    assert summary.all_well
    assert summary.left_out.describe() == "1 .jpg"
    found = rows(music)
    assert list(found) == ["a.wav", "b/c.wav", "b/d.wav"]
    for number, (name, (seconds, silent, embedding, probabilities, _)) in enumerate(found.items()):
        whole: Any = PitchModel()
        tagged = Tagger(whole).tag_file(music / name)
        assert seconds == pytest.approx(PART_SECONDS, abs=0.01)
        assert not silent
        np.testing.assert_allclose(np.frombuffer(probabilities, "<f4"), tagged.probabilities, rtol=1e-5)
        np.testing.assert_allclose(np.frombuffer(embedding, "<f4"), tagged.embedding, rtol=1e-5)
        assert np.frombuffer(probabilities, "<f4").argmax() == number
    with Library(music / INDEX_NAME) as library:
        assert library.state().complete
        assert library.card.tags == TAGS


def test_only_what_has_changed_is_heard_again(music: Path) -> None:
    index_it(music)
    model = PitchModel()
    assert index_it(music, model=model)[0].unchanged == 3
    assert model.windows == 0
    sf.write(music / "a.wav", part(2)[:100_000], 44_100)
    (music / "b" / "c.wav").unlink()
    write_audio(music / "new.wav", 2.0, 500)
    summary, _ = index_it(music, model=model)
    assert (summary.heard, summary.unchanged, summary.vanished, summary.indexed) == (2, 1, 1, 3)
    assert list(rows(music)) == ["a.wav", "b/d.wav", "new.wav"]
    assert np.frombuffer(rows(music)["a.wav"][3], "<f4").argmax() == 2


def test_a_moved_file_and_a_copy_are_known_by_their_content(music: Path) -> None:
    index_it(music)
    (music / "a.wav").rename(music / "b" / "moved.wav")
    shutil.copyfile(music / "b" / "c.wav", music / "copy.wav")
    model = PitchModel()
    summary, _ = index_it(music, model=model)
    assert (summary.moved, summary.heard, summary.vanished, model.windows) == (2, 0, 1, 0)
    found = rows(music)
    assert sorted(found) == ["b/c.wav", "b/d.wav", "b/moved.wav", "copy.wav"]
    assert found["copy.wav"] == found["b/c.wav"]


def test_a_touched_file_is_not_heard_again(music: Path) -> None:
    index_it(music)
    os.utime(music / "a.wav", ns=(1, 1))
    model = PitchModel()
    assert index_it(music, model=model)[0].moved == 1
    assert model.windows == 0
    assert index_it(music)[0].unchanged == 3


def test_a_file_that_cannot_be_used_is_remembered_with_its_reason_and_tried_again_when_asked(music: Path) -> None:
    (music / "broken.mp3").write_bytes(b"no music" * 100)
    summary, said = index_it(music)
    assert summary.indexed == 3
    assert [(row.path, row.kind) for row in summary.failures] == [("broken.mp3", "undecodable")]
    assert len(said) == 1
    assert f"{music}/broken.mp3 was left out: undecodable: " in said[0]
    assert not summary.all_well
    again, said = index_it(music)
    assert (again.failed_before, len(again.failures), said) == (1, 1, [])
    assert "1 of 4 files failed, 1 of them earlier (--retry tries again)" in list(again.lines())
    retried, said = index_it(music, retry=True)
    assert (retried.failed_before, len(retried.failures), len(said)) == (0, 1, 1)
    shutil.copyfile(music / "a.wav", music / "broken.mp3")
    mended, _ = index_it(music)
    assert (mended.failures, mended.indexed) == ([], 4)
    (music / "broken.mp3").write_bytes(b"no music" * 100)
    worse, _ = index_it(music)
    assert (len(worse.failures), worse.indexed, "broken.mp3" in rows(music)) == (1, 3, False)


@needs_ffmpeg
def test_a_file_that_is_cut_is_in_the_index_and_said(music: Path) -> None:
    whole = song_as("mp3")
    (music / "cut.mp3").write_bytes(whole[: len(whole) // 2])
    summary, said = index_it(music)
    assert (summary.incomplete, summary.indexed) == (1, 4)
    assert "cut.mp3 was not heard whole" in said[0]
    assert "1 of 4 files were not heard whole" in list(index_it(music)[0].lines())


def test_a_silent_file_is_like_no_other_and_fits_no_query(music: Path) -> None:
    sf.write(music / "silence.wav", np.zeros(100_000, np.float32), 16_000)
    summary, _ = index_it(music)
    assert (summary.silent, summary.indexed) == (1, 4)
    with Library(music / INDEX_NAME) as library:
        song = library.song("silence.wav")
        assert song is not None
        assert (song.silent, song.tags, song.above) == (True, (), ())
        assert "silence.wav" not in [match.song.path for match in library.similar("a.wav")]
        assert "silence.wav" not in [match.song.path for match in library.search("not low").matches]
        assert library.search("not low").total == 2
        with pytest.raises(BadInputError, match=r"silence\.wav is silent"):
            library.similar("silence.wav")


def test_names_of_odd_bytes_are_kept(music: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \n\xf0\x9f\x8e\xb5.wav")
    sf.write(os.fsencode(str(music / "a.wav")).decode(), part(0), 44_100)
    (music / "a.wav").rename(music / name)
    assert index_it(music)[0].indexed == 3
    assert name in rows(music)
    with Library(music / INDEX_NAME) as library:
        assert library.song(name) is not None
    assert index_it(music)[0].unchanged == 3


def test_the_index_and_its_folder_may_be_moved_together(music: Path, tmp_path: Path) -> None:
    index_it(music)
    music.rename(tmp_path / "elsewhere")
    with Library(tmp_path / "elsewhere" / INDEX_NAME) as library:
        assert library.folder == tmp_path / "elsewhere"
    assert index_it(tmp_path / "elsewhere")[0].unchanged == 3


def test_the_index_is_no_file_of_the_folder(music: Path) -> None:
    index_it(music)
    assert index_it(music)[0].left_out.describe() == "1 .jpg"


def test_what_lies_in_a_folder_that_cannot_be_read_stays_in_the_index(
    music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_it(music)
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    summary, _ = index_it(music)
    assert summary.vanished == 0
    assert not summary.all_well
    assert [line for line in summary.lines() if "permission denied" in line]
    assert len(rows(music)) == 3


def test_nothing_is_left_in_a_folder_without_audio(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BadInputError, match=r"no audio files; left out: 1 \.txt \("):
        index_it(tmp_path)
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_folder_that_is_empty_now_is_refused_and_the_index_stays(music: Path) -> None:
    index_it(music)
    for file in music.rglob("*.wav"):
        file.unlink()
    with pytest.raises(BadInputError, match="no audio files"):
        index_it(music)
    assert len(rows(music)) == 3


def test_another_models_index_is_refused_with_what_to_do(music: Path) -> None:
    index_it(music)
    with pytest.raises(BadInputError) as raised:
        index_it(music, model=PitchModel("other", "ffff"))
    assert "was made with pitch (0123456789abcdef), and other (ffff) is another model" in str(raised.value)
    assert "--model pitch" in str(raised.value)
    assert "--anew" in str(raised.value)
    assert len(rows(music)) == 3


def test_anew_hears_all_and_keeps_the_old_index_until_the_new_one_is_whole(
    music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_it(music)
    other = PitchModel("other", "ffff")
    with monkeypatch.context() as patched:
        patched.setattr(indexing, "keep_neighbours", lambda file: (_ for _ in ()).throw(AutotagError("stopped here")))
        with pytest.raises(AutotagError, match="stopped here"):
            index_it(music, model=other, anew=True)
    with Library(music / INDEX_NAME) as library:
        assert library.card.digest == "0123456789abcdef"
        summary, _ = index_it(music, model=other, anew=True)
        assert (summary.heard, summary.unchanged) == (0, 3)  # what the stopped call had heard
        assert library.search("low").total == 1
        assert library.card.digest == "ffff"
    assert [path.name for path in music.iterdir() if "sqlite" in path.name] == [INDEX_NAME]


def test_an_index_of_another_folder_is_refused(music: Path, tmp_path: Path) -> None:
    index = tmp_path / "some.sqlite"
    index_it(music, index)
    with pytest.raises(BadInputError, match=r"some\.sqlite is the index of .*/music, not of .*/music/b"):
        index_it(music / "b", index)


def test_a_file_that_is_no_index_is_refused_and_left_as_it_is(music: Path) -> None:
    index = music / INDEX_NAME
    index.write_bytes(b"something else" * 100)
    with pytest.raises(BadInputError, match=r"is no index of autotag's"):
        index_it(music)
    assert index.read_bytes() == b"something else" * 100
    index.unlink()
    with sqlite3.connect(index) as other:
        other.execute("CREATE TABLE mine (x)")
    with pytest.raises(BadInputError, match=r"is no index of autotag's"):
        index_it(music)


def test_an_index_of_a_later_version_is_refused(music: Path) -> None:
    index_it(music)
    with sqlite3.connect(music / INDEX_NAME) as file:
        file.execute("PRAGMA user_version = 99")
    with pytest.raises(BadInputError, match=r"has format 99 .* --anew"):
        Library(music / INDEX_NAME)


def test_a_damaged_index_is_said_in_words(music: Path) -> None:
    index_it(music)
    index = music / INDEX_NAME
    content = bytearray(index.read_bytes())
    content[4096:] = b"\xaa" * (len(content) - 4096)
    index.write_bytes(content)
    with pytest.raises(AutotagError, match="damaged"):
        Library(index).search("low")


def test_a_full_disk_is_said_and_what_was_written_is_whole(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_it(music)
    before = rows(music)
    connect = index_file._connect

    def bounded(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    for number in range(40):
        write_audio(music / f"{number}.wav", 3.0, 300 + 20 * number)
    with monkeypatch.context() as patched:
        patched.setattr(index_file, "_connect", bounded)
        with pytest.raises(AutotagError, match=r"No space left on device; what is in it is whole\. Make room and call"):
            index_it(music)
    assert {name: row for name, row in rows(music).items() if name in before} == before
    assert index_it(music)[0].indexed == 43


SLOW = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from pitch_model import PitchModel, index_it
print(index_it(Path({folder!r}), model=PitchModel(seconds=0.2))[0].to_json(), flush=True)
"""


def start_slowly(folder: Path) -> subprocess.Popen[str]:
    script = SLOW.format(paths=[*map(str, (Path(__file__).parents[2], Path.cwd()))], folder=str(folder))
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(30):
        write_audio(folder / f"{number:02d}.wav", 2.0, 300 + 20 * number)
    return folder


def wait_for_rows(folder: Path, least: int) -> int:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with IndexFile.open(folder / INDEX_NAME) as file:
                if file.count() >= least:
                    return file.count()
        except AutotagError:
            pass
        time.sleep(0.05)
    raise AssertionError("the index has no rows")


def test_a_killed_run_is_gone_on_with_and_may_be_read_meanwhile(many: Path) -> None:
    process = start_slowly(many)
    try:
        seen = wait_for_rows(many, 3)
        with Library(many / INDEX_NAME) as library:
            assert not library.state().complete
            assert library.search("low or middle or high").total >= seen
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with IndexFile.open(many / INDEX_NAME) as file:
        kept = file.count()
    assert 3 <= kept < 30
    model = PitchModel()
    summary, _ = index_it(many, model=model)
    assert (summary.unchanged, summary.heard, model.windows) == (kept, 30 - kept, 30 - kept)
    with Library(many / INDEX_NAME) as library:
        assert library.state().complete
        assert library.state().files == 30


def test_a_second_run_at_the_same_time_is_refused_in_words(many: Path) -> None:
    process = start_slowly(many)
    try:
        wait_for_rows(many, 1)
        with pytest.raises(AutotagError, match="another `autotag index` writes to .*: wait for it, or stop it"):
            index_it(many)
        out, err = process.communicate(timeout=120)
        assert json.loads(out.replace("'", '"'))["heard"] == 30, err
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_keeps_what_was_heard(many: Path) -> None:
    process = start_slowly(many)
    try:
        wait_for_rows(many, 1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()
    with IndexFile.open(many / INDEX_NAME) as file:
        assert 1 <= file.count() < 30
        assert not file.complete


def test_no_more_windows_are_held_for_more_files(many: Path) -> None:
    held: list[int] = []

    class Watched(PitchModel):
        def answer(self, windows: Any) -> Any:
            held.append(len(windows))
            return super().answer(windows)

    index_it(many, model=Watched())
    assert max(held) <= WINDOWS_AT_ONCE


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["mp3", "ogg", "flac", "m4a"])
def test_formats_are_heard_alike(music: Path, kind: str) -> None:
    (music / f"x.{kind}").write_bytes(part_as(kind, 1))
    index_it(music)
    with Library(music / INDEX_NAME) as library:
        best = library.similar(f"x.{kind}", 1)[0]
    assert best.song.path == "b/c.wav"
    assert best.score > 0.95
