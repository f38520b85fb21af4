from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from model_service_double import AVAILABLE, VersionManager, running

from preprocessing.errors import AutotagError, BadInputError
from serving.client import messages
from serving.model_versions import version_numbers
from serving.server.labels import Labels, labels_lock, read_labels
from serving.server.model_config import config_text, read_config, server_config, write_whole
from serving.server.model_server import BusyError, ModelServer
from serving.server.rollout import change_labels


def push(folder: Path, *numbers: int, broken: bool = False) -> None:
    for number in numbers:
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "saved_model.pb").write_bytes(b"")
        if broken:
            (folder / str(number) / "broken").touch()


@pytest.fixture
def pushed(tmp_path: Path) -> Path:
    push(tmp_path, 1, 2, 3)
    return tmp_path


@pytest.fixture
def manager(pushed: Path) -> VersionManager:
    """A server without labels that follows the newest versions, as the committed configuration has it."""
    manager = VersionManager()
    manager.reload(server_config(Labels(), str(pushed)))
    return manager


@pytest.fixture
def server(manager: VersionManager) -> Iterator[ModelServer]:
    with running(manager) as address:
        client = ModelServer(address)
        yield client
        client.close()


def loaded(manager: VersionManager, *wanted: int) -> bool:
    """Whether just these versions are available, at once or soon."""
    for _ in range(200):
        if [number for number, state in sorted(manager.states.items()) if state == AVAILABLE] == list(wanted):
            return True
        threading.Event().wait(0.02)
    return False


def change(pushed: Path, servers: list[ModelServer], after: Labels, seconds: float = 5, **changes: Any) -> list[str]:
    arguments: dict[str, Any] = {
        "before": read_labels(pushed),
        "base_path": str(pushed),
        "present": version_numbers(pushed),
        "config_file": None,
        "seconds": seconds,
    }
    return list(change_labels(pushed, servers, after, **{**arguments, **changes}))


def test_promotion_and_rollbacks_walk_through_what_a_label_named() -> None:
    labels = Labels()
    for version in (10, 11, 12):
        labels = labels.promoted("stable", version)
    assert labels.current == {"stable": 12}
    back = labels.rolled_back("stable")
    assert back.current == {"stable": 11}
    assert back.rolled_back("stable").current == {"stable": 10}
    with pytest.raises(BadInputError, match="cannot be rolled back"):
        back.rolled_back("stable").rolled_back("stable")


def test_rollback_passes_over_versions_that_were_deleted() -> None:
    labels = Labels().promoted("stable", 10).promoted("stable", 11).promoted("stable", 12)
    assert labels.rolled_back("stable", present=[10, 12]).current == {"stable": 10}
    with pytest.raises(BadInputError, match="10, 11 were deleted"):
        labels.rolled_back("stable", present=[12])


def test_version_before_is_kept_loaded_only_where_it_is_not_the_newest() -> None:
    labels = Labels().promoted("stable", 10).promoted("stable", 11)
    assert labels.loaded() == (10, 11)
    assert labels.rolled_back("stable").loaded() == (10,), "requests without a label would go to 11"
    assert labels.promoted("canary", 12).loaded() == (10, 11, 12)
    assert labels.loaded(present=[11]) == (11,)
    assert Labels().loaded() == ()


def test_label_is_taken_away() -> None:
    labels = Labels().promoted("stable", 10).promoted("canary", 11)
    assert labels.promoted("canary", None).current == {"stable": 10}
    with pytest.raises(BadInputError, match="canary is not set already"):
        labels.promoted("canary", None).promoted("canary", None)


def test_promotion_to_the_same_version_is_refused() -> None:
    with pytest.raises(BadInputError, match="stable is version 10 already"):
        Labels().promoted("stable", 10).promoted("stable", 10)


@pytest.mark.parametrize("label", ["", "a b", "a/b", "ä", "x" * 65])
def test_label_that_no_address_can_hold_is_refused(label: str) -> None:
    with pytest.raises(BadInputError, match="is no label"):
        Labels().promoted(label, 1)


names = st.text("abcXYZ019._-", min_size=1, max_size=8)


