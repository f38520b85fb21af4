"""The files beside ``saved_model.pb`` that let other engines than TensorFlow compute the same answers.

``engines/model.onnx`` (float32) and ``engines/model-int8.tflite`` (int8 weights), each from waveform to probabilities,
with tags and thresholds inside. TensorFlow Serving does not look at them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from serving.graph.ensemble import Ensemble
    from serving.model_info import ModelInfo

ENGINES_FOLDER: Final = "engines"
ONNX_NAME: Final = "model.onnx"
LITERT_NAME: Final = "model-int8.tflite"


def onnx_file(model_dir: Path) -> Path:
    """Where a version's ONNX file is."""
    return model_dir / ENGINES_FOLDER / ONNX_NAME


def litert_file(model_dir: Path) -> Path:
    """Where a version's LiteRT file is."""
    return model_dir / ENGINES_FOLDER / LITERT_NAME


def engine_files(ensemble: Ensemble, info: ModelInfo, version: str = "unversioned") -> dict[str, bytes]:
    """Return path below the version's directory -> content; the same model gives the same bytes.

    Args:
        ensemble: the networks that are in the SavedModel.
        info: their description.
        version: as the files shall name it.
    """
    from serving.graph import litert, onnx_export

    return {
        f"{ENGINES_FOLDER}/{ONNX_NAME}": onnx_export.convert_model(ensemble, info, version),
        f"{ENGINES_FOLDER}/{LITERT_NAME}": litert.convert_model(ensemble, info, "int8", version),
    }
