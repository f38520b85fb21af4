"""The client against a double of TF Serving: real servers, real sockets, gRPC and REST, waiting and awaiting."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from exported_model import TAGS, THRESHOLDS, pcm_bytes, tone, write_audio
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_double import (
    SLOW_SECONDS,
    MadeUpModel,
    SavedModel,
    ServingDouble,
    cutting_proxy,
    made_up_windows,
    serving_double,
)

from models.heads import MULTI_LABEL, ONE_OF, Head, Heads
from preprocessing.audio.loading import load_audio
from preprocessing.audio.samples import from_pcm, to_pcm
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.constants import CLIP_SAMPLES, SAMPLE_RATE
from preprocessing.errors import AutotagError, BadInputError, ClipError
from serving.client import (
    AsyncTagClient,
    BadResponseError,
    ClipTags,
    DeadlineError,
    ModelNotFoundError,
    RequestRefusedError,
    RetryPolicy,
    ServerBusyError,
    ServerFailedError,
    ServerUnavailableError,
    TagClient,
    TagServerError,
)
from serving.client.results import SAMPLE_BYTES, cut
from serving.model_info import DataInfo, ModelInfo
from serving.tagging.windowing import windows

SOON = RetryPolicy(retries=5, first_wait=0.01, longest_wait=0.05)
QUICK = 0.6
WINDOW_BYTES = SAMPLE_BYTES * CLIP_SAMPLES


class Awaited:
    """AsyncTagClient behind TagClient's face, each call in an event loop of its own: one test serves both clients."""

    def __init__(self, address: str, **options: Any) -> None:
        self._make = lambda: AsyncTagClient(address, **options)
        self._make()  # arguments are checked at once

    def __enter__(self) -> Awaited:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            async def run() -> Any:
                async with self._make() as client:
                    answer = getattr(client, name)(*arguments, **options)
                    return await answer if inspect.isawaitable(answer) else [one async for one in answer]

            return asyncio.run(run())

        return call


CLIENTS = [
    pytest.param((kind, transport), id=f"{kind.__name__}-{transport}")
    for kind in (TagClient, Awaited)
    for transport in ("grpc", "rest")
]


@pytest.fixture(scope="module")
def running() -> Iterator[ServingDouble]:
    with serving_double({1: MadeUpModel(), 2: MadeUpModel(salt=2)}, {"stable": 1, "canary": 2}) as double:
        yield double


@pytest.fixture
def double(running: ServingDouble) -> ServingDouble:
    running.requests.clear()
    running.most_at_once = 0
    assert not running._faults
    return running


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, double: ServingDouble) -> Callable[..., Any]:
    """Makes a client of one of the four kinds for the double; options as TagClient's."""
    kind, transport = request.param

    def make(address: str | None = None, **options: Any) -> Any:
        return kind(address or double.address(transport), transport=transport, **{"retries": SOON, **options})

    make.transport = transport  # type: ignore[attr-defined]
    return make


def expected(clip: bytes, version: int = 2) -> Any:
    """What the made-up model says of the whole clip at once: no pieces, no server."""
    answer = MadeUpModel(salt=0 if version == 1 else version)("pcm", np.array([clip], object))
    return {name: value[0] for name, value in answer.items()}


def assert_same(clip: ClipTags, data: bytes, version: int = 2) -> None:
    answer = expected(data, version)
    assert clip.tags == TAGS
    assert {type(tag) for tag in clip.tags} == {str}
    assert clip.windows == len(made_up_windows(data)) == answer["windows"]
    np.testing.assert_allclose(clip.window_probabilities, answer["window_predictions"], rtol=1e-6)
    np.testing.assert_allclose(clip.probabilities, answer["predictions"], rtol=1e-6)
    np.testing.assert_array_equal(clip.thresholds, np.float32(THRESHOLDS))
    np.testing.assert_array_equal(clip.above_threshold, answer["above_threshold"])
    np.testing.assert_array_equal(clip.silent_windows, answer["silent_windows"])
    assert clip.silent == answer["silent"]
    assert clip.no_tag == answer["no_tag"]
    assert clip.seconds == len(data) / 2 / SAMPLE_RATE
    assert (clip.probabilities.dtype, clip.window_probabilities.dtype) == (np.float32, np.float32)


# what is asked and answered


def test_clips_are_tagged(client: Callable[..., Any]) -> None:
    clips = [pcm_bytes(5), pcm_bytes(29.1, 300), pcm_bytes(40, 600), b"\1\0"]
    with client() as tags:
        answers = tags.tag_pcm(clips)
    assert len(answers) == len(clips)
    for answer, clip in zip(answers, clips, strict=True):
        assert_same(answer, clip)


