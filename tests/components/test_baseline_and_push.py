"""What stops a run, which model is the baseline, and how a model is pushed."""

import json
from pathlib import Path

import pytest
from tfx.orchestration.portable.data_types import ExecutionInfo
from tfx.types import standard_artifacts

from components.baseline import NONE, BaselineDriver, BaselineExecutor, choose_baseline
from components.pusher import PUSH_RECORD, newest_version, push_whole, pushed_model
from components.source_hash import TRAINING_SOURCE, import_closure, network_hash, source_hash
from models.registry import find_network
from serving.model_versions import find_model, version_numbers

TRACK, FOLDER = "track 13:1:2", "folder"


def push(base: Path, version: int, model: str, test_set: str = TRACK) -> Path:
    folder = base / str(version)
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(model)
    (folder / PUSH_RECORD).write_text(json.dumps({"model": model, "test_set": test_set}))
    return folder


def test_first_model_has_no_baseline(tmp_path: Path) -> None:
    assert choose_baseline(str(tmp_path / "nowhere"), TRACK, "/models/1") == NONE
    assert choose_baseline(str(tmp_path), TRACK, "/models/1") == NONE


def test_folder_whose_name_is_a_digit_of_another_kind_is_no_version(tmp_path: Path) -> None:
    newest = push(tmp_path, 9, "/models/1")
    for name in ("²", "٣", "10 ", "x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_text("")
    assert newest_version(str(tmp_path)) == "9"
    assert find_model(tmp_path) == newest
    assert version_numbers(tmp_path) == [9]
    assert choose_baseline(str(tmp_path), TRACK, "/models/4") == str(newest)


def test_baseline_is_the_newest_pushed_model(tmp_path: Path) -> None:
    push(tmp_path, 9, "/models/1")
    newest = push(tmp_path, 10, "/models/2")
    assert choose_baseline(str(tmp_path), TRACK, "/models/4") == str(newest)


def test_model_is_never_its_own_baseline(tmp_path: Path) -> None:
    before = push(tmp_path, 9, "/models/1")
    push(tmp_path, 10, "/models/4")
    assert choose_baseline(str(tmp_path), TRACK, "/models/4") == str(before)


def test_model_of_another_test_split_is_no_baseline(tmp_path: Path) -> None:
    same = push(tmp_path, 9, "/models/1")
    push(tmp_path, 10, "/models/2", FOLDER)
    assert choose_baseline(str(tmp_path), TRACK, "/models/3") == str(same)


def test_version_that_does_not_say_what_it_is_is_no_baseline(tmp_path: Path) -> None:
    folder = push(tmp_path, 9, "/models/1")
    (folder / PUSH_RECORD).unlink()
    assert choose_baseline(str(tmp_path), TRACK, "/models/3") == NONE


def artifact(uri: Path) -> standard_artifacts.Model:
    found = standard_artifacts.Model()
    found.uri = str(uri)
    return found


def test_baseline_is_copied_to_where_the_evaluator_looks(tmp_path: Path) -> None:
    push(tmp_path / "pushed", 9, "/models/1")
    properties = {"push_dir": str(tmp_path / "pushed"), "test_set": TRACK}
    output = artifact(tmp_path / "out")
    BaselineExecutor().Do({"candidate": [artifact(tmp_path / "c")]}, {"model": [output]}, properties)
    files = {path.name: path.read_text() for path in (tmp_path / "out" / "Format-Serving").iterdir()}
    assert files == {"saved_model.pb": "/models/1"}


def test_driver_says_the_choice_before_the_cache_is_asked(tmp_path: Path) -> None:
    folder = push(tmp_path / "pushed", 9, "/models/1")
    info = ExecutionInfo(
        input_dict={"candidate": [artifact(tmp_path / "c")]},
        exec_properties={"push_dir": str(tmp_path / "pushed"), "test_set": TRACK},
    )
    assert BaselineDriver(None).run(info).exec_properties["chosen"].string_value == str(folder)


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


def test_source_hash_follows_the_projects_imports_and_no_other_networks() -> None:
    closure = import_closure(find_network("mel_1d").module, *TRAINING_SOURCE)
    assert {"models.mel_1d", "models.outputs", "components.reader", "preprocessing.windows"} <= set(closure)
    assert not {"models.registry", "models.mel_2d", "models.musicnn"} & set(closure)
    assert network_hash(find_network("mel_1d")) != network_hash(find_network("mel_2d"))
    assert network_hash(find_network("fcn_3")) != network_hash(find_network("fcn_4")), "one file, two entries"


def test_a_model_of_other_tags_is_no_baseline(tmp_path: Path) -> None:
    for version, tags in (("1", ["a", "b"]), ("2", ["b", "a"])):
        (tmp_path / version).mkdir()
        (tmp_path / version / "push.json").write_text(json.dumps({"model": f"/m/{version}", "test_set": "same"}))
        (tmp_path / version / "model.json").write_text(json.dumps({"tags": tags}))
    assert choose_baseline(str(tmp_path), "same", "/m/3", ["a", "b"]) == str(tmp_path / "1")
    assert choose_baseline(str(tmp_path), "same", "/m/3", ["b", "a"]) == str(tmp_path / "2")
    assert choose_baseline(str(tmp_path), "same", "/m/3", ["c"]) == NONE
