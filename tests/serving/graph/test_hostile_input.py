"""Two thousand hostile requests against the SavedModel, in a process of its own, with oneDNN on and off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import pytest
from exported_model import DATA, SCORES, TAGS, THRESHOLDS, WAVEFORM_NORMALISATION, Exported, untrained
from hostile_requests import GOOD_EVERY, INPUT_OF, KINDS, predict_json, predict_message, tensor_request, wire_requests

from models.combiner import build_combiner
from models.heads import Heads
from models.registry import find_network
from preprocessing.constants import CLIP_SAMPLES
from serving.client import messages
from serving.graph.ensemble import Ensemble, Member
from serving.graph.export import export_ensemble

SEED = 7
REQUESTS = 2200
WARM = 300
"""After so many requests each signature has answered its largest: what memory grows by later is lost."""

MOST_GROWTH = 150 * 2**20
MOST_WORDS = 1000
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that checks both inputs and answers fast: the real branch on the mel, one convolution on the waveform."""
    waveform = keras.Sequential(
        [
            keras.Input((CLIP_SAMPLES,)),
            keras.layers.Reshape((CLIP_SAMPLES, 1)),
            keras.layers.Conv1D(8, 64, strides=64, activation="relu"),
            keras.layers.GlobalMaxPool1D(),
            keras.layers.Dense(len(TAGS), activation="sigmoid"),
        ]
    )
    heads, network = Heads.of_tags(len(TAGS)), find_network("waveform_1d")
    on_waveform = Member("waveform_1d", network, waveform, network.score_windows, WAVEFORM_NORMALISATION)
    ensemble = Ensemble([untrained("mel_1d", heads), on_waveform], build_combiner("dense", 2, heads), heads)
    path = tmp_path_factory.mktemp("small") / "1"
    export_ensemble(path, ensemble, TAGS, THRESHOLDS, DATA, SCORES)
    return path


def ask(model: Path, count: int, onednn: bool) -> list[dict[str, Any]]:
    """Ask ``count`` requests; return what came of each."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TF_")},
        "TF_ENABLE_ONEDNN_OPTS": str(int(onednn)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
    }
    program = Path(__file__).with_name("hostile_process.py")
    call = [sys.executable, str(program), str(model), str(SEED), str(count)]
    done = subprocess.run(call, capture_output=True, text=True, env=environment, timeout=800)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    last = lines[-1] if lines else "loading the model"
    assert done.returncode == 0, f"ended with {done.returncode} at {last}: {done.stderr[-2000:]}"
    return [line for line in lines if "outcome" in line]


def told(results: list[dict[str, Any]]) -> str:
    """The figures, for ``pytest -rP``."""
    outcomes = [result["outcome"] for result in results]
    counts = {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
    resident = [result["resident"] >> 20 for result in results]
    seconds = [result["seconds"] for result in results]
    return (
        f"{len(results)} requests, {counts}, {sum(seconds):.1f} s, slowest {max(seconds):.2f} s, "
        f"resident MiB {resident[0]} first, {resident[min(WARM, len(results) - 1)]} warm, {resident[-1]} last"
    )


def check(results: list[dict[str, Any]]) -> None:
    wrong = [
        result
        for result in results
        if result["outcome"] == "failed"
        or (result["outcome"] == "answered" and result["expected"] == "refused")
        or (result["outcome"] != "answered" and result["expected"] == "answered")
    ]
    assert not wrong, wrong[:5]
    long = [result for result in results if result["length"] > MOST_WORDS]
    assert not long, f"error messages that repeat the request: {long[:5]}"


@pytest.mark.parametrize("onednn", [True, False], ids=["oneDNN", "no oneDNN"])
def test_hostile_requests_are_refused_and_the_process_lives(small_model: Path, onednn: bool) -> None:
    results = ask(small_model, REQUESTS, onednn)
    print(f"oneDNN {onednn}: {told(results)}")
    assert len(results) == REQUESTS
    check(results)
    by_graph = [result for result in results if result["outcome"] != "by name"]
    assert len(by_graph) >= 2000
    assert sum(result["outcome"] == "refused" for result in by_graph) > 1300
    assert max(result["resident"] for result in results[-100:]) - results[WARM]["resident"] < MOST_GROWTH


def test_the_real_ensemble_refuses_them_too(exported: Exported) -> None:
    results = ask(exported.path, 150, onednn=True)
    print(told(results))
    check(results)


def test_requests_are_the_same_for_the_same_seed_and_number_and_cover_every_kind() -> None:
    seen = set()
    for number in range(3 * len(KINDS)):
        request, again = tensor_request(SEED, number), tensor_request(SEED, number)
        assert (request.name, request.expected) == (again.name, again.expected)
        seen.add(request.signature)
        assert request.expected == "answered" or number % GOOD_EVERY
    assert seen == set(INPUT_OF)


def test_requests_go_over_the_wire_as_they_are() -> None:
    for number in range(0, 7 * GOOD_EVERY, GOOD_EVERY):
        request = tensor_request(SEED, number)
        message = messages.PredictRequest.FromString(predict_message(request))
        ((name, tensor),) = message.inputs.items()
        assert (messages.from_tensor(tensor) == request.inputs[name]).all()
        body = predict_json(request, row=False)
        assert (body is None) == (request.signature == "waveform")
    wire = list(wire_requests(SEED, 40))
    assert {request.transport for request in wire} == {"grpc", "http", "tcp"}
    assert len({request.name for request in wire if request.transport == "tcp"}) > 50
