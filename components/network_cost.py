"""What a network costs where it is served alone: size of its LiteRT file, CPU seconds of a clip."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from models.heads import Heads
from preprocessing.clip_format import ClipFormat
from serving.graph.ensemble import Ensemble, Member
from serving.graph.litert import Weights, convert_model
from serving.model_info import DataInfo, ModelInfo


def litert_bytes(member: Member, heads: Heads, clip: ClipFormat, weights: Weights = "int8") -> bytes:
    """Return the LiteRT file of a model of one network, from the waveform to probabilities.

    Args:
        member: the network.
        heads: its outputs.
        clip: what it takes.
        weights: what they are stored in.
    """
    ensemble = Ensemble([member], None, heads, clip)
    info = ModelInfo(
        tags=tuple(f"tag {number}" for number in range(heads.size)),
        thresholds=(0.5,) * heads.size,
        heads=heads,
        clip=clip,
        members=tuple(one.info for one in ensemble.members),
        combiner=None,
        data=DataInfo("none", "none", {}, {}, {}),
        scores={},
    )
    return convert_model(ensemble, info, weights, "measured")


def cpu_seconds_of_a_clip(content: bytes, clip: ClipFormat, clips: int = 3) -> float:
    """Median CPU seconds of one thread, from waveform to answer; the first clip is not counted.

    Args:
        content: a LiteRT file.
        clip: what it takes.
        clips: how many are timed.
    """
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

    interpreter: Any = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    rng, seconds = np.random.default_rng(0), []
    for _ in range(clips + 1):
        interpreter.set_tensor(taken["index"], rng.normal(0, 0.1, (1, clip.samples)).astype(np.float32))
        start = time.process_time()
        interpreter.invoke()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[1:])