@given(st.lists(st.tuples(names, st.integers(1, 2**62)), max_size=12))
def test_labels_and_configuration_survive_their_text(moves: list[tuple[str, int]]) -> None:
    labels = Labels()
    for name, version in moves:
        if labels.current.get(name) != version:
            labels = labels.promoted(name, version)
    assert Labels.from_json(labels.to_json()) == labels
    config = server_config(labels, "/models/'autotag'\n")
    again = messages.ModelServerConfig()
    text_format.Parse(config_text(config), again)
    assert again == config
    (model,) = again.model_config_list.config
    assert set(model.version_labels.values()) <= set(model.model_version_policy.specific.versions)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"labels": {"a b": 1}, "before": {}}', '{"labels": {"a": "x"}, "before": {}}']
)
def test_labels_file_that_is_something_else_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(BadInputError, match=r"labels\.json is not what `autotag promote` writes"):
        read_labels(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [("model_config_list {", "is no model configuration"), ("", "must have one model"), ("a: 1", "is no model")],
)
def test_configuration_that_is_something_else_says_so(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "models.config").write_text(text)
    with pytest.raises(BadInputError, match=words):
        read_config(tmp_path / "models.config")


def test_promotion_loads_moves_and_writes_down(pushed: Path, manager: VersionManager, server: ModelServer) -> None:
    assert loaded(manager, 2, 3)
    assert change(pushed, [server], Labels().promoted("stable", 1)) == ["loading", "labelled", "written", "unloaded"]
    assert manager.labels == {"stable": 1}
    assert loaded(manager, 1), "the newest ones were not promoted"
    assert read_labels(pushed).current == {"stable": 1}


def test_rollback_needs_no_loading(pushed: Path, manager: VersionManager, server: ModelServer) -> None:
    assert loaded(manager, 2, 3)
    change(pushed, [server], Labels().promoted("stable", 2))
    change(pushed, [server], read_labels(pushed).promoted("stable", 3))
    assert loaded(manager, 2, 3)
    manager.load_seconds = 1000
    change(pushed, [server], read_labels(pushed).rolled_back("stable"), seconds=1)
    assert manager.labels == {"stable": 2}
    assert loaded(manager, 2)


def test_no_request_fails_while_labels_move(pushed: Path, manager: VersionManager, server: ModelServer) -> None:
    assert loaded(manager, 2, 3)
    change(pushed, [server], Labels().promoted("stable", 2))
    done, failures, seen = threading.Event(), [], set()

    def ask(label: str | None) -> None:
        with grpc.insecure_channel(server.address) as channel:
            call = channel.unary_unary(
                messages.PREDICT,
                request_serializer=messages.PredictRequest.SerializeToString,
                response_deserializer=messages.PredictResponse.FromString,
            )
            request = messages.PredictRequest()
            request.model_spec.name = "autotag"
            if label:
                request.model_spec.version_label = label
            while not done.is_set():
                try:
                    seen.add((label, call(request, timeout=5).model_spec.version.value))
                except grpc.RpcError as error:
                    failures.append(error.details())

    clients = [threading.Thread(target=ask, args=(label,)) for label in ("stable", "stable", None)]
    for client in clients:
        client.start()
    push(pushed, 4)
    change(pushed, [server], read_labels(pushed).promoted("stable", 4))
    threading.Event().wait(0.1)
    change(pushed, [server], read_labels(pushed).rolled_back("stable"))
    threading.Event().wait(0.1)
    done.set()
    for client in clients:
        client.join()
    assert failures == []
    assert {("stable", 2), ("stable", 4)} <= seen
    assert loaded(manager, 2)


def test_version_that_does_not_load_moves_nothing(pushed: Path, manager: VersionManager, server: ModelServer) -> None:
    assert loaded(manager, 2, 3)
    change(pushed, [server], Labels().promoted("stable", 2))
    before = (pushed / "labels.json").read_text()
    push(pushed, 4, broken=True)
    with pytest.raises(AutotagError, match="version 4 is loading"):
        change(pushed, [server], read_labels(pushed).promoted("stable", 4), seconds=0.5)
    assert manager.labels == {"stable": 2}
    assert loaded(manager, 2), "4 is not wanted any more"
    assert (pushed / "labels.json").read_text() == before


def test_refusal_of_one_replica_takes_the_others_back(
    pushed: Path, manager: VersionManager, server: ModelServer
) -> None:
    other = VersionManager()
    other.reload(server_config(Labels(), str(pushed)))
    with running(other) as address:
        replica = ModelServer(address)
        assert loaded(manager, 2, 3)
        assert loaded(other, 2, 3)
        change(pushed, [server, replica], Labels().promoted("stable", 2))
        other.refuse = "3"
        with pytest.raises(AutotagError, match=f"{address} refused: FAILED_PRECONDITION, Request to assign label"):
            change(pushed, [server, replica], read_labels(pushed).promoted("stable", 3))
        assert manager.labels == other.labels == {"stable": 2}
        assert read_labels(pushed).current == {"stable": 2}
        replica.close()


