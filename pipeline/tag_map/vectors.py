"""Tag vectors: a direction for each tag, near those of tags that mean something alike.

They come from what a network learnt, from which tags people give together, or from texts
(``pipeline.tag_map.word_vectors``). Only directions count: all vectors have length 1, so that a product is a cosine.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from preprocessing.errors import BadInputError
from preprocessing.examples import decode_tags, read_records
from serving.model_info import read_model_info
from serving.model_versions import find_model

Vectors = npt.NDArray[np.float32]

LAST_LAYER: Final = "logits"
"""Name of the layer that answers, in every network (models.outputs.LOGITS, which imports Keras)."""
FEWEST: Final = 3
"""Tags of which a map can be made."""
WIDTH: Final = 10
"""Dimensions that are kept of co-occurrence, at most. By the labels of MagnaTagATune's folders c to f tags with default
synonyms had one of these as their nearest neighbour more often with 10 than with 20 or all 50 (benchmarks/synonyms.py
with --map, in an earlier state of the code and with this number changed by hand)."""


@dataclass(frozen=True)
class TagVectors:
    """Vectors and where they come from.

    Attributes:
        tags: names.
        vectors: float32 [tags, width], each of length 1.
        source: where they come from, in words.
        left_out: tag that was asked for and has no vector -> why.
        notes: what else has to be said of the source, a line each.
    """

    tags: tuple[str, ...]
    vectors: Vectors
    source: str
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        tags: Sequence[str],
        rows: npt.ArrayLike,
        source: str,
        left_out: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
        no_direction: str = "its vector is zero",
    ) -> TagVectors:
        """Bring rows, float [tags, width], to length 1; ``no_direction`` says why one that cannot be is left out.

        Raises:
            BadInputError: fewer than FEWEST are left, or there is a number that is not finite.
        """
        values = np.asarray(rows, np.float64)
        if not np.isfinite(values).all():
            raise BadInputError(f"{source}: a vector has numbers that are not finite")
        largest = np.abs(values).max(axis=1, keepdims=True, initial=0)
        scaled = values / np.where(largest > 0, largest, 1)
        there = largest[:, 0] > 0
        missing = {
            **(left_out or {}),
            **{tag: no_direction for tag, is_there in zip(tags, there, strict=True) if not is_there},
        }
        if there.sum() < FEWEST:
            reasons = "; ".join(f"{tag}: {why}" for tag, why in list(missing.items())[:FEWEST])
            raise BadInputError(
                f"{source}: {there.sum()} tags have a vector and a map needs {FEWEST}"
                + (f" ({reasons})" if reasons else "")
            )
        kept = scaled[there]
        unit = kept / np.linalg.norm(kept, axis=1, keepdims=True)
        names = tuple(tag for tag, is_there in zip(tags, there, strict=True) if is_there)
        return cls(names, unit.astype(np.float32), source, missing, tuple(notes))

    def only(self, tags: Sequence[str]) -> TagVectors:
        """Those of some tags, in their order.

        Raises:
            BadInputError: one has no vector, or they are fewer than FEWEST.
        """
        unknown = [tag for tag in tags if tag not in self.tags]
        if unknown:
            more = f" and {len(unknown) - 1} more of the list" if len(unknown) > 1 else ""
            raise BadInputError(f"{self.source}: has no tag {unknown[0]!r}{more}")
        rows = self.vectors[[self.tags.index(tag) for tag in tags]]
        return TagVectors.of(tags, rows, self.source, self.left_out, self.notes)

    def alike(self, count: int) -> list[tuple[str, str, float]]:
        """The pairs of tags with the largest cosines, the most alike first."""
        cosines = self.vectors @ self.vectors.T
        first, second = np.triu_indices(len(self.tags), 1)
        order = np.argsort(-cosines[first, second], kind="stable")[:count]
        return [(self.tags[first[at]], self.tags[second[at]], float(cosines[first[at], second[at]])) for at in order]


def of_layers(kernels: Mapping[str, npt.NDArray[Any]], tags: Sequence[str], source: str) -> TagVectors:
    """Tag vectors from the weights with which networks answer.

    A layer that reads several places of a clip (a convolution as long as what it reads) counts with the mean over them,
    as the embedding of a clip is the mean over places. Of several networks the vectors, each of length 1, stand behind
    one another: a cosine is then the mean of the networks' cosines.

    Args:
        kernels: network -> its last layer's kernel, float [..., inputs, tags].
        tags: names of the last axis.
        source: what the networks are, in words.

    Raises:
        BadInputError: a network answers with another number of tags.
    """
    parts = []
    for name, kernel in kernels.items():
        if kernel.ndim < 2 or kernel.shape[-1] != len(tags):
            raise BadInputError(f"{source}: {name} answers with {kernel.shape[-1]} tags, and {len(tags)} are named")
        rows = kernel.reshape(-1, *kernel.shape[-2:]).astype(np.float64).mean(axis=0).T
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        parts.append(rows / np.where(lengths > 0, lengths, 1))
    return TagVectors.of(tags, np.concatenate(parts, axis=1), source)


def of_model(folder: Path, name: str, member: str | None = None) -> TagVectors:
    """Tag vectors of a pushed version's networks. Needs TensorFlow.

    Args:
        folder: the version, or the folder of versions, whose newest is taken.
        name: what to call it.
        member: which of its networks; all unless given.

    Raises:
        BadInputError: there is no model, or it has no such network.
    """
    version = find_model(folder)
    info = read_model_info(version)
    members = [one.name for one in info.members]
    if member is not None and member not in members:
        raise BadInputError(f"{name}: has no network {member!r}; it has {', '.join(members)}")
    from serving.graph.ensemble import Ensemble

    taken = [one for one in Ensemble.restore(version).members if member in (None, one.name)]
    kernels = {one.name: one.model.get_layer(LAST_LAYER).get_weights()[0] for one in taken}
    return of_layers(kernels, info.tags, f"the last layer of {name} ({', '.join(kernels)})")


def of_network_files(paths: Mapping[str, Path], tags: Sequence[str], source: str) -> TagVectors:
    """Tag vectors of networks in Keras' files, as Trainers leave them. Needs no TensorFlow.

    Args:
        paths: network -> its ``.keras`` file.
        tags: names of its outputs.
        source: what they are, in words.

    Raises:
        BadInputError: a file cannot be read, has no last layer of ours, or answers with another number of tags.
    """
    return of_layers({name: read_kernel(path) for name, path in paths.items()}, tags, source)


def read_kernel(path: Path) -> npt.NDArray[Any]:
    """Read the last layer's kernel, float [..., inputs, tags], of a ``.keras`` file.

    Raises:
        BadInputError: the file cannot be read, or has no layer of that name with weights.
    """
    import h5py

    kernels: list[npt.NDArray[Any]] = []

    def visit(_: str, found: Any) -> None:
        if isinstance(found, h5py.Group) and found.attrs.get("name") == LAST_LAYER and "0" in found:
            kernels.append(found["0"][:])

    try:
        with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as weights:
            weights.visititems(visit)
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInputError(f"{path}: cannot be read as a network that Keras 3 saved: {reason}") from None
    if len(kernels) != 1 or kernels[0].ndim < 2:
        raise BadInputError(f"{path}: has no layer {LAST_LAYER!r}, with which the networks of autotag answer")
    return kernels[0]


def of_labels(clips: Iterable[Iterable[str]], tags: Sequence[str], source: str) -> TagVectors:
    """Tag vectors from which tags stand together: tags are alike that stand with the same others.

    Rows are positive pointwise mutual information, log(p(a, b) / (p(a) p(b))) where that is above 0, of a tag with each
    other one; of their singular vectors the first WIDTH are kept, each weighted by the root of its singular value (Levy
    and Goldberg 2014, 'Neural word embedding as implicit matrix factorization', section 4.2). That a tag stands with
    itself is not counted, so that spellings of one idea, of which players type one, come near each other.

    Args:
        clips: each one's tags.
        tags: of which vectors are wanted.
        source: whose labels they are, in words.
    """
    column = {tag: at for at, tag in enumerate(tags)}
    together = np.zeros((len(tags), len(tags)))
    count = 0
    for labels in clips:
        known = sorted({column[tag] for tag in labels if tag in column})
        together[np.ix_(known, known)] += 1
        count += 1
    single = np.diag(together).copy()
    np.fill_diagonal(together, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(together * count / np.outer(single, single))
    positive = np.where(together > 0, np.maximum(information, 0), 0)
    left, strengths, _ = np.linalg.svd(positive)
    kept = strengths[:WIDTH] > 1e-9 * max(strengths[0], 1e-300)
    rows = left[:, :WIDTH][:, kept] * np.sqrt(strengths[:WIDTH][kept])
    rows[~positive.any(axis=1)] = 0
    alone = "it stands with no other tag more often than by chance"
    return TagVectors.of(tags, rows, f"{source} ({count:,} clips)", no_direction=alone)


def labels_of_examples(folder: Path) -> Iterator[list[str]]:
    """Yield each clip's tags, of all TFRecords that ``autotag preprocess`` left in a folder.

    Raises:
        BadInputError: there are none, or one is broken.
    """
    paths = sorted(folder.glob("[!.]*.tfrecord"))
    if not paths:
        raise BadInputError(f"examples {folder}: no TFRecords of `autotag preprocess` there")
    for path in paths:
        try:
            with path.open("rb") as file:
                for record in read_records(file):
                    yield decode_tags(record)
        except (OSError, ValueError) as error:
            raise BadInputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
