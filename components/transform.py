"""Transform's preprocessing_fn: what depends on the whole training split.

Learns each head's tag vocabulary (the most frequent tags of the training split, unless they are given) and the mean and
deviation of log-mel and waveform, and writes the normalised log-mel and the labels. Mean and deviation are those over
all values of the training split (Bengani et al. 2019, 'Acquiring Mel Spectrogram'): they follow exactly from each
clip's own mean and mean square, which stand in its example, so the analysis reads a few scalars a clip and neither
audio nor spectrogram.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from components.labels import ANY, HeadSettings, read_settings
from models.front_ends.settings import STORED_LOG_MEL
from preprocessing.clip_format import ClipFormat
from preprocessing.constants import PCM_SCALE
from preprocessing.level import LEAST, LEVEL

NORMALISED_LOG_MEL = "normalised_log_mel"
LABELS = "labels"
CLIP_ID = "clip_id"
TRACK = "track"
GAIN_TO_LEVEL = "gain_to_level_db"
LEVELLED = "levelled_log_mel"
STATISTICS = ("log_mel_mean", "log_mel_std", "waveform_mean", "waveform_std", f"{LEVELLED}_mean", f"{LEVELLED}_std")


def preprocessing_fn(inputs: dict[str, Any], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Map raw features to what the networks train on.

    Args:
        inputs: the raw example's features (docs/reference/examples.md).
        custom_config: ``heads`` (components.labels.HeadSettings as JSON) and ``clip`` (ClipFormat as JSON).

    Returns:
        ``normalised_log_mel`` string [batch], each a serialised float16 tensor [128, frames]; ``labels`` float32
        [batch, outputs], 1 for each of the clip's tags; ``clip_id`` and ``track`` string [batch], since Transform does
        not keep the order; ``gain_to_level_db`` float32 [batch], by which a clip's log-mel is shifted for networks that
        hear clips at one level (preprocessing.level); STATISTICS, float32 [batch], the same in every row.
    """
    clip, heads = ClipFormat(**custom_config["clip"]), read_settings(custom_config["heads"])
    outputs: dict[str, tf.Tensor] = {name: tf.reshape(inputs[name], [-1]) for name in (CLIP_ID, TRACK)}
    moments = {name: (inputs[f"{name}_mean"], inputs[f"{name}_mean_square"]) for name in ("log_mel", "waveform")}
    gain = _gain_to_level(*moments["waveform"])
    outputs[GAIN_TO_LEVEL] = tf.reshape(gain, [-1])
    mean, mean_square = moments["log_mel"]
    moments[LEVELLED] = (mean + gain, mean_square + 2 * gain * mean + tf.square(gain))
    for name, of_clips in moments.items():
        mean, deviation = _statistics(*of_clips)
        rows = tf.shape(inputs["log_mel_mean"])[0]
        outputs[f"{name}_mean"] = tf.repeat(mean[tf.newaxis], rows)
        outputs[f"{name}_std"] = tf.repeat(deviation[tf.newaxis], rows)
        if name == "log_mel":
            values = tf.cast(decode_log_mel(tf.reshape(inputs["log_mel"], [-1]), clip), tf.float32)
            normalised = tf.cast((values - mean) / deviation, tf.float16)
            outputs[NORMALISED_LOG_MEL] = tf.map_fn(
                tf.io.serialize_tensor, normalised, fn_output_signature=tf.TensorSpec([], tf.string)
            )
    outputs[LABELS] = tf.concat([_labels(inputs["tags"], head) for head in heads], axis=1)
    return outputs


def _gain_to_level(means: tf.Tensor, mean_squares: tf.Tensor) -> tf.Tensor:
    """What brings each clip's waveform to preprocessing.level's, in dB, from its own mean and mean square."""
    mean, mean_square = tf.cast(means, tf.float64), tf.cast(mean_squares, tf.float64)
    deviation = tf.sqrt(tf.maximum(mean_square - tf.square(mean), LEAST**2))
    return tf.cast(20 / math.log(10) * tf.math.log(LEVEL / deviation), tf.float32)


def _statistics(means: tf.Tensor, mean_squares: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and deviation over all values, from each clip's mean and mean square (all clips are of one size)."""
    mean = tft.mean(tf.cast(means, tf.float64))
    mean_square = tft.mean(tf.cast(mean_squares, tf.float64))
    deviation = tf.sqrt(tf.maximum(mean_square - tf.square(mean), 1e-12))
    return tf.cast(mean, tf.float32), tf.cast(deviation, tf.float32)


def _labels(tags: tf.SparseTensor, head: HeadSettings) -> tf.Tensor:
    """Float32 [batch, head.size]."""
    if head.tags is not None:
        same = tf.sparse.retain(tags, tf.reduce_any(tags.values[:, tf.newaxis] == tf.constant(head.tags), axis=1))
        place = tf.argmax(same.values[:, tf.newaxis] == tf.constant(head.tags), axis=1)
        ids = tf.SparseTensor(same.indices, place, same.dense_shape)
    else:
        ids = tft.compute_and_apply_vocabulary(
            tf.sparse.retain(tags, _belongs(tags.values, head)),
            top_k=head.top,
            num_oov_buckets=0,
            default_value=-1,
            vocab_filename=head.name,
        )
    known = tf.sparse.retain(ids, ids.values >= 0)
    at = tf.stack([known.indices[:, 0], known.values], axis=1)
    shape = tf.stack([tags.dense_shape[0], head.size])
    counts = tf.scatter_nd(at, tf.ones_like(known.values, tf.float32), shape)
    return tf.ensure_shape(tf.minimum(counts, 1.0), [None, head.size])


def _belongs(tags: tf.Tensor, head: HeadSettings) -> tf.Tensor:
    """Bool [n]: tags that begin as the head's do and are no other head's."""

    def begins(prefix: str) -> tf.Tensor:
        return tf.equal(tf.strings.substr(tags, 0, len(prefix.encode())), prefix)

    own = begins(head.prefix)
    for other in head.others:
        theirs = begins(other[:-1]) if other.endswith(ANY) else tf.equal(tags, other)
        own = tf.logical_and(own, tf.logical_not(theirs))
    return own


def decode_log_mel(values: tf.Tensor, clip: ClipFormat) -> tf.Tensor:
    """Bytes features, string [batch], to float16 [batch, 128, frames] dB."""
    shape = STORED_LOG_MEL.shape(clip.samples)
    flat = tf.io.decode_raw(values, tf.float16, little_endian=True)
    return tf.ensure_shape(tf.reshape(flat, [-1, *shape]), [None, *shape])


def decode_pcm(values: tf.Tensor, samples: int) -> tf.Tensor:
    """Bytes of int16, string [batch], to float32 [batch, samples] in [-1, 1)."""
    flat = tf.io.decode_raw(values, tf.int16, little_endian=True)
    return tf.ensure_shape(tf.cast(flat, tf.float32) / PCM_SCALE, [None, samples])
