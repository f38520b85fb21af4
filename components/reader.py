"""Training data: TFRecords to batches, parsing only what a branch needs.

A branch on the log-mel reads Transform's output (normalised log-mel and labels, 0.15 MB a clip); a branch on the
waveform reads the raw examples and applies what Transform learnt (vocabulary and statistics).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from components.transform import CLIP_ID, LABELS, NORMALISED_LOG_MEL, STATISTICS, VOCABULARY, decode_waveform
from preprocessing.constants import N_FRAMES, N_MELS
from preprocessing.features import HEALTH_FEATURES
from serving.model_info import Normalisation


@dataclass(frozen=True)
class TransformFacts:
    """What Transform learnt: the tags in the order of the labels, and the normalisation."""

    tags: tuple[str, ...]
    normalisation: Normalisation


def transform_facts(transform_graph: str) -> TransformFacts:
    """Read vocabulary and statistics out of a transform graph.

    Raises:
        ValueError: the vocabulary is smaller than the labels are wide.
    """
    output = tft.TFTransformOutput(transform_graph)
    tags = tuple(tag.decode() for tag in output.vocabulary_by_name(VOCABULARY))
    raw = {name: tf.zeros([1]) for name in HEALTH_FEATURES}
    statistics = output.transform_features_layer()(raw)
    n_tags = output.transformed_feature_spec()[LABELS].shape[0]
    if len(tags) < n_tags:
        raise ValueError(
            f"the training split has {len(tags)} of the tags and {n_tags} are asked for: "
            "set data.n_tags lower, or take those it lacks out of data.tags"
        )
    return TransformFacts(tags, Normalisation(**{name: float(statistics[name][0]) for name in STATISTICS}))


@dataclass(frozen=True)
class Augmentation:
    """What is changed at random in a training clip, anew each epoch; nothing unless asked for.

    Attributes:
        time_shift: turn the clip round by a random time, what leaves at the end coming in at the beginning.
        gain_db: deviation of a random gain, in dB.
    """

    time_shift: bool = False
    gain_db: float = 0.0

    def apply(self, inputs: tf.Tensor, normalisation: Normalisation, seed: tf.Tensor) -> tf.Tensor:
        """Augment normalised inputs, log-mel [batch, 128, 592] or waveform [batch, 465600]; time is the last axis."""
        rows, length = tf.shape(inputs)[0], inputs.shape[-1]
        if self.time_shift:
            shift = tf.random.stateless_uniform([rows, 1], seed, maxval=length, dtype=tf.int32)
            at = (tf.range(length)[tf.newaxis] + shift) % length
            inputs = tf.gather(inputs, at, axis=len(inputs.shape) - 1, batch_dims=1)
        if self.gain_db:
            gain = self.gain_db * tf.random.stateless_normal([rows], seed + 1)
            if len(inputs.shape) == 3:  # decibels, of which the deviation is 1 now
                return inputs + tf.cast(gain / normalisation.log_mel_std, inputs.dtype)[:, tf.newaxis, tf.newaxis]
            return inputs * tf.cast(10 ** (gain / 20), inputs.dtype)[:, tf.newaxis]
        return inputs


def augmented(
    batches: tf.data.Dataset, augmentation: Augmentation, normalisation: Normalisation, seed: int
) -> tf.data.Dataset:
    """Apply an augmentation to batches; the same seed gives the same clips."""

    def change(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        seeds = tf.stack([tf.constant(seed, tf.int64), step])
        return {**batch, "inputs": augmentation.apply(batch["inputs"], normalisation, seeds)}

    if augmentation == Augmentation():
        return batches
    return batches.enumerate().map(change, tf.data.AUTOTUNE, deterministic=True).prefetch(2)


def _files(patterns: Sequence[str]) -> list[str]:
    files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
    if not files:
        raise ValueError(f"no TFRecord files match {list(patterns)}")
    return files


def _records(files: Sequence[str], shuffle_seed: int | None, buffer: int) -> tf.data.Dataset:
    compression = "GZIP" if files[0].endswith(".gz") else ""
    if shuffle_seed is not None:
        files = [files[i] for i in np.random.default_rng(shuffle_seed).permutation(len(files))]
    records = tf.data.Dataset.from_tensor_slices(list(files)).interleave(
        lambda file: tf.data.TFRecordDataset(file, compression_type=compression),
        cycle_length=4,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return records if shuffle_seed is None else records.shuffle(buffer, seed=shuffle_seed)


def log_mel_dataset(
    patterns: Sequence[str], n_tags: int, batch_size: int, shuffle_seed: int | None = None
) -> tf.data.Dataset:
    """Batches from Transform's output.

    Args:
        patterns: of TFRecord files.
        n_tags: width of the labels.
        batch_size: clips in a batch; the last one may be smaller.
        shuffle_seed: order of the clips; None for the files' order, which is not that of the raw examples.

    Returns:
        Dicts of ``inputs`` float16 [batch, 128, 592] normalised, ``labels`` float32 [batch, n_tags] and ``clip_id``
        string [batch].

    Raises:
        ValueError: no file matches.
    """
    spec = {
        NORMALISED_LOG_MEL: tf.io.FixedLenFeature([], tf.string),
        LABELS: tf.io.FixedLenFeature([n_tags], tf.float32),
        CLIP_ID: tf.io.FixedLenFeature([], tf.string),
    }

    def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
        features = tf.io.parse_single_example(record, spec)
        values = tf.io.parse_tensor(features[NORMALISED_LOG_MEL], tf.float16)
        inputs = tf.ensure_shape(values, [N_MELS, N_FRAMES])
        return {"inputs": inputs, "labels": features[LABELS], "clip_id": features[CLIP_ID]}

    parsed = _records(_files(patterns), shuffle_seed, 1024).map(parse, tf.data.AUTOTUNE, deterministic=True)
    return parsed.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def waveform_dataset(
    patterns: Sequence[str], facts: TransformFacts, batch_size: int, shuffle_seed: int | None = None
) -> tf.data.Dataset:
    """Batches from the raw examples: as log_mel_dataset's, with ``inputs`` float32 [batch, 465600] normalised.

    Raises:
        ValueError: no file matches.
    """
    spec = {
        "waveform": tf.io.FixedLenFeature([], tf.string),
        "tags": tf.io.VarLenFeature(tf.string),
        CLIP_ID: tf.io.FixedLenFeature([], tf.string),
    }
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(list(facts.tags), tf.range(len(facts.tags), dtype=tf.int64)), -1
    )
    mean, deviation = facts.normalisation.waveform_mean, facts.normalisation.waveform_std

    def parse(records: tf.Tensor) -> dict[str, tf.Tensor]:
        features = tf.io.parse_example(records, spec)
        ids = table.lookup(tf.sparse.to_dense(features["tags"], default_value=""))
        labels = tf.reduce_max(tf.one_hot(ids, len(facts.tags)), axis=1)
        inputs = (decode_waveform(features["waveform"]) - mean) / deviation
        # A batch in which no clip has a tag reduces over nothing.
        return {"inputs": inputs, "labels": tf.maximum(labels, 0.0), "clip_id": features[CLIP_ID]}

    records = _records(_files(patterns), shuffle_seed, 256)
    return records.batch(batch_size).map(parse, tf.data.AUTOTUNE, deterministic=True).prefetch(4)
