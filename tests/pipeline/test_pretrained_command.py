"""``autotag pretrained`` and ``autotag import``: lists, paths, words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_runner import invoke

from preprocessing.errors import BadInputError
from serving.pretrained import importing, ready
from serving.pretrained.catalogue import CATALOGUE


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOTAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_table_has_a_line_for_each_model_with_figures_split_and_licence() -> None:
    result = invoke("pretrained")
    assert result.exit_code == 0, result.stderr
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert set(CATALOGUE) < set(lines)
    for words in ("MTAT", "0.9067", "0.3831", "folder", "787,159", "29.3", "ISC", "musicnn==0.1.0"):
        assert words in lines["musicnn-mtt"]
    assert lines["harmonic_cnn-msd"].rstrip().endswith("not tried")
    assert "non-commercial" in result.stdout


def test_json_has_sources_checksums_and_tags() -> None:
    listed = {model["name"]: model for model in json.loads(invoke("pretrained", "--json").stdout)}
    assert list(listed) == list(CATALOGUE)
    assert listed["fcn-mtat"]["files"][0]["digest"].startswith("git:")
    assert listed["fcn-mtat"]["tags"][0] == "guitar"
    assert "licence" in listed["fcn-mtat"]


def test_names_are_made_ready_and_their_folders_printed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "ready_version", lambda name, say: cache / name / "1")
    result = invoke("pretrained", "musicnn-mtt", "vgg-mtt")
    assert result.stdout.splitlines() == [str(cache / "musicnn-mtt" / "1"), str(cache / "vgg-mtt" / "1")]


def test_unknown_name_and_a_name_beside_json_are_wrong_usage() -> None:
    assert isinstance(invoke("pretrained", "nope").exception, BadInputError)
    assert invoke("pretrained", "fcn-mtat", "--json").exit_code == 2


def test_import_hands_over_what_was_said_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(importing, "import_weights", lambda weights, out, *_: given.append((weights, out)) or out / "1")
    (tmp_path / "tags.txt").write_text("rock\npop\n")
    options = ["--tags", tmp_path / "tags.txt", "--out", tmp_path / "out", "--trained-on", "MSD", "--threshold", "0.3"]
    result = invoke("import_weights", "fcn", tmp_path / "a.pth", *options, "--licence", "MIT")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'out' / '1'}\n"
    ((weights, out),) = given
    assert out == tmp_path / "out"
    assert (weights.network, weights.path, weights.tags) == ("fcn", tmp_path / "a.pth", ("rock", "pop"))
    assert (weights.thresholds, weights.data.name, weights.origin.licence) == (0.3, "MSD", "MIT")
    assert "0.3" in weights.origin.notes


def test_import_without_its_tags_is_wrong_usage(tmp_path: Path) -> None:
    assert invoke("import_weights", "fcn", tmp_path / "a.pth").exit_code == 2
    result = invoke("import_weights", "fcn", tmp_path / "a.pth", "--tags", tmp_path / "none.txt")
    assert isinstance(result.exception, BadInputError)
