"""Engines and modules loaded in a process of their own: what crashes, hangs or takes long there harms nothing here.

Run by itself this is that process: it prints what it found, or why something does not load, as a line of JSON.
"""

from __future__ import annotations

import base64
import importlib
import json
import signal
import subprocess
import sys
from typing import Final

from preprocessing.child_processes import end_with_parent

SECONDS: Final = 120
"""So long may loading take."""

ONNX: Final = base64.b64decode("CAc6NQoOCgF4CgF4EgF5IgNBZGQSAWdaDwoBeBIKCggIARIECgIIAmIPCgF5EgoKCAgBEgQKAggCQgQKABAN")
"""y = x + x of two float32, from onnx.helper (opset 13, IR version 7)."""

LITERT: Final = base64.b64decode(
    "HAAAAFRGTDMUACAAHAAYABQAEAAMAAAACAAEABQAAAAcAAAAHAAAAHQAAAAYAQAAKAEAADgCAAADAAAAAAAAAAIAAAA0AAAABAAAANz///8E"
    "AAAABAAAABMAAABDT05WRVJTSU9OX01FVEFEQVRBAAgADAAIAAQACAAAAAMAAAAEAAAAEwAAAG1pbl9ydW50aW1lX3ZlcnNpb24ABQAAAKAA"
    "AACYAAAAkAAAAHAAAAAEAAAAnv///wQAAABUAAAADAAAAAgADgAIAAQACAAAABAAAAAkAAAAAAAGAAgABAAGAAAABAAAAAAAAAAAAAoAEAAM"
    "AAgABAAKAAAAAwAAAAIAAAAEAAAABgAAADIuMTYuMgAAAAAGAAgABAAGAAAABAAAABAAAAAxLjUuMAAAAAAAAAAAAAAAxP7//8j+///M/v//"
    "DwAAAE1MSVIgQ29udmVydGVkLgABAAAAFAAAAAAADgAYABQAEAAMAAgABAAOAAAAFAAAABwAAABcAAAAYAAAAGQAAAAEAAAAbWFpbgAAAAAB"
    "AAAAFAAAAAAADgAUAAAAEAAMAAsABAAOAAAAEAAAAAAAAAsMAAAAEAAAAEz///8BAAAAAQAAAAIAAAAAAAAAAAAAAAEAAAABAAAAAQAAAAAA"
    "AAACAAAAVAAAAAQAAADK////AAAAARAAAAAQAAAAAgAAABgAAACY////CAAAAElkZW50aXR5AAAAAAEAAAACAAAAAAAWABgAFAAAABAADAAI"
    "AAAAAAAAAAcAFgAAAAAAAAEQAAAAEAAAAAEAAAAQAAAA5P///wEAAAB4AAAAAQAAAAIAAAABAAAACAAAAAQABAAEAAAA"
)
"""The same from TensorFlow's converter."""


def load_apart(what: str, *names: str) -> tuple[str, str]:
    """Load an engine (``engine NAME``) or modules (``modules NAME...``) in a new process.

    Returns:
        (what it says of itself, why it does not load); one of them is empty, both for modules that load.
    """
    # Not from the folder that one happens to be in, whatever lies there.
    code = f"import sys; sys.path = [place for place in sys.path if place]; import {__name__} as own; own.main()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, what, *names],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"did not load in {SECONDS} s"
    except OSError as error:
        return "", f"{sys.executable}: {error.strerror or error}"
    if done.returncode < 0:
        return "", f"ended by {signal.Signals(-done.returncode).name} when it was loaded"
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return "", lines[-1] if lines else f"ended with {done.returncode} when it was loaded"
    return answer["detail"], answer["error"]


def main() -> None:
    """Be that process."""
    end_with_parent()
    what, *names = sys.argv[1:]
    answer = {"detail": "", "error": ""}
    try:
        if what == "engine":
            answer["detail"] = _ENGINES[names[0]]()
        else:
            for name in names:
                importlib.import_module(name)
    except Exception as error:  # whatever a package raises when it is imported
        answer["error"] = " ".join(f"{type(error).__name__}: {error}".split())
    print(json.dumps(answer))


def _tensorflow() -> str:
    import tensorflow as tf

    _check(tf.constant([1.0, 2.0]) * 2)
    gpus = len(tf.config.list_physical_devices("GPU"))
    return f"{tf.__version__}, {f'GPUs: {gpus}' if gpus else 'sees no GPU'}"


def _litert() -> str:
    import ai_edge_litert  # type: ignore[import-untyped]
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

    interpreter = Interpreter(model_content=LITERT, num_threads=1)
    interpreter.allocate_tensors()
    (x,), (y,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(x["index"], np.array([1, 2], np.float32))
    interpreter.invoke()
    _check(interpreter.get_tensor(y["index"]))
    return str(ai_edge_litert.__version__)


def _onnxruntime() -> str:
    import numpy as np
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(ONNX, providers=["CPUExecutionProvider"])
    _check(session.run(None, {"x": np.array([1, 2], np.float32)})[0])
    return str(onnxruntime.__version__)


def _openvino() -> str:
    import numpy as np
    import openvino  # type: ignore[import-untyped]

    core = openvino.Core()
    model = core.compile_model(core.read_model(ONNX, b""), "CPU")
    _check(model({"x": np.array([1, 2], np.float32)})[0])
    bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return f"{openvino.__version__.partition('-')[0]}, {'bfloat16' if bfloat16 else 'float32'}"


def _check(doubled: object) -> None:
    import numpy as np

    if not np.array_equal(np.asarray(doubled), [2, 4]):
        raise ArithmeticError(f"1 + 1 and 2 + 2 are {doubled}")


_ENGINES: Final = {
    "litert": _litert,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "tensorflow": _tensorflow,
}
