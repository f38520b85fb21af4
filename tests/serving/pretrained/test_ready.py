"""A listed model by name: from the cache, or fetched and converted. A local server stands for the repository."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from exported_model import Exported
from file_server import FileServer, serve

from preprocessing.errors import AutotagError, BadInputError
from serving.model_info import MODEL_INFO_NAME
from serving.pretrained import catalogue, importing, listing, ready
from serving.pretrained.cache import cached_version, versions_folder
from serving.pretrained.catalogue import CATALOGUE, DEFAULT, GitFile, find_trained
from serving.pretrained.ready import ready_version
from serving.tagging.models import default_model, model_folder

DATA = os.urandom(50_000)
BLOB = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()


@pytest.fixture(autouse=True)
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A repository from which the default model comes, and an empty cache."""
    monkeypatch.setenv("AUTOTAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as told:
        told.files["best.pth"] = DATA
        monkeypatch.setattr(catalogue, "RAW_CONTENT", told.url)
        file = GitFile("someone/nets", "0" * 40, "models/best.pth", f"git:{BLOB}", len(DATA))
        monkeypatch.setitem(CATALOGUE, DEFAULT, dataclasses.replace(find_trained(DEFAULT), files=(file,)))
        yield told


@pytest.fixture
def imported(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was to be imported; a version is copied in place of the conversion."""
    calls: list[Any] = []

    def import_weights(weights: Any, out_dir: Path) -> Path:
        calls.append(weights)
        return Path(shutil.copytree(exported.path, out_dir / str(len(list(out_dir.glob("[0-9]*"))) + 1)))

    monkeypatch.setattr(ready, "import_weights", import_weights)
    return calls


def test_first_use_fetches_and_converts_and_says_one_line(imported: list[Any], server: FileServer) -> None:
    lines: list[str] = []
    version = ready_version(DEFAULT, lines.append)
    assert version == versions_folder(DEFAULT) / "1"
    assert (version / MODEL_INFO_NAME).is_file()
    (line,) = lines
    assert line.startswith(f"fetching {DEFAULT} ")
    (weights,) = imported
    assert weights.path.read_bytes() == DATA
    assert weights.origin.name == DEFAULT
    assert "0.9067" in weights.origin.published
    assert "not measured: 0.2" in weights.origin.notes
    assert "non-commercial" in weights.data.licence

    assert ready_version(DEFAULT, lines.append) == version
    assert (len(lines), len(imported), len(server.gets)) == (1, 1, 1)


def test_version_that_this_autotag_does_not_read_is_made_again_without_fetching(
    imported: list[Any], server: FileServer
) -> None:
    (ready_version(DEFAULT, lambda line: None) / MODEL_INFO_NAME).write_text('{"format": 0}')
    assert cached_version(DEFAULT) is None
    lines: list[str] = []
    assert ready_version(DEFAULT, lines.append) == versions_folder(DEFAULT) / "2"
    assert lines == [f"converting {DEFAULT}, once"]
    assert len(server.gets) == 1


def test_two_at_once_convert_once(imported: list[Any]) -> None:
    got: list[Path] = []
    threads = [threading.Thread(target=lambda: got.append(ready_version(DEFAULT, lambda line: None))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 3
    assert len(set(got)) == len(imported) == 1


def test_without_what_converts_nothing_is_fetched_and_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, server: FileServer
) -> None:
    monkeypatch.setattr(importing, "CONVERSION", ("tensorflow_that_is_not_there",))
    with pytest.raises(AutotagError, match=r"tensorflow_that_is_not_there is not installed: pip install '\.\[pretr"):
        ready_version(DEFAULT, lambda line: None)
    assert server.gets == []


def test_name_or_folder_is_a_model(imported: list[Any], exported: Exported) -> None:
    assert model_folder(str(exported.path), lambda line: None) == exported.path
    assert model_folder(DEFAULT, lambda line: None) == versions_folder(DEFAULT) / "1"
    with pytest.raises(BadInputError, match="no model at nope: no such folder, and no trained model of that name"):
        model_folder("nope", lambda line: None)


def test_pushed_model_stands_before_the_listed_one(exported: Exported, tmp_path: Path) -> None:
    assert default_model(exported.path.parent) == str(exported.path.parent)
    assert default_model(tmp_path / "nowhere") == DEFAULT
    (tmp_path / "empty").mkdir()
    assert default_model(tmp_path / "empty") == DEFAULT


def test_list_says_what_is_here(imported: list[Any]) -> None:
    states = {row[0]: row[-1] for row in listing.rows()}
    assert states[DEFAULT] == ""
    assert states["harmonic_cnn-mtat"] == "not tried"
    ready_version(DEFAULT, lambda line: None)
    assert {row[0]: row[-1] for row in listing.rows()}[DEFAULT] == "cached"
    by_name = {model["name"]: model for model in listing.as_dicts()}
    assert by_name[DEFAULT]["state"] == "cached"
    assert by_name[DEFAULT]["files"][0]["place"] == "github.com/someone/nets"
    assert len(by_name["liu_yang-mtat"]["tags"]) == 188
