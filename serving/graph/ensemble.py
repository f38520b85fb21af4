"""The pushed networks and what lies round them: audio or spectrograms in, tag probabilities out, no checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import tensorflow as tf

from models.branches import BRANCHES
from models.combiner import build_combiner
from models.front_ends.settings import STORED_LOG_MEL
from models.precision import in_float32
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.constants import CLIP_SAMPLES
from preprocessing.errors import BadInputError
from serving.model_info import BranchInfo, InputKind, ModelInfo, Normalisation, read_model_info

CLIPS_AT_ONCE: Final = 8
"""Clips that go through the networks together; a larger request is worked off in parts, so that memory stays flat."""


@dataclass(frozen=True)
class Ensemble:
    """The networks in float32, in the order in which the combiner takes their outputs."""

    branches: tuple[tuple[str, InputKind, keras.Model], ...]
    combiner: keras.Model | None
    normalisation: Normalisation
    log_mel: keras.layers.Layer | None

    @classmethod
    def build(
        cls,
        branches: Mapping[str, keras.Model],
        combiner: keras.Model | None,
        branch_inputs: Mapping[str, InputKind],
        normalisation: Normalisation,
    ) -> Ensemble:
        """Take the networks as they were trained.

        Args:
            branches: networks by name, normalised input (batch, ...) -> probabilities (batch, n_tags).
            combiner: (batch, n_branches * n_tags) -> (batch, n_tags); None where there is one branch.
            branch_inputs: what each branch reads.
            normalisation: applied before the branches.

        Raises:
            ValueError: the parts do not fit each other.
        """
        if combiner is None and len(branches) != 1:
            raise ValueError(f"{len(branches)} branches need a combiner")
        widths = [model.output_shape[-1] for model in branches.values()]
        if combiner is not None and combiner.input_shape[-1] != sum(widths):
            raise ValueError(f"the combiner takes {combiner.input_shape[-1]} values and the branches give {widths}")
        parts = tuple((name, branch_inputs[name], in_float32(model)) for name, model in branches.items())
        log_mel = None
        if any(kind == "log_mel" for _, kind, _ in parts):
            log_mel = STORED_LOG_MEL.layer()
            log_mel.build((None, CLIP_SAMPLES))
        return cls(parts, None if combiner is None else in_float32(combiner), normalisation, log_mel)

    @classmethod
    def restore(cls, model_dir: Path) -> Ensemble:
        """Build the networks anew from a pushed version: ``model.json`` names them, ``variables/`` has their weights.

        Raises:
            BadInputError: the version lacks one of the two, or they do not fit this version of the networks.
        """
        info = read_model_info(model_dir)
        ensemble = cls.build(
            *_untrained(info), {branch.name: branch.input for branch in info.branches}, info.normalisation
        )
        try:
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
    def kinds(self) -> set[InputKind]:
        """What the branches read."""
        return {kind for _, kind, _ in self.branches}

    @property
    def clip(self) -> ClipFormat:
        """What the networks are given."""
        return PAPER_CLIP

    def features(self, waveform: Any) -> dict[str, Any]:
        """Float32 [batch, 465600] in [-1, 1] -> what the branches read, before normalisation, by name."""
        return {str(name): value for name, value in self.inputs(waveform).items()}

    def from_features(self, features: Mapping[str, Any]) -> Any:
        """What ``features`` gave -> probabilities float32 [batch, n_tags]."""
        return self.from_inputs({kind: features[kind] for kind in sorted(self.kinds)})

    @property
    def n_tags(self) -> int:
        """Number of outputs."""
        return int(self._last.output_shape[-1])

    @property
    def networks(self) -> list[keras.layers.Layer]:
        """All that has weights, branches first."""
        parts = [model for _, _, model in self.branches] + [self.combiner, self.log_mel]
        return [part for part in parts if part is not None]

    def infos(self) -> tuple[BranchInfo, ...]:
        """What ``model.json`` says of the branches."""
        return tuple(BranchInfo(name, kind, model.count_params()) for name, kind, model in self.branches)

    def inputs(self, waveform: Any) -> dict[InputKind, Any]:
        """Float32 [batch, 465600] in [-1, 1] -> what the branches read, before normalisation."""
        inputs: dict[InputKind, Any] = {"waveform": waveform}
        if self.log_mel is not None:
            inputs["log_mel"] = self.log_mel(waveform)
        return {kind: inputs[kind] for kind in sorted(self.kinds)}

    def from_waveform(self, waveform: Any) -> Any:
        """Float32 [batch, 465600] in [-1, 1] -> probabilities float32 [batch, n_tags]."""
        return self.from_inputs(self.inputs(waveform))

    def from_inputs(self, inputs: Mapping[InputKind, Any]) -> Any:
        """What the branches read, before normalisation -> probabilities float32 [batch, n_tags]."""
        if self.combiner is None:
            ((_, kind, model),) = self.branches
            return model(self._normalise(kind, inputs[kind]), training=False)
        return self.combiner(self._branch_outputs(inputs), training=False)

    def embedding_model(self) -> Callable[[Any], Any]:
        """Return the function waveform float32 [batch, 465600] -> float32 [batch, embedding_size].

        The vector that the last layer reads: 512 values of a combiner; of a branch alone their mean over positions.
        """
        head = keras.Model(self._last.input, self._last_layer.input)

        def embed(waveform: Any) -> Any:
            inputs = self.inputs(waveform)
            if self.combiner is None:
                ((_, kind, _),) = self.branches
                vector = head(self._normalise(kind, inputs[kind]), training=False)
            else:
                vector = head(self._branch_outputs(inputs), training=False)
            return tf.reduce_mean(tf.reshape(vector, [tf.shape(waveform)[0], -1, self.embedding_size]), axis=1)

        return embed

    @property
    def embedding_size(self) -> int:
        """Width of the last layer's input."""
        return int(self._last_layer.input.shape[-1])

    @property
    def _last_layer(self) -> keras.layers.Layer:
        return next(layer for layer in reversed(self._last.layers) if layer.weights)

    @property
    def _last(self) -> keras.Model:
        return self.combiner if self.combiner is not None else self.branches[0][2]

    def _branch_outputs(self, inputs: Mapping[InputKind, Any]) -> Any:
        normalised = {kind: self._normalise(kind, inputs[kind]) for kind in sorted(self.kinds)}
        return tf.concat([model(normalised[kind], training=False) for _, kind, model in self.branches], axis=-1)

    def _normalise(self, kind: InputKind, value: Any) -> Any:
        learnt = self.normalisation
        if kind == "log_mel":
            return (value - learnt.log_mel_mean) / learnt.log_mel_std
        return (value - learnt.waveform_mean) / learnt.waveform_std