def test_answers_as_bytes_are_read_too(double: ServingDouble) -> None:
    double.tensor_content = True
    try:
        with TagClient(double.grpc_address) as tags:
            (answer,) = tags.tag_pcm([pcm_bytes(40)])
    finally:
        double.tensor_content = False
    assert_same(answer, pcm_bytes(40))


def test_answer_cut_from_a_larger_batch_of_the_servers_is_read(
    client: Callable[..., Any], double: ServingDouble
) -> None:
    clip = pcm_bytes(40)
    double.fail_next("merged")
    (answer,) = client().tag_pcm([clip])
    assert_same(answer, clip)


def test_version_that_answered_is_told(client: Callable[..., Any]) -> None:
    assert client().tag_pcm([pcm_bytes(1)])[0].version == 2
    assert client(label="stable").tag_pcm([pcm_bytes(1)])[0].version == 1
    assert client().embed_pcm([pcm_bytes(1)])[0].version == 2


def test_song_is_one_versions_where_a_new_one_comes_between_two_of_its_requests(
    client: Callable[..., Any], double: ServingDouble
) -> None:
    song = pcm_bytes(90)
    double.after_requests(1, lambda: double.versions.update({3: MadeUpModel(salt=3)}))
    try:
        (answer,) = client(most_windows=1).tag_pcm([song])
        assert (answer.version, [seen.version for seen in double.requests]) == (2, [2, 2, 2])
        assert_same(answer, song, 2)
        assert client().tag_pcm([song])[0].version == 3
    finally:
        del double.versions[3]


def test_song_is_begun_again_where_its_version_goes_away_between_two_of_its_requests(
    client: Callable[..., Any], double: ServingDouble
) -> None:
    song = pcm_bytes(90)
    old = double.versions[2]

    def roll_out() -> None:
        del double.versions[2]
        double.versions[3] = MadeUpModel(salt=3)

    double.after_requests(1, roll_out)
    try:
        (answer,) = client(most_windows=1).tag_pcm([song])
        assert (answer.version, [seen.version for seen in double.requests]) == (3, [2, 3, 3, 3])
        assert_same(answer, song, 3)
    finally:
        double.versions[2] = old
        del double.versions[3]


def test_version_that_was_chosen_and_goes_away_is_not_replaced_by_another(
    client: Callable[..., Any], double: ServingDouble
) -> None:
    double.versions[3] = MadeUpModel(salt=3)
    double.after_requests(1, lambda: double.versions.pop(3))
    with pytest.raises(ModelNotFoundError, match="3"):
        client(version=3, most_windows=1).tag_pcm([pcm_bytes(29.1 * 3)])


@pytest.mark.parametrize(
    ("choice", "version"), [({"version": 1}, 1), ({"label": "stable"}, 1), ({"label": "canary"}, 2)]
)
def test_version_and_label_can_be_chosen(client: Callable[..., Any], choice: dict[str, Any], version: int) -> None:
    clip = pcm_bytes(1)
    (answer,) = client(**choice).tag_pcm([clip])
    assert_same(answer, clip, version)


@pytest.mark.parametrize(("suffix", "rate", "channels"), [("wav", 16_000, 1), ("flac", 44_100, 2), ("mp3", 22_050, 1)])
def test_file_of_any_format_is_sent_as_16_khz_mono(
    client: Callable[..., Any], tmp_path: Path, suffix: str, rate: int, channels: int
) -> None:
    path = write_audio(tmp_path / f"a.{suffix}", 12, rate=rate, channels=channels)
    answer = client().tag_file(path)
    assert_same(answer, to_pcm(load_audio(path.read_bytes())).tobytes())


def test_bytes_travel_and_not_numbers(client: Callable[..., Any], double: ServingDouble) -> None:
    clip = pcm_bytes(29.1)
    client().tag_pcm([clip])
    limit = 1.001 if client.transport == "grpc" else 4 / 3 * 1.001  # type: ignore[attr-defined]
    assert double.requests[-1].size < limit * len(clip) + 200


def test_top_names_the_most_probable_first(client: Callable[..., Any]) -> None:
    (answer,) = client().tag_pcm([pcm_bytes(3)])
    best = np.argsort(-answer.probabilities)[:2]
    assert answer.top(2) == [(TAGS[i], float(answer.probabilities[i])) for i in best]


