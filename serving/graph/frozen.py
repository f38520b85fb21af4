"""The networks of an ensemble as TensorFlow graphs without variables, checks and loops: what other engines convert.

The SavedModel's signatures check what a server was sent and work off large requests in parts; neither converts, and an
engine in one's own process needs neither. So the graphs are traced from the networks themselves, in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from models.log_mel import mel_filterbank
from preprocessing.constants import CLIP_SAMPLES, HOP_LENGTH, N_FFT, N_FRAMES, N_MELS, POWER_FLOOR, TOP_DB
from serving.graph.ensemble import Ensemble
from serving.model_info import InputKind

CLIP_SHAPES: Final[dict[InputKind, tuple[int, ...]]] = {"log_mel": (N_MELS, N_FRAMES), "waveform": (CLIP_SAMPLES,)}
"""Shape of each input for one clip."""


def frozen_network(ensemble: Ensemble, clips: int | None) -> Any:
    """Return the concrete function from what the branches read, before normalisation, to probabilities.

    Inputs are ``log_mel`` float32 [clips, 128, 592] in dB and ``waveform`` float32 [clips, 465600] in [-1, 1], those of
    them that a branch reads, in this order; the output is float32 [clips, n_tags]. ``clips`` None leaves it open.
    """
    kinds = sorted(ensemble.kinds)
    return _freeze(
        lambda *values: ensemble.from_inputs(dict(zip(kinds, values, strict=True))),
        [tf.TensorSpec([clips, *CLIP_SHAPES[kind]], tf.float32, name=kind) for kind in kinds],
    )


def frozen_front_end(clips: int | None) -> Any:
    """Return the concrete function waveform float32 [clips, 465600] -> log-mel float32 [clips, 128, 592] in dB.

    models.log_mel.LogMel's values. That one gathers its frames by an index of 5 MB, which a converter would store.
    """
    return _freeze(_log_mel, [tf.TensorSpec([clips, CLIP_SAMPLES], tf.float32, name="waveform")])


def _log_mel(waveform: Any) -> Any:
    margin = N_FFT // 2
    spectrum = tf.signal.rfft(_frames(tf.pad(waveform, [[0, 0], [margin, margin]])) * tf.signal.hann_window(N_FFT))
    power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
    mel_power = tf.reshape(tf.matmul(tf.reshape(power, [-1, 1 + margin]), mel_filterbank()), [-1, N_FRAMES, N_MELS])
    decibels = 10.0 / math.log(10.0) * tf.math.log(tf.maximum(mel_power, POWER_FLOOR))
    loudest = tf.reduce_max(decibels, axis=[1, 2], keepdims=True)
    return tf.transpose(tf.maximum(decibels, loudest - TOP_DB), [0, 2, 1])


def _frames(padded: Any) -> Any:
    """[clips, samples] -> [clips, 592, 2048], a frame every 787 samples: each is two hops and a piece of the third."""
    whole, rest = divmod(N_FFT, HOP_LENGTH)
    hops = tf.reshape(padded[:, : (N_FRAMES + whole) * HOP_LENGTH], [-1, N_FRAMES + whole, HOP_LENGTH])
    pieces = [hops[:, first : first + N_FRAMES] for first in range(whole)]
    return tf.concat([*pieces, hops[:, whole : whole + N_FRAMES, :rest]], axis=2)


def _freeze(function: Callable[..., Any], signature: list[Any]) -> Any:
    concrete = tf.function(function, input_signature=signature, autograph=False).get_concrete_function()
    return convert_variables_to_constants_v2(concrete)
