"""What networks say of a split's clips, each asked once, from the waveform, as it will be when it is served."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tfx import types
from tfx.types import artifact_utils

from components.reader import TransformFacts, waveform_dataset
from preprocessing.clip_format import ClipFormat
from preprocessing.whole_files import open_whole
from serving.graph.ensemble import Member, Members

Array = npt.NDArray[np.float32]

PREDICT_BATCH = 8


@dataclass(frozen=True)
class Predictions:
    """What the networks say of the clips of one split.

    Attributes:
        clip_ids: sorted.
        tracks: of each clip.
        labels: 0 or 1, float32 [clips, outputs].
        by_network: name -> probabilities, float32 [clips, outputs].
    """

    clip_ids: tuple[bytes, ...]
    tracks: tuple[bytes, ...]
    labels: Array
    by_network: dict[str, Array]

    def side_by_side(self, chosen: Sequence[str]) -> Array:
        """The combiner's input, float32 [clips, networks * outputs]."""
        return np.concatenate([self.by_network[name] for name in chosen], axis=1)


def predict_split(
    members: Sequence[Member], patterns: list[str], facts: TransformFacts, clip: ClipFormat
) -> Predictions:
    """Ask all networks about a split, from the waveform; what several of them hear alike is computed once.

    Args:
        members: the networks; none where labels alone are wanted.
        patterns: of the split's raw examples.
        facts: tags and heads.
        clip: what the examples hold.

    Raises:
        ValueError: no file matches.
        BadInputError: a network hears more than a clip.
    """
    asked = Members(members, facts.heads, clip)
    spec = tf.TensorSpec([None, clip.samples], tf.float32)
    step = tf.function(
        lambda waveform: asked.member_answers(asked.features(waveform)), input_signature=[spec], autograph=False
    )
    ids, tracks, labels, answers = [], [], [], []
    for batch in waveform_dataset(patterns, facts.tags, min(PREDICT_BATCH, asked.clips_at_once), clip=clip):
        ids.append(batch["clip_id"].numpy())
        tracks.append(batch["track"].numpy())
        labels.append(batch["labels"].numpy())
        answers.append([answer.numpy() for answer in step(batch["inputs"])])
    clip_ids = np.concatenate(ids)
    order = np.argsort(clip_ids)
    by_network = {
        member.name: np.concatenate(parts)[order]
        for member, parts in zip(members, zip(*answers, strict=True), strict=True)
    }
    return Predictions(
        tuple(clip_ids[order]), tuple(np.concatenate(tracks)[order]), np.concatenate(labels)[order], by_network
    )


def split_patterns(examples: list[types.Artifact], split: str) -> list[str]:
    """Patterns of a split's files."""
    return [os.path.join(uri, "*") for uri in artifact_utils.get_split_uris(examples, split)]


def keep_predictions(path: str, splits: Mapping[str, Predictions]) -> None:
    """Write all splits' predictions, labels and clips as one .npz file."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for split, answers in splits.items():
        arrays |= {f"{split}/{name}": array for name, array in answers.by_network.items()}
        arrays |= {f"{split}/labels": answers.labels, f"{split}/clip_ids": np.array(answers.clip_ids)}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open_whole(path) as file:
        np.savez_compressed(file, **arrays)
