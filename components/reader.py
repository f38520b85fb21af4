"""Training data: TFRecords to batches, parsing only what a network needs.

A network whose front end is that of the stored log-mel reads Transform's output (normalised log-mel and labels, 0.15 MB
a clip). Every other one reads the waveform out of the raw examples, whole or in random windows, and applies what
Transform learnt (vocabulary and statistics); so does whatever scores a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_transform as tft

from components.labels import HeadSettings, heads_of
from components.transform import CLIP_ID, GAIN_TO_LEVEL, LABELS, NORMALISED_LOG_MEL, STATISTICS, TRACK, decode_pcm
from models.front_ends.settings import STORED_LOG_MEL
from models.heads import Heads
from models.registry import Network
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.features import HEALTH_FEATURES
from serving.model_info import Normalisation

WAVEFORM = "waveform"
TAGS = "tags"

MakeDataset = Callable[[int | None], tf.data.Dataset]
"""Makes a split's batches, dicts of ``inputs``, ``labels``, ``clip_id`` and ``track``; takes the seed of the order, or
None for the files' order."""


@dataclass(frozen=True)
class TransformFacts:
    """What Transform learnt.

    Attributes:
        tags: in the order of the labels.
        heads: slices of the labels.
        log_mel: how the stored log-mel is normalised.
        waveform: how waveforms are.
        levelled_log_mel: how the stored log-mel is, where each clip is brought to one level (preprocessing.level).
    """

    tags: tuple[str, ...]
    heads: Heads
    log_mel: Normalisation
    waveform: Normalisation
    levelled_log_mel: Normalisation

    def normalisation(self, network: Network) -> Normalisation | None:
        """Return that of what a network reads; None where it takes it as it is."""
        if not network.normalised:
            return None
        return self.waveform if network.front_end is None else self.log_mel


def transform_facts(transform_graph: str, settings: Sequence[HeadSettings]) -> TransformFacts:
    """Read vocabularies and statistics out of a transform graph.

    Args:
        transform_graph: its folder.
        settings: the heads, as Transform was given them.

    Raises:
        ValueError: the training split has fewer tags than a head asks for.
    """
    output = tft.TFTransformOutput(transform_graph)
    raw = {name: tf.zeros([1]) for name in HEALTH_FEATURES}
    learnt = output.transform_features_layer()(raw)
    values = [float(learnt[name][0]) for name in STATISTICS]
    log_mel, waveform, levelled = (Normalisation(*pair) for pair in zip(values[::2], values[1::2], strict=True))
    return TransformFacts(
        tuple(tag for head in settings for tag in _head_tags(output, head)),
        heads_of(settings),
        log_mel,
        waveform,
        levelled,
    )


def _head_tags(output: tft.TFTransformOutput, head: HeadSettings) -> tuple[str, ...]:
    if head.tags is not None:
        return head.tags
    tags = tuple(tag.decode() for tag in output.vocabulary_by_name(head.name))
    if len(tags) < head.size:
        raise ValueError(
            f"the training split has {len(tags)} tags for the head {head.name!r} and {head.size} are asked for: "
            f"set data.heads.{head.name}.top lower"
        )
    return tags


@dataclass(frozen=True)
class RandomWindows:
    """Which part of a training clip is heard, anew each epoch.

    Attributes:
        samples: of a window.
        per_clip: windows of a clip in an epoch.
    """

    samples: int
    per_clip: int = 1


@dataclass(frozen=True)
class Fold:
    """A part of the training split, whole tracks of it.

    Attributes:
        number: from 0.
        of: how many there are.
        inside: take the fold; otherwise take all but the fold.
    """

    number: int
    of: int
    inside: bool

    def takes(self, track: tf.Tensor) -> tf.Tensor:
        """Whether a clip of the track, string [], belongs to it."""
        own = tf.equal(tf.strings.to_hash_bucket_fast(track, self.of), self.number)
        return own if self.inside else tf.logical_not(own)


def _files(patterns: Sequence[str]) -> list[str]:
    files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
    if not files:
        raise ValueError(f"no TFRecord files match {list(patterns)}")
    return files


