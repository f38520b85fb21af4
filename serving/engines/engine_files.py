"""The files beside ``saved_model.pb`` that let other engines than TensorFlow compute the same answers.

``engines/model.onnx`` (float32) and ``engines/model-int8.tflite`` (int8 weights), each from waveform to probabilities,
with tags and thresholds inside. TensorFlow Serving does not look at them. A network that int8 weights would let answer
otherwise (serving.engines.quantisation) has ``engines/model-float32.tflite`` in place of the latter.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from serving.graph.ensemble import Ensemble
    from serving.model_info import ModelInfo

LiteRtWeights = Literal["int8", "float32"]

ENGINES_FOLDER: Final = "engines"
ONNX_NAME: Final = "model.onnx"
LITERT_NAMES: Final[dict[LiteRtWeights, str]] = {"int8": "model-int8.tflite", "float32": "model-float32.tflite"}


def onnx_file(model_dir: Path) -> Path:
    """Where a version's ONNX file is."""
    return model_dir / ENGINES_FOLDER / ONNX_NAME


def litert_weights(model_dir: Path) -> LiteRtWeights:
    """What a version's LiteRT file computes in; int8 where it has none."""
    folder = model_dir / ENGINES_FOLDER
    whole, small = folder / LITERT_NAMES["float32"], folder / LITERT_NAMES["int8"]
    return "float32" if whole.is_file() and not small.is_file() else "int8"


def litert_file(model_dir: Path) -> Path:
    """Where a version's LiteRT file is."""
    return model_dir / ENGINES_FOLDER / LITERT_NAMES[litert_weights(model_dir)]


def engine_files(
    ensemble: Ensemble, info: ModelInfo, version: str = "unversioned", weights: LiteRtWeights | None = None
) -> dict[str, bytes]:
    """Return path below the version's directory -> content; the same model gives the same bytes.

    Args:
        ensemble: the networks that are in the SavedModel.
        info: their description.
        version: as the files shall name it.
        weights: of the LiteRT file; None for int8 where that answers alike.
    """
    from serving.engines.quantisation import answers_alike
    from serving.graph import litert, onnx_export

    converted = litert.convert_model(ensemble, info, weights or "int8", version)
    if weights is None and not answers_alike(converted, ensemble):
        weights = "float32"
        converted = litert.convert_model(ensemble, info, weights, version)
    return {
        f"{ENGINES_FOLDER}/{ONNX_NAME}": onnx_export.convert_model(ensemble, info, version),
        f"{ENGINES_FOLDER}/{LITERT_NAMES[weights or 'int8']}": converted,
    }
