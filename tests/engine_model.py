"""The exported model of the tests with the files of all engines, and its answers: made once in a session."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from exported_model import followed_by_silence, stored_example, tone

from preprocessing.examples import write_record


@dataclass(frozen=True)
class EngineModel:
    """A version's directory, TFRecords of three clips with tags, and the networks' probabilities of them."""

    path: Path
    examples: Path
    probabilities: Any
    ensemble: Any
    info: Any


def write_engines(exported_path: Path, folder: Path) -> None:
    """Write the files of all engines of an exported model into a folder."""
    from serving.engines.engine_files import engine_files
    from serving.graph.ensemble import Ensemble
    from serving.model_info import read_model_info

    ensemble, info = Ensemble.restore(exported_path), read_model_info(exported_path)
    for name, content in engine_files(ensemble, info, "20", "int8").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def engine_model(exported_path: Path, engines: Path) -> EngineModel:
    from serving.engines.measurement import read_clips
    from serving.graph.ensemble import Ensemble
    from serving.model_info import read_model_info

    scratch = Path(tempfile.mkdtemp(dir=exported_path.parent.parent))
    path = scratch / "20"
    shutil.copytree(exported_path, path)
    ensemble, info = Ensemble.restore(path), read_model_info(path)
    shutil.copytree(engines, path, dirs_exist_ok=True)
    examples = scratch / "test-00000-of-00001.tfrecord"
    with examples.open("wb") as file:
        for samples, tags in (
            (tone(30), ("guitar", "fast")),
            (followed_by_silence(tone(11, 880)), ("piano",)),
            (tone(29, 220), ("guitar",)),
        ):
            write_record(file, stored_example(samples, tags))
    clips = np.stack([clip for clip, _ in read_clips([str(examples)])])
    return EngineModel(path, examples, ensemble.from_waveform(clips).numpy(), ensemble, info)
