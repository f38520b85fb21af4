"""One SavedModel that holds all: audio in, tag probabilities and tag names out.

Signatures (inputs are checked in the graph, see serving.request_checks):

===================  ===================================================  ========================================
signature            input                                                outputs
===================  ===================================================  ========================================
``serving_default``  ``examples`` string [batch]: serialised tf.Examples  ``predictions`` float32 [batch, n_tags],
                     with the features that the branches read             ``tags`` string [batch, n_tags]
``waveform``         ``waveform`` float32 [batch, 465600] in [-1, 1]      the same
``labels``           ``examples`` string [batch] with feature ``tags``    ``labels`` float32 [batch, n_tags]
===================  ===================================================  ========================================

Written with keras.export.ExportArchive, which TF Serving, TFX's Evaluator and tf.saved_model.load all accept.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from models.log_mel import LogMel
from preprocessing.constants import CLIP_SAMPLES
from serving import request_checks
from serving.model_info import MODEL_INFO_NAME, BranchInfo, InputKind, ModelInfo, Normalisation, check_tag_names

__all__ = ["Ensemble", "Normalisation", "export_ensemble", "in_float32"]


def export_ensemble(
    out_dir: Path | str,
    branches: Mapping[str, keras.Model],
    combiner: keras.Model | None,
    branch_inputs: Mapping[str, InputKind],
    tag_names: Sequence[str],
    normalisation: Normalisation,
) -> ModelInfo:
    """Write the SavedModel, ``assets/tags.txt`` (a tag a line) and, last, ``model.json``.

    Args:
        out_dir: where to, local or anything that tf.io.gfile writes.
        branches: networks by name, normalised input (batch, ...) -> probabilities (batch, n_tags), in the order
            in which the combiner expects their outputs.
        combiner: (batch, n_branches * n_tags) -> (batch, n_tags); None where the one branch's output is the model's.
        branch_inputs: what each branch reads.
        tag_names: in the order of the outputs.
        normalisation: applied in the graph.

    Returns:
        What ``model.json`` says.

    Raises:
        ValueError: the parts do not fit each other.
    """
    tags = check_tag_names(tag_names)
    ensemble = Ensemble.build(branches, combiner, branch_inputs, normalisation)
    if ensemble.n_tags != len(tags):
        raise ValueError(f"the networks give {ensemble.n_tags} tags, and there are {len(tags)} tag names")
    _write_saved_model(str(out_dir), ensemble, tags)
    info = ModelInfo(
        tags=tags,
        normalisation=normalisation,
        branches=tuple(BranchInfo(name, branch_inputs[name], model.count_params()) for name, model in branches.items()),
        combiner_parameters=combiner.count_params() if combiner is not None else 0,
    )
    _write_whole(os.path.join(str(out_dir), "assets", "tags.txt"), "".join(f"{tag}\n" for tag in tags))
    _write_whole(os.path.join(str(out_dir), MODEL_INFO_NAME), info.to_json())
    return info


@dataclass(frozen=True)
class Ensemble:
    """The networks in float32 and what lies round them in the graph."""

    branches: tuple[tuple[InputKind, keras.Model], ...]
    combiner: keras.Model | None
    normalisation: Normalisation
    log_mel: LogMel | None

    @classmethod
    def build(
        cls,
        branches: Mapping[str, keras.Model],
        combiner: keras.Model | None,
        branch_inputs: Mapping[str, InputKind],
        normalisation: Normalisation,
    ) -> Ensemble:
        """Take the networks as they were trained; arguments and errors as in export_ensemble."""
        if combiner is None and len(branches) != 1:
            raise ValueError(f"{len(branches)} branches need a combiner")
        widths = [model.output_shape[-1] for model in branches.values()]
        if combiner is not None and combiner.input_shape[-1] != sum(widths):
            raise ValueError(f"the combiner takes {combiner.input_shape[-1]} values and the branches give {widths}")
        parts = tuple((branch_inputs[name], in_float32(model)) for name, model in branches.items())
        log_mel = None
        if any(kind == "log_mel" for kind, _ in parts):
            log_mel = LogMel()
            log_mel.build((None, CLIP_SAMPLES))
        return cls(parts, None if combiner is None else in_float32(combiner), normalisation, log_mel)

    @property
    def kinds(self) -> set[InputKind]:
        """What the branches read."""
        return {kind for kind, _ in self.branches}

    @property
    def n_tags(self) -> int:
        """Number of outputs."""
        last = self.combiner if self.combiner is not None else self.branches[0][1]
        return int(last.output_shape[-1])

    @property
    def networks(self) -> list[keras.layers.Layer]:
        """All that has weights."""
        parts = [model for _, model in self.branches] + [self.combiner, self.log_mel]
        return [part for part in parts if part is not None]

    def from_waveform(self, waveform: Any) -> Any:
        """Float32 [batch, 465600] in [-1, 1] -> probabilities float32 [batch, n_tags]."""
        inputs: dict[InputKind, Any] = {"waveform": waveform}
        if self.log_mel is not None:
            inputs["log_mel"] = self.log_mel(waveform)
        return self.from_inputs(inputs)

    def from_inputs(self, inputs: Mapping[InputKind, Any]) -> Any:
        """What the branches read, before normalisation -> probabilities float32 [batch, n_tags]."""
        normalised = {kind: self._normalise(kind, inputs[kind]) for kind in sorted(self.kinds)}
        outputs = [model(normalised[kind], training=False) for kind, model in self.branches]
        if self.combiner is None:
            return outputs[0]
        return self.combiner(tf.concat(outputs, axis=-1), training=False)

    def _normalise(self, kind: InputKind, value: Any) -> Any:
        learnt = self.normalisation
        if kind == "log_mel":
            return (value - learnt.log_mel_mean) / learnt.log_mel_std
        return (value - learnt.waveform_mean) / learnt.waveform_std


def in_float32(model: keras.Model) -> keras.Model:
    """Return the network itself, or a copy with the same weights that computes in float32 where it does not."""
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def _write_saved_model(out_dir: str, ensemble: Ensemble, tags: tuple[str, ...]) -> None:
    names = tf.constant(tags)

    def answer(probabilities: Any) -> dict[str, Any]:
        clips = tf.shape(probabilities)[0]
        return {"predictions": probabilities, "tags": tf.tile(names[tf.newaxis], [clips, 1])}

    def serving_default(examples: Any) -> dict[str, Any]:
        inputs = request_checks.parse_inputs(request_checks.check_examples(examples), ensemble.kinds)
        return answer(ensemble.from_inputs(inputs))

    def waveform(waveform: Any) -> dict[str, Any]:
        return answer(ensemble.from_waveform(request_checks.check_waveform(waveform)))

    def labels(examples: Any) -> dict[str, Any]:
        return {"labels": request_checks.multi_hot_labels(request_checks.check_examples(examples), names)}

    archive = keras.export.ExportArchive()
    for network in ensemble.networks:
        archive.track(network)
    archive.add_endpoint("serving_default", serving_default, input_signature=[request_checks.EXAMPLES_SPEC])
    archive.add_endpoint("waveform", waveform, input_signature=[request_checks.WAVEFORM_SPEC])
    archive.add_endpoint("labels", labels, input_signature=[request_checks.EXAMPLES_SPEC])
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every signature
        archive.write_out(out_dir, verbose=False)


def _write_whole(path: str, text: str) -> None:
    """Write a text file that is there whole or not at all."""
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(f"{path}.part", "w") as file:
        file.write(text)
    tf.io.gfile.rename(f"{path}.part", path, overwrite=True)
