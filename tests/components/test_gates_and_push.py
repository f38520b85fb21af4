"""What stops a run, which model is the baseline, and how a model is pushed."""

import json
from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from components.gates import LatestOtherBlessedModel
from components.pusher import PUSH_RECORD, newest_version, push_whole, pushed_model
from components.source_hash import source_hash


def model(identity: int, test_set: str = "track 13:1:2") -> standard_artifacts.Model:
    artifact = standard_artifacts.Model()
    artifact.set_string_custom_property("test_set", test_set)
    artifact.id, artifact.uri = identity, f"/models/{identity}"
    return artifact


def blessing(of: int, blessed: bool) -> standard_artifacts.ModelBlessing:
    artifact = standard_artifacts.ModelBlessing()
    artifact.set_int_custom_property("current_model_id", of)
    artifact.set_int_custom_property("blessed", int(blessed))
    return artifact


def resolve(models: list[int], blessings: dict[int, bool], candidate: int) -> list[int]:
    found = LatestOtherBlessedModel().resolve_artifacts(
        None,
        {
            "model": [model(identity) for identity in models],
            "model_blessing": [blessing(of, blessed) for of, blessed in blessings.items()],
            "candidate": [model(candidate)],
        },
    )
    assert len(found["model"]) == len(found["model_blessing"])
    return [artifact.id for artifact in found["model"]]


def test_first_model_has_no_baseline() -> None:
    assert resolve([5], {}, candidate=5) == []


def test_baseline_is_the_latest_blessed_model() -> None:
    assert resolve([1, 2, 3, 4], {1: True, 2: True, 3: False}, candidate=4) == [2]


def test_model_is_never_its_own_baseline() -> None:
    assert resolve([1, 4], {1: True, 4: True}, candidate=4) == [1]


def test_model_of_another_test_split_is_no_baseline() -> None:
    found = LatestOtherBlessedModel().resolve_artifacts(
        None,
        {
            "model": [model(1), model(2, "folder"), model(3)],
            "model_blessing": [blessing(1, True), blessing(2, True)],
            "candidate": [model(3)],
        },
    )
    assert [artifact.id for artifact in found["model"]] == [1]


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def test_pushed_version_is_whole_and_says_where_it_comes_from(saved_model: Path, tmp_path: Path) -> None:
    base = tmp_path / "pushed"
    version = push_whole(str(saved_model), str(base), {"model": "/models/7"})
    assert (base / version / "saved_model.pb").read_bytes() == b"graph"
    assert pushed_model(str(base / version)) == "/models/7"
    assert [path.name for path in base.iterdir()] == [version]


def test_two_pushes_within_one_second_are_two_versions(saved_model: Path, tmp_path: Path) -> None:
    base = str(tmp_path / "pushed")
    first, second = (push_whole(str(saved_model), base, {}) for _ in range(2))
    assert int(second) > int(first)
    assert newest_version(base) == second


def test_push_that_fails_leaves_nothing(tmp_path: Path) -> None:
    base = tmp_path / "pushed"
    with pytest.raises(OSError, match="nowhere"):
        push_whole(str(tmp_path / "nowhere"), str(base), {})
    assert list(base.iterdir()) == []
    assert newest_version(str(base)) is None


def test_version_without_a_readable_record_has_no_known_model(tmp_path: Path) -> None:
    assert pushed_model(str(tmp_path)) is None
    (tmp_path / PUSH_RECORD).write_text("{")
    assert pushed_model(str(tmp_path)) is None
    (tmp_path / PUSH_RECORD).write_text(json.dumps({"model": "/m"}))
    assert pushed_model(str(tmp_path)) == "/m"


def test_source_hash_sees_code_and_not_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in (("one_a", "x = 1\n"), ("one_b", "x = 1  # a comment\n"), ("one_c", "x = 2\n")):
        (tmp_path / f"{name}.py").write_text(text)
    assert source_hash("one_a") == source_hash("one_b")
    assert source_hash("one_a") != source_hash("one_c")
    with pytest.raises(ModuleNotFoundError):
        source_hash("no_such_package.module")
