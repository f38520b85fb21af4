"""Transform's preprocessing_fn: what depends on the whole training split.

Learns the tag vocabulary (the most frequent tags of the training split) and the mean and deviation of log-mel and
waveform, and writes the normalised log-mel and the multi-hot labels. Mean and deviation are those over all values of
the training split (Bengani et al. 2019, 'Acquiring Mel Spectrogram'): they follow exactly from each clip's own mean and
mean square, which stand in its example, so the analysis reads a few scalars a clip and neither audio nor spectrogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from preprocessing.constants import CLIP_SAMPLES, N_FRAMES, N_MELS, PCM_SCALE

VOCABULARY = "tags"
NORMALISED_LOG_MEL = "normalised_log_mel"
LABELS = "labels"
CLIP_ID = "clip_id"
STATISTICS = ("log_mel_mean", "log_mel_std", "waveform_mean", "waveform_std")


def preprocessing_fn(inputs: dict[str, Any], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Map raw features to what the networks train on.

    Args:
        inputs: the raw example's features (README, example contract).
        custom_config: ``n_tags``, the size of the vocabulary; ``tags``, those that may be in it, None for all.

    Returns:
        ``normalised_log_mel`` string [batch], each a serialised float16 tensor [128, 592]; ``labels`` float32
        [batch, n_tags]; ``clip_id`` string [batch], since Transform does not keep the order; the four statistics,
        float32 [batch], the same in every row.
    """
    outputs: dict[str, tf.Tensor] = {CLIP_ID: tf.reshape(inputs["clip_id"], [-1])}
    for name in ("log_mel", "waveform"):
        mean, deviation = _statistics(inputs[f"{name}_mean"], inputs[f"{name}_mean_square"])
        rows = tf.shape(inputs["log_mel_mean"])[0]
        outputs[f"{name}_mean"] = tf.repeat(mean[tf.newaxis], rows)
        outputs[f"{name}_std"] = tf.repeat(deviation[tf.newaxis], rows)
        if name == "log_mel":
            values = tf.cast(decode_log_mel(tf.reshape(inputs["log_mel"], [-1])), tf.float32)
            normalised = tf.cast((values - mean) / deviation, tf.float16)
            outputs[NORMALISED_LOG_MEL] = tf.map_fn(
                tf.io.serialize_tensor, normalised, fn_output_signature=tf.TensorSpec([], tf.string)
            )
    outputs[LABELS] = _multi_hot(inputs["tags"], custom_config["n_tags"], custom_config["tags"])
    return outputs


def _statistics(means: tf.Tensor, mean_squares: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and deviation over all values, from each clip's mean and mean square (all clips are of one size)."""
    mean = tft.mean(tf.cast(means, tf.float64))
    mean_square = tft.mean(tf.cast(mean_squares, tf.float64))
    deviation = tf.sqrt(tf.maximum(mean_square - tf.square(mean), 1e-12))
    return tf.cast(mean, tf.float32), tf.cast(deviation, tf.float32)


def _multi_hot(tags: tf.SparseTensor, n_tags: int, chosen: Sequence[str] | None) -> tf.Tensor:
    if chosen is not None:
        tags = tf.sparse.retain(tags, tf.reduce_any(tags.values[:, tf.newaxis] == tf.constant(chosen), axis=1))
    ids = tft.compute_and_apply_vocabulary(
        tags, top_k=n_tags, num_oov_buckets=0, default_value=-1, vocab_filename=VOCABULARY
    )
    known = tf.sparse.retain(ids, ids.values >= 0)
    at = tf.stack([known.indices[:, 0], known.values], axis=1)
    shape = tf.stack([tags.dense_shape[0], n_tags])
    counts = tf.scatter_nd(at, tf.ones_like(known.values, tf.float32), shape)
    return tf.ensure_shape(tf.minimum(counts, 1.0), [None, n_tags])


def decode_log_mel(values: tf.Tensor) -> tf.Tensor:
    """Bytes features, string [batch], to float16 [batch, 128, 592] dB."""
    flat = tf.io.decode_raw(values, tf.float16, little_endian=True)
    return tf.ensure_shape(tf.reshape(flat, [-1, N_MELS, N_FRAMES]), [None, N_MELS, N_FRAMES])


def decode_waveform(values: tf.Tensor) -> tf.Tensor:
    """Bytes features, string [batch], to float32 [batch, 465600] in [-1, 1)."""
    flat = tf.io.decode_raw(values, tf.int16, little_endian=True)
    return tf.ensure_shape(tf.cast(flat, tf.float32) / PCM_SCALE, [None, CLIP_SAMPLES])
