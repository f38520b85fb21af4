"""Whether int8 weights leave a model's answers as they are.

LiteRT rounds each activation that meets int8 weights to 256 steps over its range in that clip. Most networks bear it:
the paper's ensemble keeps its ROC-AUC within 0.002, and ``vgg`` each probability within 0.016. ``musicnn`` does not:
maxima and means over time of 753 channels of very different sizes share one range, and techno's 0.59 became 0.38. So a
model is asked about a few sounds in both arithmetics before it is pushed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from preprocessing.audio.samples import Samples
from preprocessing.clip_format import ClipFormat

if TYPE_CHECKING:
    from serving.graph.ensemble import Ensemble

MOST_APART: Final = 0.03
"""Largest change of a probability. On the sounds here int8 changes one of ``vgg`` by 0.014, of ``musicnn`` by 0.18."""


def answers_alike(content: bytes, ensemble: Ensemble) -> bool:
    """Whether a converted file's probabilities are the model's own, up to MOST_APART."""
    return furthest_apart(content, ensemble, sounds(ensemble.clip)) <= MOST_APART


def furthest_apart(content: bytes, ensemble: Ensemble, clips: Samples) -> float:
    """Largest difference between a LiteRT file's probabilities and the model's own.

    Args:
        content: the file.
        ensemble: the model.
        clips: float32 [n, clip samples].
    """
    run = _runner(content)
    return max(float(np.abs(run(clip[None]) - ensemble.from_waveform(clip[None]).numpy()).max()) for clip in clips)


def sounds(clip: ClipFormat) -> Samples:
    """Float32 [3, clip samples]: noise, a swelling chord, beats of noise; the same on each call."""
    noise = np.random.default_rng(0).standard_normal(clip.samples)
    time = np.arange(clip.samples) / clip.sample_rate
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (110, 220, 331, 660, 1320, 2640))
    beats = np.exp(-20 * np.mod(2 * time, 1))
    swelling = (1 + np.sin(4 * np.pi * time)) / 2
    return np.clip([0.3 * noise, 0.1 * chord * swelling, 0.5 * beats * noise], -1, 1).astype(np.float32)


def _runner(content: bytes) -> Callable[[Samples], npt.NDArray[np.float32]]:
    """TensorFlow's own interpreter: it is there where a model is converted."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (waveform,), (predictions,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(clip: Samples) -> npt.NDArray[np.float32]:
        interpreter.set_tensor(waveform["index"], clip)
        interpreter.invoke()
        probabilities: npt.NDArray[np.float32] = interpreter.get_tensor(predictions["index"])
        return probabilities

    return run