def test_clips_are_embedded(client: Callable[..., Any], tmp_path: Path) -> None:
    clips = [pcm_bytes(5), pcm_bytes(29.1 * 2.5)]
    with client(most_windows=1) as tags:
        answers = tags.embed_pcm(clips)
        path = write_audio(tmp_path / "a.wav", 5)
        from_file = tags.embed_file(path)
    clips.append(to_pcm(load_audio(path.read_bytes())).tobytes())
    whole = [MadeUpModel(salt=2)("embedding", np.array([clip], object))["embedding"][0] for clip in clips]
    for answer, vector, count in zip([*answers, from_file], whole, (1, 3, 1), strict=True):
        np.testing.assert_allclose(answer.vector, vector, rtol=1e-5)
        assert (answer.windows, answer.vector.dtype) == (count, np.float32)


@pytest.mark.parametrize("most_windows", [1, 8])
def test_silent_windows_do_not_count_in_a_song_and_a_silent_clip_has_no_tag(
    client: Callable[..., Any], most_windows: int
) -> None:
    nothing, sound = bytes(WINDOW_BYTES), pcm_bytes(29.1, 300)
    with client(most_windows=most_windows) as tags:
        (alone,) = tags.tag_pcm([sound])
        song, silence = tags.tag_pcm([nothing + nothing + sound + nothing, 3 * nothing])
        vector, with_silence, zero = tags.embed_pcm([sound, nothing + sound, 2 * nothing])
    assert song.silent_windows.tolist() == [True, True, False, True]
    assert not song.silent
    np.testing.assert_allclose(song.probabilities, alone.probabilities, atol=1e-6)
    assert song.top(2) == alone.top(2)
    assert silence.silent
    assert silence.no_tag
    assert silence.top(5) == []
    assert not silence.above_threshold.any()
    np.testing.assert_allclose(with_silence.vector, vector.vector, atol=1e-6)
    assert with_silence.silent_windows.tolist() == [True, False]
    assert not zero.vector.any()


def test_status_tells_the_versions(client: Callable[..., Any]) -> None:
    with client() as tags:
        assert [(one.version, one.state, one.error) for one in tags.status()] == [
            (2, "AVAILABLE", ""),
            (1, "AVAILABLE", ""),
        ]
    assert [one.version for one in client(version=1).status()] == [1]


def test_metadata_tells_the_signatures(client: Callable[..., Any]) -> None:
    metadata = client(label="stable").metadata()
    assert metadata.version == 1
    assert set(metadata.signatures) == {"pcm", "wav", "embedding"}
    signature = metadata.signatures["pcm"]
    assert signature.method == "tensorflow/serving/predict"
    assert (signature.inputs["pcm"].dtype, signature.inputs["pcm"].shape) == ("DT_STRING", None)
    assert (signature.outputs["predictions"].dtype, signature.outputs["predictions"].shape) == ("DT_FLOAT", (-1, 6))


# long songs


@pytest.mark.parametrize("extra", [0, 1, CLIP_SAMPLES - 1, CLIP_SAMPLES + 7])
def test_long_song_in_several_requests_has_the_mean_over_the_windows_of_the_whole(
    client: Callable[..., Any], double: ServingDouble, extra: int
) -> None:
    clip = pcm_bytes(29.1 * 5 + extra / SAMPLE_RATE)
    (answer,) = client(most_windows=2).tag_pcm([clip])
    assert_same(answer, clip)
    assert len(double.requests) >= 2
    assert max(one.size for one in double.requests) < 4 / 3 * 3 * WINDOW_BYTES + 500


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 7 * 2_000),
    most=st.integers(1, 4),
    blocks=st.lists(st.integers(1, 3_000), min_size=1, max_size=4),
)
def test_windows_of_the_pieces_are_the_windows_of_the_whole(samples: int, most: int, blocks: list[int]) -> None:
    whole = np.arange(samples, dtype="<i4").astype("<i2").tobytes()
    pieces = list(cut_scaled(whole, most, blocks))
    assert [window for piece in pieces for window in scaled_windows(piece)] == scaled_windows(whole)
    assert all(len(scaled_windows(piece)) <= most + 1 for piece in pieces)


def cut_scaled(whole: bytes, most: int, blocks: list[int]) -> list[bytes]:
    """Cut with windows of 2,000 samples, so that hundreds of lengths can be tried."""
    given_blocks, at = [], 0
    while at < len(whole):
        size = 2 * blocks[len(given_blocks) % len(blocks)]
        given_blocks.append(whole[at : at + size])
        at += size
    return list(cut(given_blocks, most, ClipFormat(SAMPLE_RATE, 2_000)))


def scaled_windows(whole: bytes) -> list[bytes]:
    if len(whole) <= 4_000:
        return [whole.ljust(4_000, b"\0")]
    starts = [*range(0, len(whole) - 4_000, 4_000), len(whole) - 4_000]
    return [whole[start : start + 4_000] for start in starts]


