"""The pushed networks and what lies round them: waveform in, probabilities out, no checks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import keras
import tensorflow as tf

from models.combiner import build_combiner
from models.heads import Heads
from models.hearing import Hearing
from models.outputs import LOGITS, with_heads
from models.precision import in_float32
from models.registry import NETWORKS, Network, find_network
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.constants import CLIP_SAMPLES
from preprocessing.errors import BadInputError
from preprocessing.level import Level
from preprocessing.windows import WindowRule
from serving.graph.tensors import FloatTensor, IntTensor, Tensor, Tensors
from serving.model_info import CombinerInfo, MemberInfo, ModelInfo, Normalisation, read_model_info

CLIPS_AT_ONCE: Final = 8
"""Clips that go through the networks together where many are at hand. Fewer where the windows of a clip are together
longer than the clip."""

SERVED_AT_ONCE: Final = 1
"""The same of a request, which is worked off in parts: one of the paper's clips, or as many shorter ones as are as
long. Forty windows in one request reach 1.3 GB of memory then, 1.5 with two, 2.2 with four and 3.2 with eight, and take
0.104, 0.105, 0.108 and 0.116 s of CPU each (float32, oneDNN, two cores; no command here makes these figures)."""


@dataclass(frozen=True)
class Member:
    """One network of a model.

    Attributes:
        name: as the configuration calls it.
        network: which it is.
        model: what it reads of a window, normalised -> probabilities, float32 (batch, heads.size).
        windows: over which its answers are averaged.
        normalisation: of what it reads; None where it takes it as it is.
        trained_on: what its weights were first trained on, where they came from elsewhere.
        level: at which it hears a window.
    """

    name: str
    network: Network
    model: keras.Model
    windows: WindowRule
    normalisation: Normalisation | None = None
    trained_on: str | None = None
    level: Level = "as_is"

    @property
    def info(self) -> MemberInfo:
        """What ``model.json`` says of it."""
        network = self.network
        return MemberInfo(
            name=self.name,
            network=network.name,
            parameters=self.model.count_params(),
            window_samples=network.window_samples,
            sample_rate=network.sample_rate,
            front_end=None if network.front_end is None else network.front_end.to_json(),
            windows=self.windows,
            normalisation=self.normalisation,
            trained_on=self.trained_on,
            level=self.level,
        )

    def answer(self, read: FloatTensor) -> FloatTensor:
        """What it reads of windows, before normalisation, [n, ...] -> probabilities float32 [n, heads.size]."""
        return self.model(self.normalise(read), training=False)

    def normalise(self, read: FloatTensor) -> FloatTensor:
        """Shift and scale what it reads."""
        learnt = self.normalisation
        return read if learnt is None else (read - learnt.mean) / learnt.std

    @functools.cached_property
    def embedding(self) -> keras.Model:
        """What it reads, normalised -> what its last layer reads."""
        return keras.Model(self.model.input, self.model.get_layer(LOGITS).input)


class Members:
    """Networks in float32 that are given the same clips.

    Args:
        members: the networks.
        heads: what they answer.
        clip: what they are given.

    Raises:
        ValueError: they have other outputs than the heads.
        BadInputError: a network hears more than a clip.
    """

    def __init__(self, members: Sequence[Member], heads: Heads, clip: ClipFormat = PAPER_CLIP) -> None:
        widths = [member.model.output_shape[-1] for member in members]
        if set(widths) - {heads.size}:
            raise ValueError(f"the heads have {heads.size} outputs and the networks give {widths}")
        self.members = tuple(replace(member, model=in_float32(member.model)) for member in members)
        self.heads = heads
        self.clip = clip
        hearings = {member.name: Hearing.of(member.network, clip, member.windows, member.level) for member in members}
        names = {hearing: f"feature_{number}" for number, hearing in enumerate(dict.fromkeys(hearings.values()))}
        self.hearings: dict[str, Hearing] = {name: hearing for hearing, name in names.items()}
        """Feature -> how it comes of a clip; members that hear alike share one."""
        self.feature_of: dict[str, str] = {member: names[hearing] for member, hearing in hearings.items()}
        """Member -> the feature that it reads."""
        self._fronts = {name: hearing.front() for name, hearing in self.hearings.items()}

    @property
    def clips_at_once(self) -> int:
        """Clips that go through the networks together."""
        return max(1, CLIPS_AT_ONCE * self.clip.samples // self._heard)

    @property
    def served_at_once(self) -> int:
        """Clips of one request that go through the networks together."""
        return max(1, SERVED_AT_ONCE * CLIP_SAMPLES // self._heard)

    @property
    def _heard(self) -> int:
        """Samples of a clip, or of its windows where these are together longer."""
        heard = max((hearing.windows * hearing.window for hearing in self.hearings.values()), default=0)
        return max(heard, self.clip.samples)

    def feature_shape(self, feature: str) -> tuple[int, ...]:
        """Shape of a feature for one clip: (windows, ...)."""
        hearing = self.hearings[feature]
        return hearing.windows, *hearing.shape

    def features(self, waveform: FloatTensor) -> dict[str, FloatTensor]:
        """Float32 [batch, clip samples] in [-1, 1] -> what the members read, before normalisation.

        A feature is float32 [batch * windows, ...], the windows of a clip one after another.
        """
        return {name: self._fronts[name](hearing.cut(waveform)) for name, hearing in self.hearings.items()}

    def member_answers(self, features: Mapping[str, FloatTensor]) -> list[FloatTensor]:
        """What ``features`` gave -> each member's probabilities, float32 [batch, outputs]."""
        answers = []
        for member in self.members:
            feature = self.feature_of[member.name]
            by_window = member.answer(features[feature])
            answers.append(self.hearings[feature].mean_over_windows(by_window))
        return answers


