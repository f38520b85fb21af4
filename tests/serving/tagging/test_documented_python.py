"""What README and docs/how-to/python.md say in Python is run as it stands there."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from engine_model import EngineModel
from exported_model import TAGS
from song_files import needs_ffmpeg, song_as

from preprocessing.errors import BadInputError
from serving.tagging import TaggedFile, Tagger

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(model: EngineModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a reader has: songs, a model, and a folder of a listed model's name, which stands before that."""
    (tmp_path / "musicnn-mtt").symlink_to(model.path)
    (tmp_path / "my-run").mkdir()
    (tmp_path / "my-run" / "pushed").symlink_to(model.path)
    (tmp_path / "music").mkdir()
    (tmp_path / "song.mp3").write_bytes(song_as("mp3"))
    (tmp_path / "music" / "a.mp3").write_bytes(song_as("mp3"))
    (tmp_path / "music" / "b.mp3").write_bytes(b"no music")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(name: str) -> dict[str, Any]:
    """Run a document's Python from its beginning to its end; returns its variables."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, name, "exec"), names)
    return names


@needs_ffmpeg
def test_page_runs_from_its_beginning_to_its_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("docs/how-to/python.md")
    assert isinstance(names["song"], TaggedFile)
    assert names["tagger"].source.name == "my-run/pushed"
    assert names["probabilities"].shape == (len(TAGS),)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[('")
    assert "15.0 all of it was heard" in " ".join(lines)
    assert f"(1, {len(TAGS)})" in lines
    assert any(re.match(r"music/a\.mp3 \[\('", line) for line in lines)
    assert any(line.startswith("music/b.mp3 failed: ") for line in lines)


@needs_ffmpeg
def test_readme_tags_a_song(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("README.md")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.count("(") == 5


def test_listed_model_is_fetched_by_its_name_with_a_warning_in_the_log(
    model: EngineModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def ready_version(name: str, say: Any) -> Path:
        say(f"fetching {name}; licence ISC")
        return model.path

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("serving.pretrained.ready.ready_version", ready_version)
    with caplog.at_level(logging.WARNING):
        tagger = Tagger("musicnn-mtt")
    assert tagger.source.name == "musicnn-mtt"
    assert tagger.source.tags == TAGS
    assert "fetching musicnn-mtt; licence ISC" in caplog.text
    with pytest.raises(BadInputError, match="no trained model of that name"):
        Tagger("musicnn-of-nobody")