def test_server_that_was_started_without_the_labels_gets_them(
    pushed: Path, manager: VersionManager, server: ModelServer
) -> None:
    """A replica that was just started with the configuration without labels, while labels.json has some."""
    assert loaded(manager, 2, 3)
    write_whole(pushed / "labels.json", Labels().promoted("stable", 1).to_json())
    change(pushed, [server], read_labels(pushed).promoted("canary", 3))
    assert manager.labels == {"stable": 1, "canary": 3}


def test_server_that_does_not_answer_is_named(pushed: Path) -> None:
    nobody = ModelServer("localhost:1", timeout=5)
    with pytest.raises(AutotagError, match="no TensorFlow Serving answers at localhost:1"):
        change(pushed, [nobody], Labels().promoted("stable", 1))
    assert not (pushed / "labels.json").exists()


def test_configuration_file_is_written_with_the_servers_path(pushed: Path, tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    change(pushed, [], Labels().promoted("stable", 2), base_path="/models/autotag", config_file=file)
    (model,) = read_config(file).model_config_list.config
    assert (model.base_path, dict(model.version_labels)) == ("/models/autotag", {"stable": 2})
    assert list(model.model_version_policy.specific.versions) == [2]


def test_second_promotion_at_once_is_refused(pushed: Path) -> None:
    with (
        labels_lock(pushed),
        pytest.raises(AutotagError, match="another promotion"),
        labels_lock(pushed),
    ):
        pass


def answering(
    code: grpc.StatusCode | None, times: int, seconds: float = 0.0
) -> tuple[grpc.GenericRpcHandler, list[int]]:
    """GetModelStatus that fails ``times`` times, or takes its time, and how often it was asked."""
    asked: list[int] = []

    def status(request: Any, context: grpc.ServicerContext) -> Any:
        del request
        asked.append(1)
        threading.Event().wait(seconds)
        if code is not None and len(asked) <= times:
            context.abort(code, "Server Threadpool Exhausted")
        answer = messages.GetModelStatusResponse()
        answer.model_version_status.add(version=1, state=AVAILABLE)
        return answer

    _, service, method = messages.GET_MODEL_STATUS.split("/")
    handler = grpc.unary_unary_rpc_method_handler(
        status,
        request_deserializer=messages.GetModelStatusRequest.FromString,
        response_serializer=messages.GetModelStatusResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(service, {method: handler}), asked


@contextlib.contextmanager
def busy(
    code: grpc.StatusCode | None, times: int, timeout: float, seconds: float = 0.0
) -> Iterator[tuple[ModelServer, list[int]]]:
    handler, asked = answering(code, times, seconds)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((handler,))
    client = ModelServer(f"localhost:{server.add_insecure_port('localhost:0')}", timeout=timeout)
    server.start()
    try:
        yield client, asked
    finally:
        client.close()
        server.stop(None)


def test_server_whose_threads_are_busy_is_asked_again() -> None:
    with busy(grpc.StatusCode.RESOURCE_EXHAUSTED, 2, timeout=10) as (client, asked):
        assert client.status()[1].state == AVAILABLE
        assert len(asked) == 3


@pytest.mark.parametrize(
    ("code", "seconds"), [(grpc.StatusCode.RESOURCE_EXHAUSTED, 0.0), (None, 3.0)], ids=["no thread", "late"]
)
def test_server_that_is_busy_for_too_long_is_called_busy_and_not_missing(
    code: grpc.StatusCode | None, seconds: float
) -> None:
    with busy(code, 1000, 0.6, seconds) as (client, _), pytest.raises(BusyError) as caught:
        client.status()
    assert "is there, and too busy to answer within 1 s" in str(caught.value)
    assert "no TensorFlow Serving answers" not in str(caught.value)


def test_waiting_for_a_version_goes_on_while_the_server_is_busy() -> None:
    with busy(grpc.StatusCode.RESOURCE_EXHAUSTED, 8, timeout=0.3) as (client, asked):
        client.wait_until_available([1], seconds=20)
        assert len(asked) == 9
