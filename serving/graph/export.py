"""One SavedModel that holds all: audio in, tag probabilities, tag names and thresholds out.

TensorFlow Serving, TFX's Evaluator and tf.saved_model.load all accept it. What each signature takes and gives stands in
serving.graph.signatures and docs/reference/pushed-model.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving.engines.engine_files import engine_files
from serving.graph.ensemble import Ensemble
from serving.graph.signatures import CLASSIFY, CLASSIFY_METHOD, signatures
from serving.graph.warm_up import WARM_UP_NAME, warm_up_requests
from serving.model_info import (
    MODEL_INFO_NAME,
    DataInfo,
    ModelInfo,
    Origin,
    SplitScores,
    check_tag_names,
    check_thresholds,
)
from serving.model_versions import SAVED_MODEL_NAME


def export_ensemble(
    out_dir: Path | str,
    ensemble: Ensemble,
    tag_names: Sequence[str],
    thresholds: Sequence[float],
    data: DataInfo,
    scores: dict[str, SplitScores],
    origin: Origin | None = None,
) -> ModelInfo:
    """Write the SavedModel, its warm-up requests, ``assets/tags.txt`` (a tag a line) and, last, ``model.json``.

    Args:
        out_dir: where to, local or anything that tf.io.gfile writes.
        ensemble: the networks.
        tag_names: in the order of the outputs.
        thresholds: tag for tag, from which probability on it counts as heard.
        data: what the model was made from.
        scores: split -> scores.
        origin: where the model comes from, if it was not trained here.

    Returns:
        What ``model.json`` says.

    Raises:
        ValueError: the parts do not fit each other.
    """
    tags = check_tag_names(tag_names)
    if ensemble.n_tags != len(tags):
        raise ValueError(f"the networks give {ensemble.n_tags} tags, and there are {len(tags)} tag names")
    info = ModelInfo(
        tags=tags,
        thresholds=check_thresholds(thresholds, tags),
        heads=ensemble.heads,
        clip=ensemble.clip,
        members=tuple(member.info for member in ensemble.members),
        combiner=ensemble.combiner_info,
        data=data,
        scores=scores,
        origin=origin,
    )
    _write_saved_model(str(out_dir), ensemble, info)
    _write_whole(os.path.join(str(out_dir), WARM_UP_NAME), warm_up_requests(ensemble.clip))
    _write_whole(os.path.join(str(out_dir), "assets", "tags.txt"), "".join(f"{tag}\n" for tag in tags).encode())
    _write_whole(os.path.join(str(out_dir), MODEL_INFO_NAME), info.to_json().encode())
    return info


def write_engine_files(out_dir: Path | str, ensemble: Ensemble, info: ModelInfo) -> None:
    """Write serving.engines.engine_files, from which `autotag tag` computes faster and without TensorFlow."""
    for name, content in engine_files(ensemble, info).items():
        _write_whole(os.path.join(str(out_dir), name), content)


def _write_saved_model(out_dir: str, ensemble: Ensemble, info: ModelInfo) -> None:
    """As keras.export.ExportArchive does, which traces each signature twice and stores the weights twice."""
    variables = [variable.value for network in ensemble.networks for variable in network.variables]
    concrete = {
        name: tf.function(function, autograph=False).get_concrete_function(spec)
        for name, (function, spec) in signatures(ensemble, info).items()
    }
    tf.saved_model.save(tf.train.Checkpoint(variables=variables), out_dir, signatures=concrete)
    _name_classify_method(os.path.join(out_dir, SAVED_MODEL_NAME))


def _name_classify_method(path: str) -> None:
    """Make ``classify`` answer TensorFlow Serving's Classify API: TensorFlow 2 writes all signatures for Predict."""
    saved = saved_model_pb2.SavedModel()
    with tf.io.gfile.GFile(path, "rb") as file:
        saved.ParseFromString(file.read())
    saved.meta_graphs[0].signature_def[CLASSIFY].method_name = CLASSIFY_METHOD
    _write_whole(path, saved.SerializeToString(deterministic=True))


def _write_whole(path: str, content: bytes) -> None:
    """Write a file that is there whole or not at all.

    Not ``preprocessing.whole_files``: TensorFlow writes wherever the SavedModel goes, object stores too, and
    ``preprocessing.storage`` knows fewer places.
    """
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(f"{path}.part", "wb") as file:
        file.write(content)
    tf.io.gfile.rename(f"{path}.part", path, overwrite=True)
