"""A network and its data: what it reads of a split, what is before and behind it, what it is normalised with.

A network that hears less than a clip learns from random windows of it and is scored as what it is outside: the mean
over windows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.augmentation import StoredLogMel, augmented
from components.devices import choose_precision
from components.fitting import core_of, inference
from components.labels import read_settings
from components.reader import (
    Fold,
    MakeDataset,
    RandomWindows,
    TransformFacts,
    log_mel_dataset,
    transform_facts,
    waveform_dataset,
)
from components.training_settings import Augmentation, TrainingSettings
from models.front_ends.level import RmsLevel
from models.heads import Heads
from models.hearing import Hearing
from models.outputs import with_heads
from models.registry import Network, find_network
from models.spec_augment import SpecAugment
from preprocessing.clip_format import ClipFormat
from preprocessing.windows import NEARLY_ALL
from serving.graph.ensemble import Member
from serving.model_info import Normalisation

SCORING_BATCH = 8
"""Clips that are scored at a time: of each there may be many windows."""

NORMALISATION_CLIPS = 256
"""From so many training clips a normalisation is learnt that Transform does not know."""


@dataclass(frozen=True)
class NetworkTask:
    """One network to be trained, on one data set.

    Attributes:
        name: as the configuration calls it.
        network: which.
        settings: how.
        clip: what the examples hold.
        facts: what Transform learnt.
        normalisation: of what the network reads; None where it takes it as it is.
    """

    name: str
    network: Network
    settings: TrainingSettings
    clip: ClipFormat
    facts: TransformFacts
    normalisation: Normalisation | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any], transform_graph: str, train: list[str]) -> NetworkTask:
        """Read a Trainer's ``custom_config``.

        Args:
            config: see run_fn.
            transform_graph: Transform's.
            train: patterns of the training split's examples; a normalisation that Transform did not learn is learnt
                from them.

        Raises:
            BadInputError: there is no such network, or it hears more than a clip.
            ValueError: the training split has fewer tags than are asked for.
        """
        facts = transform_facts(transform_graph, read_settings(config["heads"]))
        network, settings = find_network(config["network"]), TrainingSettings(**config["settings"])
        task = cls(config["name"], network, settings, ClipFormat(**config["clip"]), facts)
        return replace(task, normalisation=task._learn_normalisation(train))

    def _learn_normalisation(self, train: list[str]) -> Normalisation | None:
        """Mean and deviation over all values of what the network reads; of the first training clips where it is not
        what is stored."""
        stored, as_is = self.network.reads_stored_log_mel, self.settings.level == "as_is"
        if not self.network.normalised or (as_is and (stored or self.network.front_end is None)):
            return self.facts.normalisation(self.network)
        if stored:
            return self.facts.levelled_log_mel
        front, hearing = self.hearing.front(), self.hearing
        clips = self.clip_dataset(train)(None).take(NORMALISATION_CLIPS // SCORING_BATCH)
        sums = np.zeros(3)
        for batch in clips:
            values = np.asarray(front(hearing.cut(batch["inputs"])), np.float64)
            sums += values.size, values.sum(), np.square(values).sum()
        mean = sums[1] / sums[0]
        return Normalisation(float(mean), float(np.sqrt(max(sums[2] / sums[0] - mean**2, 1e-12))))

    @property
    def heads(self) -> Heads:
        """What it answers."""
        return self.facts.heads

    @property
    def hearing(self) -> Hearing:
        """What it hears of a clip where it is scored."""
        settings = self.settings
        return Hearing.of(self.network, self.clip, settings.window_rule(self.network), settings.level)

    @property
    def windowed(self) -> bool:
        """Whether it hears so little of a clip that it is trained on random windows, however many score a clip."""
        return self.hearing.window < NEARLY_ALL * self.clip.samples

    @property
    def reads_stored_log_mel(self) -> bool:
        """Whether its training clips are the stored log-mel."""
        return reads_stored_log_mel(self.network, self.settings)

    @property
    def precision(self) -> str:
        """Keras' dtype policy."""
        return choose_precision(self.settings.precision, self.network.name)

    def build(self) -> keras.Model:
        """Build it untrained: what it reads, normalised -> probabilities."""
        network = self.network.build(self.heads.size, dtype=self.precision, seed=self.settings.seed)
        return with_heads(network, self.heads)

    def prepared(self, network: keras.Model) -> keras.Model:
        """Set what the settings say of a network's own layers."""
        for layer in network._flatten_layers():
            if isinstance(layer, keras.layers.Dropout) and self.settings.dropout is not None:
                layer.rate = self.settings.dropout
            if isinstance(layer, keras.layers.BatchNormalization) and self.settings.freeze_batch_norm:
                layer.trainable = False
        return network

    def with_front(self, network: keras.Model) -> keras.Model:
        """Return what computes probabilities from a training batch's inputs."""
        masks = self._masks()
        if self.reads_stored_log_mel:
            if masks is None:
                return network
            inputs = keras.Input(network.input.shape[1:], name="masked", dtype="float32")
            return keras.Model(inputs, network(masks(inputs)), name=f"{network.name}_masked")
        learnt = self.normalisation
        scale = None if learnt is None else (1 / learnt.std, -learnt.mean / learnt.std)
        return replace(self.hearing, level="as_is").from_window(network, scale, masks)  # the batches are at the level

    def _masks(self) -> SpecAugment | None:
        settings = self.settings
        if not (settings.frequency_mask or settings.time_mask):
            return None
        return SpecAugment(settings.frequency_mask, settings.time_mask, seed=settings.seed, dtype="float32")

    def training_dataset(self, patterns: list[str], fold: Fold | None = None) -> MakeDataset:
        """Return what makes the training split's batches, in random windows where it hears those: at one level where it
        hears that, then augmented.

        Without a seed it gives the clips as they are, for counting.

        Args:
            patterns: of Transform's examples for a network that reads the stored log-mel, of the raw ones otherwise.
            fold: part of the clips.

        Raises:
            ValueError: when it is called, that no file matches.
        """
        settings = self.settings
        random = RandomWindows(self.hearing.window, settings.train_windows) if self.windowed else None
        augmentation = settings.model_copy(update={"time_shift": settings.time_shift and not self.windowed})
        size, clip = settings.batch_size, self.clip

        def make(seed: int | None) -> tf.data.Dataset:
            if self.reads_stored_log_mel:
                batches = self._stored_log_mel(patterns, size, seed, fold)
                stored = StoredLogMel(self._of_stored, clip.sample_rate)
                return batches if seed is None else augmented(batches, augmentation, seed, clip, stored)
            windows = None if seed is None else random
            batches = waveform_dataset(patterns, self.facts.tags, size, seed, clip=clip, windows=windows, fold=fold)
            if self.settings.level == "rms":
                batches = batches.map(_at_level, tf.data.AUTOTUNE, deterministic=True)
            batches = batches if seed is None else augmented(batches, augmentation, seed, clip)
            return batches if self.windowed else batches.map(self._one_window, tf.data.AUTOTUNE, deterministic=True)

        return make

    @property
    def _of_stored(self) -> Normalisation:
        """Of the stored log-mel as this network reads it."""
        return self.facts.log_mel if self.settings.level == "as_is" else self.facts.levelled_log_mel

    def _stored_log_mel(self, patterns: list[str], size: int, seed: int | None, fold: Fold | None) -> tf.data.Dataset:
        to_level = None if self.settings.level == "as_is" else (self.facts.log_mel, self.facts.levelled_log_mel)
        return log_mel_dataset(patterns, self.heads.size, size, seed, clip=self.clip, fold=fold, to_level=to_level)

    def _one_window(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Cut a batch of clips to what the network hears at once."""
        return {**batch, "inputs": self.hearing.cut(batch["inputs"])}

    def clip_dataset(self, patterns: list[str], fold: Fold | None = None) -> MakeDataset:
        """Return what makes a split's whole clips, for scoring; arguments as of ``training_dataset``."""
        size, clip = SCORING_BATCH, self.clip
        if self.reads_stored_log_mel:
            return lambda seed: self._stored_log_mel(patterns, size, seed, fold)
        return lambda seed: waveform_dataset(patterns, self.facts.tags, size, seed, clip=clip, fold=fold)

    def clip_answer(self, network: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return the function from what ``clip_dataset`` gives to probabilities: the mean over a clip's windows."""
        network = core_of(network)
        if self.reads_stored_log_mel:
            return inference(network)
        member, hearing, front = self.member(network), self.hearing, self.hearing.front()
        return self._of_clips(lambda waveform: hearing.mean_over_windows(member.answer(front(hearing.cut(waveform)))))

    def clip_embedding(self, network: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return the function from what ``clip_dataset`` gives to what the last layer reads, [clips, windows, ...]."""
        member = self.member(network)
        if self.reads_stored_log_mel:
            embedding = inference(member.embedding)
            return lambda batch: embedding(batch)[:, tf.newaxis]
        hearing, front = self.hearing, self.hearing.front()

        def embed(waveform: tf.Tensor) -> tf.Tensor:
            vectors = member.embedding(member.normalise(front(hearing.cut(waveform))), training=False)
            return tf.reshape(vectors, [tf.shape(waveform)[0], hearing.windows, *vectors.shape[1:]])

        return self._of_clips(embed)

    def _of_clips(self, function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
        spec = tf.TensorSpec([None, self.clip.samples], tf.float32)
        traced: Callable[[tf.Tensor], tf.Tensor] = tf.function(function, input_signature=[spec], autograph=False)
        return traced

    def member(self, network: keras.Model, trained_on: str | None = None) -> Member:
        """Return the network as a part of what is served."""
        rule = self.settings.window_rule(self.network)
        return Member(self.name, self.network, network, rule, self.normalisation, trained_on, self.settings.level)


def reads_stored_log_mel(network: Network, settings: Augmentation) -> bool:
    """Whether a network is trained on the stored log-mel: it reads no other, and nothing needs the waveform."""
    return network.reads_stored_log_mel and not settings.needs_waveform


def _at_level(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Bring a batch of clips or windows to one level."""
    return {**batch, "inputs": RmsLevel()(batch["inputs"])}
