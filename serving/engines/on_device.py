"""Run an exported LiteRT file as a phone would: ai-edge-litert, numpy and an audio decoder; no TensorFlow.

    python -m serving.engines.on_device MODEL.tflite SONG.mp3 ...       tags of the first 29.1 s of each file

Everything needed stands in the file itself: what it takes, the tags' names and their thresholds (``autotag.json`` in
the zip archive at its end). It takes one clip a call; several are several calls.
"""

from __future__ import annotations

import json
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from preprocessing.audio.loading import load_clip
from preprocessing.audio.samples import Samples, fit_clip, from_pcm, to_pcm
from preprocessing.constants import SAMPLE_RATE
from preprocessing.errors import BadInputError, ClipError
from preprocessing.names import escaped, is_utf8, lossless, to_json
from preprocessing.silence import is_silent

LABELS_NAME: Final = "labels.txt"
CARD_NAME: Final = "autotag.json"
USAGE: Final = "usage: python -m serving.engines.on_device MODEL.tflite SONG.mp3 ..."

Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Card:
    """What an exported file says of itself."""

    version: str
    weights: str
    sample_rate: int
    samples: int
    tags: tuple[str, ...]
    thresholds: tuple[float, ...]


def read_card(path: Path) -> Card:
    """Read ``autotag.json`` at the end of an exported file.

    Raises:
        BadInputError: the file cannot be read or has none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            card = json.loads(archive.read(CARD_NAME))
        return Card(
            version=card["version"],
            weights=card["weights"],
            sample_rate=card["sample_rate"],
            samples=card["samples"],
            tags=tuple(card["tags"]),
            thresholds=tuple(card["thresholds"]),
        )
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise BadInputError(f"{path} is not a file that `autotag export --litert` wrote: {error}") from error


class OnDeviceModel:
    """One exported file, loaded. Not for several threads at a time.

    Args:
        path: a .tflite file of `autotag export --litert`.
        threads: that one prediction may use.

    Raises:
        BadInputError: it is not such a file.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

        self.card = read_card(path)
        self._interpreter: Any = Interpreter(model_path=str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def predict(self, clip: Samples) -> Probabilities:
        """Float32 [465600] in [-1, 1] -> probabilities float32 [n_tags]."""
        self._interpreter.set_tensor(self._input, clip[np.newaxis])
        self._interpreter.invoke()
        probabilities: Probabilities = self._interpreter.get_tensor(self._output)[0]
        return probabilities

    def predict_file(self, content: bytes, name: str = "") -> Probabilities | None:
        """Bytes of an audio file -> probabilities float32 [n_tags] of its first 29.1 s; None where these are silent.

        Raises:
            ClipError: they cannot be decoded.
        """
        samples, _ = load_clip(content, name)
        clip = from_pcm(to_pcm(fit_clip(samples)))
        return None if is_silent(clip, SAMPLE_RATE) else self.predict(clip)


def main(arguments: list[str]) -> int:
    """Print one JSON object a file: tag -> probability, the most probable ten first; return the exit code.

    A file that cannot be used is reported, and the others go on.
    """
    if len(arguments) < 2 or arguments[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        model = OnDeviceModel(Path(arguments[0]))
    except BadInputError as error:
        print(escaped(str(error)), file=sys.stderr)
        return 2
    failed = False
    for file in arguments[1:]:
        try:
            probabilities = model.predict_file(Path(file).read_bytes(), file)
        except (ClipError, OSError) as error:
            print(escaped(str(error)), file=sys.stderr)
            failed = True
            continue
        if probabilities is None:
            print(to_json({"file": lossless(file), "silent": True, "tags": {}}, ascii_only=not is_utf8(sys.stdout)))
            continue
        order = np.argsort(-probabilities, kind="stable")[:10]
        tags = {model.card.tags[i]: round(float(probabilities[i]), 6) for i in order}
        print(to_json({"file": lossless(file), "tags": tags}, ascii_only=not is_utf8(sys.stdout)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
