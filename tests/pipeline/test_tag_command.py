from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from exported_model import TAGS, Exported, write_audio

from pipeline.commands.tag import find_audio
from preprocessing.errors import BadInputError


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two songs, one of them deeper, and a file that is no audio."""
    folder = tmp_path_factory.mktemp("album [live]")
    (folder / "disc 2").mkdir()
    write_audio(folder / "b.ogg", 4)
    write_audio(folder / "disc 2" / "a.MP3", 33, 700)
    (folder / "cover.txt").write_text("not audio")
    return folder


def tag(*arguments: object) -> Result:
    from pipeline.commands.tag import command

    return CliRunner(mix_stderr=False).invoke(command, [str(argument) for argument in arguments])


def test_table_shows_the_most_probable_tags_of_each_file(album: Path, exported: Exported) -> None:
    result = tag(album / "b.ogg", "--model", exported.path, "--top", 2)
    assert result.exit_code == 0, result.stderr
    shown = [name for name in TAGS if name in result.stdout]
    assert len(shown) == 2
    assert "b.ogg" in result.stdout
    assert "4.0 s" in result.stdout
    assert "█" in result.stdout


def test_json_is_one_object_a_line_sorted_by_probability(album: Path, exported: Exported) -> None:
    result = tag(album, "--model", exported.path.parent, "--json", "--top", 3)
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(line["file"]).name for line in lines] == ["b.ogg", "a.MP3"]
    assert [line["windows"] for line in lines] == [1, 2]
    for line in lines:
        probabilities = [entry["probability"] for entry in line["tags"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert len(probabilities) == 3
        assert {entry["tag"] for entry in line["tags"]} <= set(TAGS)


def test_broken_file_is_reported_and_the_others_go_on_with_exit_code_1(
    album: Path, exported: Exported, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp3"
    broken.write_bytes(b"\0" * 100)
    result = tag(broken, album / "b.ogg", "--model", exported.path, "--json")
    assert result.exit_code == 1
    assert [Path(json.loads(line)["file"]).name for line in result.stdout.splitlines()] == ["b.ogg"]
    assert "broken.mp3 was left out: undecodable" in result.stderr
    assert "1 of 2 files could not be tagged" in result.stderr


def test_folder_without_audio_stops_all(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="has no audio files"):
        list(find_audio([tmp_path]))


def test_folder_is_searched_below_and_in_order_and_a_named_file_is_taken_as_it_is(album: Path) -> None:
    found = list(find_audio([album, album / "cover.txt"]))
    assert found == [album / "b.ogg", album / "disc 2" / "a.MP3", album / "cover.txt"]


def autotag(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    call = [sys.executable, "-c", "from pipeline.cli import main; main()", "tag", *map(str, arguments)]
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    return subprocess.run(call, capture_output=True, text=True, timeout=120, cwd=cwd, env=environment)


def test_newest_push_is_the_default_and_nothing_noisy_is_printed(
    album: Path, exported: Exported, tmp_path: Path
) -> None:
    (tmp_path / "demo-run").mkdir()
    (tmp_path / "demo-run" / "pushed").symlink_to(exported.path.parent)
    done = autotag(album / "b.ogg", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "b.ogg" in done.stdout


def test_no_model_is_one_line_and_exit_code_2(album: Path, tmp_path: Path) -> None:
    done = autotag(album / "b.ogg", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("autotag: no model at demo-run/pushed")
    assert len(done.stderr.splitlines()) == 1


def test_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    done = autotag("none.mp3", cwd=tmp_path)
    assert done.returncode == 2
    assert "none.mp3" in done.stderr
    assert "Traceback" not in done.stderr