def in_parts(compute: Callable[[dict[str, Any]], Any], inputs: Mapping[str, Any], width: int) -> Any:
    """Run ``compute`` on CLIPS_AT_ONCE rows of the inputs at a time, in the graph.

    Args:
        compute: inputs of some rows -> float32 [rows, width].
        inputs: tensors of the same, certainly positive, number of rows.
        width: columns of the result.

    Returns:
        Float32 [rows, width].
    """
    rows = tf.shape(next(iter(inputs.values())))[0]
    parts = (rows + CLIPS_AT_ONCE - 1) // CLIPS_AT_ONCE
    results = tf.TensorArray(tf.float32, size=parts, infer_shape=False, element_shape=[None, width])

    def step(part: Any, results: Any) -> tuple[Any, Any]:
        first = part * CLIPS_AT_ONCE
        some = {name: value[first : first + CLIPS_AT_ONCE] for name, value in inputs.items()}
        return part + 1, results.write(part, compute(some))

    _, results = tf.while_loop(lambda part, _: part < parts, step, (tf.constant(0), results), parallel_iterations=1)
    return tf.ensure_shape(results.concat(), [None, width])


def _untrained(info: ModelInfo) -> tuple[dict[str, keras.Model], keras.Model | None]:
    unknown: Sequence[str] = sorted({branch.name for branch in info.branches} - set(BRANCHES))
    if unknown:
        raise BadInputError(f"the model has the branch {unknown[0]!r}; this version knows {', '.join(BRANCHES)}")
    n_tags = len(info.tags)
    branches = {branch.name: BRANCHES[branch.name].build(n_tags, dtype="float32") for branch in info.branches}
    return branches, build_combiner(len(branches), n_tags) if info.combiner_parameters else None
