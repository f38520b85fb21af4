"""What networks and combiners cost: size of files and weights, seconds of a clip."""

from __future__ import annotations

import statistics
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.heads import Heads
from preprocessing.clip_format import ClipFormat
from serving.graph.ensemble import Ensemble, Member
from serving.graph.litert import Weights, convert_model
from serving.model_info import DataInfo, ModelInfo

TIMED_CLIPS = 16


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


def seconds_for_1000_clips(member: Member, clip: ClipFormat) -> float:
    """Measure a network alone, in float32, input in memory: the paper's Table 5 column.

    A clip counts with all windows over which its answer is averaged.
    """
    alone = Ensemble([member], None, Heads.of_tags(member.model.output_shape[-1]), clip)
    (feature,) = alone.hearings
    clips = min(TIMED_CLIPS, alone.clips_at_once)
    windows, *shape = alone.feature_shape(feature)
    network = alone.members[0]
    step = tf.function(lambda read: network.model(read, training=False), autograph=False)
    batch = tf.random.stateless_normal((clips * windows, *shape), seed=(1, 2))
    return _seconds(step, batch) / clips * 1000


def _seconds(step: Any, batch: tf.Tensor, rounds: int = 2) -> float:
    step(batch)
    started = time.perf_counter()
    for _ in range(rounds):
        step(batch).numpy()
    return (time.perf_counter() - started) / rounds


def combiner_seconds(combiner: keras.Model) -> float:
    """As ``seconds_for_1000_clips``, of a combiner."""
    batch = tf.random.stateless_uniform((TIMED_CLIPS, *combiner.input_shape[1:]), seed=(1, 2))
    step = tf.function(lambda inputs: combiner(inputs, training=False), autograph=False)
    return _seconds(step, batch) / TIMED_CLIPS * 1000


def megabytes(network: keras.Model) -> float:
    """Size of a network's float32 weights, in 2**20 bytes."""
    return float(network.count_params()) * 4 / 2**20
