from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from command_runner import invoke
from model_service_double import AVAILABLE, VersionManager, running

from preprocessing.errors import AutotagError, BadInputError
from serving.model_versions import SAVED_MODEL_NAME
from serving.server.labels import Labels, labels_lock, read_labels
from serving.server.model_config import read_config, server_config, write_whole

FILES = Path(__file__).parents[2] / "serving" / "server" / "tfserving"


@pytest.fixture
def pushed(tmp_path: Path) -> Path:
    folder = tmp_path / "pushed"
    for number in (1, 2, 3):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / SAVED_MODEL_NAME).write_bytes(b"")
    return folder


@pytest.fixture
def manager(pushed: Path) -> VersionManager:
    manager = VersionManager()
    manager.reload(server_config(Labels(), str(pushed)))
    return manager


@pytest.fixture
def address(manager: VersionManager) -> Iterator[str]:
    with running(manager) as address:
        yield address


def call(name: str, *arguments: object) -> Result:
    return invoke(name, *arguments, catch_exceptions=False)


def test_promote_and_rollback_say_what_moves_and_move_it(pushed: Path, manager: VersionManager, address: str) -> None:
    first = call("promote", "2", pushed, "--server", address)
    assert first.exit_code == 0, first.stderr
    moved = ["the servers load what was asked for ...", "stable: not set -> 2", "moved in all servers"]
    assert first.stdout.splitlines()[:3] == moved
    assert "\nstable: 2 -> 3\n" in call("promote", "newest", pushed, "--server", address).stdout
    assert manager.labels == {"stable": 3}
    assert "stable: 3 -> 2\n" in call("rollback", pushed, "--server", address).stdout
    assert manager.labels == {"stable": 2} == read_labels(pushed).current


def test_encrypted_server_is_changed_with_its_authority_alone(
    pushed: Path, manager: VersionManager, certificate: tuple[Path, Path]
) -> None:
    with running(manager, certificate=certificate) as address:
        trusting = ("--server", address, "--root-certificates", certificate[1])
        assert call("promote", "2", pushed, *trusting).exit_code == 0
        assert manager.labels == {"stable": 2}
        assert "stable" in call("promote", "--show", pushed, *trusting).stdout
        assert call("promote", "3", pushed, *trusting).exit_code == 0
        assert call("rollback", pushed, *trusting).exit_code == 0
        assert manager.labels == {"stable": 2}
        for options in ([], ["--tls"]):
            with pytest.raises(AutotagError, match="localhost"):
                call("promote", "3", pushed, "--server", address, *options)
    assert manager.labels == {"stable": 2} == read_labels(pushed).current


def test_labels_are_independent_and_one_can_be_taken_away(pushed: Path, manager: VersionManager, address: str) -> None:
    call("promote", "2", pushed, "--server", address)
    call("promote", "3", pushed, "--label", "canary", "--server", address)
    assert manager.labels == {"stable": 2, "canary": 3}
    call("promote", "none", pushed, "--label", "canary", "--server", address)
    assert manager.labels == {"stable": 2}
    last = call("promote", "none", pushed, "--server", address)
    assert "servers follow the 2 newest versions" in last.stdout
    assert manager.labels == {}


def test_dry_run_shows_the_configuration_and_touches_nothing(
    pushed: Path, manager: VersionManager, address: str
) -> None:
    reloads = len(manager.reloads)
    done = call("promote", "1", pushed, "--server", address, "--dry-run")
    assert done.stdout.splitlines()[:2] == ["dry run: nothing is changed", "stable: not set -> 1"]
    assert "versions: 1" in done.stdout
    assert str(pushed) in done.stdout
    assert len(manager.reloads) == reloads
    assert sorted(path.name for path in pushed.iterdir()) == ["1", "2", "3"]


def test_every_replica_is_moved(pushed: Path, manager: VersionManager, address: str) -> None:
    replica = VersionManager()
    replica.reload(server_config(Labels(), str(pushed)))
    with running(replica) as other:
        call("promote", "1", pushed, "--server", address, "--server", other)
    assert manager.labels == replica.labels == {"stable": 1}


