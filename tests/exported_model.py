"""Untrained networks of the real architecture, exported, and audio to send them: for tests alone."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tones import tone, write_audio  # noqa: F401 for tests that take both from here

from models.combiner import build_combiner
from models.heads import Heads
from models.outputs import LOGITS, with_heads
from models.registry import find_network
from preprocessing.audio.samples import fit_clip, from_pcm, to_pcm
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.examples import encode_example
from preprocessing.features import log_mel
from serving.graph.ensemble import Ensemble, Member
from serving.graph.export import export_ensemble
from serving.model_info import DataInfo, Normalisation, SplitScores

TAGS = ("guitar", "no vocals", "piano", "drums", "fast", "männer")
THRESHOLDS = (0.5, 0.25, 0.125, 0.5, 0.75, 0.999)
LOG_MEL_NORMALISATION = Normalisation(mean=-25.0, std=20.0)
WAVEFORM_NORMALISATION = Normalisation(mean=0.001, std=0.2)
DATA = DataInfo(
    "noise",
    "none",
    {"rule": "track", "ratio": [13, 1, 2], "seed": 0},
    {"train": 10, "valid": 4, "test": 4},
    {"train": (5, 4, 3, 2, 1, 0), "valid": (1, 1, 1, 1, 0, 0), "test": (2, 2, 1, 1, 1, 0)},
)
SCORES = {"valid": SplitScores(0.5, 0.25, 0.125, 4), "test": SplitScores(0.5, 0.25, None, 5)}


@dataclass(frozen=True)
class Exported:
    """An exported model and the networks that went into it."""

    path: Path
    members: dict[str, Member]
    combiner: Any


def tell_clips_apart(network: Any) -> None:
    """Scale the last kernel: an untrained network says about 0.5 to everything, and a comparison would see nothing."""
    kernel = network.get_layer(LOGITS).kernel
    kernel.assign(kernel.value * (300 if network.name == "waveform_1d" else 30))


def untrained(name: str, heads: Heads, seed: int = 0) -> Member:
    """A network of the registry that tells clips apart, as a part of a model."""
    network = find_network(name)
    model = with_heads(network.build(heads.size, dtype="float32", seed=seed), heads)
    tell_clips_apart(model)
    normalisation = None
    if network.normalised:
        normalisation = WAVEFORM_NORMALISATION if network.front_end is None else LOG_MEL_NORMALISATION
    return Member(name, network, model, network.score_windows, normalisation)


def untrained_ensemble(
    names: tuple[str, ...], heads: Heads, clip: ClipFormat = PAPER_CLIP, combiner: str = "dense"
) -> Ensemble:
    members = [untrained(name, heads, seed) for seed, name in enumerate(names)]
    if len(members) == 1:
        return Ensemble(members, None, heads, clip)
    model: Any = build_combiner(combiner, len(members), heads)  # type: ignore[arg-type]
    if combiner == "dense":
        tell_clips_apart(model)
    return Ensemble(members, model, heads, clip, combiner)


def export(path: Path, names: tuple[str, ...], tags: tuple[str, ...] = TAGS) -> Exported:
    ensemble = untrained_ensemble(names, Heads.of_tags(len(tags)))
    export_ensemble(path, ensemble, tags, THRESHOLDS[: len(tags)], DATA, SCORES)
    return Exported(path, {member.name: member for member in ensemble.members}, ensemble.combiner)


def copied(made: Path, path: Path) -> Exported:
    """Copy what ``export`` has written, and load its networks."""
    shutil.copytree(made, path)
    ensemble = Ensemble.restore(path)
    return Exported(path, {member.name: member for member in ensemble.members}, ensemble.combiner)


def followed_by_silence(samples: Any, seconds: float = 29.1) -> Any:
    """Float32 [n] -> as long as a clip: two tones alone are nearly the same to small untrained networks."""
    return np.pad(samples, (0, max(0, round(seconds * 16_000) - len(samples))))


def pcm_bytes(seconds: float, frequency: float = 440.0) -> bytes:
    """The tone as clients send it: 16-bit little-endian samples at 16 kHz, without a header."""
    return to_pcm(tone(seconds, frequency)).tobytes()


def stored_example(samples: np.ndarray[Any, np.dtype[np.float32]], tags: tuple[str, ...] = (), **changes: Any) -> bytes:
    """An example as preprocessing stores it; ``changes`` replace features, None leaves one out."""
    pcm = to_pcm(fit_clip(samples))
    features = {
        "clip_id": b"1",
        "waveform": pcm.tobytes(),
        "log_mel": log_mel(from_pcm(pcm)).astype("<f2").tobytes(),
        "tags": [tag.encode() for tag in tags],
    }
    return encode_example({name: value for name, value in {**features, **changes}.items() if value is not None})
