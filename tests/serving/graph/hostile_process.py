"""Asks a SavedModel hostile requests as a server does, in a process that may well end: one line of JSON for each.

``PYTHONPATH=.:tests python tests/serving/graph/hostile_process.py MODEL_DIR SEED COUNT``: the line before a
request names it, the line after it says what came of it; so the last line of a process that ended names the request
that ended it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from hostile_requests import INPUT_OF, TensorRequest, good_inputs, tensor_request
from tensorflow.core.protobuf import config_pb2

PAGE = 4096
ASK_A_GOOD_ONE_EVERY = 50


class Server:
    """A session on the SavedModel that takes tensors as they are: session.run would convert their types first."""

    def __init__(self, model_dir: str) -> None:
        self._session = tf.compat.v1.Session()
        self._signatures = tf.compat.v1.saved_model.load(self._session, ["serve"], model_dir).signature_def
        self._calls: dict[str, Any] = {}

    def __call__(self, request: TensorRequest) -> dict[str, Any]:
        signature = self._signatures[request.signature]
        if request.signature not in self._calls:
            self._calls[request.signature] = self._session._make_callable_from_options(
                config_pb2.CallableOptions(
                    feed=[signature.inputs[name].name for name in signature.inputs],
                    fetch=[signature.outputs[name].name for name in sorted(signature.outputs)],
                )
            )
        values = self._calls[request.signature](*request.inputs.values())
        return dict(zip(sorted(signature.outputs), values, strict=True))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def ask(server: Server, request: TensorRequest) -> dict[str, Any]:
    """What came of a request: "answered", "refused", or "failed" where no client should see it.

    "by name": the server holds the inputs' names against the signature before it asks the graph.
    """
    if set(request.inputs) != {INPUT_OF[request.signature]}:
        return {"outcome": "by name", "words": "", "length": 0, "seconds": 0.0}
    started = time.perf_counter()
    try:
        answer = server(request)
    except tf.errors.InvalidArgumentError as error:
        result = {"outcome": "refused", "words": error.message[:400], "length": len(error.message)}
    except UnicodeDecodeError as error:  # the words repeat bytes of the request
        result = {"outcome": "refused", "words": "", "length": len(error.object)}
    except Exception as error:
        result = {"outcome": "failed", "words": f"{type(error).__name__}: {error}"[:400], "length": 0}
    else:
        numbers = [value for value in answer.values() if value.dtype == np.float32]
        clips = len(next(iter(request.inputs.values())))
        usable = all(np.isfinite(value).all() for value in numbers)
        whole = all(len(value) == clips for value in answer.values())
        in_range = all(
            ((value >= 0) & (value <= 1)).all() for name, value in answer.items() if name in ("predictions", "scores")
        )
        good = usable and whole and in_range
        result = {"outcome": "answered" if good else "failed", "words": "" if good else "a wrong answer", "length": 0}
    return {**result, "seconds": time.perf_counter() - started}


def main(model_dir: str, seed: int, count: int) -> None:
    server = Server(model_dir)
    good = [TensorRequest("good", name, good_inputs(name), "answered") for name in INPUT_OF]
    before = [server(request) for request in good]
    for number in range(count):
        request = tensor_request(seed, number)
        told = {"number": number, "name": request.name, "expected": request.expected}
        print(json.dumps(told), flush=True)
        print(json.dumps({**told, **ask(server, request), "resident": resident_bytes()}), flush=True)
        if number % ASK_A_GOOD_ONE_EVERY == ASK_A_GOOD_ONE_EVERY - 1:
            turn = number // ASK_A_GOOD_ONE_EVERY % len(good)
            after = server(good[turn])
            for name, value in after.items():
                np.testing.assert_array_equal(value, before[turn][name], err_msg=f"after {told}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
