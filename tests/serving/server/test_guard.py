"""The guard passes good requests on as they are, and others not at all."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from exported_model import pcm_bytes
from guarded_server import claim, guarded
from model_service_double import VersionManager
from model_service_double import running as version_service
from serving_double import MadeUpModel, ServingDouble, serving_double

from preprocessing.errors import AutotagError, BadInputError
from serving.client import TagClient, messages
from serving.client.errors import RequestRefusedError, ServerUnavailableError
from serving.server import guard
from serving.server.labels import Labels
from serving.server.model_config import server_config
from serving.server.model_server import ModelServer
from serving.server.request_limits import Limits


@pytest.fixture
def double() -> Iterator[ServingDouble]:
    with serving_double({1: MadeUpModel(), 2: MadeUpModel(salt=2)}, {"stable": 1}) as running:
        yield running


def test_clients_get_the_servers_answers(double: ServingDouble) -> None:
    clips = [pcm_bytes(40), pcm_bytes(3)]
    with TagClient(double.grpc_address, label="stable") as client:
        expected = client.tag_pcm(clips)
    with guarded(double.grpc_address) as address, TagClient(address, label="stable") as client:
        answer = client.tag_pcm(clips)
        assert client.metadata().signatures
    assert [clip.probabilities.tolist() for clip in answer] == [clip.probabilities.tolist() for clip in expected]


def test_requests_pass_byte_for_byte_with_metadata_deadline_and_status() -> None:
    seen: list[tuple[bytes, Any, float]] = []

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        metadata = {name: value for name, value in context.invocation_metadata() if name.startswith("x-")}
        seen.append((request, metadata, context.time_remaining()))
        context.set_trailing_metadata((("x-cost", "7"),))
        if b"fail" in request:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no such signature: ä")
        return request[::-1]

    handler = grpc.method_handlers_generic_handler(
        "tensorflow.serving.PredictionService", {"Predict": grpc.unary_unary_rpc_method_handler(answer)}
    )
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[handler])
    address = f"localhost:{server.add_insecure_port('localhost:0')}"
    server.start()
    odd = claim([2], tensor_content=bytes(8)) + b"\xfa\x3f\x03abc"  # an unknown field
    with guarded(address) as guard_address, grpc.insecure_channel(guard_address) as channel:
        call = channel.unary_unary(messages.PREDICT)
        answered, rpc = call.with_call(odd, timeout=30, metadata=[("x-trace", "9"), ("x-bits-bin", b"\0\xff")])
        assert answered == odd[::-1]
        assert ("x-cost", "7") in [tuple(pair) for pair in rpc.trailing_metadata()]
        with pytest.raises(grpc.RpcError) as caught:
            call(claim([], string_val=[b"fail"], dtype=7), timeout=30)
    server.stop(None)
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "no such signature: ä",
    )
    assert ("x-cost", "7") in [tuple(pair) for pair in caught.value.trailing_metadata()]
    request, metadata, remaining = seen[0]
    assert (request, metadata) == (odd, {"x-trace": "9", "x-bits-bin": b"\0\xff"})
    assert 20 < remaining <= 30.2  # on each of the two ways gRPC rounds it up to a tenth of a second


def test_claims_never_reach_the_server(double: ServingDouble) -> None:
    with guarded(double.grpc_address) as address, grpc.insecure_channel(address) as channel:
        for request in (
            claim([2**29], float_val=[0.0]),
            claim([60], dtype=7, string_val=[b"ab"]),
            claim([1, 465_600]),
            b"\xff\xff\xff",
        ):
            assert len(request) < 100
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(messages.PREDICT)(request, timeout=20)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "refused before it reached the model server" in caught.value.details()
    assert double.requests == []


def test_clients_own_error_says_the_guards_words(double: ServingDouble) -> None:
    with (
        guarded(double.grpc_address, limits=Limits(clips=1)) as address,
        TagClient(address) as client,
        pytest.raises(RequestRefusedError, match="before it reached the model server: pcm: expected at most 1 clips"),
    ):
        client.tag_pcm([b"ab", b"cd"])


@pytest.mark.parametrize(
    "method",
    [
        messages.HANDLE_RELOAD_CONFIG,
        "/tensorflow.serving.PredictionService/Regress",
        "/tensorflow.serving.PredictionService/MultiInference",
        "/tensorflow.serving.SessionService/SessionRun",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
def test_other_methods_are_not_there(double: ServingDouble, method: str) -> None:
    with guarded(double.grpc_address) as address, grpc.insecure_channel(address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(method)(b"", timeout=20)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert double.reloads == []


def test_labels_are_moved_through_a_guard_that_was_told_to_let_them(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"")
    manager = VersionManager()
    manager.reload(server_config(Labels(), str(tmp_path)))
    with version_service(manager) as server, guarded(server, reload=True) as address:
        client = ModelServer(address)
        client.wait_until_available([1], 10)
        client.reload(server_config(Labels({"stable": 1}), str(tmp_path)))
        client.close()
    assert manager.labels == {"stable": 1}


def test_only_so_many_requests_are_computed_at_a_time_and_the_others_wait(double: ServingDouble) -> None:
    double.fail_next("slow", times=3)
    with (
        guarded(double.grpc_address, at_once=2) as address,
        TagClient(address, timeout=60) as client,
        futures.ThreadPoolExecutor(8) as pool,
    ):
        answers = list(pool.map(lambda second: client.tag_pcm([pcm_bytes(second)]), range(1, 9)))
    assert len(answers) == 8
    assert double.most_at_once == 2


def test_calls_beyond_those_that_may_wait_are_told_to_come_again(double: ServingDouble) -> None:
    double.fail_next("slow", times=2)
    request = messages.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "autotag", "pcm"
    request.inputs["pcm"].CopyFrom(messages.to_tensor([pcm_bytes(1)]))
    with guarded(double.grpc_address, at_once=1, calls=2) as address, grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(messages.PREDICT, messages.PredictRequest.SerializeToString)
        calls = [method.future(request, timeout=30) for _ in range(6)]
        codes = [call.code() for call in calls]
    assert codes.count(grpc.StatusCode.OK) >= 2
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_call_that_its_client_gives_up_frees_its_turn(double: ServingDouble) -> None:
    double.fail_next("slow", times=1)
    with guarded(double.grpc_address, at_once=1) as address, grpc.insecure_channel(address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(messages.PREDICT)(good(), timeout=0.2)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert channel.unary_unary(messages.PREDICT)(good(), timeout=20)


def good() -> bytes:
    request = messages.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "autotag", "pcm"
    request.inputs["pcm"].CopyFrom(messages.to_tensor([pcm_bytes(1)]))
    serialised: bytes = request.SerializeToString()
    return serialised


def test_message_larger_than_allowed_is_refused(double: ServingDouble) -> None:
    with guarded(double.grpc_address, message_bytes=10_000) as address, grpc.insecure_channel(address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(messages.PREDICT)(good(), timeout=20)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert double.requests == []


def test_server_that_is_not_there_is_said_as_the_server_would_be() -> None:
    with (
        guarded("localhost:1") as address,
        TagClient(address, retries=0, timeout=10) as client,
        pytest.raises(ServerUnavailableError),
    ):
        client.tag_pcm([pcm_bytes(1)])


def test_clients_without_a_certificate_are_not_let_in(double: ServingDouble, certificate: tuple[Path, Path]) -> None:
    key, chain = certificate
    with guarded(double.grpc_address, certificate=chain, key=key, client_certificates=chain) as address:
        roots = chain.read_bytes()
        own = grpc.ssl_channel_credentials(roots, key.read_bytes(), roots)
        with grpc.secure_channel(address, own) as channel:
            assert channel.unary_unary(messages.PREDICT)(good(), timeout=20)
        stranger = grpc.ssl_channel_credentials(roots)
        with grpc.secure_channel(address, stranger) as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(messages.PREDICT)(good(), timeout=5)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    with (
        guarded(double.grpc_address, certificate=chain, key=key) as address,
        TagClient(address, root_certificates=chain) as client,
    ):
        assert client.tag_pcm([pcm_bytes(1)])


def test_settings_that_do_not_fit_each_other_are_refused(certificate: tuple[Path, Path]) -> None:
    key, chain = certificate
    for given in ({"key": key}, {"certificate": chain}, {"client_certificates": chain}):
        with pytest.raises(BadInputError, match="belong together"):
            guard.run(guard.Settings("localhost:0", "localhost:1", **given), print)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(AutotagError, match="cannot be had: give another by --listen"):
            guard.run(guard.Settings(f"127.0.0.1:{taken.getsockname()[1]}", "localhost:1"), print)


def test_command_says_where_it_listens_and_stops_in_order(double: ServingDouble) -> None:
    call = [sys.executable, "-c", "from pipeline.cli import main; main()", "guard", "--listen", "localhost:0"]
    process = subprocess.Popen(
        [*call, "--server", double.grpc_address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(line.split("port ")[1].split(";")[0])
        with TagClient(f"localhost:{port}") as client:
            assert client.tag_pcm([pcm_bytes(1)])
        process.terminate()
        _, stderr = process.communicate(timeout=30)
        assert (process.returncode, stderr) == (0, "")
    finally:
        process.kill()
        process.wait()
