"""What a Trainer leaves for the components after it: network, what it predicts out of fold, training curves."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from components.fitting import SplitPredictions
from models.registry import find_network
from preprocessing.whole_files import open_whole, write_whole
from serving.graph.ensemble import Member
from serving.model_info import MemberInfo

KERAS_FOLDER = "Format-Keras"
MODEL_FILE = "model.keras"
MEMBER_FILE = "member.json"
OUT_OF_FOLD_FILE = "out_of_fold.npz"
HISTORY_FILE = "history.json"


def save_network(member: Member, model_uri: str) -> None:
    """Keep the Keras network beside TFX's serving format, for the combiner."""
    folder = os.path.join(model_uri, KERAS_FOLDER)
    os.makedirs(folder, exist_ok=True)
    member.model.save(os.path.join(folder, MODEL_FILE))
    write_whole(os.path.join(folder, MEMBER_FILE), json.dumps(asdict(member.info)))


def load_network(model_uri: str) -> Member:
    """Load what save_network kept."""
    folder = os.path.join(model_uri, KERAS_FOLDER)
    with open(os.path.join(folder, MEMBER_FILE), encoding="utf-8") as file:
        info = MemberInfo.from_json(json.load(file))
    network = find_network(info.network)
    network.register_layers()
    model = keras.models.load_model(os.path.join(folder, MODEL_FILE), compile=False)
    return Member(info.name, network, model, info.windows, info.normalisation, info.trained_on, info.level)


def write_out_of_fold(parts: Sequence[SplitPredictions], model_uri: str) -> None:
    """Keep what was predicted of each fold, beside the Keras network."""
    ids = np.concatenate([np.array(part.clip_ids) for part in parts])
    predictions = np.concatenate([part.predictions for part in parts])
    with open_whole(os.path.join(model_uri, KERAS_FOLDER, OUT_OF_FOLD_FILE)) as file:
        np.savez_compressed(file, clip_ids=ids, predictions=predictions)


def read_out_of_fold(model_uri: str) -> dict[bytes, npt.NDArray[np.float32]]:
    """Read what a Trainer kept: clip_id -> probabilities, float32 [outputs]."""
    with np.load(os.path.join(model_uri, KERAS_FOLDER, OUT_OF_FOLD_FILE)) as arrays:
        return dict(zip(arrays["clip_ids"].tolist(), arrays["predictions"], strict=True))


def write_history(folder: str, history: Mapping[str, Any]) -> None:
    """Write the training curves where the report finds them."""
    os.makedirs(folder, exist_ok=True)
    write_whole(os.path.join(folder, HISTORY_FILE), json.dumps(history, indent=1))
