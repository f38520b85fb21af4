"""What the frozen part of a network says of each window of a split: computed once and kept in a file.

The file is found again by whoever trains on the same data with the same frozen weights: another head, another seed,
another fold.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components.reader import Fold, MakeDataset
from models.outputs import LOGITS
from preprocessing.whole_files import open_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embeddings:
    """Of a split, in the order of the clips' ids.

    Attributes:
        clip_ids: bytes [clips], sorted.
        tracks: bytes [clips].
        labels: float32 [clips, outputs].
        vectors: float32 [clips, windows, ...], what the network's last layer reads.
    """

    clip_ids: npt.NDArray[np.bytes_]
    tracks: npt.NDArray[np.bytes_]
    labels: npt.NDArray[np.float32]
    vectors: npt.NDArray[np.float32]

    def of(self, fold: Fold | None) -> Embeddings:
        """Those of a part of the clips; all for None."""
        if fold is None:
            return self
        taken = fold.takes(tf.constant(self.tracks)).numpy()
        return Embeddings(self.clip_ids[taken], self.tracks[taken], self.labels[taken], self.vectors[taken])

    def by_window(self) -> npt.NDArray[np.float32]:
        """[clips, windows, ...] -> [windows * clips, ...], the first windows of all clips first."""
        rows: npt.NDArray[np.float32] = self.vectors.swapaxes(0, 1).reshape(-1, *self.vectors.shape[2:])
        return rows


def embed(step: Callable[[tf.Tensor], tf.Tensor], dataset: MakeDataset) -> Embeddings:
    """Ask a network about a split.

    Args:
        step: from ``inputs`` of a batch to vectors [batch, windows, ...].
        dataset: the split's whole clips.
    """
    parts = [
        (batch["clip_id"].numpy(), batch["track"].numpy(), batch["labels"].numpy(), step(batch["inputs"]).numpy())
        for batch in dataset(None)
    ]
    ids, tracks, labels, vectors = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(ids)
    return Embeddings(ids[order].astype(bytes), tracks[order].astype(bytes), labels[order], vectors[order])


def kept(folder: str, key: str, compute: Callable[[], Embeddings]) -> Embeddings:
    """Read what was kept under a key, or compute and keep it.

    Args:
        folder: where.
        key: what says which network's and which data's they are.
        compute: makes them.
    """
    path = os.path.join(folder, f"embeddings-{key}.npz")
    if os.path.exists(path):
        with np.load(path) as arrays:
            return Embeddings(arrays["clip_ids"], arrays["tracks"], arrays["labels"], arrays["vectors"])
    made = compute()
    log.warning("embeddings of %d clips, computed once: %s", len(made.clip_ids), path)
    os.makedirs(folder, exist_ok=True)
    with open_whole(path) as file:
        np.savez(file, clip_ids=made.clip_ids, tracks=made.tracks, labels=made.labels, vectors=made.vectors)
    return made


def frozen_weights(network: keras.Model) -> str:
    """Hash of all of a network's weights but those of its last layer."""
    last = {id(variable) for variable in network.get_layer(LOGITS).variables}
    digest = hashlib.sha256()
    for variable in network.variables:
        if id(variable) not in last and "seed_generator" not in variable.path:
            digest.update(f"{variable.shape}".encode() + np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()