def test_configuration_file_of_the_servers_is_rewritten_with_its_own_path(pushed: Path, tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text((FILES / "models.config").read_text())
    done = call("promote", "2", pushed, "--no-server", "--config", file)
    assert done.stdout.splitlines() == ["stable: not set -> 2", "written down for the next start"]
    (model,) = read_config(file).model_config_list.config
    assert (model.base_path, dict(model.version_labels)) == ("/models/autotag", {"stable": 2})
    call("promote", "3", pushed, "--no-server", "--config", file, "--base-path", "/elsewhere")
    (model,) = read_config(file).model_config_list.config
    assert (model.base_path, dict(model.version_labels)) == ("/elsewhere", {"stable": 3})


def test_show_gives_versions_labels_and_each_servers_state(pushed: Path, manager: VersionManager, address: str) -> None:
    call("promote", "2", pushed, "--server", address)
    call("promote", "3", pushed, "--server", address)
    for _ in range(200):
        if manager.states.get(2) == manager.states.get(3) == AVAILABLE:
            break
    lines = call("promote", "--show", pushed, "--server", address).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["version", "3", "2", "1"]
    assert "stable" in lines[1]
    assert "available" in lines[1]
    assert "stable" in lines[2], "what a rollback goes back to"


def test_show_works_without_a_server_and_says_so(pushed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.commands.promote.DEFAULT_SERVER", "localhost:1")
    done = call("promote", "--show", pushed)
    assert "no TensorFlow Serving answers at localhost:1" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["version", "3", "2", "1"]
    with pytest.raises(AutotagError, match="no TensorFlow Serving answers"):
        call("promote", "--show", pushed, "--server", "localhost:1")


@pytest.mark.parametrize("version", ["4", "latest", "-1", "1.5"])
def test_version_that_is_not_there_is_wrong_usage(pushed: Path, version: str) -> None:
    with pytest.raises(BadInputError, match=r"no version .* there are 1, 2, 3"):
        call("promote", "--no-server", "--", version, pushed)


def test_wrong_use_is_said(pushed: Path, tmp_path: Path) -> None:
    assert "which version?" in call("promote").stderr
    assert "exclude each other" in call("promote", "1", pushed, "--no-server", "--server", "localhost:1").stderr
    with pytest.raises(BadInputError, match="no such folder"):
        call("promote", "1", tmp_path / "none")
    with pytest.raises(BadInputError, match="stable cannot be rolled back: it named no other version before"):
        call("rollback", pushed, "--no-server")
    (tmp_path / "other.config").write_text('model_config_list { config { name: "other" } }')
    with pytest.raises(BadInputError, match=r"must have one model, autotag; it has \['other'\]"):
        call("promote", "1", pushed, "--no-server", "--config", tmp_path / "other.config")


def test_nothing_is_written_or_said_to_be_moved_where_no_server_answers(pushed: Path) -> None:
    refused = invoke("promote", "1", pushed, "--server", "localhost:1")
    assert "no TensorFlow Serving answers at localhost:1" in str(refused.exception)
    assert "->" not in refused.stdout
    assert not (pushed / "labels.json").exists()


def test_second_call_at_once_is_refused(pushed: Path) -> None:
    with labels_lock(pushed), pytest.raises(AutotagError, match="another promotion or rollback works on"):
        call("promote", "1", pushed, "--no-server")


def test_rollback_passes_over_a_version_that_gc_deleted(pushed: Path) -> None:
    labels = Labels().promoted("stable", 1).promoted("stable", 2).promoted("stable", 3)
    write_whole(pushed / "labels.json", labels.to_json())
    (pushed / "2" / SAVED_MODEL_NAME).unlink()
    assert call("rollback", pushed, "--no-server").stdout.startswith("stable: 3 -> 1\n")