def test_windows_are_those_of_the_tagger() -> None:
    for seconds in (3, 29.1, 29.1 * 2 + 0.5, 29.1 * 3):
        samples = from_pcm(to_pcm(tone(seconds)))
        of_tagger = [to_pcm(window).tobytes() for window in windows(samples)]
        assert made_up_windows(to_pcm(samples).tobytes()) == of_tagger


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_memory_does_not_grow_with_the_song(tmp_path: Path, double: ServingDouble, transport: Any) -> None:
    peaks = []
    for minutes in (8, 32):
        path = tmp_path / f"{minutes}.flac"
        sf.write(path, np.zeros(minutes * 60 * SAMPLE_RATE, np.int16), SAMPLE_RATE)
        with TagClient(double.address(transport), transport=transport, most_windows=1) as client:
            client.tag_pcm([b"\0\0"])
            gc.disable()  # what only the collector finds stays for long, and bodies are large
            tracemalloc.start()
            answer = client.tag_file(path)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            gc.enable()
        assert answer.seconds == pytest.approx(minutes * 60)
    assert peaks[1] < 1.3 * peaks[0]
    assert peaks[1] < 25e6, "32 minutes of PCM are 61 MB"


def test_short_clips_share_a_request(client: Callable[..., Any], double: ServingDouble) -> None:
    client(most_windows=4).tag_pcm([pcm_bytes(1, 100 + i) for i in range(6)])
    assert [one.clips for one in double.requests] == [4, 2]


# files


@pytest.mark.parametrize("name", ["whole", "cut"])
def test_answer_says_how_much_of_the_file_was_heard(client: Callable[..., Any], tmp_path: Path, name: str) -> None:
    path = write_audio(tmp_path / "a.wav", 40)
    if name == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for clip in (client().tag_file(path), client().embed_file(path)):
        assert clip.seconds == pytest.approx(40 if name == "whole" else 20, abs=0.01)
        assert (clip.complete, clip.claimed_seconds) == (name == "whole", pytest.approx(40, abs=0.01))


def test_files_come_back_in_their_order_with_their_errors(client: Callable[..., Any], tmp_path: Path) -> None:
    paths = [write_audio(tmp_path / f"{i}.wav", 1 + i / 4, 200 + i) for i in range(9)]
    (tmp_path / "broken.mp3").write_bytes(b"no audio")
    paths[3:3] = [tmp_path / "broken.mp3", tmp_path / "missing.wav"]
    results = list(client().tag_files(paths, jobs=3))
    assert [result.path for result in results] == paths
    for result in results:
        if result.path.name in ("broken.mp3", "missing.wav"):
            assert result.clip is None
            assert isinstance(result.error, ClipError)
        else:
            assert result.error is None
            assert_same(result.clip, to_pcm(load_audio(result.path.read_bytes())).tobytes())


def test_several_files_are_under_way_at_a_time_and_no_more_than_told(
    client: Callable[..., Any], double: ServingDouble, tmp_path: Path
) -> None:
    paths = [write_audio(tmp_path / f"{i}.wav", 1, 200 + i) for i in range(6)]
    double.fail_next("slow", times=2)
    started = time.monotonic()
    assert all(result.error is None for result in client(timeout=30).tag_files(paths, jobs=2))
    assert double.most_at_once == 2
    assert time.monotonic() - started < 2 * SLOW_SECONDS


