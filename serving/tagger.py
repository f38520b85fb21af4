"""Name what is heard in audio files, with a pushed model and TensorFlow alone (no TFX, no Keras code)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from preprocessing.audio import Samples, fit_clip, from_pcm, load_audio, to_pcm
from preprocessing.constants import CLIP_SAMPLES, SAMPLE_RATE
from preprocessing.errors import BadInputError, ClipError
from serving.model_info import find_model, read_model_info

WINDOWS_AT_ONCE: Final = 4
"""Windows in one call of the model: enough to keep the cores busy; memory does not grow with the file."""

Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TaggedFile:
    """What was heard in one file: per tag the mean probability over its windows of 29.1 s."""

    path: Path
    seconds: float
    windows: int
    tags: tuple[str, ...]
    probabilities: Probabilities

    def top(self, count: int) -> list[tuple[str, float]]:
        """The ``count`` most probable tags, the most probable first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.tags[i], float(self.probabilities[i])) for i in order]


class Tagger:
    """A pushed model, loaded.

    Args:
        model_dir: a SavedModel written by serving.export, or a folder of numbered versions (the highest is taken).

    Raises:
        BadInputError: there is no such model, or it cannot be loaded.
    """

    def __init__(self, model_dir: Path | str) -> None:
        self.model_dir = find_model(Path(model_dir))
        self.info = read_model_info(self.model_dir)
        self._model = _load(self.model_dir)
        self._predict = self._model.signatures["waveform"]

    @property
    def tags(self) -> tuple[str, ...]:
        """The model's tags, in the order of its outputs."""
        return self.info.tags

    def tag_file(self, path: Path | str) -> TaggedFile:
        """Tag one audio file of any format and length.

        Raises:
            ClipError: the file cannot be read or decoded.
        """
        path = Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ClipError("unreadable", f"{path}: {error.strerror}") from error
        samples = load_audio(data, str(path))
        clips = windows(samples)
        return TaggedFile(path, len(samples) / SAMPLE_RATE, len(clips), self.tags, self._mean_probabilities(clips))

    def tag_samples(self, samples: Samples) -> Probabilities:
        """Float32 mono [n] at 16 kHz, nominally in [-1, 1] -> mean probabilities float32 [n_tags]."""
        return self._mean_probabilities(windows(samples))

    def _mean_probabilities(self, clips: list[Samples]) -> Probabilities:
        import tensorflow as tf

        answers = []
        for first in range(0, len(clips), WINDOWS_AT_ONCE):
            batch = np.stack([_as_stored(clip) for clip in clips[first : first + WINDOWS_AT_ONCE]])
            answers.append(self._predict(waveform=tf.constant(batch))["predictions"].numpy())
        mean: Probabilities = np.concatenate(answers).mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean


def windows(samples: Samples) -> list[Samples]:
    """Cut float32 [n] into clips of 465,600 samples.

    What is shorter than a clip is padded with zeros; of what is longer the last window ends where the file ends, so
    that no silence is added and nothing is left out.
    """
    if len(samples) <= CLIP_SAMPLES:
        return [fit_clip(samples)]
    starts = list(range(0, len(samples) - CLIP_SAMPLES + 1, CLIP_SAMPLES))
    if starts[-1] + CLIP_SAMPLES < len(samples):
        starts.append(len(samples) - CLIP_SAMPLES)
    return [samples[start : start + CLIP_SAMPLES] for start in starts]


def _as_stored(clip: Samples) -> Samples:
    """The clip as the model met it in training: int16, overshoot of the decoder clipped."""
    return from_pcm(to_pcm(clip))


def _load(model_dir: Path) -> Any:
    import tensorflow as tf

    try:
        model = tf.saved_model.load(str(model_dir))
    except (OSError, ValueError, RuntimeError, KeyError, tf.errors.OpError) as error:
        raise BadInputError(f"the model at {model_dir} cannot be loaded: {error}") from error
    if "waveform" not in model.signatures:
        raise BadInputError(f"the model at {model_dir} has no signature 'waveform', only {sorted(model.signatures)}")
    return model
