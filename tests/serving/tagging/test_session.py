"""One call of ``autotag tag`` without its command line."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from dressed_songs import write_file_tags
from tones import write_audio

from preprocessing.clip_format import PAPER_CLIP
from preprocessing.errors import BadInputError
from serving.tagging import session
from serving.tagging.file_tags import FileTags, read_file_tags
from serving.tagging.session import Choices, WriteChoices
from serving.tagging.sources import Answers
from serving.tagging.tagged_files import Selection


class Constant:
    """Says the same of every window."""

    calls_at_once = 1
    clip = PAPER_CLIP

    def __init__(self, name: str, **heard: float) -> None:
        self.name = name
        self.tags: tuple[str, ...] | None = tuple(heard)
        self.windows = 0
        self._row = np.float32(list(heard.values()))

    def identity(self) -> str:
        return f"{self.name} 1"

    def answer(self, windows: Any) -> Answers:
        self.windows += len(windows)
        assert self.tags is not None
        rows = np.tile(self._row, (len(windows), 1))
        return Answers(self.tags, np.full(len(self._row), 0.5, np.float32), rows, self.identity())


@pytest.fixture
def album(tmp_path: Path) -> Path:
    write_audio(tmp_path / "a.wav", 2)
    write_audio(tmp_path / "b.flac", 33, 600)
    return tmp_path


def run(album: Path, choices: Choices, *sources: Constant) -> tuple[str, list[str], session.Tally]:
    stream, said = io.StringIO(), list[str]()
    work = session.plan([str(album)], choices, [source.name for source in sources])
    tally = session.run(work, choices, sources, stream, said.append)
    return stream.getvalue(), [*said, *session.summarise(work, choices, tally)], tally


ROCK = {"rock": 0.9, "slow": 0.2}
MOOD = {"slow": 0.6, "sad": 0.1}


def test_json_names_the_model_of_each_line_file_by_file(album: Path) -> None:
    text, said, _ = run(album, Choices(form="json"), Constant("genres", **ROCK), Constant("moods", **MOOD))
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(Path(line["file"]).name, line["model"], line["identity"]) for line in lines] == [
        ("a.wav", "genres", "genres 1"),
        ("a.wav", "moods", "moods 1"),
        ("b.flac", "genres", "genres 1"),
        ("b.flac", "moods", "moods 1"),
    ]
    assert [entry["tag"] for entry in lines[1]["tags"]] == ["slow", "sad"]
    assert said == []


def test_table_names_the_model(album: Path) -> None:
    text, _, _ = run(album, Choices(), Constant("genres", **ROCK), Constant("moods", **MOOD))
    assert "2.0 s  genres" in text
    assert "2.0 s  moods" in text


def test_csv_of_several_models_has_a_row_of_each_and_a_column_for_every_tag(album: Path) -> None:
    (album / "c.mp3").write_bytes(b"\0" * 50)
    text, _, _ = run(album, Choices(form="csv"), Constant("genres", **ROCK), Constant("moods", **MOOD))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == [
        "file",
        "model",
        "seconds",
        "windows",
        "tags",
        "error",
        "shortfall",
        "silent_windows",
        "rock",
        "slow",
        "sad",
    ]
    assert [(row["model"], row["rock"], row["slow"], row["sad"]) for row in rows] == [
        ("genres", "0.90000", "0.20000", ""),
        ("moods", "", "0.60000", "0.10000"),
        ("genres", "0.90000", "0.20000", ""),
        ("moods", "", "0.60000", "0.10000"),
        ("", "", "", ""),
    ]
    assert rows[-1]["error"].startswith("undecodable")


def test_file_that_no_model_can_hear_is_said_once(album: Path) -> None:
    (album / "c.mp3").write_bytes(b"\0" * 50)
    _, said, tally = run(album, Choices(), Constant("genres", **ROCK), Constant("moods", **MOOD))
    assert tally.failed == 1
    assert [line.split(": ")[1] for line in said[:1]] == ["undecodable"]
    assert said[1:] == ["1 of 3 files failed"]


def test_tags_are_written_once_and_again_where_the_choice_changes(album: Path) -> None:
    source = Constant("genres", **ROCK)
    choices = Choices(selection=session.choose_tags(None, None, write=True), write=WriteChoices())
    _, said, _ = run(album, choices, source)
    assert said == ["2 of 2 files written, 0 were already done"]
    held = read_file_tags(album / "a.wav")
    assert (held.tags, held.model) == (("rock",), "genres 1 hop=29.1 threshold=auto")

    windows = source.windows
    _, said, tally = run(album, choices, source)
    assert said == ["0 of 2 files written, 2 were already done"]
    assert (tally.skipped, source.windows) == (2, windows)
    _, said, _ = run(album, Choices(selection=Selection(0.1), write=WriteChoices()), source)
    assert said == ["2 of 2 files written, 0 were already done"]
    assert read_file_tags(album / "a.wav").tags == ("rock", "slow")
    _, said, _ = run(album, dataclasses.replace(choices, level="rms"), source)
    assert said == ["2 of 2 files written, 0 were already done"]
    assert read_file_tags(album / "a.wav").model == "genres 1 hop=29.1 level=rms threshold=auto"


def test_dry_run_changes_no_file(album: Path) -> None:
    before = {path: path.read_bytes() for path in album.iterdir()}
    _, said, _ = run(album, Choices(write=WriteChoices(dry_run=True)), Constant("genres", **ROCK))
    assert said == ["2 of 2 files would be written, 0 were already done"]
    assert {path: path.read_bytes() for path in album.iterdir()} == before


def test_taggrams_of_several_models_go_to_a_place_each(album: Path, tmp_path: Path) -> None:
    sources = Constant("some/genres", **ROCK), Constant("moods", **MOOD)
    pattern = str(tmp_path / "drawn" / "{model}" / "{name}.json")
    run(album, Choices(taggram=pattern), *sources)
    drawn = {str(path.relative_to(tmp_path / "drawn")) for path in (tmp_path / "drawn").rglob("*.json")}
    assert drawn == {"some-genres/a.json", "some-genres/b.json", "moods/a.json", "moods/b.json"}
    assert json.loads((tmp_path / "drawn" / "moods" / "a.json").read_text())["model"] == "moods 1"


@pytest.mark.parametrize(
    ("choices", "models", "words"),
    [
        (Choices(taggram="{name}.json"), ["a", "b"], r"\{model\}"),
        (Choices(write=WriteChoices()), ["a", "b"], "--write takes one --model"),
        (Choices(), ["a", "a"], "twice"),
        (Choices(write=WriteChoices(field="GENRE")), ["a"], "GENRE"),
    ],
)
def test_what_cannot_be_is_said_before_a_model_is_loaded(
    album: Path, choices: Choices, models: list[str], words: str
) -> None:
    with pytest.raises(BadInputError, match=words):
        session.plan([str(album)], choices, models)


@pytest.mark.parametrize(
    ("threshold", "most", "write", "selection"),
    [
        (None, None, False, Selection(most=10)),
        (None, None, True, Selection("model")),
        (0.3, None, True, Selection(0.3)),
        (None, 4, True, Selection(None, 4)),
        ("model", 4, False, Selection("model", 4)),
    ],
)
def test_tags_chosen(threshold: Any, most: int | None, write: bool, selection: Selection) -> None:
    assert session.choose_tags(threshold, most, write) == selection


@pytest.fixture
def silent(tmp_path: Path) -> Path:
    sf.write(tmp_path / "silent.flac", np.zeros(80_000), 16_000)
    return tmp_path


@pytest.mark.parametrize("selection", [Selection(most=10), Selection("model"), Selection(0.0)])
def test_silent_file_has_no_tag_in_any_form_and_exit_code_0(silent: Path, selection: Selection) -> None:
    source = Constant("genres", **ROCK)
    text, said, tally = run(silent, Choices(selection, form="json"), source)
    line = json.loads(text)
    assert (line["silent"], line["silent_windows"], line["windows"], line["no_tag"]) == (True, 1, 1, True)
    assert line["tags"] == []
    assert said == ["1 of 1 files are silent and have no tag"]
    assert (tally.silent, tally.failed) == (1, 0)

    text, _, _ = run(silent, Choices(selection, form="csv"), source)
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["tags"], row["error"], row["windows"], row["silent_windows"], row["rock"]) == ("", "", "1", "1", "")

    text, _, _ = run(silent, Choices(selection), source)
    assert "silence: no tag" in text
    assert "rock" not in text


def test_song_says_how_many_of_its_windows_are_silent(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 30)
    loud, rate = sf.read(tmp_path / "a.wav")
    sf.write(tmp_path / "a.wav", np.concatenate([loud[: 29 * rate], np.zeros(60 * rate)]), rate)
    text, said, _ = run(tmp_path, Choices(form="json"), Constant("genres", **ROCK))
    line = json.loads(text)
    assert (line["windows"], line["silent_windows"], line["silent"]) == (4, 3, False)
    assert line["tags"][0]["probability"] == pytest.approx(0.9)
    assert said == []


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_nothing_is_written_into_a_silent_file(silent: Path, form: Any, dry_run: bool) -> None:
    before = (silent / "silent.flac").read_bytes()
    choices = Choices(session.choose_tags(None, None, write=True), form=form, write=WriteChoices(dry_run=dry_run))
    text, said, tally = run(silent, choices, Constant("genres", **ROCK))
    assert (silent / "silent.flac").read_bytes() == before
    assert (tally.written, tally.failed) == (0, 0)
    assert said[-1] == "1 of 1 files are silent and have no tag"
    if form == "json":
        assert (json.loads(text)["new"], json.loads(text)["written"]) == ([], False)
    if form == "table":
        assert "silence: no tag, and nothing is written" in text


def test_tags_that_an_earlier_call_left_in_a_silent_file_go(silent: Path) -> None:
    write_file_tags(silent / "silent.flac", FileTags(("sitar", "cello"), "genres 0"))
    choices = Choices(session.choose_tags(None, None, write=True), write=WriteChoices())
    text, _, tally = run(silent, choices, Constant("genres", **ROCK))
    assert read_file_tags(silent / "silent.flac").tags == ()
    assert tally.written == 1
    assert "- sitar" in text
    assert "silence: no tag" in text
