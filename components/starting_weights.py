"""Trained weights that a training starts from: of the list of trained models, of a file, or of a pushed version."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from models.heads import Heads
from models.outputs import LOGITS, with_heads
from models.registry import Network
from preprocessing.errors import BadInputError
from serving.graph.ensemble import Ensemble
from serving.model_info import read_model_info
from serving.model_versions import find_model
from serving.pretrained.catalogue import CATALOGUE

log = logging.getLogger(__name__)


def started_network(
    weights: str, network: Network, heads: Heads, tags: Sequence[str], precision: str
) -> tuple[keras.Model, str]:
    """Build a network with trained weights.

    All layers but the last take the trained weights; the last one takes those of the tags that both know by the same
    name, and is untrained for the others.

    Args:
        weights: a name that ``autotag pretrained`` lists, a pushed version or a folder of such, or a .keras file of a
            Trainer.
        network: which.
        heads: what it shall answer.
        tags: its outputs' names.
        precision: Keras' dtype policy.

    Returns:
        What the network reads, normalised -> probabilities (batch, heads.size); what the weights were trained on.

    Raises:
        BadInputError: they cannot be had, or are of another network.
    """
    trained, known, trained_on = _trained(weights, network)
    started = network.build(heads.size, dtype=precision)
    _copy_all_but_last(trained, started, weights)
    shared = [(tags.index(tag), at) for at, tag in enumerate(known) if tag in tags]
    _copy_outputs(trained.get_layer(LOGITS), started.get_layer(LOGITS), shared)
    log.warning("%s: starts from %s, %d of its %d tags known", network.name, weights, len(shared), len(tags))
    return with_heads(started, heads), trained_on


def _trained(weights: str, network: Network) -> tuple[keras.Model, tuple[str, ...], str]:
    """The trained network, its tags, and what it was trained on."""
    path = Path(weights)
    if weights in CATALOGUE:
        from serving.pretrained.ready import ready_version  # type: ignore[import-not-found,unused-ignore]

        path = ready_version(weights, log.warning)
    if not path.exists():
        raise BadInputError(
            f"weights {weights!r}: neither a trained model that `autotag pretrained` lists nor a file or folder"
        )
    if path.is_file():
        network.register_layers()
        model = keras.models.load_model(path, compile=False)
        return model, (), str(path)
    version = find_model(path)
    info = read_model_info(version)
    member = next((m for m in Ensemble.restore(version).members if m.network.name == network.name), None)
    if member is None:
        raise BadInputError(
            f"weights {weights!r}: {version} has {', '.join(m.network for m in info.members)}, not {network.name}"
        )
    return member.model, info.tags, member.trained_on or info.data.name


def _copy_all_but_last(trained: keras.Model, started: keras.Model, weights: str) -> None:
    theirs = [layer for layer in trained.layers if layer.weights]
    ours = [layer for layer in started.layers if layer.weights]
    if [type(layer) for layer in theirs] != [type(layer) for layer in ours]:
        raise BadInputError(f"weights {weights!r}: they are of another network than {started.name}")
    for source, layer in zip(theirs, ours, strict=True):
        if layer.name != LOGITS:
            try:
                layer.set_weights(source.get_weights())
            except ValueError as error:
                raise BadInputError(f"weights {weights!r}: layer {layer.name!r}: {error}") from None


def _copy_outputs(trained: keras.layers.Layer, started: keras.layers.Layer, pairs: Sequence[tuple[int, int]]) -> None:
    """Take the outputs' weights, last axis, of the pairs (ours, theirs)."""
    if not pairs:
        return
    ours, theirs = np.array(pairs).T
    values = [np.array(value) for value in started.get_weights()]
    for value, source in zip(values, trained.get_weights(), strict=True):
        value[..., ours] = source[..., theirs]
    started.set_weights(values)