def test_iteration_can_be_ended_early(double: ServingDouble, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", 1)
    with TagClient(double.grpc_address) as client:
        results = client.tag_files([path] * 1000, jobs=2)
        assert next(results).error is None
        results.close()
    assert len(double.requests) < 20


def test_servers_error_is_in_the_files_result(client: Callable[..., Any], tmp_path: Path) -> None:
    (result,) = client(model="nope").tag_files([write_audio(tmp_path / "a.wav", 1)])
    assert isinstance(result.error, ModelNotFoundError)


# failures


@pytest.mark.parametrize("fault", ["unavailable", "exhausted", "cut"])
def test_passing_trouble_is_tried_again(client: Callable[..., Any], double: ServingDouble, fault: Any) -> None:
    clip = pcm_bytes(1)
    double.fail_next(fault, times=3)
    (answer,) = client().tag_pcm([clip])
    assert_same(answer, clip)
    assert len(double.requests) == 4


@pytest.mark.parametrize(("fault", "error"), [("unavailable", ServerUnavailableError), ("exhausted", ServerBusyError)])
def test_lasting_trouble_is_an_error_after_the_retries(
    client: Callable[..., Any], double: ServingDouble, fault: Any, error: type[TagServerError]
) -> None:
    double.fail_next(fault, times=3)
    with pytest.raises(error):
        client(retries=RetryPolicy(2, 0.01, 0.01)).tag_pcm([pcm_bytes(1)])
    assert len(double.requests) == 3


def test_request_that_the_graph_refuses_is_not_tried_again(client: Callable[..., Any], double: ServingDouble) -> None:
    class Refusing(MadeUpModel):
        def __call__(self, signature: str, value: Any) -> Any:
            from serving_double import RefusedError

            raise RefusedError("pcm: a clip of more than an hour")

    double.versions[9] = Refusing()
    try:
        with pytest.raises(RequestRefusedError, match="more than an hour"):
            client(version=9).tag_pcm([pcm_bytes(1)])
    finally:
        del double.versions[9]
    assert len(double.requests) == 1


def test_signature_that_an_older_model_lacks_is_said(client: Callable[..., Any], double: ServingDouble) -> None:
    model = MadeUpModel()
    model.signatures = {"wav": model.signatures["wav"]}
    double.versions[9] = model
    try:
        with pytest.raises(RequestRefusedError, match='"pcm" not found.*push it again'):
            client(version=9).tag_pcm([pcm_bytes(1)])
    finally:
        del double.versions[9]


def test_failure_inside_the_server_is_not_tried_again(client: Callable[..., Any], double: ServingDouble) -> None:
    double.fail_next("internal")
    with pytest.raises(ServerFailedError, match="the double failed"):
        client().tag_pcm([pcm_bytes(1)])
    assert len(double.requests) == 1


@pytest.mark.parametrize("choice", [{"model": "nope"}, {"version": 77}, {"label": "nope"}])
def test_unknown_model_version_or_label_is_not_found(client: Callable[..., Any], choice: dict[str, Any]) -> None:
    with pytest.raises(ModelNotFoundError, match=str(next(iter(choice.values())))):
        client(**choice).tag_pcm([pcm_bytes(1)])


@pytest.mark.parametrize("fault", ["slow", "drip"])
def test_slow_answer_ends_at_the_deadline(client: Callable[..., Any], double: ServingDouble, fault: Any) -> None:
    double.fail_next(fault)
    started = time.monotonic()
    with pytest.raises(DeadlineError, match="time"):
        client(timeout=QUICK).tag_pcm([pcm_bytes(1)])
    assert time.monotonic() - started < QUICK + 1


def test_deadline_holds_for_all_requests_of_a_call(client: Callable[..., Any], double: ServingDouble) -> None:
    double.fail_next("unavailable", times=100)
    started = time.monotonic()
    with pytest.raises(AutotagError):
        client(deadline=QUICK, retries=RetryPolicy(1000, 0.05, 0.05)).tag_pcm([pcm_bytes(1)] * 50)
    double._faults.clear()
    assert time.monotonic() - started < QUICK + 1


@pytest.mark.parametrize(("fault", "words"), [("nan", "NaN"), ("wrong_shape", "shape"), ("no_tags", "'tags'")])
def test_answer_that_is_none_is_refused(
    client: Callable[..., Any], double: ServingDouble, fault: Any, words: str
) -> None:
    double.fail_next(fault)
    with pytest.raises(BadResponseError, match=words):
        client().tag_pcm([pcm_bytes(1), pcm_bytes(2)])


def test_garbage_is_no_answer(client: Callable[..., Any], double: ServingDouble) -> None:
    double.fail_next("garbage")
    with pytest.raises(BadResponseError):
        client().tag_pcm([pcm_bytes(1)])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["outputs", "b64", "a"]), inner),
    max_leaves=8,
)
OUTPUTS = "predictions tags thresholds above_threshold no_tag windows window_predictions".split()


@settings(max_examples=300, deadline=None)
@given(data=JSON, name=st.sampled_from(OUTPUTS))
def test_any_json_in_an_answer_is_read_or_is_a_bad_answer(data: Any, name: str) -> None:
    from serving.client.requests import MetadataRequest, PredictRequest, StatusRequest
    from serving.client.rest_transport import HttpResponse, decode
    from serving.client.results import read_tags
    from serving.client.target import Target

    good = MadeUpModel()("pcm", np.array([b"\0\0"], object))
    outputs: dict[str, Any] = {key: value.tolist() for key, value in good.items()}
    outputs["tags"] = [list(TAGS)]
    for request in (PredictRequest("pcm", (b"\0\0",), 1), StatusRequest(), MetadataRequest()):
        for body in (data, {"outputs": {**outputs, name: data}}, {"metadata": data, "model_version_status": data}):
            with contextlib.suppress(BadResponseError):
                answer = decode(request, HttpResponse(200, {}, json.dumps(body).encode()), Target("a:1", "rest"))
                if isinstance(request, PredictRequest):
                    read_tags(answer, [2], PAPER_CLIP)


