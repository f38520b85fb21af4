"""The guard of serving.server in a thread of its own, and requests that claim more than they bring: for tests alone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from serving.client import messages
from serving.server import guard


@contextlib.contextmanager
def guarded(server: str, **settings: Any) -> Iterator[str]:
    """Run the guard in front of a server; its address."""
    stop, ports, ready = threading.Event(), list[int](), threading.Event()

    def listening(port: int) -> None:
        ports.append(port)
        ready.set()

    made = guard.Settings(address="localhost:0", server=server, **settings)
    thread = threading.Thread(target=guard.run, args=(made, listening, stop))
    thread.start()
    try:
        assert ready.wait(20)
        yield f"localhost:{ports[0]}"
    finally:
        stop.set()
        thread.join()


def claim(sizes: list[int], dtype: int = 1, **values: Any) -> bytes:
    request = messages.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "autotag", "waveform"
    made = request.inputs["waveform"]
    made.CopyFrom(messages.TensorProto(dtype=dtype, **values))
    for size in sizes:
        made.tensor_shape.dim.add(size=size)
    serialised: bytes = request.SerializeToString()
    return serialised