def _records(files: Sequence[str], shuffle_seed: int | None, buffer: int, fold: Fold | None) -> tf.data.Dataset:
    compression = "GZIP" if files[0].endswith(".gz") else ""
    if shuffle_seed is not None:
        files = [files[i] for i in np.random.default_rng(shuffle_seed).permutation(len(files))]
    records = tf.data.Dataset.from_tensor_slices(list(files)).interleave(
        lambda file: tf.data.TFRecordDataset(file, compression_type=compression),
        cycle_length=4,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    if fold is not None:
        track = {TRACK: tf.io.FixedLenFeature([], tf.string)}
        records = records.filter(lambda record: fold.takes(tf.io.parse_single_example(record, track)[TRACK]))
    return records if shuffle_seed is None else records.shuffle(buffer, seed=shuffle_seed)


def log_mel_dataset(
    patterns: Sequence[str],
    n_outputs: int,
    batch_size: int,
    shuffle_seed: int | None = None,
    *,
    clip: ClipFormat = PAPER_CLIP,
    fold: Fold | None = None,
    to_level: tuple[Normalisation, Normalisation] | None = None,
) -> tf.data.Dataset:
    """Batches from Transform's output.

    Args:
        patterns: of TFRecord files.
        n_outputs: width of the labels.
        batch_size: clips in a batch; the last one may be smaller.
        shuffle_seed: order of the clips; None for the files' order, which is not that of the raw examples.
        clip: which the log-mel was made of.
        fold: part of the clips.
        to_level: bring each clip to one level: the normalisation that is stored, and that of the levelled log-mel. A
            gain shifts all its decibels, which are cut 80 dB below their own peak, so nothing else changes.

    Returns:
        Dicts of ``inputs`` float16 [batch, 128, frames] normalised, ``labels`` float32 [batch, n_outputs], ``clip_id``
        and ``track`` string [batch].

    Raises:
        ValueError: no file matches.
    """
    spec = {
        NORMALISED_LOG_MEL: tf.io.FixedLenFeature([], tf.string),
        LABELS: tf.io.FixedLenFeature([n_outputs], tf.float32),
        CLIP_ID: tf.io.FixedLenFeature([], tf.string),
        TRACK: tf.io.FixedLenFeature([], tf.string),
    }
    if to_level is not None:
        spec[GAIN_TO_LEVEL] = tf.io.FixedLenFeature([], tf.float32)
    shape = STORED_LOG_MEL.shape(clip.samples)

    def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
        features = tf.io.parse_single_example(record, spec)
        inputs = tf.ensure_shape(tf.io.parse_tensor(features[NORMALISED_LOG_MEL], tf.float16), shape)
        if to_level is not None:
            stored, levelled = to_level
            shift = (stored.mean + features[GAIN_TO_LEVEL] - levelled.mean) / levelled.std
            inputs = tf.cast(tf.cast(inputs, tf.float32) * (stored.std / levelled.std) + shift, tf.float16)
        return {"inputs": inputs, **{name: features[name] for name in (LABELS, CLIP_ID, TRACK)}}

    parsed = _records(_files(patterns), shuffle_seed, 1024, fold).map(parse, tf.data.AUTOTUNE, deterministic=True)
    return parsed.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def waveform_dataset(
    patterns: Sequence[str],
    tags: Sequence[str],
    batch_size: int,
    shuffle_seed: int | None = None,
    *,
    clip: ClipFormat = PAPER_CLIP,
    windows: RandomWindows | None = None,
    fold: Fold | None = None,
) -> tf.data.Dataset:
    """Batches from the raw examples, with the waveform as it is stored.

    Args:
        patterns: of TFRecord files.
        tags: in the order of the labels.
        batch_size: clips in a batch; the last one may be smaller.
        shuffle_seed: order of the clips and place of the windows; None for the files' order.
        clip: which the examples hold.
        windows: random ones in place of the whole clip; only with a seed.
        fold: part of the clips.

    Returns:
        Dicts of ``inputs`` float32 [batch, samples] in [-1, 1), ``labels`` float32 [batch, tags], ``clip_id`` and
        ``track`` string [batch]; with several windows a clip, so many rows a clip.

    Raises:
        ValueError: no file matches; windows without a seed.
    """
    if windows is not None and shuffle_seed is None:
        raise ValueError("random windows need a seed")
    spec = {
        WAVEFORM: tf.io.FixedLenFeature([], tf.string),
        TAGS: tf.io.VarLenFeature(tf.string),
        CLIP_ID: tf.io.FixedLenFeature([], tf.string),
        TRACK: tf.io.FixedLenFeature([], tf.string),
    }
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(list(tags), tf.range(len(tags), dtype=tf.int64)), -1
    )

    def parse(step: tf.Tensor, records: tf.Tensor) -> dict[str, tf.Tensor]:
        features = tf.io.parse_example(records, spec)
        ids = table.lookup(tf.sparse.to_dense(features[TAGS], default_value=""))
        # A batch in which no clip has a tag reduces over nothing.
        labels = tf.maximum(tf.reduce_max(tf.one_hot(ids, len(tags)), axis=1), 0.0)
        batch = {WAVEFORM: features[WAVEFORM], LABELS: labels, CLIP_ID: features[CLIP_ID], TRACK: features[TRACK]}
        samples = clip.samples
        if windows is not None:
            samples = windows.samples
            batch = {name: tf.repeat(value, windows.per_clip, axis=0) for name, value in batch.items()}
            batch[WAVEFORM] = _random_windows(batch[WAVEFORM], clip, samples, (shuffle_seed, step))
        return {"inputs": decode_pcm(batch.pop(WAVEFORM), samples), **batch}

    records = _records(_files(patterns), shuffle_seed, 256, fold).batch(batch_size)
    return records.enumerate().map(parse, tf.data.AUTOTUNE, deterministic=True).prefetch(4)


def in_memory(arrays: Mapping[str, npt.ArrayLike], batch_size: int) -> MakeDataset:
    """Return what makes batches, dicts of the same names, out of arrays that have the same number of rows."""

    def make(seed: int | None) -> tf.data.Dataset:
        rows = tf.data.Dataset.from_tensor_slices(dict(arrays))
        rows = rows if seed is None else rows.shuffle(rows.cardinality(), seed=seed)
        return rows.batch(batch_size)

    return make


def _random_windows(pcm: tf.Tensor, clip: ClipFormat, samples: int, seed: tuple[int | None, tf.Tensor]) -> tf.Tensor:
    """Cut a window out of each clip's bytes, string [rows] -> string [rows], before they are decoded."""
    seeds = tf.stack([tf.constant(seed[0], tf.int64), seed[1]])
    starts = tf.random.stateless_uniform(tf.shape(pcm), seeds, maxval=clip.samples - samples + 1, dtype=tf.int32)
    return tf.strings.substr(pcm, 2 * starts, tf.fill(tf.shape(pcm), 2 * samples))