@pytest.mark.filterwarnings("ignore:Unexpected end-group tag")
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_bytes_over_grpc_are_read_or_are_a_bad_answer(data: Any) -> None:
    from serving.client import messages
    from serving.client.grpc_transport import decode
    from serving.client.requests import MetadataRequest, PredictRequest, StatusRequest
    from serving.client.results import read_tags

    response = messages.PredictResponse()
    for name, value in MadeUpModel()("pcm", np.array([b"\0\0"], object)).items():
        response.outputs[name].CopyFrom(messages.to_tensor(value))
    damaged = bytearray(response.SerializeToString())
    for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
        damaged[at] ^= data.draw(st.integers(1, 255))
    for request in (PredictRequest("pcm", (b"\0\0",)), StatusRequest(), MetadataRequest()):
        with contextlib.suppress(BadResponseError):
            answer = decode(request, bytes(damaged))
            if isinstance(request, PredictRequest):
                read_tags(answer, [2], PAPER_CLIP)


def test_nan_in_an_embedding_is_refused(client: Callable[..., Any], double: ServingDouble) -> None:
    double.fail_next("nan")
    with pytest.raises(BadResponseError, match="NaN"):
        client().embed_pcm([pcm_bytes(1)])


def test_model_that_changes_its_tags_in_the_middle_of_a_song_is_noticed(double: ServingDouble) -> None:
    class Changing(MadeUpModel):
        calls = 0

        def __call__(self, signature: str, value: Any) -> Any:
            self.calls += 1
            other = MadeUpModel(tags=TAGS[::-1]) if self.calls > 1 else MadeUpModel()
            return other(signature, value)

    double.versions[9] = Changing()
    try:
        with (
            TagClient(double.grpc_address, version=9, most_windows=1) as client,
            pytest.raises(BadResponseError, match="changed its tags"),
        ):
            client.tag_pcm([pcm_bytes(29.1 * 3)])
    finally:
        del double.versions[9]


# the model's card


def card(clip: ClipFormat, heads: Heads | None = None) -> ModelInfo:
    """Of a made-up model that takes such clips."""
    return ModelInfo(
        tags=TAGS,
        thresholds=THRESHOLDS,
        heads=heads or Heads.of_tags(len(TAGS)),
        clip=clip,
        members=(),
        combiner=None,
        data=DataInfo("noise", "none", {}, {}, {}),
        scores={},
    )


SHORT = ClipFormat(8_000, 12_000)


def test_model_of_another_clip_is_sent_audio_at_its_rate_in_its_windows(
    client: Callable[..., Any], double: ServingDouble, tmp_path: Path
) -> None:
    path = write_audio(tmp_path / "a.flac", 7, rate=44_100, channels=2)
    pcm = to_pcm(load_audio(path.read_bytes(), sample_rate=SHORT.sample_rate)).tobytes()
    double.versions[9] = model = MadeUpModel(card=card(SHORT))
    try:
        answer = model("pcm", np.array([pcm], object))
        for options in ({}, {"most_windows": 1}):
            with client(**options) as tags:
                song, vector = tags.tag_file(path), tags.embed_file(path)
                assert tags.card().info == model.card
            assert (song.windows, song.version, song.seconds) == (5, 9, pytest.approx(7, abs=1e-3))
            np.testing.assert_allclose(song.window_probabilities, answer["window_predictions"][0], rtol=1e-6)
            np.testing.assert_array_equal(song.above_threshold, answer["above_threshold"][0])
            assert vector.windows == 5
        asked = [seen.signature for seen in double.requests]
        of_audio = [name for name in asked if name != "model_card"]
        assert of_audio == ["pcm", "embedding", *4 * ["pcm"], *4 * ["embedding"]], "the last piece has two windows"
        assert isinstance(tags, Awaited) or asked.count("model_card") == 2, "once a client"
    finally:
        del double.versions[9]


def test_one_of_head_is_decided_over_all_pieces_of_a_song(client: Callable[..., Any], double: ServingDouble) -> None:
    heads = Heads((Head("kind", ONE_OF, 3), Head("tags", MULTI_LABEL, 3)))
    double.versions[9] = model = MadeUpModel(card=card(SHORT, heads))
    pcm = pcm_bytes(9)
    try:
        (song,) = client(most_windows=1).tag_pcm([pcm])
        assert song.above_threshold[:3].sum() == 1
        np.testing.assert_array_equal(song.above_threshold, model("pcm", np.array([pcm], object))["above_threshold"][0])
    finally:
        del double.versions[9]