class Ensemble(Members):
    """What is served: networks in the order in which the combiner takes their outputs.

    Args:
        members: the networks.
        combiner: (batch, members * heads.size) -> (batch, heads.size); None where there is one.
        heads: what they answer.
        clip: what they are given.
        combiner_kind: of models.combiner, where there is a combiner.

    Raises:
        ValueError: the parts do not fit each other.
        BadInputError: a network hears more than a clip.
    """

    def __init__(
        self,
        members: Sequence[Member],
        combiner: keras.Model | None,
        heads: Heads,
        clip: ClipFormat = PAPER_CLIP,
        combiner_kind: str = "dense",
    ) -> None:
        super().__init__(members, heads, clip)
        if combiner is None and len(members) != 1:
            raise ValueError(f"{len(members)} networks need a combiner")
        if combiner is not None and combiner.input_shape[-1] != len(members) * heads.size:
            raise ValueError(
                f"the combiner takes {combiner.input_shape[-1]} values and {len(members)} networks of {heads.size} "
                "outputs were given"
            )
        self.combiner = None if combiner is None else in_float32(combiner)
        self.combiner_kind = combiner_kind

    @classmethod
    def restore(cls, model_dir: Path) -> Ensemble:
        """Build the networks anew from a pushed version: ``model.json`` names them, ``variables/`` has their weights.

        Raises:
            BadInputError: the version lacks one of the two, or they do not fit this version of the networks.
        """
        info = read_model_info(model_dir)
        try:
            ensemble = _untrained(info)
            reader = tf.train.load_checkpoint(str(model_dir / "variables" / "variables"))
            variables = [variable for network in ensemble.networks for variable in network.variables]
            for number, variable in enumerate(variables):
                variable.assign(reader.get_tensor(f"variables/{number}/.ATTRIBUTES/VARIABLE_VALUE"))
        except (tf.errors.OpError, ValueError, RuntimeError) as error:
            raise BadInputError(
                f"{model_dir}: the weights do not fit the networks of this version of autotag: {error}"
            ) from error
        return ensemble

    @property
    def n_tags(self) -> int:
        """Number of outputs."""
        return self.heads.size

    @property
    def networks(self) -> list[keras.Model]:
        """All that has weights, members first."""
        parts = [*(member.model for member in self.members), self.combiner]
        return [part for part in parts if part is not None and part.weights]

    @property
    def combiner_info(self) -> CombinerInfo | None:
        """What ``model.json`` says of the combiner."""
        return None if self.combiner is None else CombinerInfo(self.combiner_kind, self.combiner.count_params())

    def from_features(self, features: Mapping[str, FloatTensor]) -> FloatTensor:
        """What ``features`` gave -> probabilities float32 [batch, outputs]."""
        answers = self.member_answers(features)
        return answers[0] if self.combiner is None else self.combiner(tf.concat(answers, axis=-1), training=False)

    def from_waveform(self, waveform: FloatTensor) -> FloatTensor:
        """Float32 [batch, clip samples] in [-1, 1] -> probabilities float32 [batch, outputs]."""
        return self.from_features(self.features(waveform))

    def embed(self, waveform: FloatTensor) -> FloatTensor:
        """Float32 [batch, clip samples] -> float32 [batch, embedding_size].

        What the last layer reads: that of the combiner, or of a network alone, where it is the mean over places and
        windows. A combiner without weights reads the members' probabilities.
        """
        features = self.features(waveform)
        if self.combiner is not None:
            return self._combiner_embedding(tf.concat(self.member_answers(features), axis=-1), training=False)
        (member,) = self.members
        feature = self.feature_of[member.name]
        vectors = member.embedding(member.normalise(features[feature]), training=False)
        windows = tf.shape(features[feature])[0]
        by_window = tf.reduce_mean(tf.reshape(vectors, [windows, -1, self.embedding_size]), axis=1)
        return self.hearings[feature].mean_over_windows(by_window)

    @property
    def embedding_size(self) -> int:
        """Width of the embedding."""
        last = self.members[0].embedding if self.combiner is None else self._combiner_embedding
        return int(last.output_shape[-1])

    @functools.cached_property
    def _combiner_embedding(self) -> keras.Model:
        assert self.combiner is not None
        if not self.combiner.weights:
            return keras.Model(self.combiner.input, self.combiner.input)
        return keras.Model(self.combiner.input, self.combiner.get_layer(LOGITS).input)


