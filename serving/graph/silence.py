"""preprocessing.silence in the graph: which windows have nothing to hear, and answers in which these do not count."""

from __future__ import annotations

import tensorflow as tf

from preprocessing.clip_format import ClipFormat
from preprocessing.constants import SILENT_SHARE
from preprocessing.silence import NOTHING_POWER, stretch_samples
from serving.graph.tensors import BoolTensor, Compute, FloatTensor, IntTensor


def are_silent(waveform: FloatTensor, clip: ClipFormat) -> BoolTensor:
    """Float32 [clips, clip samples] -> bool [clips]: preprocessing.silence.is_silent of each."""
    size = stretch_samples(clip.samples, clip.sample_rate)
    count = clip.samples // size
    stretches = tf.reshape(waveform[:, : count * size], [-1, count, size])
    quiet = tf.less(tf.math.reduce_variance(stretches, axis=2), NOTHING_POWER)
    return tf.greater(tf.reduce_mean(tf.cast(quiet, tf.float32), axis=1), SILENT_SHARE)


def with_heard(compute: Compute, clip: ClipFormat) -> Compute:
    """Return a function of waveforms that gives what ``compute`` does, 0 where a clip is silent, and a column more.

    In that column, the last, stands 1 where there is something to hear, else 0.
    """

    def computed(waveform: FloatTensor) -> FloatTensor:
        silent = are_silent(waveform, clip)[:, tf.newaxis]
        answer = compute(waveform)
        return tf.concat([tf.where(silent, 0.0, answer), tf.cast(tf.logical_not(silent), tf.float32)], axis=1)

    return computed


def split_heard(by_window: FloatTensor) -> tuple[FloatTensor, BoolTensor]:
    """What ``with_heard`` gave, float32 [windows, n + 1] -> float32 [windows, n] and bool [windows], silent ones."""
    return by_window[:, :-1], tf.equal(by_window[:, -1], 0.0)


def mean_of_heard(by_window: FloatTensor, silent: BoolTensor, counts: IntTensor) -> FloatTensor:
    """Mean of each clip over its windows that are not silent.

    Args:
        by_window: float32 [windows, n], 0 where silent.
        silent: bool [windows].
        counts: int32 [clips], windows of each clip.

    Returns:
        Float32 [clips, n]; 0 where all windows of a clip are silent.
    """
    clip_of = tf.repeat(tf.range(tf.size(counts)), counts)
    sums = tf.math.segment_sum(by_window, clip_of)
    heard = tf.math.segment_sum(tf.cast(tf.logical_not(silent), tf.float32), clip_of)
    return sums / tf.maximum(heard, 1.0)[:, tf.newaxis]