@pytest.mark.parametrize("most_windows", [None, 1])
def test_file_is_decoded_again_where_a_version_comes_that_takes_other_clips(
    client: Callable[..., Any], double: ServingDouble, tmp_path: Path, most_windows: int | None
) -> None:
    path = write_audio(tmp_path / "a.wav", 40)
    with client(most_windows=most_windows) as tags:
        assert tags.tag_file(path).version == 2
        double.versions[9] = MadeUpModel(card=card(SHORT))
        try:
            song = tags.tag_file(path)
            assert (song.version, song.windows) == (9, 27)
            assert [clip.windows for clip in tags.tag_pcm([pcm_bytes(1), pcm_bytes(20)])] == [2, 27]
        finally:
            del double.versions[9]
        assert tags.tag_file(path).version == 2


def test_card_of_another_version_of_autotag_is_said_with_what_to_do(double: ServingDouble) -> None:
    class Newer(ModelInfo):
        def to_json(self) -> str:
            return super().to_json().replace('"format": 2', '"format": 99')

    double.versions[9] = MadeUpModel(card=Newer(**vars(card(SHORT))))
    try:
        with TagClient(double.grpc_address) as client, pytest.raises(BadResponseError, match="format is 99.*push it"):
            client.tag_pcm([pcm_bytes(1)])
    finally:
        del double.versions[9]


def test_model_pushed_before_there_were_cards_takes_the_papers_clips(client: Callable[..., Any]) -> None:
    known = client().card()
    assert (known.version, known.info, known.clip, known.heads) == (2, None, PAPER_CLIP, None)


def test_nobody_at_the_address_is_said_with_what_to_do(client: Callable[..., Any]) -> None:
    with pytest.raises(ServerUnavailableError, match=r"Is the server running, and is this its (gRPC|REST) port"):
        client("localhost:1", retries=1).status()


def test_the_other_protocols_port_is_said(client: Callable[..., Any], double: ServingDouble) -> None:
    other = double.rest_address if client.transport == "grpc" else double.grpc_address  # type: ignore[attr-defined]
    with pytest.raises(TagServerError, match="port"):
        client(other, retries=1, timeout=5).status()


def test_connection_cut_in_the_middle_of_a_request_is_tried_again(
    client: Callable[..., Any], double: ServingDouble
) -> None:
    clip = pcm_bytes(29.1)
    with cutting_proxy(int(double.address(client.transport).split(":")[1]), times=2) as port:  # type: ignore[attr-defined]
        (answer,) = client(f"localhost:{port}", retries=RetryPolicy(8, 0.1, 0.3)).tag_pcm([clip])
    assert_same(answer, clip)


def test_retry_after_of_a_proxy_is_kept_to() -> None:
    from serving.client.rest_transport import HttpResponse, error_of
    from serving.client.retries import Attempts
    from serving.client.target import Target

    error = error_of(HttpResponse(503, {"retry-after": "7"}, b"<html>"), Target("a:1", "rest"))
    assert isinstance(error, ServerUnavailableError)
    assert Attempts(SOON, 60).wait_after(error) == 7


@pytest.mark.parametrize("status", [502, 503, 504, 429])
def test_http_statuses_of_passing_trouble_are_worth_another_try(status: int) -> None:
    from serving.client.rest_transport import HttpResponse, error_of
    from serving.client.target import Target

    assert isinstance(error_of(HttpResponse(status, {}, b""), Target("a:1", "rest")), ServerUnavailableError)


def test_request_too_large_for_a_proxy_says_what_to_do() -> None:
    from serving.client.rest_transport import HttpResponse, error_of
    from serving.client.target import Target

    error = error_of(HttpResponse(413, {}, b"<html>too large</html>"), Target("a:1", "rest"))
    assert isinstance(error, RequestRefusedError)
    assert "most_windows" in str(error)


def test_waits_grow_up_to_the_longest_and_are_never_nothing() -> None:
    policy = RetryPolicy(retries=9, first_wait=0.2, longest_wait=5)
    assert [policy.wait(attempt, 0.0) for attempt in range(7)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5]
    assert policy.wait(0, 0.999) < 0.2


# arguments