def in_parts(
    compute: Callable[[Tensors], FloatTensor], inputs: Mapping[str, Tensor], width: int, at_once: int = SERVED_AT_ONCE
) -> FloatTensor:
    """Run ``compute`` on some rows of the inputs at a time, in the graph.

    Args:
        compute: inputs of some rows -> float32 [rows, width].
        inputs: tensors of the same, certainly positive, number of rows.
        width: columns of the result.
        at_once: rows.

    Returns:
        Float32 [rows, width].
    """
    rows = tf.shape(next(iter(inputs.values())))[0]
    parts = (rows + at_once - 1) // at_once
    results = tf.TensorArray(tf.float32, size=parts, infer_shape=False, element_shape=[None, width])

    def step(part: IntTensor, results: tf.TensorArray) -> tuple[IntTensor, tf.TensorArray]:
        first = part * at_once
        some = {name: value[first : first + at_once] for name, value in inputs.items()}
        return part + 1, results.write(part, compute(some))

    _, results = tf.while_loop(lambda part, _: part < parts, step, (tf.constant(0), results), parallel_iterations=1)
    return tf.ensure_shape(results.concat(), [None, width])


def _untrained(info: ModelInfo) -> Ensemble:
    """The networks that a model card names.

    Raises:
        BadInputError: one is not known, or hears in another way than it did.
    """
    members = []
    for member in info.members:
        if member.network not in NETWORKS:
            raise BadInputError(f"the model has the network {member.network!r}; there are {', '.join(NETWORKS)}")
        network = find_network(member.network)
        model = with_heads(network.build(info.heads.size, dtype="float32"), info.heads)
        known = (member.windows, member.normalisation, member.trained_on, member.level)
        made = Member(member.name, network, model, *known)
        heard = ("window_samples", "sample_rate", "front_end")
        changed = [name for name in heard if getattr(made.info, name) != getattr(member, name)]
        if changed:
            raise BadInputError(
                f"the model's network {member.network!r} has another {changed[0]} than this version of autotag gives it"
            )
        members.append(made)
    combiner, kind = None, "dense"
    if info.combiner is not None:
        kind = info.combiner.kind
        combiner = build_combiner(kind, len(members), info.heads)  # type: ignore[arg-type]
    return Ensemble(members, combiner, info.heads, info.clip, kind)