@pytest.mark.parametrize("clip", [b"", b"\0\0\0"])
def test_what_is_no_pcm_is_refused_before_it_is_sent(
    client: Callable[..., Any], double: ServingDouble, clip: bytes
) -> None:
    with pytest.raises(BadInputError, match=f"clip 1: {len(clip)} bytes"):
        client().tag_pcm([b"\0\0", clip])
    assert not double.requests


def test_no_clips_are_no_request(client: Callable[..., Any], double: ServingDouble) -> None:
    assert client().tag_pcm([]) == []
    assert not double.requests


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"address": "localhost"}, "HOST:PORT"),
        ({"address": "localhost:99999"}, "HOST:PORT"),
        ({"address": "http://localhost:1"}, "over gRPC"),
        ({"address": "a:1", "transport": "soap"}, "soap"),
        ({"address": "a:1", "version": 1, "label": "stable"}, "choose one"),
        ({"address": "a:1", "model": "a/b"}, "a/b"),
        ({"address": "a:1", "timeout": 0}, "timeout"),
        ({"address": "a:1", "deadline": float("nan")}, "deadline"),
        ({"address": "a:1", "most_windows": 0}, "most_windows"),
        ({"address": "a:1", "retries": -1}, "retries"),
        ({"address": "a:1", "root_certificates": Path("missing.pem")}, "missing.pem"),
    ],
)
def test_arguments_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        TagClient(**options)


@pytest.mark.parametrize("kind", [TagClient, Awaited])
def test_no_jobs_are_refused(kind: Any, double: ServingDouble) -> None:
    with pytest.raises(BadInputError, match="jobs"):
        kind(double.grpc_address).tag_files([], jobs=0)


# surroundings


def test_encrypted_with_the_authority_given(client: Callable[..., Any], certificate: tuple[Path, Path]) -> None:
    clip = pcm_bytes(1)
    with serving_double({2: MadeUpModel(salt=2)}, certificate=certificate) as double:
        address = double.address(client.transport)  # type: ignore[attr-defined]
        (answer,) = client(address, root_certificates=certificate[1]).tag_pcm([clip])
        assert_same(answer, clip)
        with pytest.raises(ServerUnavailableError):
            client(address, tls=True, retries=0).tag_pcm([clip])


def test_saved_model_behind_the_server_says_what_it_says_directly(loaded: Any, exported: Any, tmp_path: Path) -> None:
    import tensorflow as tf

    path = write_audio(tmp_path / "song.flac", 75, rate=44_100, channels=2)
    whole = to_pcm(load_audio(path.read_bytes())).tobytes()
    direct = loaded.signatures["pcm"](pcm=tf.constant([whole]))
    vector = loaded.signatures["embedding"](pcm=tf.constant([whole]))["embedding"][0].numpy()
    with serving_double({10: SavedModel(loaded=loaded)}) as double:
        for options in ({"transport": "grpc", "most_windows": 8}, {"transport": "rest", "most_windows": 1}):
            with TagClient(double.address(str(options["transport"])), **options) as client:  # type: ignore[arg-type]
                answer = client.tag_file(path)
                embedded = client.embed_file(path)
            np.testing.assert_allclose(answer.probabilities, direct["predictions"][0].numpy(), atol=1e-5)
            np.testing.assert_allclose(answer.window_probabilities, direct["window_predictions"][0].numpy(), atol=1e-5)
            np.testing.assert_array_equal(answer.thresholds, direct["thresholds"][0].numpy())
            assert answer.tags == tuple(tag.decode() for tag in direct["tags"][0].numpy())
            assert answer.no_tag == bool(direct["no_tag"][0])
            assert answer.windows == 3
            np.testing.assert_allclose(embedded.vector, vector, atol=1e-4)


WITHOUT = """
import json, sys
sys.modules.update(dict.fromkeys(("tensorflow", "tfx", "keras", "apache_beam", "librosa", "tensorflow_serving")))
from serving.client import TagClient
imported = sorted(sys.modules)
address, transport, path = sys.argv[1:]
with TagClient(address, transport=transport) as client:
    answer = client.tag_file(path)
print(json.dumps({"top": answer.top(6), "windows": answer.windows}))
"""


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_needs_neither_tensorflow_nor_tfx_nor_keras_nor_beam_nor_librosa(
    double: ServingDouble, tmp_path: Path, transport: str
) -> None:
    path = write_audio(tmp_path / "a.flac", 31, rate=44_100)
    call = [sys.executable, "-c", WITHOUT, double.address(transport), transport, str(path)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    probabilities = expected(to_pcm(load_audio(path.read_bytes())).tobytes())["predictions"]
    assert answer["windows"] == 2
    assert [tag for tag, _ in answer["top"]] == [TAGS[i] for i in np.argsort(-probabilities, kind="stable")]
